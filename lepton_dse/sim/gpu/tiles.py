"""The declared tiles of tensor-core kernels, by generation of the multiprocessors.

Ampere and Ada hold the tiles that CUTLASS instantiates for ``mma.sync`` with accumulators in registers. Hopper's ``wgmma``
takes 64 rows a warp group and any multiple of 8 columns up to 256; Blackwell's ``tcgen05`` takes 128 rows and keeps
accumulators in tensor memory (PTX ISA, sections on ``wgmma.mma_async`` and ``tcgen05.mma``). Every tile stands in both
orientations, since a library may swap the operands.

A warp group of 128 threads holds at most 128 x 128 accumulators; each thread keeps its share of them and 64 more registers for
addresses, fragments and the epilogue.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

__all__ = ["SPLITS", "generation", "tiles"]

SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
"""Declared splits of the summed axis over CTAs."""

_GROUP = 128
_GROUP_ACCUMULATORS = 128 * 128
_OTHER_REGISTERS = 64
_AMPERE = ((256, 128), (128, 128), (128, 64), (64, 64), (256, 64), (64, 32), (128, 32), (16, 64), (16, 128), (32, 32))
_COLUMNS = range(8, 257, 8)
_HOPPER = tuple((rows, columns) for rows in (64, 128, 192, 256, 320) for columns in _COLUMNS if rows * columns <= 40960)
_BLACKWELL = tuple((rows, columns) for rows in (128, 256) for columns in _COLUMNS)


def generation(compute_capability: float) -> str:
    """Which list of tiles a device takes: ``ampere`` (and all before), ``hopper`` or ``blackwell``."""
    if compute_capability >= 10:
        return "blackwell"
    return "hopper" if compute_capability >= 9 else "ampere"


@cache
def tiles(name: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The declared tiles of a generation.

    Returns
    -------
    ndarray of float64, shape (T, 4), read-only
        Rows, columns, threads and registers of a thread; the largest tiles first.
    """
    shapes = {"ampere": _AMPERE, "hopper": _HOPPER, "blackwell": _BLACKWELL}[name]
    both = sorted(set(shapes) | {(columns, rows) for rows, columns in shapes}, key=lambda shape: (-shape[0] * shape[1], shape))
    table = np.empty((len(both), 4))
    for index, (rows, columns) in enumerate(both):
        threads = _GROUP * math.ceil(rows * columns / _GROUP_ACCUMULATORS)
        held = 0 if name == "blackwell" else rows * columns / threads
        table[index] = rows, columns, threads, held + _OTHER_REGISTERS
    table.setflags(write=False)
    return table
