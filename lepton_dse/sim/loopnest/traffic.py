"""Elements and bytes that a mapped loop nest moves between levels of memory.

The machine
-----------
Levels are numbered from the arithmetic outwards. Level l keeps, of each operand that is *resident* there, the elements that a
tile of the nest uses; the outermost level keeps everything. Inside the tile of level 0, iterations run in *steps*: each step
computes one slice of the nest side by side (the spatial unrolling). The schedule is static, as emitted code is: for each operand
and level there is one load statement, placed as far out as the loop order allows.

Placement
---------
The loops that step the tile of level l through the tile of level l+1 stand in a given order, inside those of level l+1, and so
on. A load moves out of a loop if the operand does not depend on it, or if it has one iteration, and stops at the first other.
It runs once for each iteration of all loops that are left around it and moves the elements that its tile touches, tiles at the
ends being smaller, and positions of padding excluded. A level between that does not keep the operand is not touched.

Results are written back where a load of theirs would stand; a tile that is visited again is first read again. Partial sums have
the accumulator's width, the last write of each element the result's.

Symbols
-------
=======  =================================================================================================
f_x      elements of operand x over all its distinct tiles: the product over axes of :func:`axis_elements`
v_x      visits: iterations of the surrounding loops that x does not depend on
=======  =================================================================================================

Read operand: ``f_x v_x`` elements go in. Result: ``f v`` go out, of which ``f (v - 1)`` are partial and come in again.
Where an operand is not resident at level 0, every step moves its slice from the innermost level that keeps it; a slice that
several units use counts once (multicast), and partial sums of units side by side are added before they move.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.jit import kernel, parallel_kernel, prange
from lepton_dse.sim.loopnest.counting import axis_elements, distinct, tile_count
from lepton_dse.sim.loopnest.packing import PackedProblem, pack
from lepton_dse.sim.loopnest.problem import Problem

__all__ = ["LevelMapping", "NestMapping", "Traffic", "footprint_elements", "nest_traffic", "traffic", "traffic_batch"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@kernel
def tile_elements(x: int, row: int, extents: Ints, tiles: Ints, single: Bools, halos: Ints, halo_counts: Ints) -> int:
    """Elements of operand `x` over all its distinct tiles of a row, the product of its axes."""
    rows = len(tiles) - 1
    total = 1
    for loop in range(len(extents)):
        if single[x, loop]:
            total *= extents[loop]
    one = np.ones(1, np.int64)
    for index in range(halo_counts[x]):
        first, second, a, b, offset, extent = halos[x, index]
        outer = tiles[row:rows, first].copy()
        if second < 0:
            total *= axis_elements(extents[first], outer, 1, one, a, b, offset, extent)
        else:
            total *= axis_elements(extents[first], outer, extents[second], tiles[row:rows, second].copy(), a, b, offset, extent)
    return total


@kernel
def footprint_elements(x: int, tile: Ints, single: Bools, halos: Ints, halo_counts: Ints) -> int:
    """Elements of operand `x` in one whole tile."""
    total = 1
    for loop in range(len(tile)):
        if single[x, loop]:
            total *= tile[loop]
    for index in range(halo_counts[x]):
        first, second, a, b, _, extent = halos[x, index]
        r = tile[second] if second >= 0 else 1
        total *= min(distinct(tile[first], r, a, b), extent)
    return total


@kernel
def visits(x: int, row: int, extents: Ints, tiles: Ints, orders: Ints, relevant: Bools) -> int:
    """How often each tile of a row is visited: iterations of the irrelevant loops that stay around its load.

    Parameters
    ----------
    x, row : int
        Operand, and row of `tiles`.
    tiles : (L + 1, D) int64
        Row 0 the slice of a step, row l + 1 the tile of level l; the last row is the extents.
    orders : (L, D) int64
        Row k: the loops that step row k of `tiles` through row k + 1, inner to outer.
    relevant : (X, D) bool
    """
    rows = len(tiles) - 1
    # Up to which row each loop's steps are hoisted over.
    free = np.full(len(extents), row, np.int64)
    stopped = False
    for k in range(row, rows):
        for position in range(len(extents)):
            loop = orders[k, position]
            if relevant[x, loop]:
                if tiles[k, loop] < tiles[k + 1, loop]:
                    stopped = True
                    break
            else:
                free[loop] = k + 1
        if stopped:
            break
    total = 1
    for loop in range(len(extents)):
        if not relevant[x, loop]:
            total *= tile_count(extents[loop], tiles[free[loop] : rows, loop].copy())
    return total


@kernel
def nest_traffic(
    extents: Ints,
    tiles: Ints,
    orders: Ints,
    resident: Bools,
    relevant: Bools,
    single: Bools,
    halos: Ints,
    halo_counts: Ints,
    elements: Ints,
    visited: Ints,
) -> int:
    """Count one mapping; see :func:`visits` for `tiles` and `orders`.

    Parameters
    ----------
    resident : (L, X) bool
        Which level keeps which operand; the last level keeps all.
    elements, visited : (L + 1, X) int64
        Filled with f_x and v_x of each row: row l + 1 for what enters level l from the next level that keeps it, row 0 for
        what the steps take from the innermost such level. Zero where nothing moves.

    Returns
    -------
    int
        Steps.
    """
    levels, operands = resident.shape
    steps = 1
    for loop in range(len(extents)):
        steps *= tile_count(extents[loop], tiles[:levels, loop].copy())
    for x in range(operands):
        for row in range(levels + 1):
            elements[row, x], visited[row, x] = 0, 0
        for level in range(levels - 1):
            if resident[level, x]:
                elements[level + 1, x] = tile_elements(x, level + 1, extents, tiles, single, halos, halo_counts)
                visited[level + 1, x] = visits(x, level + 1, extents, tiles, orders, relevant)
        if not resident[0, x]:
            # Nothing keeps a slice: it moves in every step.
            around = 1
            for loop in range(len(extents)):
                if not relevant[x, loop]:
                    around *= tile_count(extents[loop], tiles[:levels, loop].copy())
            elements[0, x] = tile_elements(x, 0, extents, tiles, single, halos, halo_counts)
            visited[0, x] = around
    return steps


@parallel_kernel
def traffic_batch(
    extents: Ints,
    tiles: Ints,
    orders: Ints,
    resident: Bools,
    relevant: Bools,
    single: Bools,
    halos: Ints,
    halo_counts: Ints,
    elements: Ints,
    visited: Ints,
    steps: Ints,
) -> None:
    """:func:`nest_traffic` for K mappings, each array with a leading axis of K."""
    for index in prange(len(tiles)):
        steps[index] = nest_traffic(
            extents,
            tiles[index],
            orders[index],
            resident[index],
            relevant,
            single,
            halos,
            halo_counts,
            elements[index],
            visited[index],
        )


@dataclass(frozen=True)
class LevelMapping:
    """What one level keeps, and how its tile steps through the next level's.

    Parameters
    ----------
    name : str
    tile : mapping of str to int
        Iterations of each loop; loops not named have all of the next level's.
    order : tuple of str
        Loops that step the tile, inner to outer; those not named follow in the nest's order, innermost first.
    resident : frozenset of str
        Operands that the level keeps.
    """

    name: str
    tile: MappingType[str, int]
    order: tuple[str, ...]
    resident: frozenset[str]


@dataclass(frozen=True)
class NestMapping:
    """Spatial unrolling, and levels from inner to outer; the last holds every operand whole.

    Parameters
    ----------
    spatial : mapping of str to int
        Iterations of each loop that a step computes side by side.
    order : tuple of str
        Loops that step the slice through the tile of level 0, inner to outer.
    levels : tuple of LevelMapping
    """

    spatial: MappingType[str, int]
    levels: tuple[LevelMapping, ...]
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Traffic:
    """What moves.

    Parameters
    ----------
    steps : int
        Steps of the arithmetic, each one slice.
    read_bytes, written_bytes : mapping of level to mapping of operand to float
        Out of and into each level, at its side; level 0's own operand fetches are `fetched_bytes`.
    fetched_bytes : mapping of operand to float
        What the arithmetic reads and writes at level 0: every operand kept there once an iteration, the result twice.
    footprint_bytes : mapping of level to float
        Of all operands that a level keeps, results at the accumulator's width.
    """

    steps: int
    read_bytes: MappingType[str, MappingType[str, float]]
    written_bytes: MappingType[str, MappingType[str, float]]
    fetched_bytes: MappingType[str, float]
    footprint_bytes: MappingType[str, float]

    def level_bytes(self, level: str) -> float:
        """Bytes that pass a level, in and out together."""
        return sum(self.read_bytes[level].values()) + sum(self.written_bytes[level].values())


def traffic(problem: Problem, mapping: NestMapping) -> Traffic:
    """Count what a mapping moves.

    Raises
    ------
    LeptonError
        If tiles do not nest or do not cover the loops, a loop or operand is unknown, or the last level lacks an operand.
    """
    packed, levels = pack(problem), mapping.levels
    tiles, orders = _tiles(problem, mapping), _orders(problem, mapping)
    names = [operand.name for operand in problem.operands]
    for level in levels:
        if unknown := level.resident - set(names):
            raise LeptonError(f"level '{level.name}' keeps '{min(unknown)}', which is no operand", fix=f"name {', '.join(names)}")
    if missing := set(names) - levels[-1].resident:
        raise LeptonError(f"the last level does not keep '{min(missing)}'", fix="it must keep every operand")
    resident = np.array([[name in level.resident for name in names] for level in levels], np.bool_)
    elements = np.zeros((len(levels) + 1, len(names)), np.int64)
    visited = np.zeros_like(elements)
    arrays = (packed.relevant, packed.single, packed.halos, packed.halo_counts)
    steps = nest_traffic(packed.extents, tiles, orders, resident, *arrays, elements, visited)
    return _bytes(problem, packed, levels, tiles, resident, elements, visited, steps)


def _bytes(
    problem: Problem,
    packed: PackedProblem,
    levels: tuple[LevelMapping, ...],
    tiles: Ints,
    resident: Bools,
    elements: Ints,
    visited: Ints,
    steps: int,
) -> Traffic:
    partial = problem.accumulator_bits / 8
    read: dict[str, dict[str, float]] = {level.name: {} for level in levels}
    written: dict[str, dict[str, float]] = {level.name: {} for level in levels}
    fetched = {operand.name: 0.0 for operand in problem.operands}
    footprint = dict.fromkeys(read, 0.0)
    result = len(problem.reads)

    def add(table: dict[str, dict[str, float]], level: int, name: str, amount: float) -> None:
        row = table[levels[level].name]
        row[name] = row.get(name, 0.0) + amount

    for x, operand in enumerate(problem.operands):
        width = operand.bits / 8
        if resident[0, x]:
            fetched[operand.name] = problem.iterations * (2 * partial if x == result else width)
        for row in range(len(levels)):
            if visited[row, x] == 0:
                continue
            inner = row - 1  # the level that is filled; -1 for the arithmetic itself
            outer = next(level for level in range(inner + 1, len(levels)) if resident[level, x])
            f, v = float(elements[row, x]), float(visited[row, x])
            down = f * (v - 1) * partial if x == result else f * v * width
            up = f * ((v - 1) * partial + width) if x == result else 0.0
            add(read, outer, operand.name, down)
            add(written, outer, operand.name, up)
            if inner >= 0:
                add(written, inner, operand.name, down)
                add(read, inner, operand.name, up)
        for index, level in enumerate(levels):
            if resident[index, x]:
                count = footprint_elements(x, tiles[index + 1], packed.single, packed.halos, packed.halo_counts)
                footprint[level.name] += count * (partial if x == result else width)
    return Traffic(int(steps), read, written, fetched, footprint)


def _tiles(problem: Problem, mapping: NestMapping) -> Ints:
    rows = np.ones((len(mapping.levels) + 1, len(problem.loops)), np.int64)
    rows[-1] = problem.extents
    for index in range(len(mapping.levels) - 2, -1, -1):
        level = mapping.levels[index]
        _known(problem, level.tile, f"the tile of level '{level.name}'")
        rows[index + 1] = [level.tile.get(loop, rows[index + 2, position]) for position, loop in enumerate(problem.loops)]
    _known(problem, mapping.spatial, "the spatial unrolling")
    rows[0] = [mapping.spatial.get(loop, 1) for loop in problem.loops]
    for loop, column in zip(problem.loops, rows.T, strict=True):
        if column[0] < 1 or any(inner > outer for inner, outer in pairwise(column)):
            sizes = ", ".join(map(str, column))
            raise LeptonError(f"tiles of loop '{loop}' are {sizes} from inner to outer", fix="each must hold the one before it")
    for loop, size in mapping.levels[-1].tile.items():
        position = problem.loop(loop)
        extent = problem.extents[position] if position >= 0 else 1
        if size != extent:
            raise LeptonError(f"the last level covers {size} of {extent} iterations of '{loop}'", fix="it must cover all")
    return rows


def _known(problem: Problem, sizes: MappingType[str, int], where: str) -> None:
    for loop, size in sizes.items():
        if problem.loop(loop) < 0 and size != 1:
            raise LeptonError(f"{where} names '{loop}'", fix=f"the loops are {', '.join(problem.loops)}")


def _orders(problem: Problem, mapping: NestMapping) -> Ints:
    default = list(reversed(range(len(problem.loops))))
    rows = []
    for order in (mapping.order, *(level.order for level in mapping.levels[:-1])):
        _known(problem, dict.fromkeys(order, 2), "a loop order")
        if len(set(order)) != len(order):
            raise LeptonError("a loop order names a loop twice", fix="name each once")
        named = [problem.loop(loop) for loop in order]
        rows.append([*named, *(position for position in default if position not in named)])
    return np.array(rows, np.int64).reshape(len(mapping.levels), len(problem.loops))
