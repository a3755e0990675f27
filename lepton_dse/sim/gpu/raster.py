"""Bytes of the operands that a tiled matrix product reads from main memory, by raster order and L2 capacity.

Symbols
-------
==========  ==============================================================================================
x, y        tiles along the axis that the raster groups, and along the other
X, Y        bytes of the operand that the grouped axis indexes, and of the other
g           tiles of the grouped axis that run side by side (the width of the raster)
P           CTAs in flight at once
w           tiles of the other axis in flight: ``min(y, max(1, floor(P / min(g, x))))``
C           bytes of L2 that hold operands between waves
==========  ==============================================================================================

CTAs start in an order that walks groups of g tile rows, column by column inside a group (the swizzled rasterisation of CUTLASS).
Those in flight step through the summed axis together, so an operand panel that several of them share is read once.

* The panels of a group, g/x of X, are read once for the group if they fit into C, else once for every w columns: ``ceil(y /
  w)`` times.
* The other operand is read once if all of it fits into C, else once a group: ``ceil(x / g)`` times.

``bytes = X * (1 or ceil(y / w)) + Y * (1 or ceil(x / g))``. :func:`operand_bytes` takes the best width among 1, 2, 4 ... 64
and either axis, which is what a library's heuristic aims at. More CTAs in flight or a larger L2 never read more.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.jit import kernel

__all__ = ["WIDEST", "operand_bytes", "raster_bytes"]

WIDEST = 64.0


@kernel
def raster_bytes(x: float, y: float, x_bytes: float, y_bytes: float, width: float, in_flight: float, cache: float) -> float:
    """Bytes read with one raster width; see the symbols above (`width` is g, `in_flight` P, `cache` C)."""
    group = min(width, x)
    columns = min(y, max(1.0, np.floor(in_flight / group)))
    x_passes = 1.0 if x_bytes * group / x <= cache else np.ceil(y / columns)
    y_passes = 1.0 if y_bytes <= cache else np.ceil(x / group)
    return x_bytes * x_passes + y_bytes * y_passes


@kernel
def operand_bytes(m: float, n: float, a_bytes: float, b_bytes: float, in_flight: float, cache: float) -> float:
    """Least bytes over the raster widths 1, 2, 4 ... 64 along either axis, for m by n tiles of a product of A and B."""
    best = np.inf
    width = 1.0
    while width <= WIDEST:
        best = min(best, raster_bytes(m, n, a_bytes, b_bytes, width, in_flight, cache))
        best = min(best, raster_bytes(n, m, b_bytes, a_bytes, width, in_flight, cache))
        width *= 2.0
    return best
