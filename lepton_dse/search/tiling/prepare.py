"""All that the kernels read of one search, computed once: options, array choices and their bounds, tables of halos."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.search.tiling import bounds, walk
from lepton_dse.search.tiling.hierarchy import ROLES, Hierarchy
from lepton_dse.search.tiling.space import MapSpace, Objective, tile_options
from lepton_dse.search.tiling.units import UnitChoices, unit_choices
from lepton_dse.sim.loopnest import Problem
from lepton_dse.sim.loopnest.counting import axis_elements, distinct
from lepton_dse.sim.loopnest.packing import PackedProblem, pack

__all__ = ["Prepared"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_FRONT_POINTS = 48
_MOST_TILES = 1 << 40
_RESIDENCY_CODE = np.array([4, 2, 1])


class Prepared:
    """Arrays of one search.

    Parameters
    ----------
    problem : Problem
    hierarchy : Hierarchy
    objective : Objective
    space : MapSpace
    limit : float
        Most cycles.

    Raises
    ------
    LeptonError
        If the space has 2^40 buffer tiles or more.
    """

    def __init__(self, problem: Problem, hierarchy: Hierarchy, objective: Objective, space: MapSpace, limit: float) -> None:
        self.problem = _sorted(problem, space)
        self.packed = pack(self.problem)
        self.options, self.counts = _options(self.problem, space)
        self.total = math.prod(int(count) for count in self.counts)
        """Buffer tiles in the space."""
        if self.total >= _MOST_TILES:
            raise LeptonError(f"{self.total:.3g} tiles of '{problem.write.name}'", fix="use divisor tiles, or split it")
        self.widths = np.array([*(operand.bits / 8 for operand in problem.operands), problem.accumulator_bits / 8])
        self.energies = np.array([[level.energy_of(role) for role in ROLES] for level in hierarchy.levels])
        self.bandwidths = np.array([level.bandwidth_byte_per_cycle for level in hierarchy.levels])
        self.capacity = hierarchy.levels[1].capacity_bytes
        self.masks0 = np.array(hierarchy.levels[0].residencies(), np.bool_)
        self.masks1 = np.array(hierarchy.levels[1].residencies(), np.bool_)
        fetched = np.array([self.widths[0], self.widths[1], 2 * self.widths[3]])
        each = hierarchy.energy_j_per_mac + (self.masks0 * fetched * self.energies[0]).sum(1)
        self.fixed: Floats = np.asarray(float(problem.iterations) * each)
        self.choices = unit_choices(self.problem, self.packed, hierarchy, space)
        if len(self.choices.slices):
            self._bound_choices()
            self.axis_f, self.axis_size = _axis_tables(self.packed, self.options, self.counts)
            self._fronts(objective is Objective.EDP or math.isfinite(limit))

    def nest(self) -> tuple[Any, ...]:
        """The nest, as every walk takes it."""
        packed = self.packed
        return packed.extents, self.options, self.counts, packed.relevant, packed.single, packed.halos, packed.halo_counts

    def bounding(self) -> tuple[Any, ...]:
        """Residencies and what is known of the array under each."""
        tables = (self.fronts, self.front_counts, self.floors, self.fixed)
        return (self.masks1, self.masks0, self.largest, self.most, *tables)

    def machine(self) -> tuple[Any, ...]:
        """Energies, the buffer's capacity, bandwidths and widths."""
        return self.energies, self.capacity, self.bandwidths, self.widths

    def least(self) -> tuple[Any, ...]:
        """What holds for every array choice.

        By residency of the buffer: what it keeps, joules for each byte that enters its tiles and for each that the array takes.
        Then least bytes of a moving operand, most bytes of one in a register tile, least fixed energy, least steps.
        """
        inside = np.ascontiguousarray(self.masks1.T, np.float64)
        outer = np.where(inside > 0, (self.energies[2] + self.energies[1])[:, None], 0.0)
        inner = np.where(inside > 0, self.energies[1][:, None], self.energies[2][:, None])
        return inside, outer, inner, self.floors.min(0), self.most.max(0), float(self.fixed.min()), float(self.steps.min())

    def array(self) -> tuple[Any, ...]:
        """The array's choices, and the bounds of each and of blocks of them."""
        blocks = (self.block_moved, self.block_steps)
        return (self.choices.slices, self.choices.tiles, self.group_from, self.moved, self.steps, *blocks)

    def tables(self) -> tuple[Any, ...]:
        """By loop and option, what it multiplies into visits, own trips and bytes; by halo, its axis."""
        trips = -(-self.packed.extents[:, None] // self.options).astype(np.float64)
        relevant, single = self.packed.relevant[:, :, None], self.packed.single[:, :, None]
        factors = [np.where(relevant, 1.0, trips), np.where(relevant, trips, 1.0), np.where(single, self.options, 1.0)]
        return np.ascontiguousarray(factors), self.axis_f, self.axis_size

    def _bound_choices(self) -> None:
        """What each array choice moves at least; choices sorted by residency, then by that."""
        packed, choices = self.packed, self.choices
        rows = np.zeros(8, np.int64)
        rows[self.masks0 @ _RESIDENCY_CODE] = np.arange(len(self.masks0))
        groups = rows[choices.resident @ _RESIDENCY_CODE]
        moved, steps = np.empty((len(groups), 3)), np.empty(len(groups))
        arrays = (packed.extents, packed.relevant, packed.single, packed.halos, packed.halo_counts)
        bounds.moving_bounds(
            choices.slices, choices.tiles, choices.resident, *arrays, self._least_axes(), self.widths, moved, steps
        )
        order = np.lexsort((np.arange(len(groups)), moved.sum(1), groups))
        self.choices = UnitChoices(choices.slices[order], choices.tiles[order], choices.resident[order])
        self.moved, self.steps = moved[order], steps[order]
        starts = np.arange(0, len(groups), walk.BLOCK)
        self.block_moved, self.block_steps = np.minimum.reduceat(self.moved, starts), np.minimum.reduceat(self.steps, starts)
        self.group_from = np.searchsorted(groups[order], np.arange(len(self.masks0) + 1)).astype(np.int64)
        self.largest = np.zeros((len(self.masks0), len(packed.extents)), np.int64)
        self.most, self.floors = np.zeros((len(self.masks0), 3)), np.zeros((len(self.masks0), 3))
        for r, (start, stop) in enumerate(itertools.pairwise(self.group_from)):
            tiles = self.choices.tiles[start:stop]
            self.largest[r] = tiles.max(0, initial=0)
            self.floors[r] = self.moved[start:stop].min(0, initial=np.inf)
            bounds.largest_footprints(tiles, packed.single, packed.halos, packed.halo_counts, self.widths, self.most[r])

    def _least_axes(self) -> Ints:
        """For each halo and pair of register tiles that occurs, the least elements of its axis over all buffer tiles."""
        packed, choices = self.packed, self.choices
        every = [halo for x in range(3) for halo in packed.halos[x, : packed.halo_counts[x]]]
        most_p = int(max((packed.extents[halo[0]] for halo in every), default=0)) + 1
        most_r = int(max((packed.extents[halo[1]] for halo in every if halo[1] >= 0), default=1)) + 1
        least = np.zeros((3, packed.halos.shape[1], most_p, most_r), np.int64)
        for x in range(3):
            for h, (first, second, *_) in enumerate(packed.halos[x, : packed.halo_counts[x]]):
                needed = np.zeros((most_p, most_r), np.bool_)
                for tiles in (choices.slices, choices.tiles):
                    needed[tiles[:, first], tiles[:, second] if second >= 0 else 1] = True
                bounds.least_axes(x, h, needed, packed.extents, self.options, self.counts, packed.halos, least[x, h])
        return least

    def _fronts(self, whole: bool) -> None:
        """Least energy and cycles of the array, per residency of both levels and set of operands in place.

        A front where energy and cycles both count (`whole`), else the least of each.
        """
        shape = (len(self.masks1), len(self.masks0), 8)
        self.fronts = np.full((*shape, _FRONT_POINTS, 2), np.inf)
        self.front_counts = np.zeros(shape, np.int64)
        for m, r, key in np.ndindex(shape):
            buffered, kept = self.masks1[m], self.masks0[r]
            chosen = slice(self.group_from[r], self.group_from[r + 1])
            moved, steps = self.moved[chosen], self.steps[chosen]
            if not len(steps):
                continue
            moving = ~(kept & (key >> np.arange(3) & 1).astype(np.bool_))
            price = self.energies[np.where(buffered, 1, 2), np.arange(3)] + np.where(kept, self.energies[0], 0.0)
            energy = self.fixed[r] + (moved * price)[:, moving].sum(1)
            shared = moved[:, moving & buffered].sum(1) / self.bandwidths[1]
            memory = moved[:, moving & ~buffered].sum(1) / self.bandwidths[2]
            cycles = np.maximum(np.maximum(steps, shared), memory)
            front = _front(energy, cycles) if whole else np.array([[energy.min(), cycles.min()]])
            self.fronts[m, r, key, : len(front)] = front
            self.front_counts[m, r, key] = len(front)


def _front(energy: Floats, cycles: Floats) -> Floats:
    """(energy, cycles) of which no other pair is least in both, thinned by lowering both: still a lower bound."""
    order = np.lexsort((energy, cycles))
    energy, cycles = energy[order], cycles[order]
    least = np.minimum.accumulate(energy)
    better = np.concatenate([[True], least[1:] < least[:-1]])
    energy, cycles = energy[better], cycles[better]
    if len(energy) > _FRONT_POINTS:
        edges = np.linspace(0, len(energy), _FRONT_POINTS + 1).astype(np.int64)
        energy, cycles = energy[edges[1:] - 1], cycles[edges[:-1]]
    return np.stack([energy, cycles], 1)


def _sorted(problem: Problem, space: MapSpace) -> Problem:
    """The same nest, at least two loops of it, with those of fewest tile options outermost: the last two make up a chunk."""
    missing = max(0, 2 - len(problem.loops))
    loops = (*problem.loops, *(f"once{index}" for index in range(missing)))
    extents = (*problem.extents, *(1,) * missing)
    order = sorted(range(len(loops)), key=lambda loop: (len(tile_options(extents[loop], space.tiles)), loop))
    place = {old: new for new, old in enumerate(order)} | {-1: -1}
    operands = [
        replace(
            operand,
            loops=tuple(sorted(place[loop] for loop in operand.loops)),
            halos=tuple(replace(halo, first=place[halo.first], second=place[halo.second]) for halo in operand.halos),
        )
        for operand in problem.operands
    ]
    names, sizes = tuple(loops[old] for old in order), tuple(extents[old] for old in order)
    return Problem(names, sizes, tuple(operands[:-1]), operands[-1], problem.accumulator_bits)


def _options(problem: Problem, space: MapSpace) -> tuple[Ints, Ints]:
    rows = [tile_options(extent, space.tiles) for extent in problem.extents]
    counts = np.array([len(row) for row in rows], np.int64)
    table = np.ones((len(rows), int(counts.max())), np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table, counts


def _axis_tables(packed: PackedProblem, options: Ints, counts: Ints) -> tuple[Floats, Floats]:
    """Of each halo, elements over all tiles and elements of one, by the options of its loops."""
    operands, most = packed.halos.shape[:2]
    width = int(counts.max()) if packed.halo_counts.any() else 1
    f, size = np.ones((operands, most, width, width)), np.ones((operands, most, width, width))
    one = np.ones(1, np.int64)
    for x in range(operands):
        for h in range(packed.halo_counts[x]):
            first, second, a, b, offset, extent = (int(value) for value in packed.halos[x, h])
            for i in range(int(counts[first])):
                p = options[first, i : i + 1]
                for j in range(int(counts[second]) if second >= 0 else 1):
                    r, whole = (options[second, j : j + 1], int(packed.extents[second])) if second >= 0 else (one, 1)
                    f[x, h, i, j] = axis_elements(int(packed.extents[first]), p, whole, r, a, b, offset, extent)
                    size[x, h, i, j] = min(distinct(int(p[0]), int(r[0]), a, b), extent)
    return f, size
