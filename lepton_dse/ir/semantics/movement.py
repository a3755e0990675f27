"""Operations that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops

__all__ = ["concat", "expand", "gather", "pad", "reshape", "take", "transpose"]

Array = NDArray[Any]


def pad(attributes: ops.Pad, inputs: Sequence[Array]) -> Array:
    """Pads grow an axis, negative ones crop it; the crop comes last, so that a reflection still sees what it crops."""
    x = inputs[0]
    grown = [(max(before, 0), max(after, 0)) for before, after in zip(attributes.begin, attributes.end, strict=True)]
    if attributes.mode is ops.PadMode.CONSTANT:
        value = attributes.value if x.dtype.kind == "f" else int(attributes.value)
        x = np.pad(x, grown, constant_values=value)
    else:
        x = np.pad(x, grown, mode="reflect" if attributes.mode is ops.PadMode.REFLECT else "edge")
    kept = tuple(
        slice(max(-before, 0), extent - max(-after, 0))
        for before, after, extent in zip(attributes.begin, attributes.end, x.shape, strict=True)
    )
    return x[kept]


def concat(attributes: ops.Concat, inputs: Sequence[Array]) -> Array:
    """Join along an axis."""
    return np.concatenate(inputs, axis=attributes.axis)


def reshape(attributes: ops.Reshape, inputs: Sequence[Array]) -> Array:
    """The same elements in row-major order."""
    return inputs[0].reshape(attributes.shape)


def transpose(attributes: ops.Transpose, inputs: Sequence[Array]) -> Array:
    """Axes in another order."""
    return inputs[0].transpose(attributes.permutation)


def expand(attributes: ops.Expand, inputs: Sequence[Array]) -> Array:
    """Elements repeated along axes."""
    return np.broadcast_to(inputs[0], attributes.shape).copy()


def take(attributes: ops.Slice, inputs: Sequence[Array]) -> Array:
    """Every `step`-th element of each axis from `begin`, backwards where that is negative."""
    kept = []
    for begin, extent, step in zip(attributes.begin, attributes.extent, attributes.step, strict=True):
        end = begin + extent * step
        kept.append(slice(begin, end if end >= 0 else None, step))  # a negative end would count from the back
    return inputs[0][tuple(kept)]


def gather(attributes: ops.Gather, inputs: Sequence[Array]) -> Array:
    """Slices along an axis, in the order of the indices."""
    x, indices = inputs
    extent = x.shape[attributes.axis]
    low, high = int(indices.min(initial=0)), int(indices.max(initial=0))
    if low < -extent or high >= extent:
        raise InvalidModelError(
            f"reads index {low if low < -extent else high} of an axis of {extent}", fix="feed indices inside the axis"
        )
    return np.take(x, indices.astype(np.int64), axis=attributes.axis)
