"""Exact integer matrix products through floating-point BLAS.

A product of integers below 2**a and 2**w is exact in a float with p significand bits as long as every partial sum stays at
or below 2**p. The inner dimension is cut into blocks for which that holds, and the blocks are added as integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["exact_block", "exact_block_of", "exact_matmul"]

_FLOAT32_BITS, _FLOAT64_BITS = 24, 53
_SHORTEST = 64  # below that many products the additions between blocks cost more than the wider type


def exact_block(x_peak: int, w_peak: int) -> tuple[type[np.floating], int]:
    """The float type, and the longest inner dimension for which its product of ``|x| <= x_peak`` and ``|w| <= w_peak`` is exact.

    float32 is chosen while its block holds at least 64 products: below that the additions between blocks cost more than
    the wider type.
    """
    product = max(x_peak, 1) * max(w_peak, 1)
    single = (1 << _FLOAT32_BITS) // product
    if single >= _SHORTEST:
        return np.float32, single
    return np.float64, max(1, (1 << _FLOAT64_BITS) // product)


def exact_block_of(x_peak: int, w: NDArray[np.integer]) -> tuple[type[np.floating], int]:
    """As :func:`exact_block`, for given weights.

    No partial sum of a column exceeds ``x_peak * sum(|w|)``, which allows weights that are mostly small far longer blocks
    than their peak does.

    Parameters
    ----------
    x_peak : int
        Greatest ``|x|``.
    w : ndarray of int, shape (..., K, N)
        Weights; leading axes are products of their own.
    """
    magnitude = np.abs(w.astype(np.float64))
    inner, limit = w.shape[-2], (1 << _FLOAT32_BITS) / max(x_peak, 1)
    block = inner
    while block >= min(_SHORTEST, inner):
        if np.add.reduceat(magnitude, np.arange(0, inner, block), axis=-2).max(initial=0) <= limit:
            return np.float32, block
        block //= 2
    return exact_block(x_peak, int(magnitude.max(initial=0)))


def exact_matmul(x: NDArray[np.floating], w: NDArray[np.floating], block: int) -> NDArray[np.floating] | NDArray[np.int64]:
    """``x @ w`` with every sum exact, given `block` from :func:`exact_block` for the operands' type.

    Parameters
    ----------
    x : ndarray, shape (..., K)
    w : ndarray, shape (K, N)
        Integers held in the float type of `x`.
    block : int
        Greatest inner dimension whose sums are exact in that type.

    Returns
    -------
    ndarray, shape (..., N)
        Of the operands' type when one block holds K, int64 otherwise.
    """
    inner = w.shape[0]
    if inner <= block:
        product: NDArray[np.floating] = np.matmul(x, w)
        return product
    total = np.zeros((*x.shape[:-1], w.shape[-1]), np.int64)
    for start in range(0, inner, block):
        part = np.matmul(x[..., start : start + block], w[start : start + block])
        total += part.astype(np.int64)
    return total
