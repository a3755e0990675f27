"""Sums, means and extremes along axes, and the normalisation by them.

Sums of reals are taken in float64, so that their order does not show in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops

__all__ = ["layer_norm", "reduce"]

Array = NDArray[Any]


def reduce(attributes: ops.Reduce, inputs: Sequence[Array]) -> Array:
    """Sum, mean, least or greatest along axes."""
    x, axes, keep = inputs[0], attributes.axes, attributes.keepdims
    exact = np.float64 if x.dtype.kind == "f" else np.int64
    result: Array
    match attributes.function:
        case ops.ReduceFunction.SUM:
            result = x.sum(axis=axes, keepdims=keep, dtype=exact).astype(x.dtype if x.dtype.kind == "f" else exact)
        case ops.ReduceFunction.MEAN:
            result = x.mean(axis=axes, keepdims=keep, dtype=np.float64)
            result = result.astype(x.dtype) if x.dtype.kind == "f" else result
        case ops.ReduceFunction.MINIMUM:
            result = x.min(axis=axes, keepdims=keep)
        case ops.ReduceFunction.MAXIMUM:
            result = x.max(axis=axes, keepdims=keep)
    return np.asarray(result)


def layer_norm(attributes: ops.LayerNorm, inputs: Sequence[Array]) -> Array:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift``, in float64 up to the last rounding."""
    x, axes = inputs[0], attributes.axes
    along = tuple(extent if axis in axes else 1 for axis, extent in enumerate(x.shape))
    scale, shift = (value.reshape(along) for value in inputs[1:])
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    result: Array = (centred / np.sqrt(variance + attributes.epsilon) * scale + shift).astype(x.dtype)
    return result
