"""Walks of the space: bounds for every buffer tile, exact costs for those that may beat the best."""

from __future__ import annotations

import numpy as np

from lepton_dse.jit import kernel, parallel_kernel, prange
from lepton_dse.search.tiling.bounds import Room, array_bound, choice_bound, entering_bytes, may_cover, new_room, tile_bound
from lepton_dse.search.tiling.costs import SAME, cost_of, describe_tile, exact_cost, new_tile
from lepton_dse.search.tiling.records import BLOCK, Choices, Floats, Goal, Ints, Known, Nest, Tables, Tile, X
from lepton_dse.search.tiling.rows import ELEMENTS, FIGURES, FOOTPRINT, OWN_TRIPS, VISITS, fill_row, loose_row

__all__ = ["FOUND", "bound_chunks", "bound_tiles", "evaluate_tiles"]

FOUND = 8
"""Of a tile: objective, energy, cycles, array choice, buffer residency, operand that stays, that memory keeps, evaluations."""
_SIDE_BY_SIDE = 128
"""Tiles whose quick bounds are computed together, or one row where it is longer."""


@parallel_kernel
def bound_chunks(
    chunks: Ints,
    best: float,
    nest: Nest,
    tables: Tables,
    known: Known,
    goal: Goal,
    offsets: Ints,
    numbers: Ints,
    bounds: Floats,
    counts: Ints,
) -> None:
    """Bound every tile of C chunks; a chunk is all options of the last two loops under fixed ones of the others.

    Parameters
    ----------
    offsets : (C + 1,) int64
        Room for each chunk's survivors, tiles with a bound below `best`, in `numbers` and `bounds`.
    numbers, bounds : (offsets[C],) int64, float64
        Filled as far as there is room.
    counts : (C,) int64
        Filled with the survivors of each chunk.
    """
    loops = len(nest.extents)
    inner, outer = nest.counts[loops - 1], nest.counts[loops - 2]
    together = max(1, min(outer, _SIDE_BY_SIDE // inner))
    for position in prange(len(chunks)):
        index, fixed = np.zeros(loops, np.int64), np.ones((4, X))
        _fix_outer_loops(chunks[position], nest, tables, goal.widths, index, fixed)
        rows, base = np.empty((4, X, together * inner)), np.empty((4, X))
        scratch, energy, cycles = np.empty((FIGURES, together * inner)), np.empty(together * inner), np.empty(together * inner)
        tile, room = new_tile(loops), new_room(known)
        found = 0
        for first in range(0, outer, together):
            some = min(together, outer - first)
            for i in range(some):
                index[loops - 2] = first + i
                for x in range(X):
                    base[ELEMENTS, x] = fixed[ELEMENTS, x]
                    base[VISITS, x] = fixed[VISITS, x] * tables.factors[0, x, loops - 2, first + i]
                    base[OWN_TRIPS, x] = fixed[OWN_TRIPS, x] * tables.factors[1, x, loops - 2, first + i]
                    base[FOOTPRINT, x] = fixed[FOOTPRINT, x] * tables.factors[2, x, loops - 2, first + i]
                fill_row(i * inner, index, base, nest, tables, rows)
            loose_row(some * inner, rows, known, goal, scratch, energy, cycles)
            for j in range(some * inner):
                if cost_of(goal, energy[j], cycles[j]) >= best * (1.0 - SAME):
                    continue
                index[loops - 2], index[loops - 1] = first + j // inner, j % inner
                _take_tile(j, rows, index, nest.options, tile)
                bound = tile_bound(tile, nest, known, goal, room, best)
                if bound < best * (1.0 - SAME):
                    place = offsets[position] + found
                    if place < offsets[position + 1]:
                        numbers[place] = (chunks[position] * outer + first) * inner + j
                        bounds[place] = bound
                    found += 1
        counts[position] = found


@kernel
def _fix_outer_loops(chunk: int, nest: Nest, tables: Tables, widths: Floats, index: Ints, fixed: Floats) -> None:
    """Options of a chunk's fixed loops, and the figures of each operand over them; elements are those over all loops."""
    loops = len(nest.extents)
    rest = chunk
    for loop in range(loops - 3, -1, -1):
        index[loop] = rest % nest.counts[loop]
        rest //= nest.counts[loop]
    for x in range(X):
        fixed[FOOTPRINT, x] = widths[3] if x == 2 else widths[x]
        for loop in range(loops):
            if nest.single[x, loop]:
                fixed[ELEMENTS, x] *= nest.extents[loop]
        for loop in range(loops - 2):
            fixed[VISITS, x] *= tables.factors[0, x, loop, index[loop]]
            fixed[OWN_TRIPS, x] *= tables.factors[1, x, loop, index[loop]]
            fixed[FOOTPRINT, x] *= tables.factors[2, x, loop, index[loop]]


@kernel
def _take_tile(j: int, rows: Floats, index: Ints, options: Ints, tile: Tile) -> None:
    """One tile of a row, given its options. (Numba drops what a parallel loop by itself writes into arrays of a tuple.)"""
    for loop in range(len(index)):
        tile.sizes[loop] = options[loop, index[loop]]
    for x in range(X):
        tile.elements[x], tile.visits[x] = rows[ELEMENTS, x, j], rows[VISITS, x, j]
        tile.own_trips[x], tile.footprint[x] = rows[OWN_TRIPS, x, j], rows[FOOTPRINT, x, j]


@parallel_kernel
def bound_tiles(numbers: Ints, nest: Nest, known: Known, goal: Goal, bounds: Floats) -> None:
    """Bounds of numbered tiles."""
    for position in prange(len(numbers)):
        tile, room = new_tile(len(nest.extents)), new_room(known)
        describe_tile(numbers[position], nest, goal.widths, tile)
        bounds[position] = tile_bound(tile, nest, known, goal, room, np.inf)


@parallel_kernel
def evaluate_tiles(numbers: Ints, best: float, nest: Nest, known: Known, choices: Choices, goal: Goal, found: Floats) -> None:
    """The best mapping of each numbered tile, where it beats `best`.

    Parameters
    ----------
    found : (N, FOUND) float64
        Filled; an infinite objective where nothing beats `best`.
    """
    for position in prange(len(numbers)):
        tile, room, record = new_tile(len(nest.extents)), new_room(known), found[position]
        describe_tile(numbers[position], nest, goal.widths, tile)
        may_cover(tile, nest, known, room)
        record[:] = np.inf
        record[FOUND - 1] = 0
        mine = best
        for keep in range(X):
            entering_bytes(keep, tile, goal.widths, room)
            for m in range(len(known.masks1)):
                need = 0.0
                for x in range(X):
                    if known.masks1[m, x]:
                        need += tile.footprint[x]
                if need > goal.capacity:
                    continue
                for r in range(len(known.masks0)):
                    for stay in range(X):
                        if not known.masks0[r, stay] and (stay > 0 or known.masks0[r].any()):
                            continue
                        if array_bound(m, r, stay, known, goal, room) < mine * (1.0 - SAME):
                            mine = _evaluate_choices(m, r, stay, keep, tile, mine, nest, known, choices, goal, room, record)


@kernel
def _evaluate_choices(
    m: int,
    r: int,
    stay: int,
    keep: int,
    tile: Tile,
    best: float,
    nest: Nest,
    known: Known,
    choices: Choices,
    goal: Goal,
    room: Room,
    record: Floats,
) -> float:
    """The least of `best` and of all array choices under one residency; `record` receives what beats it."""
    result = np.empty(3)
    k = choices.group_from[r]
    while k < choices.group_from[r + 1]:
        if k == choices.group_from[r] or k % BLOCK == 0:
            block = k // BLOCK
            moved, steps = choices.block_moved[block], choices.block_steps[block]
            bound = choice_bound(m, r, stay, tile, known.largest[:, r], moved, steps, nest, known, goal, room)
            if bound >= best * (1.0 - SAME):
                k = (block + 1) * BLOCK
                continue
        bound = choice_bound(m, r, stay, tile, choices.tiles[k], choices.moved[k], choices.steps[k], nest, known, goal, room)
        if bound < best * (1.0 - SAME):
            masks0, masks1 = known.masks0[r], known.masks1[m]
            slice_, array = choices.slices[k], choices.tiles[k]
            value = exact_cost(tile, slice_, array, masks0, masks1, stay, keep, nest, goal, known.fixed[r], result)
            record[FOUND - 1] += 1
            if value < best * (1.0 - SAME):
                best = value
                record[0], record[1], record[2] = value, result[0], result[1]
                record[3], record[4], record[5], record[6] = k, m, stay, keep
        k += 1
    return best
