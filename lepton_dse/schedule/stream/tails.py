"""How much of a frame the last word of the output waits for.

A window with a stride may leave the end of its image unread, and then no layer before it has to have computed that end by the
time the frame's last result leaves.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from lepton_dse.ir import ops
from lepton_dse.schedule.stream.layers import (
    OUTPUT,
    ArgMaxLayer,
    DepthwiseLayer,
    Layer,
    MatrixLayer,
    PoolLayer,
    StreamGraph,
)

__all__ = ["needed_pixels", "needed_shares"]


def needed_shares(streams: StreamGraph) -> tuple[Fraction, ...]:
    """Of each layer the least share of a frame's words, arriving or leaving, that the last word of the output waits for.

    Parameters
    ----------
    streams : StreamGraph

    Returns
    -------
    tuple of Fraction
        At most 1. A process of the layer's stage has taken at least this share of the steps of a frame, since it takes as many
        for every pixel that it reads or gives.
    """
    arriving: dict[int, tuple[int, ...]] = {}
    shares: list[Fraction] = []
    for position in reversed(range(len(streams.layers))):
        layer = streams.layers[position]
        leaving = max(
            layer.pixels if reader.layer == OUTPUT else -(-arriving[reader.layer][reader.operand] // layer.out_channels)
            for reader in streams.readers[position]
        )
        arriving[position] = tuple(needed_pixels(layer, leaving) * operand.channels for operand in layer.operands)
        parts = (Fraction(count, operand.elements) for count, operand in zip(arriving[position], layer.operands, strict=True))
        shares.append(min(Fraction(leaving, layer.pixels), *parts))
    return tuple(reversed(shares))


def needed_pixels(layer: Layer, pixels: int) -> int:
    """Input pixels, from the first on, that the first `pixels` output pixels depend on."""
    match layer:
        case MatrixLayer() | DepthwiseLayer() | PoolLayer():
            return _below_window(layer.window, layer.extent, layer.out_extent[1], pixels)
        case ArgMaxLayer():
            return 1
    return pixels


def _below_window(window: ops.Window, extent: tuple[int, int], columns: int, pixels: int) -> int:
    row, column = np.divmod(np.arange(pixels), columns)
    # The windows' last row and column that lie inside the image.
    last = [np.full(pixels, -1, np.int64) for _ in range(2)]
    for axis, place in enumerate((row, column)):
        for tap in range(window.kernel[axis]):
            at = place * window.strides[axis] - window.pads_begin[axis] + tap * window.dilations[axis]
            last[axis] = np.where((at >= 0) & (at < extent[axis]), np.maximum(last[axis], at), last[axis])
    inside = (last[0] >= 0) & (last[1] >= 0)
    read = np.where(inside, last[0] * extent[1] + last[1] + 1, 0)
    return int(read.max(initial=0))
