"""CUDA text of contraction kernels: their operands, their tile and their epilogue, as arguments of the device library."""

from __future__ import annotations

from lepton_dse.emit.cuda.places import Places
from lepton_dse.emit.cuda.values import ctype, pointwise, real_value, value_type
from lepton_dse.emit.writer import Writer
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.schedule.gpu import (
    Blocks,
    Columns,
    Contraction,
    Engine,
    Kernel,
    Matrix,
    Operand,
    Packed4,
    Tile,
    Touch,
    Windows,
    epilogue_operands,
)

__all__ = ["write_contraction"]

_ELEMENTS = {
    Engine.FLOAT32: "float",
    Engine.DOT4: "int8_t",
    Engine.INT8: "int8_t",
    Engine.HALF: "lepton::half",
    Engine.BFLOAT16: "lepton::bfloat16",
    Engine.SPARSE_HALF: "lepton::half",
    Engine.SPARSE_BFLOAT16: "lepton::bfloat16",
}
_KINDS = {
    Engine.FLOAT32: "CudaCores<lepton::Float32",
    Engine.DOT4: "CudaCores<lepton::Dot4",
    Engine.INT8: "TensorCores<lepton::Int8",
    Engine.HALF: "TensorCores<lepton::Half",
    Engine.BFLOAT16: "TensorCores<lepton::BFloat16",
    Engine.SPARSE_HALF: "SparseTensorCores<lepton::Half",
    Engine.SPARSE_BFLOAT16: "SparseTensorCores<lepton::BFloat16",
}


def write_contraction(out: Writer, identifier: str, kernel: Kernel, graph: LoweredGraph, places: Places) -> None:
    """Append one kernel with what it is made of.

    Raises
    ------
    LeptonError
        If there is no rule for an operation of the epilogue.
    """
    work = kernel.work
    assert isinstance(work, Contraction), "dispatched by kind"
    x, w = kernel.ops[0].inputs[:2]
    packed = f"{kernel.ops[0].name}.packed"
    weights = packed if packed in places.constants else kernel.operands[w].buffer.owner
    with out.block(f"struct {identifier}_parts {{", "};"):
        for operand in (work.a, work.b):
            _shape(out, operand)
        element = _ELEMENTS[work.engine]
        out.line(f"using Tile = {_tile(work.tile)};")
        out.line(f"using A = {_operand(work.a, element)};")
        out.line(f"using B = {_operand(work.b, element)};")
        extents = f", {-(-work.a.rows // 16)}, {work.a.depth // 16}" if work.engine.skips else ""
        out.line(f"using Engine = lepton::{_KINDS[work.engine]}, Tile{extents}>;")
        with out.block("struct Epilogue {", "};"):
            _epilogue(out, kernel, work, graph, places)
    bounds = f"{work.tile.threads}, {kernel.resident}" if kernel.resident else str(work.tile.threads)
    with out.block(f"LEPTON_KERNEL({bounds}) {identifier}(const unsigned char* constants, unsigned char* arena) {{"):
        out.line(f"using Parts = {identifier}_parts;")
        out.line(f"LEPTON_SHARED(memory, {work.tile.shared_bytes});")
        owners = (kernel.operands[x].buffer.owner, weights)
        for name, owner, operand in zip("ab", reversed(owners) if work.swapped else owners, (work.a, work.b), strict=True):
            kind = "uint8_t" if isinstance(operand, Packed4) else element
            pointer = f"reinterpret_cast<const {kind}*>({places.reading(owner)})"
            out.line(f"const Parts::{name.upper()} {name}{{{pointer}}};")
        engine, steps = "Parts::Engine()", f"lepton::AllSteps<{work.steps}>()"
        if work.engine.skips:
            positions = f"reinterpret_cast<const uint32_t*>({places.reading(f'{kernel.ops[0].name}.positions')})"
            engine = f"Parts::Engine({positions}, static_cast<int>(blockIdx.x) * {work.tile.rows}, static_cast<int>(blockIdx.z))"
        if isinstance(work.b, Blocks):
            starts, listed = (
                f"reinterpret_cast<const int32_t*>({places.reading(f'{kernel.ops[0].name}.{name}')})"
                for name in ("starts", "steps")
            )
            tile = f"static_cast<int>(blockIdx.z * {work.grid[1]} + blockIdx.y)"
            steps = f"lepton::ListedSteps({starts}, {listed}, {tile})"
        out.line(f"lepton::contract<Parts::Tile, {work.rows}, {work.columns}>(")
        out.line(f"    memory, {engine}, {steps}, a, b, Parts::Epilogue{{constants, arena}});")


def _tile(tile: Tile) -> str:
    marks = ", ".join("true" if mark else "false" for mark in (tile.swizzled, tile.asynchronous))
    numbers = (tile.rows, tile.columns, tile.pitch, tile.warp_rows, tile.warp_columns, tile.stages)
    left = f", {tile.row_pitch}" if tile.halved else ""
    return f"lepton::Tile<{', '.join(map(str, numbers))}, {marks}{left}>"


def _operand(operand: Operand, element: str) -> str:
    match operand:
        case Matrix(rows, depth, stride, batch):
            return f"lepton::Matrix<{element}, {rows}, {depth}, {stride}, {batch}, {operand.piece_bytes}>"
        case Columns(rows, depth, stride, batch):
            return f"lepton::Columns<{element}, {rows}, {depth}, {stride}, {batch}>"
        case Packed4(rows, depth, stride, batch):
            return f"lepton::Packed4<{rows}, {depth}, {stride}, {batch}>"
        case Blocks(extent=extent, pitch=pitch):
            return f"lepton::Blocks<{element}, {extent}, {pitch}>"
        case Windows():
            return f"lepton::Windows<{element}, Shape, {operand.piece_bytes}>"


def _shape(out: Writer, operand: Operand) -> None:
    if not isinstance(operand, Windows):
        return
    with out.block("struct Shape {", "};"):
        pairs = {
            "images": operand.images,
            "height": operand.height,
            "width": operand.width,
            "channels": operand.channels,
            "group_channels": operand.group_channels,
            "out_height": operand.out_height,
            "out_width": operand.out_width,
            "kernel_height": operand.kernel[0],
            "kernel_width": operand.kernel[1],
            "stride_height": operand.strides[0],
            "stride_width": operand.strides[1],
            "pad_height": operand.pads[0],
            "pad_width": operand.pads[1],
            "dilation_height": operand.dilations[0],
            "dilation_width": operand.dilations[1],
        }
        out.line("static constexpr int " + ", ".join(f"{name} = {value}" for name, value in pairs.items()) + ";")
        out.line(f"static constexpr uint32_t padding = {operand.padding}u;")


def _position(touch: Touch) -> str:
    parts = [f"{name} * {step}" for name, step in zip(("product", "row", "column"), _steps(touch), strict=True) if step]
    return " + ".join(parts) or "0"


def _steps(touch: Touch) -> tuple[int, int, int]:
    return touch.product, touch.row, touch.column


def _epilogue(out: Writer, kernel: Kernel, work: Contraction, graph: LoweredGraph, places: Places) -> None:
    """A sum's way from the accumulator to memory."""
    out.lines(["const unsigned char* constants;", "unsigned char* arena;"])
    head = kernel.ops[0]
    kind = ctype(graph.tensors[head.output].format)
    sums = "int32_t" if work.engine in (Engine.INT8, Engine.DOT4) else "float"
    names = ("product", "column", "row") if work.swapped else ("product", "row", "column")  # of the activations and the weights
    indices = ", ".join(f"[[maybe_unused]] int {name}" for name in names)
    signature = f"void operator()({indices}, {sums} sum, bool inside) const {{"
    with out.block(f"LEPTON_DEVICE {signature}"):
        loaded: dict[tuple[str, int], str] = {}
        for number, ((op, position), touch) in enumerate(zip(epilogue_operands(kernel), work.touches, strict=False)):
            source = kernel.operands[op.inputs[position]]
            stored = ctype(source.buffer.tensor.format)
            pointer = f"reinterpret_cast<const {stored}*>({places.reading(source.buffer.owner)})"
            out.line(
                f"const {stored} raw{number} = lepton::load({pointer} + (inside ? {_position(touch)} : 0), inside, {stored}());"
            )
            out.line(f"const {value_type(source)} in{number} = {real_value(source, f'raw{number}')};")
            loaded[op.name, position] = f"in{number}"
        bias = f" + {loaded[head.name, 2]}" if len(head.inputs) > 2 else ""
        out.line(f"const {kind} total = static_cast<{kind}>(sum{bias});")
        value, before = "total", head.output
        for number, op in enumerate(kernel.ops[1:]):
            values = [value if name == before else loaded[op.name, position] for position, name in enumerate(op.inputs)]
            tensors = [
                kernel.operands[name].buffer.tensor if name in kernel.operands else graph.tensors[name] for name in op.inputs
            ]
            output = graph.tensors[op.output]
            made = ctype(output.format)
            text = pointwise(op, values, tensors, output)
            out.line(f"const {made} next{number} = {text if made.startswith('lepton::') else f'static_cast<{made}>({text})'};")
            value, before = f"next{number}", op.output
        result = ctype(kernel.result.tensor.format)
        pointer = f"reinterpret_cast<{result}*>({places.writing(kernel.result.owner)})"
        out.line(f"lepton::store({pointer} + (inside ? {_position(work.touches[-1])} : 0), {value}, inside);")
