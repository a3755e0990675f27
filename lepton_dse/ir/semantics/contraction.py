"""Convolution and matrix product: sums of products, exact on integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.semantics.windows import windows

__all__ = ["conv", "matmul"]

Array = NDArray[Any]


def conv(attributes: ops.Conv, inputs: Sequence[Array]) -> Array:
    """Cross-correlation: over the taps of the kernel, the sum of one matrix product per group."""
    x, w, groups = inputs[0], inputs[1], attributes.groups
    kind = _accumulator(x, w, terms=w[0].size, least=abs(attributes.pad_value))
    taps = windows(x.astype(kind, copy=False), attributes.window, attributes.pad_value)
    weights = w.astype(kind, copy=False).reshape(groups, w.shape[0] // groups, *w.shape[1:])
    batch, extent = x.shape[0], taps.shape[2 : x.ndim]
    if groups == x.shape[1] == w.shape[0]:
        total = _channel_by_channel(taps, weights[:, 0, 0], extent)
    else:
        total = _group_by_group(taps, weights, extent)
    result = _integer_again(total, x).reshape(batch, w.shape[0], *extent)
    return result if len(inputs) < 3 else result + _bias(inputs[2], x).reshape(-1, *[1] * len(extent))


def _group_by_group(taps: Array, weights: Array, extent: tuple[int, ...]) -> Array:
    """Sums of shape (N, groups, channels of a group, positions)."""
    batch, channels = taps.shape[:2]
    groups, each = weights.shape[:2]
    total = np.zeros((batch, groups, each, int(np.prod(extent))), weights.dtype)
    for tap in np.ndindex(weights.shape[3:]):
        patch = taps[(..., *tap)].reshape(batch, groups, channels // groups, -1)
        total += np.matmul(weights[(..., *tap)], patch)
    return total


def _channel_by_channel(taps: Array, weights: Array, extent: tuple[int, ...]) -> Array:
    """The same where every channel is a group: products of single elements, a sample at a time to stay in the cache."""
    batch, channels = taps.shape[:2]
    total = np.zeros((batch, channels, *extent), weights.dtype)
    product = np.empty_like(total[0]) if batch else total
    for sample in range(batch):
        for tap in np.ndindex(weights.shape[1:]):
            factor = weights[(slice(None), *tap)].reshape(channels, *[1] * len(extent))
            total[sample] += np.multiply(taps[(sample, ..., *tap)], factor, out=product)
    return total


def matmul(_: ops.MatMul, inputs: Sequence[Array]) -> Array:
    """Matrix product over the last axis of x and the second-last of w."""
    x, w = inputs[0], inputs[1]
    kind = _accumulator(x, w, terms=w.shape[-2])
    result = _integer_again(np.matmul(x.astype(kind, copy=False), w.astype(kind, copy=False)), x)
    return result if len(inputs) < 3 else result + _bias(inputs[2], x)


def _accumulator(x: Array, w: Array, *, terms: int, least: int = 0) -> np.dtype[Any]:
    """The type to multiply and add in, so that integers come out exact.

    Doubles hold every integer below 2**53, and their products run on BLAS; only sums that could reach beyond need int64.
    """
    if x.dtype.kind == "f":
        return np.result_type(x, w)
    bound = terms * max(_magnitude(x), least) * _magnitude(w)
    if bound >= 1 << 63:
        raise InvalidModelError(f"sums of up to {bound} leave 64 bits", fix="use narrower operands")
    return np.dtype(np.float64 if bound < 1 << 53 else np.int64)


def _magnitude(value: Array) -> int:
    return max(-int(value.min()), int(value.max()))


def _integer_again(total: Array, x: Array) -> Array:
    return total if x.dtype.kind == "f" else total.astype(np.int64, copy=False)


def _bias(bias: Array, x: Array) -> Array:
    return bias if x.dtype.kind == "f" else bias.astype(np.int64, copy=False)
