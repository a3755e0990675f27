"""Maximum, mean and sum over sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.semantics.windows import windows

__all__ = ["average_pool", "max_pool", "sum_pool"]

Array = NDArray[Any]


def max_pool(attributes: ops.MaxPool, inputs: Sequence[Array]) -> Array:
    """Greatest element of each window; padding is the least value of the type and so never wins."""
    x = inputs[0]
    least = -np.inf if x.dtype.kind == "f" else int(np.iinfo(x.dtype).min)
    views = windows(x, attributes.window, least)
    result: Array = views.max(axis=_taps(x))
    return result


def average_pool(attributes: ops.AveragePool, inputs: Sequence[Array]) -> Array:
    """Mean of each window; the sum is taken in float64, so that its order does not show in float32."""
    x, window = inputs[0], attributes.window
    total = windows(x, window, 0).sum(axis=_taps(x), dtype=np.float64)
    counted: Array = np.ones((1, 1, *x.shape[2:]))
    if attributes.count_include_pad:
        overhang = attributes.overhang or (0,) * len(window.kernel)
        ends = tuple(after - over for after, over in zip(window.pads_end, overhang, strict=True))
        counted = np.pad(counted, ((0, 0), (0, 0), *zip(window.pads_begin, ends, strict=True)), constant_values=1)
        window = ops.Window(window.kernel, window.strides, window.dilations, (0,) * len(ends), overhang)
    mean: Array = total / windows(counted, window, 0).sum(axis=_taps(x))
    return mean.astype(x.dtype)


def sum_pool(attributes: ops.SumPool, inputs: Sequence[Array]) -> Array:
    """Exact sum of ``x - offset`` over the taps inside the tensor: padding is `offset` and so adds nothing."""
    x = inputs[0] if inputs[0].dtype.kind == "f" else inputs[0].astype(np.int64)
    result: Array = windows(x - attributes.offset, attributes.window, 0).sum(axis=_taps(x))
    return result


def _taps(x: Array) -> tuple[int, ...]:
    """Axes of the window within an array of windows over `x`."""
    return tuple(range(x.ndim, 2 * x.ndim - 2))
