"""How many tiles a loop falls into, and how many elements of an axis all tiles together touch.

Symbols
-------
=============  ================================================================================================
B              iterations of a loop
T_1 <= T_2..   tile sizes of the loop from an inner to an outer level; the last tile of each is what remains
n(B; T_1, ..)  innermost tiles in all: a tile of T_2 holds ceil(T_2 / T_1) of them, its remainder fewer
p, r           iterations of two loops i, j in a tile
a, b, c, H     an index ``a i + b j + c`` into an axis of H elements
d(p, r)        distinct values of ``a i + b j`` over i < p, j < r
=============  ================================================================================================

With g = gcd(a, b), two iterations give the same value exactly when one is (i - b/g, j + a/g) of the other, so the pairs form
chains, and there are as many chains as nodes less edges: ``d = p r - max(0, p - b/g) max(0, r - a/g)``. Elements outside
0 <= index < H are padding; only tiles near the ends have any, and those are counted one by one.

All counts are 64-bit integers; callers keep products of extents below 2^62.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.jit import kernel

__all__ = ["axis_elements", "ceil_div", "distinct", "tile_classes", "tile_count"]

Ints = NDArray[np.int64]


@kernel
def ceil_div(amount: int, size: int) -> int:
    """Least integer not below ``amount / size``."""
    return (amount + size - 1) // size


@kernel
def tile_count(extent: int, tiles: Ints) -> int:
    """Innermost tiles of a loop cut by `tiles`, inner to outer."""
    sizes, counts = tile_classes(extent, tiles)
    total = 0
    for index in range(len(sizes)):
        total += counts[index]
    return total


@kernel
def tile_classes(extent: int, tiles: Ints) -> tuple[Ints, Ints]:
    """Distinct sizes of the innermost tiles, and how many there are of each.

    Parameters
    ----------
    extent : int
    tiles : (L,) int64
        Tile sizes, inner to outer; each at least 1.
    """
    levels = len(tiles)
    sizes = np.empty(levels + 2, np.int64)
    counts = np.empty(levels + 2, np.int64)
    sizes[0], counts[0], used = extent, 1, 1
    for level in range(levels - 1, -1, -1):
        tile = tiles[level]
        full = 0
        kept = 0
        for index in range(used):
            whole, rest = sizes[index] // tile, sizes[index] % tile
            full += counts[index] * whole
            if rest > 0:
                sizes[kept], counts[kept] = rest, counts[index]
                kept += 1
        if full > 0:
            sizes[kept], counts[kept] = tile, full
            kept += 1
        used = kept
    return sizes[:used], counts[:used]


@kernel
def distinct(p: int, r: int, a: int, b: int) -> int:
    """Distinct values of ``a i + b j`` over i < p, j < r."""
    x, y = a, b
    while y:
        x, y = y, x % y
    return p * r - max(0, p - b // x) * max(0, r - a // x)


@kernel
def _tile_at(position: int, extent: int, tiles: Ints) -> tuple[int, int]:
    """Start and size of the innermost tile that holds a position."""
    start, size, inside = 0, extent, position
    for level in range(len(tiles) - 1, -1, -1):
        tile = tiles[level]
        before = inside // tile * tile
        start += before
        inside -= before
        size = min(tile, size - before)
    return start, size


@kernel
def _below(x: int, p: int, y: int, r: int, a: int, b: int, limit: int) -> int:
    """Distinct values of ``a i + b j`` under `limit`, over x <= i < x + p and y <= j < y + r."""
    least = a * x + b * y
    if least >= limit:
        return 0
    most = a * (x + p - 1) + b * (y + r - 1)
    if most < limit:
        return distinct(p, r, a, b)
    if (b == 1 and r >= a) or (a == 1 and p >= b):
        return limit - least  # the values have no gap
    found = 0
    for value in range(least, limit):
        for j in range(r):
            rest = value - least - b * j
            if rest < 0:
                break
            if rest % a == 0 and rest // a < p:
                found += 1
                break
    return found


@kernel
def axis_elements(
    first: int, first_tiles: Ints, second: int, second_tiles: Ints, a: int, b: int, offset: int, extent: int
) -> int:
    """Elements of an axis that the tiles of two loops touch, summed over all pairs of tiles.

    Parameters
    ----------
    first, second : int
        Iterations of the two loops.
    first_tiles, second_tiles : (L,) int64
        Their tile sizes, inner to outer.
    a, b, offset : int
        The index ``a i + b j + offset``.
    extent : int
        Elements of the axis; positions outside are not counted.
    """
    p_sizes, p_counts = tile_classes(first, first_tiles)
    r_sizes, r_counts = tile_classes(second, second_tiles)
    total = 0
    for i in range(len(p_sizes)):
        for j in range(len(r_sizes)):
            total += p_counts[i] * r_counts[j] * distinct(p_sizes[i], r_sizes[j], a, b)
    # Below 0: from the first tiles on, until a tile starts inside.
    x = 0
    while x < first and a * x + offset < 0:
        _, p = _tile_at(x, first, first_tiles)
        y = 0
        while y < second and a * x + b * y + offset < 0:
            _, r = _tile_at(y, second, second_tiles)
            total -= _below(x, p, y, r, a, b, -offset)
            y += r
        x += p
    # At or beyond the extent: from the last tiles back, until a tile ends inside.
    limit = extent - offset
    x = first - 1
    while x >= 0 and a * x + b * (second - 1) >= limit:
        start, p = _tile_at(x, first, first_tiles)
        y = second - 1
        while y >= 0 and a * x + b * y >= limit:
            begin, r = _tile_at(y, second, second_tiles)
            total -= distinct(p, r, a, b) - _below(start, p, begin, r, a, b, limit)
            y = begin - 1
        x = start - 1
    return total
