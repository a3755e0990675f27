"""Operations of lowered graphs: the arithmetic is :mod:`lepton_dse.numerics.quantize`, here bound to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics import quantize as arithmetic
from lepton_dse.numerics.quantize import QuantParams, integer_bounds

__all__ = ["add_requantize", "dequantize", "lookup", "quantize", "requantize"]

Array = NDArray[Any]


def quantize(_: ops.Quantize, inputs: Sequence[Array], tensors: Sequence[Tensor], output: Tensor) -> Array:
    """Real to stored number, with the output's scale and the bounds of its format."""
    if output.format.is_float:
        return arithmetic.encode_float(inputs[0], _scale(output), output.format)
    return arithmetic.quantize(inputs[0], _scale(output), *integer_bounds(output.format))


def dequantize(_: ops.Dequantize, inputs: Sequence[Array], tensors: Sequence[Tensor], output: Tensor) -> Array:
    """Stored number to real, with the input's scale."""
    return arithmetic.dequantize(inputs[0], _scale(tensors[0]))


def requantize(attributes: ops.Requantize, inputs: Sequence[Array]) -> Array:
    """Accumulators to the unit of the output."""
    return arithmetic.requantize(inputs[0], inputs[1], attributes.shift, attributes.zero, attributes.low, attributes.high)


def add_requantize(attributes: ops.AddRequantize, inputs: Sequence[Array]) -> Array:
    """Two operands brought to one unit, added, and rounded once."""
    a = (inputs[0].astype(np.int64) - attributes.zero_a) * attributes.multiplier_a
    b = (inputs[1].astype(np.int64) - attributes.zero_b) * attributes.multiplier_b
    one = np.ones((), np.int64)
    return arithmetic.requantize(a + b, one, attributes.shift, attributes.zero, attributes.low, attributes.high)


def lookup(attributes: ops.Lookup, inputs: Sequence[Array]) -> Array:
    """An entry of a table for each element."""
    x, table = inputs
    index = x.astype(np.int64) - attributes.least
    if index.min() < 0 or index.max() >= table.size:
        raise InvalidModelError(f"looks up beyond its table of {table.size} entries", fix="give the table one entry per value")
    result: Array = table[index]
    return result


def _scale(tensor: Tensor) -> QuantParams:
    if tensor.quant is None:
        raise InvalidModelError("has no scale", where=tensor.name)
    return tensor.quant
