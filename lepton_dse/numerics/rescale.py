"""Requantisation of whole tensors in one pass: the kernels behind the fast reference.

Symbols as in :mod:`lepton_dse.numerics.quantize`, whose :func:`~lepton_dse.numerics.quantize.requantize` is the definition.
In NumPy the definition is six passes over 64-bit temporaries, which take longer than the matrix product before them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.jit import kernel

__all__ = ["rescale", "rescale_sum"]

Integers = NDArray[Any]


@kernel
def _rescale(acc: Integers, multiplier: Integers, shift: int, zero: int, low: int, high: int, result: Integers) -> None:
    half = np.int64(1) << (shift - 1)
    for row in range(acc.shape[0]):
        for column in range(acc.shape[1]):
            value = ((np.int64(acc[row, column]) * multiplier[column] + half) >> shift) + zero
            result[row, column] = min(max(value, low), high)


@kernel
def _rescale_sum(
    a: Integers,
    b: Integers,
    zero_a: int,
    zero_b: int,
    multiplier_a: int,
    multiplier_b: int,
    shift: int,
    zero: int,
    low: int,
    high: int,
    result: Integers,
) -> None:
    half = np.int64(1) << (shift - 1)
    for place in range(a.shape[0]):
        total = (np.int64(a[place]) - zero_a) * multiplier_a + (np.int64(b[place]) - zero_b) * multiplier_b
        result[place] = min(max(((total + half) >> shift) + zero, low), high)


def rescale(acc: Integers, multiplier: Integers, shift: int, zero: int, low: int, high: int, dtype: np.dtype[Any]) -> Integers:
    """``clamp(((acc * M[c] + 2**(s-1)) >> s) + z, low, high)``, one multiplier a column.

    Parameters
    ----------
    acc : ndarray of int, shape (N, C)
        Exact accumulators; ``|acc * M|`` must stay below 2**62.
    multiplier : ndarray of int, shape (C,)
        Unsigned multipliers.
    shift, zero, low, high : int
        Right shift (at least 1), zero point of the output and clamp bounds.
    dtype : dtype
        Integer type of the result; it holds `low` and `high`.

    Returns
    -------
    ndarray, shape (N, C)
    """
    result = np.empty(acc.shape, dtype)
    _rescale(acc, multiplier.astype(np.int64), shift, zero, low, high, result)
    return result


def rescale_sum(
    a: Integers,
    b: Integers,
    zeros: tuple[int, int],
    multipliers: tuple[int, int],
    shift: int,
    zero: int,
    low: int,
    high: int,
    dtype: np.dtype[Any],
) -> Integers:
    """``clamp((((a - z_a) * M_a + (b - z_b) * M_b + 2**(s-1)) >> s) + z, low, high)``.

    Parameters
    ----------
    a, b : ndarray of int, shape (N,)
        Operands; the sum of products must stay below 2**62.
    zeros, multipliers : tuple of int
        Of `a` and of `b`.
    shift, zero, low, high, dtype
        As for :func:`rescale`.

    Returns
    -------
    ndarray, shape (N,)
    """
    result = np.empty(a.shape, dtype)
    _rescale_sum(a, b, *zeros, *multipliers, shift, zero, low, high, result)
    return result
