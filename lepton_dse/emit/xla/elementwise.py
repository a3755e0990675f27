"""Functions of one, two and three elements. Narrow floats are computed with in float32; integers count modulo their width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.types import element_type, is_float, width
from lepton_dse.ir import ops
from lepton_dse.ir.ops import BinaryFunction, Relation, UnaryFunction
from lepton_dse.ir.tensors import Tensor

__all__ = ["RULES"]

_BINARY = {
    BinaryFunction.SUBTRACT: "subtract",
    BinaryFunction.MULTIPLY: "multiply",
    BinaryFunction.DIVIDE: "divide",
    BinaryFunction.POWER: "power",
    BinaryFunction.MINIMUM: "minimum",
    BinaryFunction.MAXIMUM: "maximum",
}
_UNARY = {
    UnaryFunction.NEGATE: "negate",
    UnaryFunction.ABSOLUTE: "abs",
    UnaryFunction.SQUARE_ROOT: "sqrt",
    UnaryFunction.EXPONENTIAL: "exponential",
    UnaryFunction.LOGARITHM: "log",
}
_RELATIONS = {
    Relation.EQUAL: "EQ",
    Relation.LESS: "LT",
    Relation.LESS_OR_EQUAL: "LE",
    Relation.GREATER: "GT",
    Relation.GREATER_OR_EQUAL: "GE",
}


def _pair(body: Body, inputs: Sequence[Value], shape: tuple[int, ...], output: Tensor) -> list[Value]:
    """Operands of arithmetic: in one type, and of the shape of the result."""
    if is_float(inputs[0].kind):
        kind = "f64" if any(value.kind == "f64" for value in inputs) else "f32"
    else:
        kind = element_type(output.format)
        kind = "i32" if kind == "i1" else kind
    return [body.broadcast(body.convert(value, kind), shape) for value in inputs]


def _add(body: Body, _: ops.Add, inputs: list[Value], __: Sequence[Tensor], output: Tensor) -> Value:
    return body.apply("add", *_pair(body, inputs, output.shape, output))


def _binary(body: Body, attributes: ops.Binary, inputs: list[Value], _: Sequence[Tensor], output: Tensor) -> Value:
    return body.apply(_BINARY[attributes.function], *_pair(body, inputs, output.shape, output))


def _compare(body: Body, attributes: ops.Compare, inputs: list[Value], _: Sequence[Tensor], output: Tensor) -> Value:
    """Operands of different types meet in one that holds both."""
    kinds = {value.kind for value in inputs}
    kind = inputs[0].kind if len(kinds) == 1 else "f64" if any(map(is_float, kinds)) else "i64"
    kind = "i32" if kind == "i1" else kind
    a, b = (body.broadcast(body.convert(value, kind), output.shape) for value in inputs)
    return body.compare(_RELATIONS[attributes.relation], a, b)


def _where(body: Body, _: ops.Where, inputs: list[Value], __: Sequence[Tensor], output: Tensor) -> Value:
    kind = element_type(output.format)
    condition = body.broadcast(inputs[0], output.shape)
    return body.select(condition, *(body.broadcast(body.convert(value, kind), output.shape) for value in inputs[1:]))


def _unary(body: Body, attributes: ops.Unary, inputs: list[Value], *_: Any) -> Value:
    x = body.real(inputs[0])
    if attributes.function is UnaryFunction.RECIPROCAL:
        return body.apply("divide", body.like(x, 1), x)
    if attributes.function is UnaryFunction.ERROR_FUNCTION:
        return body.erf(x)
    return body.apply(_UNARY[attributes.function], x)


def _gelu(body: Body, attributes: ops.Gelu, inputs: list[Value], *_: Any) -> Value:
    x = body.real(inputs[0])
    if attributes.approximate:
        cube = body.apply("multiply", body.apply("multiply", x, x), x)
        inner = body.apply("add", x, body.apply("multiply", cube, body.like(x, 0.044715)))
        curve = body.apply("tanh", body.apply("multiply", inner, body.like(x, math.sqrt(2 / math.pi))))
    else:
        curve = body.erf(body.apply("multiply", x, body.like(x, math.sqrt(0.5))))
    half = body.apply("multiply", x, body.like(x, 0.5))
    return body.apply("multiply", half, body.apply("add", curve, body.like(x, 1)))


def _cast(body: Body, attributes: ops.Cast, inputs: list[Value], *_: Any) -> Value:
    x, to = inputs[0], element_type(attributes.to)
    return body.compare("NE", x, body.like(x, 0)) if to == "i1" and x.kind != "i1" else body.convert(x, to)


def _clip(body: Body, attributes: ops.Clip, inputs: list[Value], *_: Any) -> Value:
    x = body.real(inputs[0])
    low, high = attributes.low, attributes.high
    if not is_float(x.kind):
        bits, signed = width(x.kind), x.kind[0] == "i" and x.kind != "i1"
        least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        low, high = (min(max(bound, least), most) if math.isfinite(bound) else bound for bound in (low, high))
    if math.isfinite(low):
        x = body.apply("maximum", x, body.like(x, low))
    if math.isfinite(high):
        x = body.apply("minimum", x, body.like(x, high))
    return x


def _leaky_relu(body: Body, attributes: ops.LeakyRelu, inputs: list[Value], *_: Any) -> Value:
    x = body.real(inputs[0])
    scaled = body.apply("multiply", x, body.like(x, attributes.alpha))
    return body.select(body.compare("GE", x, body.like(x, 0)), x, scaled)


def _sigmoid(body: Body, _: ops.Sigmoid, inputs: list[Value], *__: Any) -> Value:
    return body.apply("logistic", body.real(inputs[0]))


def _tanh(body: Body, _: ops.Tanh, inputs: list[Value], *__: Any) -> Value:
    return body.apply("tanh", body.real(inputs[0]))


def _affine(body: Body, _: ops.Affine, inputs: list[Value], __: Sequence[Tensor], output: Tensor) -> Value:
    kind = "f64" if any(value.kind == "f64" for value in inputs) else "f32"
    if not is_float(inputs[0].kind):
        kind = element_type(output.format)
    x, *rest = (body.convert(value, kind) for value in inputs)
    scale, shift = (body.broadcast(value, x.shape, [1]) for value in rest)
    return body.apply("add", body.apply("multiply", x, scale), shift)


RULES: dict[type, Any] = {
    ops.Add: _add,
    ops.Binary: _binary,
    ops.Compare: _compare,
    ops.Where: _where,
    ops.Unary: _unary,
    ops.Gelu: _gelu,
    ops.Cast: _cast,
    ops.Clip: _clip,
    ops.LeakyRelu: _leaky_relu,
    ops.Sigmoid: _sigmoid,
    ops.Tanh: _tanh,
    ops.Affine: _affine,
}
