"""Operations that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops

__all__ = ["concat", "pad", "reshape", "transpose"]

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
