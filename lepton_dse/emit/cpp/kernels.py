"""C++ text of one step of a sequential schedule: its loop nest written out, bounds and strides as literals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.loops import Access, Affine, Loop
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.schedule.program import Step

__all__ = ["ctype", "float_literal", "write_step"]


@dataclass(frozen=True)
class _Context:
    """What a rule writes with: the writer, the step, and the C++ identifier of each tensor's buffer."""

    out: Writer
    step: Step
    identifiers: dict[str, str]

    def read(self, position: int, index: str) -> str:
        return f"{self.identifiers[self.step.reads[position].name]}[{index}]"

    def write(self, index: str) -> str:
        return f"{self.identifiers[self.step.write.name]}[{index}]"


def ctype(form: NumberFormat) -> str:
    """The C++ type that stores a format.

    Raises
    ------
    LeptonError
        For float formats other than float32 and float64, which standard C++17 does not have.
    """
    names = {"float32": "float", "float64": "double", "bool": "bool"}
    if form.is_integer and str(form) != "bool":
        return f"{form.numpy.name}_t"
    if str(form) not in names:
        raise LeptonError(f"C++17 has no {form}", fix="plan with an integer format or float32")
    return names[str(form)]


def float_literal(value: float) -> str:
    """A float32 literal that reads back as the same number."""
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{float(value).hex()}f"


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
    rule(_Context(out, step, identifiers))


# --- indices and loops --------------------------------------------------------------------------------------------


def _affine(index: Affine) -> str:
    parts = [name if coefficient == 1 else f"{name} * {coefficient}" for name, coefficient in index.terms]
    if index.offset or not parts:
        parts.append(str(index.offset))
    return " + ".join(parts).replace("+ -", "- ")


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _linear(access: Access, tensor: Tensor) -> str:
    terms = []
    for index, stride, extent in zip(access.indices, _strides(tensor.shape), tensor.shape, strict=True):
        if extent == 1 and index.offset == 0 and len(index.terms) <= 1:
            continue  # the only index there is: its loop runs once
        text = _affine(index)
        if stride != 1:
            text = f"({text}) * {stride}" if len(index.terms) + bool(index.offset) > 1 else f"{text} * {stride}"
        terms.append(text)
    return " + ".join(terms) or "0"


def _guard(access: Access, tensor: Tensor, loops: Sequence[Loop]) -> str:
    """Condition under which every index lies inside the tensor; empty if it always does."""
    extents = {loop.name: loop.extent for loop in loops}
    conditions = []
    for index, extent in zip(access.indices, tensor.shape, strict=True):
        ends = [coefficient * (extents[name] - 1) for name, coefficient in index.terms]
        if index.offset + sum(min(end, 0) for end in ends) < 0:
            conditions.append(f"{_affine(index)} >= 0")
        if index.offset + sum(max(end, 0) for end in ends) >= extent:
            conditions.append(f"{_affine(index)} < {extent}")
    return " && ".join(conditions)


def _loops(context: _Context, stack: ExitStack, loops: Sequence[Loop]) -> None:
    for loop in loops:
        name = loop.name
        stack.enter_context(context.out.block(f"for (int {name} = 0; {name} < {loop.extent}; ++{name}) {{"))


def _split(step: Step) -> tuple[list[Loop], list[Loop]]:
    outer = [loop for loop in step.nest.loops if not loop.reduction]
    return outer, [loop for loop in step.nest.loops if loop.reduction]


def _target(context: _Context) -> str:
    assert context.step.nest.write is not None, "views are not steps"
    return context.write(_linear(context.step.nest.write, context.step.write))


def _operand(context: _Context, position: int) -> str:
    step = context.step
    return context.read(position, _linear(step.nest.reads[position], step.reads[position]))


# --- one rule a kind ----------------------------------------------------------------------------------------------


def _contraction(context: _Context) -> None:
    step = context.step
    outer, inner = _split(step)
    kind = ctype(step.write.format)
    with ExitStack() as stack:
        _loops(context, stack, outer)
        start = _operand(context, 2) if len(step.reads) > 2 else "0"
        context.out.line(f"{kind} acc = {start};")
        with ExitStack() as reduction:
            _loops(context, reduction, inner)
            x, w = _operand(context, 0), _operand(context, 1)
            guard = _guard(step.nest.reads[0], step.reads[0], step.nest.loops)
            if guard:
                pad = step.op.attributes.pad_value if isinstance(step.op.attributes, ops.Conv) else 0
                x = f"({guard} ? {x} : {pad})"
            context.out.line(f"acc += static_cast<{kind}>({x}) * static_cast<{kind}>({w});")
        context.out.line(f"{_target(context)} = acc;")


def _max_pool(context: _Context) -> None:
    step = context.step
    kind = ctype(step.write.format)

    def body(value: str) -> str:
        return f"best = std::max(best, {value});"

    _reduce(context, f"{kind} best = std::numeric_limits<{kind}>::lowest();", body, "best")


def _sum_pool(context: _Context) -> None:
    attributes = context.step.op.attributes
    assert isinstance(attributes, ops.SumPool), "dispatched by kind"
    kind = ctype(context.step.write.format)
    _reduce(context, f"{kind} sum = 0;", lambda value: f"sum += static_cast<{kind}>({value}) - ({attributes.offset});", "sum")


def _reduce(context: _Context, start: str, body: Callable[[str], str], result: str) -> None:
    step = context.step
    outer, inner = _split(step)
    with ExitStack() as stack:
        _loops(context, stack, outer)
        context.out.line(start)
        with ExitStack() as reduction:
            _loops(context, reduction, inner)
            guard = _guard(step.nest.reads[0], step.reads[0], step.nest.loops)
            text = body(_operand(context, 0))
            context.out.line(f"if ({guard}) {text}" if guard else text)
        context.out.line(f"{_target(context)} = {result};")


def _pointwise(expression: Callable[[_Context], str]) -> Callable[[_Context], None]:
    def rule(context: _Context) -> None:
        with ExitStack() as stack:
            _loops(context, stack, context.step.nest.loops)
            context.out.line(f"{_target(context)} = static_cast<{ctype(context.step.write.format)}>({expression(context)});")

    return rule


def _requantize(context: _Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.Requantize), "dispatched by kind"
    product = f"static_cast<int64_t>({_operand(context, 0)}) * {_operand(context, 1)}"
    return _rounded(product, a.shift, a.zero, a.low, a.high)


def _rounded(product: str, shift: int, zero: int, low: int, high: int) -> str:
    return f"std::clamp<int64_t>((({product} + {1 << (shift - 1)}LL) >> {shift}) + ({zero}), {low}, {high})"


def _add_requantize(context: _Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.AddRequantize), "dispatched by kind"
    first = f"(static_cast<int64_t>({_operand(context, 0)}) - ({a.zero_a})) * {a.multiplier_a}"
    second = f"(static_cast<int64_t>({_operand(context, 1)}) - ({a.zero_b})) * {a.multiplier_b}"
    return _rounded(f"{first} + {second}", a.shift, a.zero, a.low, a.high)


def _quantize(context: _Context) -> str:
    write = context.step.write
    assert write.quant is not None, "a lowered graph checks it"
    low, high = int(write.format.minimum), int(write.format.maximum)
    ratio = f"{_operand(context, 0)} / {float_literal(write.quant.beta[0])}"
    # The default rounding mode is to nearest, halves to even; the clamp comes before the conversion.
    return f"std::clamp(static_cast<double>(std::nearbyint({ratio})) + ({write.quant.zero}), {low}.0, {high}.0)"


def _dequantize(context: _Context) -> str:
    read = context.step.reads[0]
    quant = read.quant
    assert quant is not None, "a lowered graph checks it"
    scale = float_literal(quant.beta[0])
    if len(quant.beta) > 1:
        context.out.line(f"static constexpr float scales[] = {{{', '.join(map(float_literal, quant.beta))}}};")
        scale = f"scales[{_scale_index(quant, read.shape, _linear(context.step.nest.reads[0], read))}]"
    return f"static_cast<float>({_operand(context, 0)} - ({quant.zero})) * {scale}"


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


def _clip(context: _Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.Clip), "dispatched by kind"
    kind = ctype(context.step.write.format)
    low, high = (float_literal(a.low), float_literal(a.high)) if kind == "float" else (str(int(a.low)), str(int(a.high)))
    return f"std::clamp<{kind}>({_operand(context, 0)}, {low}, {high})"


def _lookup(context: _Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.Lookup), "dispatched by kind"
    return context.read(1, f"static_cast<int32_t>({_operand(context, 0)}) - ({a.least})")


def _leaky(context: _Context) -> str:
    a = context.step.op.attributes
    assert isinstance(a, ops.LeakyRelu), "dispatched by kind"
    x = _operand(context, 0)
    return f"{x} >= 0 ? {x} : {float_literal(a.alpha)} * {x}"


def _pad(context: _Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.Pad), "dispatched by kind"
    source = step.reads[0]
    with ExitStack() as stack:
        _loops(context, stack, step.nest.loops)
        names = []
        for axis, (begin, extent) in enumerate(zip(a.begin, source.shape, strict=True)):
            position = f"d{axis} - ({begin})"
            if a.mode is ops.PadMode.EDGE:
                position = f"std::clamp({position}, 0, {extent - 1})"
            elif a.mode is ops.PadMode.REFLECT:
                position = f"{extent - 1} - std::abs({extent - 1} - std::abs({position}))"
            context.out.line(f"const int p{axis} = {position};")
            names.append(f"p{axis} * {_strides(source.shape)[axis]}")
        value = context.read(0, " + ".join(names))
        if a.mode is ops.PadMode.CONSTANT:
            inside = " && ".join(f"p{axis} >= 0 && p{axis} < {extent}" for axis, extent in enumerate(source.shape))
            constant = float_literal(a.value) if source.format.is_float else str(int(a.value))
            value = f"({inside}) ? {value} : {constant}"
        context.out.line(f"{_target(context)} = static_cast<{ctype(step.write.format)}>({value});")


def _concat(context: _Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.Concat), "dispatched by kind"
    offset = 0
    for position, tensor in enumerate(step.reads):
        indices = [Affine(((f"d{axis}", 1),), offset if axis == a.axis else 0) for axis in range(len(tensor.shape))]
        plain = [Affine(((f"d{axis}", 1),)) for axis in range(len(tensor.shape))]
        with ExitStack() as stack:
            _loops(context, stack, [Loop(f"d{axis}", extent) for axis, extent in enumerate(tensor.shape)])
            source = context.read(position, _linear(Access(tensor.name, tuple(plain)), tensor))
            context.out.line(f"{context.write(_linear(Access(step.write.name, tuple(indices)), step.write))} = {source};")
        offset += tensor.shape[a.axis]


def _argmax(context: _Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.ArgMax), "dispatched by kind"
    outer, inner = _split(step)
    kind = ctype(step.reads[0].format)
    with ExitStack() as stack:
        _loops(context, stack, outer)
        context.out.line(f"{kind} best = std::numeric_limits<{kind}>::lowest();")
        context.out.line("int64_t index = 0;")
        with ExitStack() as reduction:
            _loops(context, reduction, inner)
            name = inner[0].name
            compare = ">=" if a.last else ">"
            context.out.line(f"const {kind} value = {_operand(context, 0)};")
            context.out.line(f"if ({name} == 0 || value {compare} best) {{ best = value; index = {name}; }}")
        context.out.line(f"{_target(context)} = index;")


def _softmax(context: _Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.Softmax), "dispatched by kind"
    outer = [loop for axis, loop in enumerate(step.nest.loops) if axis not in a.axes]
    inner = [loop for axis, loop in enumerate(step.nest.loops) if axis in a.axes]
    x, y = _operand(context, 0), _target(context)
    with ExitStack() as stack:
        _loops(context, stack, outer)
        context.out.line("float peak = -INFINITY;")
        with ExitStack() as first:
            _loops(context, first, inner)
            context.out.line(f"peak = std::max(peak, {x});")
        context.out.line("float sum = 0.0f;")
        with ExitStack() as second:
            _loops(context, second, inner)
            context.out.line(f"{y} = std::exp({x} - peak);")
            context.out.line(f"sum += {y};")
        with ExitStack() as third:
            _loops(context, third, inner)
            context.out.line(f"{y} /= sum;")


def _local_response(context: _Context) -> None:
    step, a = context.step, context.step.op.attributes
    assert isinstance(a, ops.LocalResponseNorm), "dispatched by kind"
    outer, inner = _split(step)
    centre = Access(step.reads[0].name, tuple(Affine(((f"d{axis}", 1),)) for axis in range(len(step.reads[0].shape))))
    with ExitStack() as stack:
        _loops(context, stack, outer)
        context.out.line("float sum = 0.0f;")
        with ExitStack() as reduction:
            _loops(context, reduction, inner)
            guard = _guard(step.nest.reads[0], step.reads[0], step.nest.loops)
            text = f"sum += {_operand(context, 0)} * {_operand(context, 0)};"
            context.out.line(f"if ({guard}) {text}" if guard else text)
        value = context.read(0, _linear(centre, step.reads[0]))
        scale = f"{float_literal(a.bias)} + {float_literal(a.alpha / a.size)} * sum"
        context.out.line(f"{_target(context)} = {value} / std::pow({scale}, {float_literal(a.beta)});")


_RULES: dict[type, Callable[[_Context], None]] = {
    ops.Conv: _contraction,
    ops.MatMul: _contraction,
    ops.MaxPool: _max_pool,
    ops.SumPool: _sum_pool,
    ops.Pad: _pad,
    ops.Concat: _concat,
    ops.ArgMax: _argmax,
    ops.Softmax: _softmax,
    ops.LocalResponseNorm: _local_response,
    ops.Requantize: _pointwise(_requantize),
    ops.AddRequantize: _pointwise(_add_requantize),
    ops.Quantize: _pointwise(_quantize),
    ops.Dequantize: _pointwise(_dequantize),
    ops.Clip: _pointwise(_clip),
    ops.Lookup: _pointwise(_lookup),
    ops.LeakyRelu: _pointwise(_leaky),
    ops.Transpose: _pointwise(lambda context: _operand(context, 0)),
    ops.Add: _pointwise(lambda context: f"{_operand(context, 0)} + {_operand(context, 1)}"),
    ops.Affine: _pointwise(lambda c: f"{_operand(c, 0)} * {_operand(c, 1)} + {_operand(c, 2)}"),
    ops.Sigmoid: _pointwise(lambda context: f"1.0f / (1.0f + std::exp(-{_operand(context, 0)}))"),
    ops.Tanh: _pointwise(lambda context: f"std::tanh({_operand(context, 0)})"),
}
