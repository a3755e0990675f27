"""Operations of lowered graphs in explicit integer arithmetic: XLA has no quantised types that compile.

The quotient of Quantize is that of float32, rounded once. XLA turns a division by what is alike along an axis into a product with
its reciprocal, which misses every second quotient by a unit in the last place, so the division is done in float64 and rounded to
float32: two roundings of a quotient of 24-bit numbers are one, since 53 bits are more than 2 * 24 + 2 (S. A. Figueroa, "When is
double rounding innocuous?", SIGNUM Newsletter 30, 1995), and no such quotient is close enough to a half for the reciprocal to
matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.movement import taken
from lepton_dse.emit.xla.types import is_float
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.numerics.quantize import QuantParams, integer_bounds

__all__ = ["RULES", "product_type"]

_EXACT = 1 << 24  # whole numbers up to here are exact in float32


def _scale(tensor: Tensor) -> QuantParams:
    if tensor.quant is None:
        raise LeptonError("has no scale", where=tensor.name)
    return tensor.quant


def _quantize(body: Body, _: ops.Quantize, inputs: list[Value], __: Sequence[Tensor], output: Tensor) -> Value:
    quant, form = _scale(output), output.format
    scale = body.broadcast(body.constant(quant.scale(output.shape).astype(np.float64), "f64"), output.shape)
    quotient = body.apply("divide", body.convert(body.convert(inputs[0], "f32"), "f64"), scale)
    ratio = body.convert(quotient, "f32")
    if form.is_float:
        limit = min(float(form.maximum), float(np.finfo(np.float32).max))
        return body.apply("clamp", body.like(ratio, -limit), ratio, body.like(ratio, limit))
    rounded = body.apply("round_nearest_even", ratio)
    low, high = (bound - quant.zero for bound in integer_bounds(form))
    if max(abs(low), abs(high)) > _EXACT:
        rounded = body.convert(rounded, "f64")
    whole = body.apply("clamp", body.like(rounded, low), rounded, body.like(rounded, high))
    whole = body.convert(whole, "i64" if rounded.kind == "f64" else "i32")
    return body.apply("add", whole, body.like(whole, quant.zero)) if quant.zero else whole


def _dequantize(body: Body, _: ops.Dequantize, inputs: list[Value], tensors: Sequence[Tensor], __: Tensor) -> Value:
    quant, x = _scale(tensors[0]), inputs[0]
    if not is_float(x.kind):
        x = body.convert(x, "i64" if x.kind.endswith(("32", "64")) else "i32")
        x = body.apply("subtract", x, body.like(x, quant.zero)) if quant.zero else x
    scale = body.constant(quant.scale(x.shape), "f32")
    return body.apply("multiply", body.convert(x, "f32"), body.broadcast(scale, x.shape))


def product_type(acc: NumberFormat, multiplier: NumberFormat) -> str:
    """The integer type that holds a product and half a unit more: 32 bits where they suffice."""
    bits = acc.bits - acc.signed + multiplier.bits - multiplier.signed
    return "i32" if bits <= 30 else "i64"


def _rounded(body: Body, product: Value, shift: int, zero: int, low: int, high: int) -> Value:
    """``clamp(((product + 2**(shift-1)) >> shift) + zero, low, high)``."""
    half = body.apply("add", product, body.like(product, 1 << (shift - 1)))
    shifted = body.apply("shift_right_arithmetic", half, body.like(half, shift))
    if zero:
        shifted = body.apply("add", shifted, body.like(shifted, zero))
    return body.apply("clamp", body.like(shifted, low), shifted, body.like(shifted, high))


def _requantize(body: Body, attributes: ops.Requantize, inputs: list[Value], tensors: Sequence[Tensor], output: Tensor) -> Value:
    kind = product_type(tensors[0].format, tensors[1].format) if attributes.shift <= 30 else "i64"
    acc, multiplier = (body.broadcast(body.convert(value, kind), output.shape) for value in inputs)
    product = body.apply("multiply", acc, multiplier)
    return _rounded(body, product, attributes.shift, attributes.zero, attributes.low, attributes.high)


def _add_requantize(body: Body, attributes: ops.AddRequantize, inputs: list[Value], _: Sequence[Tensor], output: Tensor) -> Value:
    units = ((attributes.zero_a, attributes.multiplier_a), (attributes.zero_b, attributes.multiplier_b))
    terms = []
    for value, (zero, multiplier) in zip(inputs, units, strict=True):
        wide = body.convert(value, "i64")
        wide = body.apply("subtract", wide, body.like(wide, zero)) if zero else wide
        terms.append(body.broadcast(body.apply("multiply", wide, body.like(wide, multiplier)), output.shape))
    total = body.apply("add", *terms)
    return _rounded(body, total, attributes.shift, attributes.zero, attributes.low, attributes.high)


def _lookup(body: Body, attributes: ops.Lookup, inputs: list[Value], *_: Any) -> Value:
    index = body.convert(inputs[0], "i32")
    if attributes.least:
        index = body.apply("subtract", index, body.like(index, attributes.least))
    return taken(body, inputs[1], index, 0)


RULES: dict[type, Any] = {
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
    ops.Requantize: _requantize,
    ops.AddRequantize: _add_requantize,
    ops.Lookup: _lookup,
}
