"""All that the kernels read of one search, computed once: options, array choices and their bounds, tables of halos."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.search.tiling import bounds, costs
from lepton_dse.search.tiling.hierarchy import ROLES, Hierarchy
from lepton_dse.search.tiling.records import BLOCK, Choices, Floats, Goal, Ints, Known, Nest, Tables
from lepton_dse.search.tiling.space import MapSpace, Objective, tile_options
from lepton_dse.search.tiling.units import UnitChoices, unit_choices
from lepton_dse.sim.loopnest import Problem
from lepton_dse.sim.loopnest.counting import axis_elements, distinct
from lepton_dse.sim.loopnest.packing import pack

__all__ = ["Prepared"]

_CODES = {Objective.LATENCY: costs.LATENCY, Objective.ENERGY: costs.ENERGY, Objective.EDP: costs.PRODUCT}
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
        packed = pack(self.problem)
        options, counts = _options(self.problem, space)
        self.nest = Nest(packed.extents, options, counts, packed.relevant, packed.single, packed.halos, packed.halo_counts)
        self.total = math.prod(int(count) for count in counts)
        """Buffer tiles in the space."""
        if self.total >= _MOST_TILES:
            raise LeptonError(f"{self.total:.3g} tiles of '{problem.write.name}'", fix="use divisor tiles, or split it")
        widths = np.array([*(operand.bits / 8 for operand in problem.operands), problem.accumulator_bits / 8])
        energies = np.array([[level.energy_of(role) for role in ROLES] for level in hierarchy.levels])
        bandwidths = np.array([level.bandwidth_byte_per_cycle for level in hierarchy.levels], np.float64)
        capacity = float(hierarchy.levels[1].capacity_bytes)
        self.goal = Goal(_CODES[objective], float(limit), energies, bandwidths, capacity, widths)
        self.masks0 = np.array(hierarchy.levels[0].residencies(), np.bool_)
        self.masks1 = np.array(hierarchy.levels[1].residencies(), np.bool_)
        fetched = np.array([widths[0], widths[1], 2 * widths[3]])
        each = hierarchy.energy_j_per_mac + (self.masks0 * fetched * energies[0]).sum(1)
        self.fixed: Floats = np.asarray(float(problem.iterations) * each)
        units = unit_choices(self.problem, packed, hierarchy, space)
        self.resident = units.resident
        """Operands in the registers, by choice of the array."""
        if len(units.slices):
            self._bound_choices(units)
            self.tables, self.known = self._tables(), self._known()

    def _known(self) -> Known:
        """All that the bounds read of the residencies of both levels."""
        inside = np.ascontiguousarray(self.masks1.T, np.float64)
        kept = np.ascontiguousarray(self.masks0.T, np.float64)
        outer = np.where(inside > 0, (self.goal.energies[2] + self.goal.energies[1])[:, None], 0.0)
        inner = np.where(inside > 0, self.goal.energies[1][:, None], self.goal.energies[2][:, None])
        fronts, front_counts = self._fronts()
        return Known(
            masks1=self.masks1,
            masks0=self.masks0,
            fronts=fronts,
            front_counts=front_counts,
            fixed=self.fixed,
            floors=self.floors,
            most=self.most,
            largest=self.largest,
            kept=kept,
            register_price=np.where(kept > 0, self.goal.energies[0][:, None], 0.0),
            inside=inside,
            outer_price=outer,
            inner_price=inner,
            least_floor=self.floors.min(1),
            most_covered=self.most.max(1),
            least_fixed=float(self.fixed.min()),
            least_steps=float(self.choices.steps.min()),
        )

    def _tables(self) -> Tables:
        trips = -(-self.nest.extents[:, None] // self.nest.options).astype(np.float64)
        relevant, single = self.nest.relevant[:, :, None], self.nest.single[:, :, None]
        factors = [np.where(relevant, 1.0, trips), np.where(relevant, trips, 1.0), np.where(single, self.nest.options, 1.0)]
        return Tables(np.ascontiguousarray(factors), *_axis_tables(self.nest))

    def _bound_choices(self, units: UnitChoices) -> None:
        """What each array choice moves at least; choices sorted by residency, then by that."""
        nest, widths = self.nest, self.goal.widths
        rows = np.zeros(8, np.int64)
        rows[self.masks0 @ _RESIDENCY_CODE] = np.arange(len(self.masks0))
        groups = rows[units.resident @ _RESIDENCY_CODE]
        moved, steps = np.empty((len(groups), 3)), np.empty(len(groups))
        bounds.moving_bounds(units.slices, units.tiles, units.resident, nest, self._least_axes(units), widths, moved, steps)
        order = np.lexsort((np.arange(len(groups)), moved.sum(1), groups))
        moved, steps, tiles, self.resident = moved[order], steps[order], units.tiles[order], units.resident[order]
        starts = np.arange(0, len(groups), BLOCK)
        blocks = np.minimum.reduceat(moved, starts), np.minimum.reduceat(steps, starts)
        group_from = np.searchsorted(groups[order], np.arange(len(self.masks0) + 1)).astype(np.int64)
        self.choices = Choices(units.slices[order], tiles, group_from, moved, steps, *blocks)
        self.largest = np.zeros((len(nest.extents), len(self.masks0)), np.int64)
        self.most, self.floors = np.zeros((3, len(self.masks0))), np.zeros((3, len(self.masks0)))
        for r, (start, stop) in enumerate(itertools.pairwise(group_from)):
            self.largest[:, r] = tiles[start:stop].max(0, initial=0)
            self.floors[:, r] = moved[start:stop].min(0, initial=np.inf)
            self.most[:, r] = bounds.largest_footprints(tiles[start:stop], nest, widths)

    def _least_axes(self, units: UnitChoices) -> Ints:
        """For each halo and pair of register tiles that occurs, the least elements of its axis over all buffer tiles."""
        nest = self.nest
        every = [halo for x in range(3) for halo in nest.halos[x, : nest.halo_counts[x]]]
        most_p = int(max((nest.extents[halo[0]] for halo in every), default=0)) + 1
        most_r = int(max((nest.extents[halo[1]] for halo in every if halo[1] >= 0), default=1)) + 1
        least = np.zeros((3, nest.halos.shape[1], most_p, most_r), np.int64)
        for x in range(3):
            for h, (first, second, *_) in enumerate(nest.halos[x, : nest.halo_counts[x]]):
                needed = np.zeros((most_p, most_r), np.bool_)
                for tiles in (units.slices, units.tiles):
                    needed[tiles[:, first], tiles[:, second] if second >= 0 else 1] = True
                bounds.least_axes(x, h, needed, nest, least[x, h])
        return least

    def _fronts(self) -> tuple[Floats, Ints]:
        """Least energy and cycles of the array, per residency of both levels and set of operands in place.

        A front where energy and cycles both count, else the least of each.
        """
        goal, choices = self.goal, self.choices
        whole = goal.objective == costs.PRODUCT or math.isfinite(goal.limit)
        shape = (len(self.masks1), len(self.masks0), 8)
        fronts, counts = np.full((*shape, _FRONT_POINTS, 2), np.inf), np.zeros(shape, np.int64)
        for m, r, key in np.ndindex(shape):
            buffered, kept = self.masks1[m], self.masks0[r]
            chosen = slice(choices.group_from[r], choices.group_from[r + 1])
            moved, steps = choices.moved[chosen], choices.steps[chosen]
            if not len(steps):
                continue
            moving = ~(kept & (key >> np.arange(3) & 1).astype(np.bool_))
            price = goal.energies[np.where(buffered, 1, 2), np.arange(3)] + np.where(kept, goal.energies[0], 0.0)
            energy = self.fixed[r] + (moved * price)[:, moving].sum(1)
            shared = moved[:, moving & buffered].sum(1) / goal.bandwidths[1]
            memory = moved[:, moving & ~buffered].sum(1) / goal.bandwidths[2]
            cycles = np.maximum(np.maximum(steps, shared), memory)
            front = _front(energy, cycles) if whole else np.array([[energy.min(), cycles.min()]])
            fronts[m, r, key, : len(front)] = front
            counts[m, r, key] = len(front)
        return fronts, counts


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


def _axis_tables(nest: Nest) -> tuple[Floats, Floats]:
    """Of each halo, elements over all tiles and elements of one, by the options of its loops."""
    operands, most = nest.halos.shape[:2]
    width = int(nest.counts.max()) if nest.halo_counts.any() else 1
    f, size = np.ones((operands, most, width, width)), np.ones((operands, most, width, width))
    one = np.ones(1, np.int64)
    for x in range(operands):
        for h in range(nest.halo_counts[x]):
            first, second, a, b, offset, extent = (int(value) for value in nest.halos[x, h])
            for i in range(int(nest.counts[first])):
                p = nest.options[first, i : i + 1]
                for j in range(int(nest.counts[second]) if second >= 0 else 1):
                    r, whole = (nest.options[second, j : j + 1], int(nest.extents[second])) if second >= 0 else (one, 1)
                    f[x, h, i, j] = axis_elements(int(nest.extents[first]), p, whole, r, a, b, offset, extent)
                    size[x, h, i, j] = min(distinct(int(p[0]), int(r[0]), a, b), extent)
    return f, size
