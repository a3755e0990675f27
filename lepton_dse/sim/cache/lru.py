"""A hierarchy of set-associative caches with least-recently-used replacement, exact for every access.

Rules
-----
An access of `size` bytes at `address` touches the lines ``address >> b`` to ``(address + size - 1) >> b`` with lines of ``2^b``
bytes, in this order. A line lives in set ``line mod sets``; a set holds its `ways` most recently touched lines. A write brings
its line in like a read and marks it dirty (write-allocate, write-back). An access that misses in any of its lines counts as one
miss of its kind, and only then is the next level touched, with the same address and size. A level knows nothing of what lies in
the others (neither inclusive nor exclusive), and lines that are written back count but do not touch the next level. These are
the rules of cachegrind for D1 and LL (N. Nethercote and J. Seward, "Valgrind", PLDI 2007; ``cachegrind/cg_sim.c``), for any
number of levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.jit import kernel

__all__ = ["Cache", "Counts", "Hierarchy", "access", "simulate_trace"]

READS, WRITES, LINES, WRITE_BACKS = 0, 1, 2, 3
_BASE, _SETS, _MASK, _WAYS, _LINE_BITS = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class Cache:
    """One cache.

    Parameters
    ----------
    size_bytes, ways, line_bytes : int
        The line is a power of two; the size is a multiple of ``ways * line_bytes``.

    Raises
    ------
    LeptonError
        If there is no such cache.
    """

    size_bytes: int
    ways: int
    line_bytes: int = 64

    def __post_init__(self) -> None:
        if self.line_bytes < 1 or self.line_bytes & (self.line_bytes - 1):
            raise LeptonError(f"a cache line of {self.line_bytes} bytes", fix="lines are a power of two")
        if self.ways < 1:
            raise LeptonError(f"a cache of {self.ways} ways", fix="at least 1")
        if self.size_bytes < 1 or self.size_bytes % (self.ways * self.line_bytes):
            shape = f"{self.size_bytes} bytes in {self.ways} ways of {self.line_bytes}-byte lines"
            raise LeptonError(f"a cache of {shape}", fix="the size is a multiple of ways times line")

    @property
    def sets(self) -> int:
        """Number of sets."""
        return self.size_bytes // (self.ways * self.line_bytes)


@dataclass(frozen=True)
class Counts:
    """What one level saw."""

    read_misses: int
    write_misses: int
    lines: int
    """Lines brought in; more than the misses where accesses straddle two lines."""
    write_backs: int
    """Dirty lines that had to leave."""

    @property
    def misses(self) -> int:
        """Read and write misses."""
        return self.read_misses + self.write_misses

    def __sub__(self, earlier: Counts) -> Counts:
        """What happened since an earlier reading."""
        return Counts(
            self.read_misses - earlier.read_misses,
            self.write_misses - earlier.write_misses,
            self.lines - earlier.lines,
            self.write_backs - earlier.write_backs,
        )


class Hierarchy:
    """The state of caches from inner to outer, empty at first.

    Parameters
    ----------
    caches : sequence of Cache
        At least one.

    Raises
    ------
    LeptonError
        If there is none.
    """

    def __init__(self, caches: Sequence[Cache]) -> None:
        if not caches:
            raise LeptonError("a hierarchy without caches", fix="give at least one")
        shapes, base = [], 0
        for cache in caches:
            power = cache.sets & (cache.sets - 1) == 0
            shapes.append((base, cache.sets, cache.sets - 1 if power else -1, cache.ways, cache.line_bytes.bit_length() - 1))
            base += cache.sets * cache.ways
        self.shapes: NDArray[np.int64] = np.array(shapes, np.int64)
        self.tags: NDArray[np.int64] = np.zeros(base, np.int64)
        self.counts: NDArray[np.int64] = np.zeros((len(caches), 4), np.int64)
        self.accesses: NDArray[np.int64] = np.zeros(2, np.int64)
        """Reads and writes so far."""

    def read(self) -> tuple[Counts, ...]:
        """Counts of each level so far."""
        return tuple(Counts(*(int(value) for value in row)) for row in self.counts)


@kernel
def _touch(tags: Any, base: int, ways: int, line: int, write: int) -> int:
    """Touch a line in its set, which starts at `base`: 0 it was there, 1 it was not, 2 it was not and a dirty line left.

    An entry is 0 where empty, else ``2 (line + 1) + dirty``, the most recent first.
    """
    tag = (line + 1) << 1
    entry = tags[base]
    if (entry | 1) == (tag | 1):
        tags[base] = entry | write
        return 0
    moved = entry
    for way in range(1, ways):
        entry = tags[base + way]
        tags[base + way] = moved
        if (entry | 1) == (tag | 1):
            tags[base] = entry | write
            return 0
        moved = entry
    tags[base] = tag | write
    return 2 if moved & 1 else 1


@kernel
def access(tags: Any, shapes: Any, counts: Any, address: int, size: int, write: int) -> None:
    """One access: `write` is 1 for a store, 0 for a load."""
    for level in range(shapes.shape[0]):
        bits = shapes[level, _LINE_BITS]
        mask = shapes[level, _MASK]
        ways = shapes[level, _WAYS]
        first = address >> bits
        last = (address + size - 1) >> bits
        missed = False
        for line in range(first, last + 1):
            place = line & mask if mask >= 0 else line % shapes[level, _SETS]
            found = _touch(tags, shapes[level, _BASE] + place * ways, ways, line, write)
            if found:
                missed = True
                counts[level, LINES] += 1
                if found == 2:
                    counts[level, WRITE_BACKS] += 1
        if not missed:
            return
        counts[level, write] += 1


@kernel
def _trace(tags: Any, shapes: Any, counts: Any, accesses: Any, addresses: Any, sizes: Any, writes: Any) -> None:
    for index in range(len(addresses)):
        access(tags, shapes, counts, addresses[index], sizes[index], writes[index])
        accesses[writes[index]] += 1


def simulate_trace(hierarchy: Hierarchy, addresses: ArrayLike, sizes: ArrayLike, writes: ArrayLike) -> tuple[Counts, ...]:
    """Run a trace through a hierarchy, from its present state on.

    Parameters
    ----------
    hierarchy : Hierarchy
        Changed.
    addresses, sizes, writes : array_like, shape (n,)
        Bytes, bytes, and 1 for a store, 0 for a load.

    Returns
    -------
    tuple of Counts
        Of each level, for this trace alone.

    Raises
    ------
    LeptonError
        If an address is negative, a size below 1, or a kind is neither 0 nor 1.
    """
    where, size, write = (np.ascontiguousarray(values, np.int64) for values in (addresses, sizes, writes))
    if not where.shape == size.shape == write.shape or where.ndim != 1:
        raise LeptonError("addresses, sizes and kinds of a trace differ in shape", fix="give one of each per access")
    if where.size and (where.min() < 0 or size.min() < 1 or write.min() < 0 or write.max() > 1):
        raise LeptonError("a trace with a negative address, a size below 1 or an unknown kind", fix="0 is a load, 1 a store")
    before = hierarchy.read()
    _trace(hierarchy.tags, hierarchy.shapes, hierarchy.counts, hierarchy.accesses, where, size, write)
    return tuple(after - earlier for after, earlier in zip(hierarchy.read(), before, strict=True))
