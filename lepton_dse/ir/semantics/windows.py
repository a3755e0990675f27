"""Sliding windows over the spatial axes, as views."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lepton_dse.ir.ops import Window

__all__ = ["windows"]

Array = NDArray[Any]


def windows(x: Array, window: Window, fill: float) -> Array:
    """Every window of `x`, padding filled with `fill`.

    Parameters
    ----------
    x : ndarray, shape (N, C, *S)
        One to any number of spatial axes.
    window : Window
        The sliding window.
    fill : number
        What stands outside of x.

    Returns
    -------
    ndarray, shape (N, C, *T, *K)
        A read-only view of x, or of its padded copy.
    """
    pads = ((0, 0), (0, 0), *zip(window.pads_begin, window.pads_end, strict=True))
    if any(before or after for before, after in pads):
        x = np.pad(x, pads, constant_values=fill)
    spatial = tuple(range(2, x.ndim))
    reach = tuple((size - 1) * dilation + 1 for size, dilation in zip(window.kernel, window.dilations, strict=True))
    every = (slice(None), slice(None))
    steps = (*every, *(slice(None, None, stride) for stride in window.strides))
    holes = tuple(slice(None, None, dilation) for dilation in window.dilations)
    return sliding_window_view(x, reach, axis=spatial)[(*steps, *holes)]
