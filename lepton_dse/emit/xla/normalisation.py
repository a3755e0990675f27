"""Reductions, choices and normalisations along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.contraction import accumulator, sum_windows
from lepton_dse.emit.xla.types import is_float, width
from lepton_dse.ir import ops
from lepton_dse.ir.ops import ReduceFunction
from lepton_dse.ir.tensors import Tensor

__all__ = ["RULES"]


def _ends(kind: str) -> tuple[float, float]:
    """Least and greatest value of a type."""
    if is_float(kind):
        return -math.inf, math.inf
    bits = width(kind)
    if kind == "i1" or kind[0] == "u":
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def _spread(body: Body, value: Value, x: Value) -> Value:
    """A reduced value, its axes kept, beside x again."""
    return body.broadcast(value, x.shape, range(len(x.shape)))


def _mean(body: Body, x: Value, axes: Sequence[int], *, keep: bool) -> Value:
    total = body.reduce("add", x, 0, axes, keep=keep)
    return body.apply("divide", total, body.like(total, math.prod(x.shape[axis] for axis in axes)))


def _reduce(body: Body, attributes: ops.Reduce, inputs: list[Value], _: Sequence[Tensor], output: Tensor) -> Value:
    x, axes, keep = inputs[0], attributes.axes, attributes.keepdims
    x = body.real(x) if is_float(x.kind) else x
    least, most = _ends(x.kind)
    match attributes.function:
        case ReduceFunction.SUM:
            x = x if is_float(x.kind) else body.convert(x, accumulator(output))
            return body.reduce("add", x, 0, axes, keep=keep)
        case ReduceFunction.MEAN:
            return _mean(body, x, axes, keep=keep)
        case ReduceFunction.MINIMUM:
            return body.reduce("minimum", x, most, axes, keep=keep)
        case ReduceFunction.MAXIMUM:
            return body.reduce("maximum", x, least, axes, keep=keep)


def _argmax(body: Body, attributes: ops.ArgMax, inputs: list[Value], *_: Any) -> Value:
    """The first place, or the last, that holds the greatest element, or no number at all."""
    x, axis = body.real(inputs[0]), attributes.axis
    x = body.convert(x, "i32") if x.kind == "i1" else x
    best = _spread(body, body.reduce("maximum", x, _ends(x.kind)[0], [axis], keep=True), x)
    holds = body.compare("EQ", x, best)
    if is_float(x.kind):
        holds = body.apply("or", holds, body.compare("NE", x, x))
    places = body.emit(f"stablehlo.iota dim = {axis} : {Value('', x.shape, 'i64').type}", x.shape, "i64")
    beyond = -1 if attributes.last else x.shape[axis]
    found = body.select(holds, places, body.like(places, beyond))
    operation = "maximum" if attributes.last else "minimum"
    return body.reduce(operation, found, beyond, [axis], keep=attributes.keepdims)


def _softmax(body: Body, attributes: ops.Softmax, inputs: list[Value], *_: Any) -> Value:
    x, axes = body.real(inputs[0]), attributes.axes
    most = _spread(body, body.reduce("maximum", x, -math.inf, axes, keep=True), x)
    raised = body.apply("exponential", body.apply("subtract", x, most))
    return body.apply("divide", raised, _spread(body, body.reduce("add", raised, 0, axes, keep=True), x))


def _layer_norm(body: Body, attributes: ops.LayerNorm, inputs: list[Value], *_: Any) -> Value:
    x, axes = body.real(inputs[0]), attributes.axes
    scale, shift = (body.broadcast(body.convert(value, x.kind), x.shape, axes) for value in inputs[1:])
    centred = body.apply("subtract", x, _spread(body, _mean(body, x, axes, keep=True), x))
    variance = _mean(body, body.apply("multiply", centred, centred), axes, keep=True)
    deviation = body.apply("sqrt", body.apply("add", variance, body.like(variance, attributes.epsilon)))
    normal = body.apply("divide", centred, _spread(body, deviation, x))
    return body.apply("add", body.apply("multiply", normal, scale), shift)


def _local_response_norm(body: Body, attributes: ops.LocalResponseNorm, inputs: list[Value], *_: Any) -> Value:
    """Channels stand on a spatial axis for the sum over neighbours."""
    x, size = body.real(inputs[0]), attributes.size
    before = (size - 1) // 2
    squares = body.reshape(body.apply("multiply", x, x), (x.shape[0], 1, *x.shape[1:]))
    others = (1,) * (len(x.shape) - 2)
    none = (0,) * len(others)
    window = ops.Window((size, *others), (1, *others), (1, *others), (before, *none), (size - 1 - before, *none))
    total = body.reshape(sum_windows(body, squares, window), x.shape)
    scaled = body.apply("multiply", total, body.like(total, attributes.alpha / size))
    base = body.apply("add", scaled, body.like(total, attributes.bias))
    return body.apply("divide", x, body.apply("power", base, body.like(base, attributes.beta)))


RULES: dict[type, Any] = {
    ops.Reduce: _reduce,
    ops.ArgMax: _argmax,
    ops.Softmax: _softmax,
    ops.LayerNorm: _layer_norm,
    ops.LocalResponseNorm: _local_response_norm,
}
