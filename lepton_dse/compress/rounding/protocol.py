"""What a rounding method is given, and what it answers.

The output of a contraction's channel is ``w . x`` over patches x. With rounded weights ``beta * q`` and the inputs ``x'`` that
the rounded layers before it give, the squared output error over the calibration patches is, up to a constant,

    |X w - X' (beta q)|^2 = (beta q)' H (beta q) - 2 (beta q)' C w,     H = X'' X',   C = X'' X

so that H and C, of the size of one channel's weights squared, are all that a method needs to know of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layer", "Rounding", "output_error"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """The channels of one contraction that read the same inputs (all of them, or those of one group of a convolution).

    Parameters
    ----------
    weights : ndarray of float64, shape (M, K)
        A row a channel.
    beta : ndarray of float64, shape (M, K)
        Scale of each weight.
    limit : int
        Integers lie within ``±limit``.
    gram : ndarray of float64, shape (K, K)
        H, the mean over patches of the products of two inputs as the quantised network gives them.
    cross : ndarray of float64, shape (K, K)
        C, the mean product of an input of the quantised network (rows) and one of the float network (columns).
    """

    weights: Matrix
    beta: Matrix
    limit: int
    gram: Matrix
    cross: Matrix

    @property
    def nearest(self) -> NDArray[np.int64]:
        """Every weight rounded by itself, halves to even, shape (M, K)."""
        return np.clip(np.rint(self.weights / self.beta), -self.limit, self.limit).astype(np.int64)


Rounding = Callable[[Layer], NDArray[np.int64]]
"""A layer's integers, shape (M, K)."""


def output_error(layer: Layer, integers: NDArray[np.int64]) -> Matrix:
    """Mean squared output error of each channel that depends on the choice of integers, shape (M,); see the equation above.

    Zero stands for the error of weights that are all zero, so that values may be negative.
    """
    w = integers * layer.beta
    error: Matrix = np.einsum("mk,mk->m", w @ layer.gram, w) - 2 * np.einsum("mk,mk->m", w, layer.weights @ layer.cross.T)
    return error
