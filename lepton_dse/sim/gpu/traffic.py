"""Requests of warps to global memory: how many, how many bytes, how many sectors of 32 bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lepton_dse.jit import kernel

__all__ = ["SECTOR_BYTES", "Traffic", "count_places", "distinct"]

SECTOR_BYTES = 32
"""What global memory is read and written by (CUDA C++ Best Practices Guide, coalesced access)."""


@dataclass(frozen=True)
class Traffic:
    """Requests of warps, bytes that their threads ask for, and 32-byte sectors that these lie in."""

    requests: int
    bytes: int
    sectors: int

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.requests + other.requests, self.bytes + other.bytes, self.sectors + other.sectors)

    def __mul__(self, times: int) -> Traffic:
        return Traffic(self.requests * times, self.bytes * times, self.sectors * times)


def count_places(places: np.ndarray[tuple[int, int], np.dtype[np.int64]], element_bytes: int) -> Traffic:
    """Requests of warps, each one row.

    Parameters
    ----------
    places : ndarray of int64, shape (W, 32)
        Element that each lane reaches, counted from an address that is a multiple of 32; -1 for none.
    element_bytes : int
    """
    counted = _count(np.ascontiguousarray(places), element_bytes)
    return Traffic(*(int(value) for value in counted))


@kernel
def distinct(values: np.ndarray[tuple[int], np.dtype[np.int64]], count: int) -> int:
    """How many different numbers stand among the first `count`, at most 32 of them; sorts these."""
    for index in range(1, count):
        value, place = values[index], index
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value
    different = 0
    for index in range(count):
        if index == 0 or values[index] != values[index - 1]:
            different += 1
    return different


@kernel
def _count(places: np.ndarray[tuple[int, int], np.dtype[np.int64]], element_bytes: int) -> tuple[int, int, int]:
    sectors_of = np.empty(32, np.int64)
    requests, bytes_, sectors = 0, 0, 0
    for warp in range(places.shape[0]):
        active = 0
        for lane in range(places.shape[1]):
            if places[warp, lane] >= 0:
                sectors_of[active] = places[warp, lane] * element_bytes // 32
                active += 1
        if active > 0:
            requests += 1
            bytes_ += active * element_bytes
            sectors += distinct(sectors_of, active)
    return requests, bytes_, sectors
