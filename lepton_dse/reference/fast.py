"""The fast exact path for lowered graphs: integers through floating-point units, in slabs that stay in the cache.

Equal to :mod:`lepton_dse.ir.semantics` bit for bit; a test holds it so. What has no fast form here, and every error, is
left to the definition. Images are kept channels last in memory, as views with the channels on axis 1: a patch is then a
few contiguous runs, the rows of a product are pixels, and one factor a channel is one a column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import evaluate as define
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.accumulate import exact_block_of, exact_matmul
from lepton_dse.numerics.rescale import rescale, rescale_sum

__all__ = ["evaluate"]

Array = NDArray[Any]

# Patches gathered at a time: small enough for the last cache level, large enough that threads of a product seldom meet.
_SLAB_BYTES = 1 << 22
_DOUBLE_BITS = 53  # a double holds every integer of a format of that many bits
_FEW_CHANNELS = 4  # groups of fewer input channels are multiplied tap by tap: matrices that narrow gain nothing


def evaluate(op: Op, inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array:
    """Value of one operation; arguments as for :func:`lepton_dse.ir.semantics.evaluate`."""
    found = None
    if output.format.is_integer and all(tensor.format.is_integer for tensor in tensors):
        match op.attributes:
            case ops.Conv(window) if len(window.kernel) == 2:
                found = _conv(op.attributes, inputs, output, tensors)
            case ops.MatMul() if inputs[1].ndim == 2:
                found = _matmul(inputs, output, tensors)
            case ops.Requantize():
                found = _requantize(op.attributes, inputs, output)
            case ops.AddRequantize():
                found = _add_requantize(op.attributes, inputs, output)
            case ops.MaxPool(window) if len(window.kernel) == 2:
                found = _max_pool(window, inputs[0], output)
            case ops.SumPool(window) if len(window.kernel) == 2:
                found = _sum_pool(op.attributes, inputs[0], output, tensors)
            case _:
                pass
    return define(op, inputs, output, tensors) if found is None else found


def _peak(tensor: Tensor) -> int:
    return max(-int(tensor.format.minimum), int(tensor.format.maximum))


def _within(value: Array, output: Tensor) -> bool:
    """Whether integers lie in a tensor's format; the definition's message tells where they do not."""
    low, high = int(value.min(initial=0)), int(value.max(initial=0))
    return bool(output.format.minimum <= low and high <= output.format.maximum)


def _matmul(inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array | None:
    x, w = inputs[0], inputs[1]
    dtype, block = exact_block_of(_peak(tensors[0]), w)
    acc = exact_matmul(x.astype(dtype), w.astype(dtype), block).astype(np.int64)
    if len(inputs) > 2:
        acc += inputs[2]
    return acc.astype(output.format.numpy) if _within(acc, output) else None


def _sums_fit(columns: Array, bias: Array, x: Tensor, pad_value: int, output: Tensor) -> bool:
    """Whether no accumulator can leave its format, whatever the input; lowering chooses formats so."""
    low, high = min(int(x.format.minimum), pad_value, 0), max(int(x.format.maximum), pad_value, 0)
    positive = np.maximum(columns, 0).sum(axis=1, dtype=np.float64).reshape(-1)
    negative = np.minimum(columns, 0).sum(axis=1, dtype=np.float64).reshape(-1)
    most = float((bias + positive * high + negative * low).max())
    least = float((bias + positive * low + negative * high).min())
    return output.format.bits <= _DOUBLE_BITS and bool(output.format.minimum <= least and most <= output.format.maximum)


def _conv(attributes: ops.Conv, inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array | None:
    x, w, groups = inputs[0], inputs[1], attributes.groups
    per_group = w.shape[1]
    # (groups, taps * channels, outputs of a group)
    columns = np.moveaxis(w, 1, -1).reshape(groups, len(w) // groups, -1).transpose(0, 2, 1)
    bias = inputs[2] if len(inputs) > 2 else np.zeros(len(w), np.int64)
    if not _sums_fit(columns, bias, tensors[0], attributes.pad_value, output):
        return None
    dtype, block = exact_block_of(max(_peak(tensors[0]), abs(attributes.pad_value)), columns)
    narrow = groups > 1 and per_group < _FEW_CHANNELS and block >= columns.shape[1]
    weights = np.ascontiguousarray(columns, dtype)
    offsets = bias.astype(np.float64).reshape(groups, -1)
    batch, rows, width = x.shape[0], *output.shape[2:]
    acc = np.empty((batch, rows, width, groups, weights.shape[2]), output.format.numpy)
    for samples, lines, patches in _slabs(x, attributes, rows, width, dtype):
        target = acc[samples, lines]
        if narrow:
            np.add(_tap_by_tap(patches, weights), offsets, out=target, casting="unsafe")
            continue
        for group in range(groups):
            mine = patches if groups == 1 else patches[..., group * per_group : (group + 1) * per_group]
            product = exact_matmul(mine.reshape(-1, weights.shape[1]), weights[group], block)
            shaped = product.reshape(*target.shape[:3], -1)
            # Accumulators are exact in doubles; NumPy passes through those in pieces of its buffer.
            np.add(shaped, offsets[group], out=target[..., group, :], casting="unsafe")
    return np.moveaxis(acc.reshape(batch, rows, width, -1), -1, 1)


def _slabs(
    x: Array, attributes: ops.Conv, rows: int, width: int, dtype: type[np.floating]
) -> Iterator[tuple[slice, slice, Array]]:
    """Samples, output rows, and their patches of shape (samples, rows, columns, kh, kw, channels)."""
    window = attributes.window
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilations
    (top, left), (bottom, right) = window.pads_begin, window.pads_end
    batch, channels, height, breadth = x.shape
    line = width * kh * kw * channels * np.dtype(dtype).itemsize
    samples_each = max(1, _SLAB_BYTES // (line * rows))
    rows_each = rows if samples_each > 1 else max(1, _SLAB_BYTES // line)
    last = np.moveaxis(x, 1, -1)
    padded = np.full((samples_each, height + top + bottom, breadth + left + right, channels), attributes.pad_value, dtype)
    for first in range(0, batch, samples_each):
        samples = slice(first, min(first + samples_each, batch))
        image = padded[: samples.stop - first]
        image[:, top : top + height, left : left + breadth] = last[samples]
        n, h, v, c = image.strides
        for begin in range(0, rows, rows_each):
            lines = slice(begin, min(begin + rows_each, rows))
            views = np.lib.stride_tricks.as_strided(
                image[:, begin * sh :],
                (len(image), lines.stop - begin, width, kh, kw, channels),
                (n, h * sh, v * sw, h * dh, v * dw, c),
                writeable=False,
            )
            yield samples, lines, views


def _tap_by_tap(patches: Array, weights: Array) -> Array:
    """Grouped products of few channels as sums over taps, each an elementwise product of all groups at once."""
    groups, _, outputs = weights.shape
    *shape, kh, kw, channels = patches.shape
    per_group = channels // groups
    taps = weights.reshape(groups, kh, kw, per_group, outputs)
    total = np.zeros((*shape, groups, outputs), weights.dtype)
    for i, j, channel in np.ndindex(kh, kw, per_group):
        total += patches[..., i, j, channel::per_group, None] * taps[:, i, j, channel]
    return total


def _requantize(attributes: ops.Requantize, inputs: list[Array], output: Tensor) -> Array | None:
    acc, multiplier = inputs
    if not _clamps_inside(attributes, output) or multiplier.ndim > acc.ndim or acc.ndim < 2:
        return None
    last = np.moveaxis(acc, 1, -1)
    factors = np.moveaxis(multiplier.reshape((1,) * (acc.ndim - multiplier.ndim) + multiplier.shape), 1, -1)
    if factors.size not in (1, factors.shape[-1]):
        return None
    factors = np.broadcast_to(factors.reshape(-1), last.shape[-1:])
    bounds = attributes.shift, attributes.zero, attributes.low, attributes.high
    flat = rescale(last.reshape(-1, last.shape[-1]), factors, *bounds, output.format.numpy)
    return np.moveaxis(flat.reshape(last.shape), -1, 1)


def _add_requantize(attributes: ops.AddRequantize, inputs: list[Array], output: Tensor) -> Array | None:
    a, b = (np.moveaxis(value, 1, -1) if value.ndim > 1 else value for value in inputs)
    if not _clamps_inside(attributes, output) or a.shape != b.shape or a.ndim < 2:
        return None
    zeros = attributes.zero_a, attributes.zero_b
    multipliers = attributes.multiplier_a, attributes.multiplier_b
    bounds = attributes.shift, attributes.zero, attributes.low, attributes.high
    flat = rescale_sum(a.reshape(-1), b.reshape(-1), zeros, multipliers, *bounds, output.format.numpy)
    return np.moveaxis(flat.reshape(a.shape), -1, 1)


def _clamps_inside(attributes: ops.Requantize | ops.AddRequantize, output: Tensor) -> bool:
    return bool(output.format.minimum <= attributes.low <= attributes.high <= output.format.maximum)


def _taps(x: Array, window: ops.Window, fill: int, extent: tuple[int, ...]) -> Iterator[Array]:
    """For each tap of a window, the elements under it at every position, channels last."""
    last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    if any(window.pads_begin) or any(window.pads_end):
        pads = zip(window.pads_begin, window.pads_end, strict=True)
        last = np.pad(last, ((0, 0), *pads, (0, 0)), constant_values=fill)
    (sh, sw), (dh, dw), (rows, columns) = window.strides, window.dilations, extent
    for i, j in np.ndindex(window.kernel):
        yield last[:, i * dh : i * dh + (rows - 1) * sh + 1 : sh, j * dw : j * dw + (columns - 1) * sw + 1 : sw]


def _max_pool(window: ops.Window, x: Array, output: Tensor) -> Array | None:
    taps = _taps(x, window, int(np.iinfo(x.dtype).min), output.shape[2:])
    peak = next(taps).copy()
    for tap in taps:
        np.maximum(peak, tap, out=peak)
    return np.moveaxis(peak.astype(output.format.numpy, copy=False), -1, 1) if _within(peak, output) else None


def _sum_pool(attributes: ops.SumPool, x: Array, output: Tensor, tensors: list[Tensor]) -> Array | None:
    window = attributes.window
    if (_peak(tensors[0]) + abs(attributes.offset)) * window.taps >= 1 << 31:
        return None
    offset = np.int32(attributes.offset)
    total = np.zeros((len(x), *output.shape[2:], x.shape[1]), np.int32)
    for tap in _taps(x.astype(np.int32) - offset, window, 0, output.shape[2:]):
        total += tap
    return np.moveaxis(total.astype(output.format.numpy), -1, 1) if _within(total, output) else None
