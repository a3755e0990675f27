"""C++ text of one step of a sequential schedule: its loop nest written out, bounds and strides as literals."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

from lepton_dse.emit.cpp import arithmetic
from lepton_dse.emit.cpp.nests import (
    Context,
    ctype,
    float_literal,
    guard,
    linear,
    loops,
    operand,
    pointwise,
    reduce,
    split,
    strides,
    target,
)
from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.loops import Access, Affine, Loop
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.schedule.program import Step

__all__ = ["ctype", "float_literal", "write_step"]


def write_step(out: Writer, step: Step, identifiers: dict[str, str]) -> None:
    """Append the loops of one step.

    Raises
    ------
    LeptonError
        If there is no C++ rule for the operation.
    """
    rule = _RULES.get(type(step.op.attributes))
    if rule is None:
        where = f"{step.op.kind} '{step.op.name}'"
        raise LeptonError("the C++ emitter has no rule for it", where=where, fix="plan an integer format")
    rule(Context(out, step, identifiers))


# --- one rule a kind ----------------------------------------------------------------------------------------------


def _contraction(context: Context) -> None:
    step = context.step
    outer, inner = split(step)
    kind = ctype(step.write.format)
    with ExitStack() as stack:
        loops(context, stack, outer)
        start = operand(context, 2) if len(step.reads) > 2 else "0"
        context.out.line(f"{kind} acc = {start};")
        with ExitStack() as reduction:
            loops(context, reduction, inner)
            x, w = operand(context, 0), operand(context, 1)
            inside = guard(step.nest.reads[0], step.reads[0], step.nest.loops)
            if inside:
                pad = step.op.attributes.pad_value if isinstance(step.op.attributes, ops.Conv) else 0
                x = f"({inside} ? {x} : {pad})"
            context.out.line(f"acc += static_cast<{kind}>({x}) * static_cast<{kind}>({w});")
        context.out.line(f"{target(context)} = acc;")


def _max_pool(context: Context) -> None:
    step = context.step
    kind = ctype(step.write.format)

    def body(value: str) -> str:
        return f"best = std::max(best, {value});"

    reduce(context, f"{kind} best = std::numeric_limits<{kind}>::lowest();", body, "best")


def _sum_pool(context: Context) -> None:
    attributes = context.step.op.attributes
    assert isinstance(attributes, ops.SumPool), "dispatched by kind"
    kind = ctype(context.step.write.format)
    reduce(context, f"{kind} sum = 0;", lambda value: f"sum += static_cast<{kind}>({value}) - ({attributes.offset});", "sum")


def _requantize(context: Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.Requantize), "dispatched by kind"
    product = f"static_cast<int64_t>({operand(context, 0)}) * {operand(context, 1)}"
    return _rounded(product, a.shift, a.zero, a.low, a.high)


def _rounded(product: str, shift: int, zero: int, low: int, high: int) -> str:
    return f"std::clamp<int64_t>((({product} + {1 << (shift - 1)}LL) >> {shift}) + ({zero}), {low}, {high})"


def _add_requantize(context: Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.AddRequantize), "dispatched by kind"
    first = f"(static_cast<int64_t>({operand(context, 0)}) - ({a.zero_a})) * {a.multiplier_a}"
    second = f"(static_cast<int64_t>({operand(context, 1)}) - ({a.zero_b})) * {a.multiplier_b}"
    return _rounded(f"{first} + {second}", a.shift, a.zero, a.low, a.high)


def _quantize(context: Context) -> str:
    write = context.step.write
    assert write.quant is not None, "a lowered graph checks it"
    low, high = int(write.format.minimum), int(write.format.maximum)
    ratio = f"{operand(context, 0)} / {float_literal(write.quant.beta[0])}"
    # The default rounding mode is to nearest, halves to even; the clamp comes before the conversion.
    return f"std::clamp(static_cast<double>(std::nearbyint({ratio})) + ({write.quant.zero}), {low}.0, {high}.0)"


def _dequantize(context: Context) -> str:
    read = context.step.reads[0]
    quant = read.quant
    assert quant is not None, "a lowered graph checks it"
    scale = float_literal(quant.beta[0])
    if len(quant.beta) > 1:
        context.out.line(f"static constexpr float scales[] = {{{', '.join(map(float_literal, quant.beta))}}};")
        scale = f"scales[{_scale_index(quant, read.shape, linear(context.step.nest.reads[0], read))}]"
    return f"static_cast<float>({operand(context, 0)} - ({quant.zero})) * {scale}"


def _scale_index(quant: QuantParams, shape: tuple[int, ...], element: str) -> str:
    """Which of several scales belongs to an element, given by its place in row-major order."""
    assert quant.axis is not None, "several scales have an axis"
    channels, inner = shape[quant.axis], math.prod(shape[quant.axis :][1:])
    channel = f"(({element}) / {inner} % {channels})"
    if quant.group is None:
        return channel
    others = math.prod(shape) // channels
    place = f"(({element}) / {inner * channels} * {inner} + ({element}) % {inner})"
    return f"{channel} * {-(-others // quant.group)} + {place} / {quant.group}"


def _clip(context: Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.Clip), "dispatched by kind"
    kind = ctype(context.step.write.format)
    if kind == "float":
        low, high = float_literal(a.low), float_literal(a.high)
    else:
        form = context.step.write.format
        ends = (a.low, form.minimum), (a.high, form.maximum)
        low, high = (str(int(bound if math.isfinite(bound) else end)) for bound, end in ends)
    return f"std::clamp<{kind}>({operand(context, 0)}, {low}, {high})"


def _lookup(context: Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.Lookup), "dispatched by kind"
    return context.read(1, f"static_cast<int32_t>({operand(context, 0)}) - ({a.least})")


def _leaky(context: Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.LeakyRelu), "dispatched by kind"
    x = operand(context, 0)
    return f"{x} >= 0 ? {x} : {float_literal(a.alpha)} * {x}"


def _pad(context: Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.Pad), "dispatched by kind"
    source = step.reads[0]
    with ExitStack() as stack:
        loops(context, stack, step.nest.loops)
        names = []
        for axis, (begin, extent) in enumerate(zip(a.begin, source.shape, strict=True)):
            position = f"d{axis} - ({begin})"
            if a.mode is ops.PadMode.EDGE:
                position = f"std::clamp({position}, 0, {extent - 1})"
            elif a.mode is ops.PadMode.REFLECT:
                position = f"{extent - 1} - std::abs({extent - 1} - std::abs({position}))"
            context.out.line(f"const int p{axis} = {position};")
            names.append(f"p{axis} * {strides(source.shape)[axis]}")
        value = context.read(0, " + ".join(names))
        if a.mode is ops.PadMode.CONSTANT:
            inside = " && ".join(f"p{axis} >= 0 && p{axis} < {extent}" for axis, extent in enumerate(source.shape))
            constant = float_literal(a.value) if source.format.is_float else str(int(a.value))
            value = f"({inside}) ? {value} : {constant}"
        context.out.line(f"{target(context)} = static_cast<{ctype(step.write.format)}>({value});")


def _concat(context: Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.Concat), "dispatched by kind"
    offset = 0
    for position, tensor in enumerate(step.reads):
        indices = [Affine(((f"d{axis}", 1),), offset if axis == a.axis else 0) for axis in range(len(tensor.shape))]
        plain = [Affine(((f"d{axis}", 1),)) for axis in range(len(tensor.shape))]
        with ExitStack() as stack:
            loops(context, stack, [Loop(f"d{axis}", extent) for axis, extent in enumerate(tensor.shape)])
            source = context.read(position, linear(Access(tensor.name, tuple(plain)), tensor))
            context.out.line(f"{context.write(linear(Access(step.write.name, tuple(indices)), step.write))} = {source};")
        offset += tensor.shape[a.axis]


def _argmax(context: Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.ArgMax), "dispatched by kind"
    outer, inner = split(step)
    kind = ctype(step.reads[0].format)
    with ExitStack() as stack:
        loops(context, stack, outer)
        context.out.line(f"{kind} best = std::numeric_limits<{kind}>::lowest();")
        context.out.line("int64_t index = 0;")
        with ExitStack() as reduction:
            loops(context, reduction, inner)
            name = inner[0].name
            compare = ">=" if a.last else ">"
            context.out.line(f"const {kind} value = {operand(context, 0)};")
            context.out.line(f"if ({name} == 0 || value {compare} best) {{ best = value; index = {name}; }}")
        context.out.line(f"{target(context)} = index;")


def _softmax(context: Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.Softmax), "dispatched by kind"
    outer = [loop for axis, loop in enumerate(step.nest.loops) if axis not in a.axes]
    inner = [loop for axis, loop in enumerate(step.nest.loops) if axis in a.axes]
    x, y = operand(context, 0), target(context)
    with ExitStack() as stack:
        loops(context, stack, outer)
        context.out.line("float peak = -INFINITY;")
        with ExitStack() as first:
            loops(context, first, inner)
            context.out.line(f"peak = std::max(peak, {x});")
        context.out.line("float sum = 0.0f;")
        with ExitStack() as second:
            loops(context, second, inner)
            context.out.line(f"{y} = std::exp({x} - peak);")
            context.out.line(f"sum += {y};")
        with ExitStack() as third:
            loops(context, third, inner)
            context.out.line(f"{y} /= sum;")


def _local_response(context: Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.LocalResponseNorm), "dispatched by kind"
    outer, inner = split(step)
    centre = Access(step.reads[0].name, tuple(Affine(((f"d{axis}", 1),)) for axis in range(len(step.reads[0].shape))))
    with ExitStack() as stack:
        loops(context, stack, outer)
        context.out.line("float sum = 0.0f;")
        with ExitStack() as reduction:
            loops(context, reduction, inner)
            inside = guard(step.nest.reads[0], step.reads[0], step.nest.loops)
            text = f"sum += {operand(context, 0)} * {operand(context, 0)};"
            context.out.line(f"if ({inside}) {text}" if inside else text)
        value = context.read(0, linear(centre, step.reads[0]))
        scale = f"{float_literal(a.bias)} + {float_literal(a.alpha / a.size)} * sum"
        context.out.line(f"{target(context)} = {value} / std::pow({scale}, {float_literal(a.beta)});")


_RULES: dict[type, Callable[[Context], None]] = {
    ops.Conv: _contraction,
    ops.MatMul: _contraction,
    ops.MaxPool: _max_pool,
    ops.SumPool: _sum_pool,
    ops.Pad: _pad,
    ops.Concat: _concat,
    ops.ArgMax: _argmax,
    ops.Softmax: _softmax,
    ops.LocalResponseNorm: _local_response,
    ops.Requantize: pointwise(_requantize),
    ops.AddRequantize: pointwise(_add_requantize),
    ops.Quantize: pointwise(_quantize),
    ops.Dequantize: pointwise(_dequantize),
    ops.Clip: pointwise(_clip),
    ops.Lookup: pointwise(_lookup),
    ops.LeakyRelu: pointwise(_leaky),
    ops.Transpose: pointwise(lambda context: operand(context, 0)),
    ops.Add: pointwise(lambda context: f"{operand(context, 0)} + {operand(context, 1)}"),
    ops.Affine: pointwise(lambda c: f"{operand(c, 0)} * {operand(c, 1)} + {operand(c, 2)}"),
    ops.Sigmoid: pointwise(lambda context: f"1.0f / (1.0f + std::exp(-{operand(context, 0)}))"),
    ops.Tanh: pointwise(lambda context: f"std::tanh({operand(context, 0)})"),
    **arithmetic.RULES,
}
