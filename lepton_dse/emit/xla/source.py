"""A sharded program as JAX source: a call an operation, ``lax`` collectives between them, under ``jax.shard_map``.

Matrix products for which tiles are given are kernels in Pallas.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton_dse.emit.writer import Writer, comment
from lepton_dse.emit.xla.signature import arguments, results
from lepton_dse.emit.xla.tiles import TiledProduct
from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.quantize import QuantParams, integer_bounds
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Mesh
from lepton_dse.schedule.sharded import (
    Compute,
    Cut,
    Exchange,
    FoldedProgram,
    Halo,
    Loop,
    ShardedProgram,
    Step,
    operands_of,
    result_of,
)

__all__ = ["source_text"]

_CALLS: dict[type, str] = {
    ops.Conv: "conv",
    ops.MatMul: "matmul",
    ops.Affine: "affine",
    ops.Add: "add",
    ops.Binary: "binary",
    ops.Compare: "compare",
    ops.Where: "where",
    ops.Unary: "unary",
    ops.Gelu: "gelu",
    ops.Cast: "cast",
    ops.Clip: "clip",
    ops.LeakyRelu: "leaky_relu",
    ops.Sigmoid: "sigmoid",
    ops.Tanh: "tanh",
    ops.Softmax: "softmax",
    ops.LayerNorm: "layer_norm",
    ops.Reduce: "reduce",
    ops.ArgMax: "argmax",
    ops.MaxPool: "max_pool",
    ops.AveragePool: "average_pool",
    ops.LocalResponseNorm: "local_response_norm",
    ops.Pad: "pad",
    ops.Concat: "concat",
    ops.Reshape: "reshape",
    ops.Transpose: "transpose",
    ops.Expand: "expand",
    ops.Slice: "take",
    ops.Gather: "gather",
    ops.Quantize: "quantize",
    ops.Dequantize: "dequantize",
    ops.Requantize: "requantize",
    ops.AddRequantize: "add_requantize",
    ops.SumPool: "sum_pool",
    ops.Lookup: "lookup",
}
_LISTED = 8  # scales up to here stand in the call, more of them line by line above it
_COLUMNS = 8


def source_text(folded: FoldedProgram, tiles: Mapping[str, TiledProduct] | None = None) -> str:
    """The source of ``model.py``, or with tiles that of ``tiled.py``.

    Parameters
    ----------
    folded : FoldedProgram
    tiles : mapping of str to TiledProduct
        Matrix products that are kernels, by the shard that they give.
    """
    tiles = tiles or {}
    program, taken, given = folded.program, arguments(folded), results(folded)
    names = {entry.shards[0]: f"p{position}" for position, entry in enumerate(taken)}
    out = Writer()
    out.lines(_HEAD)
    if tiles:
        out.line("import kernels")
    out.line("import operations as op")
    for title, entries in (("IN", taken), ("OUT", given)):
        out.line()
        with out.block(f"{title} = [", "]"):
            for entry in entries:
                out.line(f"{_spec(entry.cuts)},  # {comment(entry.label)}")
    out.line()
    out.line()
    local = _Local(out, program, tiles, names, (f"v{number}" for number in itertools.count(len(names))))
    with out.block(f"def local({', '.join(names.values())}):", ""):
        out.line('"""What each device runs on its own part."""')
        for number, part in enumerate(folded.parts):
            if isinstance(part, Loop):
                local.loop(part, f"round_{number}")
            else:
                names[result_of(part)] = local.step(part, [names[name] for name in operands_of(part)])
        out.line(f"return [{', '.join(names[entry.shard] for entry in given)}]")
    out.line()
    out.line("def sharded(mesh):")
    out.line('    """The function of whole arrays."""')
    out.line("    return jax.shard_map(local, mesh=mesh, in_specs=tuple(IN), out_specs=OUT, check_vma=False)")
    return out.text()


@dataclass
class _Local:
    """Writes what one device runs; `names` are those of shards."""

    out: Writer
    program: ShardedProgram
    tiles: Mapping[str, TiledProduct]
    names: dict[str, str]
    fresh: Iterator[str]

    def loop(self, loop: Loop, function: str) -> None:
        """A function of a round, and its call."""
        out, stacks = self.out, [self.names[shards[0]] for shards in loop.stacked]
        carried, parts = [next(self.fresh) for _ in loop.carried], [next(self.fresh) for _ in stacks]
        out.line()
        with out.block(f"def {function}(i, carried):", ""):
            out.line(f'"""One of {loop.count} rounds; steps are named as in the first."""')
            out.line(f"{_tuple(carried)} = carried")
            for part, stack in zip(parts, stacks, strict=True):
                out.line(f"{part} = lax.dynamic_index_in_dim({stack}, i, keepdims=False)")
            made: list[str] = []
            for place, step in enumerate(loop.body):
                made.append(self.step(step, loop.operands(place, made, carried, parts, self.names)))
            out.line(f"return {_tuple([made[place] for _, place in loop.carried])}")
        last = [next(self.fresh) for _ in loop.carried]
        initial = _tuple([self.names[shard] for shard, _ in loop.carried])
        out.line(f"{_tuple(last)} = lax.fori_loop(0, {loop.count}, {function}, {initial})")
        self.names |= {loop.results(place)[-1]: name for (_, place), name in zip(loop.carried, last, strict=True)}

    def step(self, step: Step, operands: Sequence[str]) -> str:
        """A step, and the name of what it gives."""
        shards = self.program.shards
        tensor = shards[result_of(step)].tensor
        if isinstance(step, Compute):
            self.out.line(f"# {step.op.kind} {comment(step.op.name)}")
            tiled = self.tiles.get(step.op.output)
            if tiled is None:
                text = _call(self.out, step.op, operands, [shards[entry].tensor for entry in step.op.inputs], tensor)
            else:
                text = _kernel(tiled, operands, tensor)
        else:
            stored = shards[step.source].tensor.format.numpy
            again = "" if stored == tensor.format.numpy else f'.astype("{tensor.format.numpy.name}")'
            text = f"{_exchanged(step, operands[0], self.program.mesh)}{again}"
        name = next(self.fresh)
        self.out.line(f"{name} = {text}")
        return name


def _tuple(names: Sequence[str]) -> str:
    return f"({names[0]},)" if len(names) == 1 else f"({', '.join(names)})"


_HEAD = (
    '"""The program of this folder as JAX source: jax.jit(sharded(mesh)) takes the arguments of arguments.json."""',
    "",
    "import jax",
    "import numpy as np",
    "from jax import lax",
    "from jax.sharding import PartitionSpec as P",
    "",
)


def _spec(cuts: Sequence[Sequence[str]]) -> str:
    return f"P({', '.join(_axes(axes) if axes else 'None' for axes in cuts)})"


def _axes(axes: Sequence[str]) -> str:
    listed = ", ".join(f'"{axis}"' for axis in axes)
    return f"({listed},)" if len(axes) == 1 else f"({listed})"


def _exchanged(step: Exchange | Cut | Halo, x: str, mesh: Mesh) -> str:
    if isinstance(step, Halo):
        fields = f"dimension={step.dimension}, before={step.before}, after={step.after}, fill={_literal(step.fill)}"
        return f'op.border({x}, "{step.axis}", devices={mesh.sizes[step.axis]}, {fields})'
    if mesh.size(step.axes) == 1:
        return x
    axes = _axes(step.axes)
    if isinstance(step, Cut):
        return f"op.own_part({x}, {axes}, dimension={step.dimension}, count={mesh.size(step.axes)})"
    match step.kind:
        case Collective.ALL_REDUCE:
            return f"lax.psum({x}, {axes})"
        case Collective.REDUCE_SCATTER:
            return f"lax.psum_scatter({x}, {axes}, scatter_dimension={step.dimension}, tiled=True)"
        case Collective.ALL_GATHER:
            return f"lax.all_gather({x}, {axes}, axis={step.dimension}, tiled=True)"
        case _:
            return f"lax.all_to_all({x}, {axes}, split_axis={step.dimension}, concat_axis={step.joined}, tiled=True)"


def _kernel(tiled: TiledProduct, operands: Sequence[str], output: Tensor) -> str:
    fields = f'tile={tiled.tile}, n_outer={tiled.n_outer}, to="{output.format.numpy.name}"'
    return f"kernels.matmul({', '.join(operands)}, {fields})"


def _call(out: Writer, op: Op, operands: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    fields = _fields(out, op.attributes, tensors, output)
    if not isinstance(op.attributes, ops.Compare):
        fields = {**fields, "to": f'"{output.format.numpy.name}"'}
    given = ", ".join([*operands, *(f"{name}={value}" for name, value in fields.items())])
    return f"op.{_CALLS[type(op.attributes)]}({given})"


def _fields(out: Writer, attributes: ops.Attributes, tensors: Sequence[Tensor], output: Tensor) -> Mapping[str, str]:
    """Keyword arguments of a call."""
    fields = {field.name: getattr(attributes, field.name) for field in dataclasses.fields(attributes)}
    match attributes:
        case ops.Cast():
            return {}
        case ops.Quantize():
            low, high = (None, None) if output.format.is_float else integer_bounds(output.format)
            scale = _scale(out, output.quant, output.shape)
            return {"scale": scale, "zero": str(_zero(output.quant)), "low": str(low), "high": str(high)}
        case ops.Dequantize():
            return {"scale": _scale(out, tensors[0].quant, tensors[0].shape), "zero": str(_zero(tensors[0].quant))}
        case ops.Clip() if not tensors[0].format.is_float:
            fields = {name: int(value) if abs(value) != float("inf") else value for name, value in fields.items()}
        case ops.AveragePool(window):
            fields["overhang"] = attributes.overhang or (0,) * len(window.kernel)
    window = fields.pop("window", None)
    if window is not None:
        pads = tuple(zip(window.pads_begin, window.pads_end, strict=True))
        kernel = {} if isinstance(attributes, ops.Conv) else {"kernel": window.kernel}
        fields = {**kernel, "strides": window.strides, "dilations": window.dilations, "pads": pads, **fields}
    return {name: _literal(value) for name, value in fields.items()}


def _zero(quant: QuantParams | None) -> int:
    assert quant is not None  # the module's text was written before, and refuses it
    return quant.zero


def _scale(out: Writer, quant: QuantParams | None, shape: tuple[int, ...]) -> str:
    assert quant is not None
    value = quant.scale(shape)
    numbers = [repr(float(entry)) for entry in value.reshape(-1)]
    dims = "" if value.ndim == 0 else f".reshape({value.shape})"
    if len(numbers) <= _LISTED:
        return f"np.array([{', '.join(numbers)}], np.float32){dims}"
    with out.block("scale = np.array([", f"], np.float32){dims}"):
        for start in range(0, len(numbers), _COLUMNS):
            out.line(f"{', '.join(numbers[start : start + _COLUMNS])},")
    return "scale"


def _literal(value: Any) -> str:
    if hasattr(value, "value"):
        return f'"{value.value}"'
    if isinstance(value, float) and not np.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, tuple):
        return f"({', '.join(_literal(entry) for entry in value)}{',' if len(value) == 1 else ''})"
    return repr(value)
