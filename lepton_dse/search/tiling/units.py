"""What the array may do in itself: which loops its axes unroll and which tile each unit keeps in its registers.

A larger spatial factor, and a larger register tile, never cost more: fewer tiles cover the nest, whatever the buffer's tile.
So of all factors of an axis only the greatest is visited, and of all register tiles only those in which no loop can grow. The
one exception is a halo with several cuts inside the padding, where a cut nearer to the edge overlaps less; along its loops every
factor and every register tile is visited.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.jit import kernel
from lepton_dse.search.tiling.hierarchy import ROLES, Hierarchy
from lepton_dse.search.tiling.space import MapSpace, tile_options
from lepton_dse.sim.loopnest import Problem
from lepton_dse.sim.loopnest.packing import PackedProblem
from lepton_dse.sim.loopnest.traffic import footprint_elements

__all__ = ["UnitChoices", "unit_choices"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class UnitChoices:
    """K choices for the array.

    Parameters
    ----------
    slices : (K, D) int64
        Iterations of each loop in one step.
    tiles : (K, D) int64
        Register tile of the whole array: the slice times what each unit keeps.
    resident : (K, 3) bool
        Operands kept in the registers.
    """

    slices: Ints
    tiles: Ints
    resident: NDArray[np.bool_]


def unit_choices(problem: Problem, packed: PackedProblem, hierarchy: Hierarchy, space: MapSpace) -> UnitChoices:
    """Every choice that no other one is at least as good as, in a fixed order."""
    found: list[tuple[Ints, Ints, tuple[bool, ...]]] = []
    uneven = _uneven(problem)
    widths = np.array([operand.bits / 8 for operand in problem.operands])
    widths[-1] = problem.accumulator_bits / 8
    seen: set[bytes] = set()
    for slice_ in _slices(problem, hierarchy, space, uneven):
        if slice_.tobytes() in seen:
            continue
        seen.add(slice_.tobytes())
        options = [tile_options(-(-extent // size), space.tiles) for extent, size in zip(problem.extents, slice_, strict=True)]
        counts = np.array([len(entry) for entry in options], np.int64)
        table = np.zeros((len(options), max(1, counts.max(initial=1))), np.int64)
        for row, entry in enumerate(options):
            table[row, : len(entry)] = entry
        for resident in hierarchy.levels[0].residencies():
            mask = np.array(resident, np.bool_)
            capacity = hierarchy.levels[0].capacity_bytes
            shares = np.array([hierarchy.levels[0].capacity_of(role) for role in ROLES])
            for tile in _register_tiles(
                table, counts, mask, widths, capacity, shares, uneven, packed.single, packed.halos, packed.halo_counts
            ):
                array = np.minimum(slice_ * tile, packed.extents)
                found.append((slice_, array, resident))
    return UnitChoices(
        np.array([entry[0] for entry in found], np.int64).reshape(len(found), len(problem.loops)),
        np.array([entry[1] for entry in found], np.int64).reshape(len(found), len(problem.loops)),
        np.array([entry[2] for entry in found], np.bool_).reshape(len(found), 3),
    )


def _uneven(problem: Problem) -> NDArray[np.bool_]:
    """Loops along which two or more cuts at one end fall into padding, so that the place of a cut may outweigh their number.

    Tiles on both sides of a cut share the elements between the first index of the one and the last of the other. With one
    such cut at an end, more cuts still never share less: the cuts of a tile of 1 are all cuts, and a cut before the last
    iteration leaves no room for an equal number of larger tiles.
    """
    flags = np.zeros(len(problem.loops), np.bool_)
    for operand in problem.operands:
        for halo in operand.halos:
            if halo.second < 0:
                continue  # tiles of one loop share nothing
            first, second = problem.extents[halo.first], problem.extents[halo.second]
            low = -halo.offset
            high = halo.stride * (first - 1) + halo.dilation * (second - 1) + halo.offset - (halo.extent - 1)
            for loop, step in ((halo.first, halo.stride), (halo.second, halo.dilation)):
                flags[loop] |= max(low, high) > 2 * step
    return flags


def _slices(problem: Problem, hierarchy: Hierarchy, space: MapSpace, uneven: NDArray[np.bool_]) -> list[Ints]:
    allowed = space.spatial or (problem.loops, problem.loops)
    found = []
    for first in (-1, *(problem.loop(name) for name in allowed[0] if problem.loop(name) >= 0)):
        for second in (-1, *(problem.loop(name) for name in allowed[1] if problem.loop(name) >= 0)):
            base = np.ones(len(problem.loops), np.int64)
            choices = [base]
            for loop, size in ((first, hierarchy.rows), (second, hierarchy.columns)):
                if loop < 0:
                    continue
                grown = []
                for slice_ in choices:
                    most = min(size, -(-problem.extents[loop] // int(slice_[loop])))
                    for factor in range(1, most + 1) if uneven[loop] else (most,):
                        unrolled = slice_.copy()
                        unrolled[loop] = min(problem.extents[loop], unrolled[loop] * factor)
                        grown.append(unrolled)
                choices = grown
            found += choices
    return found


@kernel
def _register_tiles(
    table: Ints,
    counts: Ints,
    mask: NDArray[np.bool_],
    widths: NDArray[np.float64],
    capacity: float,
    shares: NDArray[np.float64],
    uneven: NDArray[np.bool_],
    single: NDArray[np.bool_],
    halos: Ints,
    halo_counts: Ints,
) -> Ints:
    """Register tiles of one unit that fit and in which no loop can grow, in ascending order."""
    loops = len(counts)
    kept = np.empty((64, loops), np.int64)
    used = 0
    if not mask.any():
        return np.ones((1, loops), np.int64)
    index = np.zeros(loops, np.int64)
    tile = np.ones(loops, np.int64)
    while True:
        for loop in range(loops):
            tile[loop] = table[loop, index[loop]]
        fits = _fits(tile, mask, widths, capacity, shares, single, halos, halo_counts)
        if fits:
            maximal = True
            for loop in range(loops):
                if uneven[loop] or index[loop] + 1 == counts[loop]:
                    continue
                tile[loop] = table[loop, index[loop] + 1]
                if _fits(tile, mask, widths, capacity, shares, single, halos, halo_counts):
                    maximal = False
                tile[loop] = table[loop, index[loop]]
                if not maximal:
                    break
            if maximal:
                if used == len(kept):
                    grown = np.empty((2 * used, loops), np.int64)
                    grown[:used] = kept
                    kept = grown
                kept[used] = tile
                used += 1
        # The next tile; where this one does not fit, no larger one does, so the first loop that has grown goes back.
        loop = loops - 1
        if not fits:
            while loop >= 0 and index[loop] == 0:
                loop -= 1
            if loop < 0:
                break
            index[loop] = 0
            loop -= 1
        while loop >= 0 and index[loop] + 1 == counts[loop]:
            index[loop] = 0
            loop -= 1
        if loop < 0:
            break
        index[loop] += 1
    return kept[:used]


@kernel
def _fits(
    tile: Ints,
    mask: NDArray[np.bool_],
    widths: NDArray[np.float64],
    capacity: float,
    shares: NDArray[np.float64],
    single: NDArray[np.bool_],
    halos: Ints,
    halo_counts: Ints,
) -> bool:
    total = 0.0
    for x in range(len(mask)):
        if mask[x]:
            size = widths[x] * footprint_elements(x, tile, single, halos, halo_counts)
            if size > shares[x]:
                return False
            total += size
    return total <= capacity
