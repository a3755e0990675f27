"""Operations on single elements, and normalisations and choices along an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops

__all__ = ["add", "affine", "argmax", "clip", "leaky_relu", "local_response_norm", "sigmoid", "softmax", "tanh"]

Array = NDArray[Any]


def affine(_: ops.Affine, inputs: Sequence[Array]) -> Array:
    """``x * scale[c] + shift[c]`` over channel axis 1."""
    x, scale, shift = (_wide(value) for value in inputs)
    channel = (-1, *[1] * (x.ndim - 2))
    result: Array = x * scale.reshape(channel) + shift.reshape(channel)
    return result


def add(_: ops.Add, inputs: Sequence[Array]) -> Array:
    """Sum with NumPy broadcasting."""
    result: Array = _wide(inputs[0]) + _wide(inputs[1])
    return result


def clip(attributes: ops.Clip, inputs: Sequence[Array]) -> Array:
    """``min(max(x, low), high)``; an infinite bound does not bind, so that integers need no infinity."""
    x = _wide(inputs[0])
    kind = int if x.dtype.kind in "iu" else float
    if math.isfinite(attributes.low):
        x = np.maximum(x, kind(attributes.low))
    if math.isfinite(attributes.high):
        x = np.minimum(x, kind(attributes.high))
    return x


def leaky_relu(attributes: ops.LeakyRelu, inputs: Sequence[Array]) -> Array:
    """``x`` where ``x >= 0``, else ``alpha * x``."""
    x = inputs[0]
    return np.where(x >= 0, x, attributes.alpha * x)


def sigmoid(_: ops.Sigmoid, inputs: Sequence[Array]) -> Array:
    """``1 / (1 + exp(-x))``."""
    with np.errstate(over="ignore"):  # exp overflows to infinity, whose reciprocal is the right 0
        result: Array = 1 / (1 + np.exp(-inputs[0]))
    return result


def tanh(_: ops.Tanh, inputs: Sequence[Array]) -> Array:
    """Hyperbolic tangent."""
    result: Array = np.tanh(inputs[0])
    return result


def softmax(attributes: ops.Softmax, inputs: Sequence[Array]) -> Array:
    """``exp(x) / sum(exp(x))``, the greatest element taken off first so that nothing overflows."""
    x = inputs[0]
    raised = np.exp(x - x.max(axis=attributes.axes, keepdims=True))
    result: Array = raised / raised.sum(axis=attributes.axes, keepdims=True)
    return result


def argmax(attributes: ops.ArgMax, inputs: Sequence[Array]) -> Array:
    """Index of the greatest element along an axis."""
    x, axis = inputs[0], attributes.axis
    if not attributes.last:
        return np.asarray(np.argmax(x, axis=axis, keepdims=attributes.keepdims))
    from_the_end = np.argmax(np.flip(x, axis), axis=axis, keepdims=attributes.keepdims)
    return np.asarray(x.shape[axis] - 1 - from_the_end)


def local_response_norm(attributes: ops.LocalResponseNorm, inputs: Sequence[Array]) -> Array:
    """``x / (bias + alpha / size * sum of squares over size neighbouring channels) ** beta``."""
    x, size = inputs[0], attributes.size
    before = (size - 1) // 2
    pads = ((0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2))
    squares = np.pad(np.square(x), pads)
    total = np.zeros_like(x)
    for neighbour in range(size):
        total += squares[:, neighbour : neighbour + x.shape[1]]
    result: Array = x / (attributes.bias + attributes.alpha / size * total) ** attributes.beta
    return result


def _wide(value: Array) -> Array:
    """Integers in 64 bits, where their sums and products stay exact."""
    return value if value.dtype.kind == "f" else value.astype(np.int64)
