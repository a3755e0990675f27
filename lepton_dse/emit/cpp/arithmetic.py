"""C++ rules of functions of elements, choices, reductions, layer normalisation and the picking of elements.

Sums of reals are taken in double, as the reference takes them, so that their order does not show in float.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

from lepton_dse.emit.cpp.nests import Context, affine, ctype, float_literal, loops, operand, pointwise, reduce, strides, target
from lepton_dse.ir import ops
from lepton_dse.ir.ops import BinaryFunction, ReduceFunction, Relation, UnaryFunction
from lepton_dse.numerics.formats import BOOL

__all__ = ["RULES"]

_BINARY = {
    BinaryFunction.SUBTRACT: "{a} - {b}",
    BinaryFunction.MULTIPLY: "{a} * {b}",
    BinaryFunction.DIVIDE: "{a} / {b}",
    BinaryFunction.POWER: "std::pow({a}, {b})",
    BinaryFunction.MINIMUM: "std::min({a}, {b})",
    BinaryFunction.MAXIMUM: "std::max({a}, {b})",
}
_UNARY = {
    UnaryFunction.NEGATE: "-{x}",
    UnaryFunction.ABSOLUTE: "std::abs({x})",
    UnaryFunction.SQUARE_ROOT: "std::sqrt({x})",
    UnaryFunction.RECIPROCAL: "1.0f / {x}",
    UnaryFunction.EXPONENTIAL: "std::exp({x})",
    UnaryFunction.LOGARITHM: "std::log({x})",
    UnaryFunction.ERROR_FUNCTION: "std::erf({x})",
}
_RELATIONS = {
    Relation.EQUAL: "==",
    Relation.LESS: "<",
    Relation.LESS_OR_EQUAL: "<=",
    Relation.GREATER: ">",
    Relation.GREATER_OR_EQUAL: ">=",
}


def _binary(context: Context) -> str:
    attributes = context.step.op.attributes
    assert isinstance(attributes, ops.Binary), "dispatched by kind"
    return _BINARY[attributes.function].format(a=operand(context, 0), b=operand(context, 1))


def _unary(context: Context) -> str:
    attributes = context.step.op.attributes
    assert isinstance(attributes, ops.Unary), "dispatched by kind"
    return _UNARY[attributes.function].format(x=operand(context, 0))


def _compare(context: Context) -> str:
    attributes = context.step.op.attributes
    assert isinstance(attributes, ops.Compare), "dispatched by kind"
    return f"{operand(context, 0)} {_RELATIONS[attributes.relation]} {operand(context, 1)}"


def _where(context: Context) -> str:
    return f"{operand(context, 0)} ? {operand(context, 1)} : {operand(context, 2)}"


def _gelu(context: Context) -> str:
    attributes = context.step.op.attributes
    assert isinstance(attributes, ops.Gelu), "dispatched by kind"
    x, half = operand(context, 0), float_literal(0.5)
    if not attributes.approximate:
        return f"{half} * {x} * (1.0f + std::erf({x} * {float_literal(math.sqrt(0.5))}))"
    inner = f"{float_literal(math.sqrt(2 / math.pi))} * ({x} + {float_literal(0.044715)} * {x} * {x} * {x})"
    return f"{half} * {x} * (1.0f + std::tanh({inner}))"


def _cast(context: Context) -> str:
    """A real beyond an integer's range, which the reference refuses, becomes the range's end."""
    step = context.step
    x, source, to = operand(context, 0), step.reads[0].format, step.write.format
    if to == BOOL:
        return f"{x} != 0"
    if not (source.is_float and to.is_integer):
        return x
    # Above 53 bits the greatest integer is no double; the one below it is.
    top = int(to.maximum) if to.bits <= 53 else int(to.maximum) >> (to.bits - 53) << (to.bits - 53)
    return f"std::clamp(static_cast<double>({x}), {int(to.minimum)}.0, {top}.0)"


def _reduce(context: Context) -> None:
    step, attributes = context.step, context.step.op.attributes
    assert isinstance(attributes, ops.Reduce), "dispatched by kind"
    kind, form = ctype(step.write.format), step.write.format
    if attributes.function in (ReduceFunction.MINIMUM, ReduceFunction.MAXIMUM):
        least = attributes.function is ReduceFunction.MINIMUM
        end = "max" if least else "lowest"
        start = ("" if least else "-") + "INFINITY" if form.is_float else f"std::numeric_limits<{kind}>::{end}()"
        pick = f"std::{'min' if least else 'max'}<{kind}>"
        reduce(context, f"{kind} best = {start};", lambda value: f"best = {pick}(best, {value});", "best")
        return
    count = math.prod(loop.extent for loop in step.nest.loops if loop.reduction)
    wide = "double" if form.is_float else "int64_t"
    result = f"sum / {count}" if attributes.function is ReduceFunction.MEAN else "sum"
    reduce(context, f"{wide} sum = 0;", lambda value: f"sum += {value};", f"static_cast<{kind}>({result})")


def _layer_norm(context: Context) -> None:
    step, attributes = context.step, context.step.op.attributes
    assert isinstance(attributes, ops.LayerNorm), "dispatched by kind"
    outer = [loop for axis, loop in enumerate(step.nest.loops) if axis not in attributes.axes]
    inner = [loop for axis, loop in enumerate(step.nest.loops) if axis in attributes.axes]
    count = math.prod(loop.extent for loop in inner)
    x, kind = operand(context, 0), ctype(step.write.format)
    out = context.out
    with ExitStack() as stack:
        loops(context, stack, outer)
        out.line("double mean = 0, variance = 0;")
        with ExitStack() as first:
            loops(context, first, inner)
            out.line(f"mean += {x};")
        out.line(f"mean /= {count};")
        with ExitStack() as second:
            loops(context, second, inner)
            out.line(f"variance += ({x} - mean) * ({x} - mean);")
        out.line(f"const double deviation = std::sqrt(variance / {count} + {attributes.epsilon!r});")
        with ExitStack() as third:
            loops(context, third, inner)
            value = f"({x} - mean) / deviation * {operand(context, 1)} + {operand(context, 2)}"
            out.line(f"{target(context)} = static_cast<{kind}>({value});")


def _gather(context: Context) -> None:
    """An index outside the axis, which the reference refuses, reads the nearest slice: the program stays inside its arrays."""
    step, attributes = context.step, context.step.op.attributes
    assert isinstance(attributes, ops.Gather), "dispatched by kind"
    source, axis = step.reads[0], attributes.axis
    extent, stride = source.shape[axis], strides(source.shape)[axis]
    access = step.nest.reads[0]
    rest = [position for position in range(len(source.shape)) if position != axis]
    index = [access.indices[position] for position in rest]
    steps = [strides(source.shape)[position] for position in rest]
    offset = " + ".join(f"({affine(each)}) * {step}" for each, step in zip(index, steps, strict=True)) or "0"
    with ExitStack() as stack:
        loops(context, stack, step.nest.loops)
        context.out.line(f"const int64_t index = static_cast<int64_t>({operand(context, 1)});")
        context.out.line(f"const int64_t place = std::clamp<int64_t>(index < 0 ? index + {extent} : index, 0, {extent - 1});")
        context.out.line(f"{target(context)} = {context.read(0, f'{offset} + place * {stride}')};")


RULES: dict[type, Callable[[Context], None]] = {
    ops.Binary: pointwise(_binary),
    ops.Compare: pointwise(_compare),
    ops.Where: pointwise(_where),
    ops.Unary: pointwise(_unary),
    ops.Gelu: pointwise(_gelu),
    ops.Cast: pointwise(_cast),
    ops.LayerNorm: _layer_norm,
    ops.Reduce: _reduce,
    ops.Expand: pointwise(lambda context: operand(context, 0)),
    ops.Slice: pointwise(lambda context: operand(context, 0)),
    ops.Gather: _gather,
}
