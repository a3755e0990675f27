"""Functions of one, two and three elements, with NumPy broadcasting, and conversions between formats.

Reals follow IEEE 754: what has no value is NaN, what has no bound infinite, and neither is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.numerics.formats import BOOL

__all__ = ["binary", "cast", "compare", "gelu", "unary", "where"]

Array = NDArray[Any]

_BINARY: dict[ops.BinaryFunction, Callable[[Array, Array], Array]] = {
    ops.BinaryFunction.SUBTRACT: np.subtract,
    ops.BinaryFunction.MULTIPLY: np.multiply,
    ops.BinaryFunction.DIVIDE: np.divide,
    ops.BinaryFunction.POWER: np.power,
    ops.BinaryFunction.MINIMUM: np.minimum,
    ops.BinaryFunction.MAXIMUM: np.maximum,
}
_ON_INTEGERS = (
    ops.BinaryFunction.SUBTRACT,
    ops.BinaryFunction.MULTIPLY,
    ops.BinaryFunction.MINIMUM,
    ops.BinaryFunction.MAXIMUM,
    ops.UnaryFunction.NEGATE,
    ops.UnaryFunction.ABSOLUTE,
)
_UNARY: dict[ops.UnaryFunction, Callable[[Array], Array]] = {
    ops.UnaryFunction.NEGATE: np.negative,
    ops.UnaryFunction.ABSOLUTE: np.abs,
    ops.UnaryFunction.SQUARE_ROOT: np.sqrt,
    ops.UnaryFunction.RECIPROCAL: np.reciprocal,
    ops.UnaryFunction.EXPONENTIAL: np.exp,
    ops.UnaryFunction.LOGARITHM: np.log,
    ops.UnaryFunction.ERROR_FUNCTION: erf,
}
_RELATIONS: dict[ops.Relation, Callable[[Array, Array], Array]] = {
    ops.Relation.EQUAL: np.equal,
    ops.Relation.LESS: np.less,
    ops.Relation.LESS_OR_EQUAL: np.less_equal,
    ops.Relation.GREATER: np.greater,
    ops.Relation.GREATER_OR_EQUAL: np.greater_equal,
}


def binary(attributes: ops.Binary, inputs: Sequence[Array]) -> Array:
    """A function of two elements."""
    a, b = (_wide(value, attributes.function) for value in inputs)
    with np.errstate(all="ignore"):
        return np.asarray(_BINARY[attributes.function](a, b))


def unary(attributes: ops.Unary, inputs: Sequence[Array]) -> Array:
    """A function of one element."""
    x = _wide(inputs[0], attributes.function)
    with np.errstate(all="ignore"):
        return np.asarray(_UNARY[attributes.function](x))


def gelu(attributes: ops.Gelu, inputs: Sequence[Array]) -> Array:
    """``x * (1 + erf(x / sqrt(2))) / 2``, or the approximation of it by tanh."""
    x = inputs[0]
    if x.dtype.kind != "f":
        raise InvalidModelError("has no meaning on integers", fix="compute it on reals")
    half = x.dtype.type(0.5)
    if attributes.approximate:
        inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
        return np.asarray(half * x * (1 + np.tanh(inner)))
    return np.asarray(half * x * (1 + erf(x * x.dtype.type(math.sqrt(0.5)))))


def compare(attributes: ops.Compare, inputs: Sequence[Array]) -> Array:
    """Whether a relation holds."""
    return np.asarray(_RELATIONS[attributes.relation](*inputs))


def where(_: ops.Where, inputs: Sequence[Array]) -> Array:
    """One of two elements, by a condition."""
    return np.where(*inputs)


def cast(attributes: ops.Cast, inputs: Sequence[Array]) -> Array:
    """The same number in another format; a real that no integer of 64 bits holds is an error."""
    x, to = inputs[0], attributes.to
    if to == BOOL:
        return np.asarray(x != 0)
    if to.is_float:
        return x.astype(to.numpy)
    if x.dtype.kind != "f":
        return x.astype(np.int64)
    whole = np.trunc(x)
    if not (np.abs(whole) < 2.0**63).all():  # so is NaN
        raise InvalidModelError(f"gives reals that {to} cannot hold", fix="clip them first")
    return whole.astype(np.int64)


def _wide(value: Array, function: ops.BinaryFunction | ops.UnaryFunction) -> Array:
    """Integers in 64 bits, for functions that are exact on them."""
    if value.dtype.kind == "f":
        return value
    if function not in _ON_INTEGERS:
        raise InvalidModelError(f"'{function.value}' has no meaning on integers", fix="compute it on reals")
    return value.astype(np.int64)
