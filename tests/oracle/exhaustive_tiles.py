"""Every mapping of a small declared space, one by one, priced through the general traffic model: what the search must equal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from lepton_dse.search.tiling import Hierarchy, MapSpace, Tiles
from lepton_dse.sim.loopnest import Problem
from lepton_dse.sim.loopnest.packing import pack
from lepton_dse.sim.loopnest.traffic import footprint_elements, traffic_batch


def options(extent: int, tiles: Tiles) -> list[int]:
    if tiles is Tiles.DIVISOR:
        return [size for size in range(1, extent + 1) if extent % size == 0]
    smallest: dict[int, int] = {}
    for size in range(extent, 0, -1):
        smallest[-(-extent // size)] = size
    return sorted(smallest.values())


def slices(problem: Problem, hierarchy: Hierarchy, space: MapSpace) -> set[tuple[int, ...]]:
    """Every slice that two axes give, by any factors."""
    allowed = space.spatial or (problem.loops, problem.loops)
    axes = []
    for size, names in zip((hierarchy.rows, hierarchy.columns), allowed, strict=True):
        choices = [(0, 1)]
        for loop, name in enumerate(problem.loops):
            if name in names:
                choices += [(loop, factor) for factor in range(1, size + 1)]
        axes.append(choices)
    found = set()
    for (first, f), (second, g) in product(*axes):
        slice_ = [1] * len(problem.loops)
        slice_[first] *= f
        slice_[second] *= g
        found.add(tuple(min(size, extent) for size, extent in zip(slice_, problem.extents, strict=True)))
    return found


def orders(problem: Problem, every: bool) -> list[tuple[int, ...]]:
    """Loop orders of a level, inner to outer: all of them, or one for each operand that may stay in place."""
    loops = range(len(problem.loops))
    if every:
        return list(permutations(loops))
    return [tuple(sorted(loops, key=lambda loop: (loop in operand.relevant, loop))) for operand in problem.operands]


def size(problem: Problem, hierarchy: Hierarchy, space: MapSpace, every_order: bool) -> int:
    """An upper bound on the mappings, before anything is built."""
    tiles = int(np.prod([len(options(extent, space.tiles)) for extent in problem.extents]))
    masks = len(hierarchy.levels[0].residencies()) * len(hierarchy.levels[1].residencies())
    return tiles * tiles * len(slices(problem, hierarchy, space)) * masks * len(orders(problem, every_order)) ** 2


def best(problem: Problem, hierarchy: Hierarchy, space: MapSpace, every_order: bool = False) -> dict[str, float]:
    """Least latency in cycles, energy and energy-delay product; empty where no mapping fits."""
    found: dict[str, float] = {}
    for energy, cycles in _costs(problem, hierarchy, space, every_order):
        for name, values in (("latency", cycles), ("energy", energy), ("edp", energy * cycles)):
            found[name] = min(found.get(name, np.inf), float(values.min()))
    return found


def _costs(
    problem: Problem, hierarchy: Hierarchy, space: MapSpace, every_order: bool
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    packed, loops = pack(problem), len(problem.loops)
    arrays = (packed.relevant, packed.single, packed.halos, packed.halo_counts)
    shapes = (packed.single, packed.halos, packed.halo_counts)
    widths = np.array([*(operand.bits / 8 for operand in problem.reads), problem.accumulator_bits / 8])
    final = problem.write.bits / 8
    registers, buffer, _ = hierarchy.levels
    energies = np.array([[level.energy_of(role) for role in ("x", "w", "y")] for level in hierarchy.levels])
    bandwidths = np.array([level.bandwidth_byte_per_cycle for level in hierarchy.levels])
    every = np.array(list(product(orders(problem, every_order), repeat=2)), np.int64)
    buffers = list(product(*(options(extent, space.tiles) for extent in problem.extents)))

    def bytes_of(tile: tuple[int, ...], mask: tuple[bool, ...]) -> float:
        return sum(widths[x] * footprint_elements(x, np.array(tile, np.int64), *shapes) for x in range(3) if mask[x])

    for slice_ in sorted(slices(problem, hierarchy, space)):
        units = [options(-(-extent // s), space.tiles) for extent, s in zip(problem.extents, slice_, strict=True)]
        for unit, kept in product(product(*units), registers.residencies()):
            parts = [bytes_of(unit, tuple(kept[x] and x == y for x in range(3))) for y in range(3)]
            shares = [registers.capacity_of(role) for role in ("x", "w", "y")]
            if sum(parts) > registers.capacity_bytes or any(part > share for part, share in zip(parts, shares, strict=True)):
                continue
            rows, masks = [], []
            for tile, held in product(buffers, buffer.residencies()):
                if bytes_of(tile, held) > buffer.capacity_bytes:
                    continue
                array = [min(s * u, t) for s, u, t in zip(slice_, unit, tile, strict=True)]
                rows.append([[min(s, a) for s, a in zip(slice_, array, strict=True)], array, tile, problem.extents])
                masks.append([kept, held, (True, True, True)])
            if not rows:
                continue
            count = len(rows) * len(every)
            tiles = np.repeat(np.array(rows, np.int64), len(every), axis=0)
            resident = np.repeat(np.array(masks, np.bool_), len(every), axis=0)
            order = np.zeros((count, 3, loops), np.int64)
            order[:, 0] = np.arange(loops)
            order[:, 1:] = np.tile(every, (len(rows), 1, 1))
            elements, visited, steps = (
                np.zeros((count, 4, 3), np.int64),
                np.zeros((count, 4, 3), np.int64),
                np.zeros(count, np.int64),
            )
            traffic_batch(packed.extents, tiles, order, resident, *arrays, elements, visited, steps)
            moved = elements * visited * widths
            moved[:, :, 2] = elements[:, :, 2] * (2 * np.maximum(visited[:, :, 2] - 1, 0) * widths[2] + final)
            moved[visited == 0] = 0
            each = hierarchy.energy_j_per_mac + (resident[:, 0] * widths * [1, 1, 2] * energies[0]).sum(1)
            energy = problem.iterations * each
            level_bytes = np.zeros((count, 3))
            for x, row in product(range(3), range(3)):
                amount, inner = moved[:, row, x], row - 1
                there = resident[:, max(inner, 0) + (inner >= 0) :, x]
                outer = np.argmax(there, axis=1) + max(inner, 0) + (inner >= 0)
                energy = energy + amount * (energies[outer, x] + (energies[inner, x] if inner >= 0 else 0.0))
                level_bytes[np.arange(count), outer] += amount
                if inner >= 0:
                    level_bytes[:, inner] += amount
            cycles = np.maximum(steps, (level_bytes[:, 1:] / bandwidths[1:]).max(1))
            yield energy, cycles
