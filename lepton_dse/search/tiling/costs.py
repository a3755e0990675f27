"""Exact costs of one mapping in the tile search.

Symbols
-------
========  ===========================================================================================================
x         operand: 0 activations, 1 weights, 2 result
T_d       buffer tile of loop d; n_d = ceil(B_d / T_d) tiles
A_d       register tile of the whole array; S_d slice of a step
f, v      elements over all distinct tiles, and visits of each (:mod:`lepton_dse.sim.loopnest.traffic`)
g(x,f,v)  bytes both ways: ``f v w_x`` for a read operand, ``f (2 (v - 1) w_acc + w_y)`` for the result
e_l       joules a byte at level l, by operand; a byte from level q to level p costs e_p + e_q
========  ===========================================================================================================

A loop order matters only through the operand it leaves in place: the one whose irrelevant loops stand innermost (``stay`` of
the buffer's loops, ``keep`` of memory's). An operand none of whose own loops moves at a level stays in place whatever the order.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.jit import kernel
from lepton_dse.search.tiling.records import Bools, Floats, Goal, Ints, Nest, Tile, X
from lepton_dse.sim.loopnest.counting import axis_elements, ceil_div, distinct

__all__ = [
    "ENERGY",
    "LATENCY",
    "PRODUCT",
    "SAME",
    "cost_of",
    "describe_tile",
    "exact_cost",
    "moved_bytes",
    "nested",
    "new_tile",
    "operand_elements",
]

LATENCY, ENERGY, PRODUCT = 0, 1, 2
"""Codes of objectives."""
SAME = 1e-12
"""Values closer than this share are ties: sums of the same terms in another order differ by less."""


@kernel
def cost_of(goal: Goal, energy: float, cycles: float) -> float:
    """The objective's value; infinite beyond the limit of cycles."""
    if cycles > goal.limit:
        return np.inf
    if goal.objective == LATENCY:
        return cycles
    if goal.objective == ENERGY:
        return energy
    return energy * cycles


@kernel
def moved_bytes(x: int, f: float, v: float, widths: Floats) -> float:
    """g: bytes both ways; `widths` are those of x, w, y and a partial sum."""
    if x == 2:
        return f * float(2.0 * (v - 1.0) * widths[3] + widths[2])
    return f * v * float(widths[x])


@kernel
def nested(extent: int, outer: int, inner: int) -> int:
    """Tiles of `inner` inside tiles of `outer`."""
    return extent // outer * ceil_div(outer, inner) + ceil_div(extent % outer, inner)


@kernel
def operand_elements(x: int, outer: Ints, inner: Ints, nest: Nest) -> float:
    """f: elements over all distinct tiles of `inner` inside tiles of `outer`."""
    total = 1.0
    for loop in range(len(nest.extents)):
        if nest.single[x, loop]:
            total *= nest.extents[loop]
    for index in range(nest.halo_counts[x]):
        first, second, a, b, offset, extent = nest.halos[x, index]
        p_tiles, r_tiles = np.empty(2, np.int64), np.ones(2, np.int64)
        p_tiles[0], p_tiles[1] = min(inner[first], outer[first]), outer[first]
        r = 1
        if second >= 0:
            r_tiles[0], r_tiles[1], r = min(inner[second], outer[second]), outer[second], nest.extents[second]
        total *= axis_elements(nest.extents[first], p_tiles, r, r_tiles, a, b, offset, extent)
    return total


@kernel
def new_tile(loops: int) -> Tile:
    """Room for a tile."""
    return Tile(np.empty(loops, np.int64), np.empty(X), np.empty(X), np.empty(X), np.empty(X))


@kernel
def describe_tile(number: int, nest: Nest, widths: Floats, tile: Tile) -> None:
    """Fill a tile from scratch by its number: its options in mixed radix, the last loop fastest."""
    rest = number
    for loop in range(len(nest.extents) - 1, -1, -1):
        tile.sizes[loop] = nest.options[loop, rest % nest.counts[loop]]
        rest //= nest.counts[loop]
    for x in range(X):
        f, v, own, size = 1.0, 1.0, 1.0, widths[3] if x == 2 else widths[x]
        for loop in range(len(nest.extents)):
            n = ceil_div(nest.extents[loop], tile.sizes[loop])
            if nest.relevant[x, loop]:
                own *= n
            else:
                v *= n
            if nest.single[x, loop]:
                f *= nest.extents[loop]
                size *= tile.sizes[loop]
        for index in range(nest.halo_counts[x]):
            first, second, a, b, offset, extent = nest.halos[x, index]
            p_tiles, r_tiles, r = np.empty(1, np.int64), np.ones(1, np.int64), 1
            p_tiles[0] = tile.sizes[first]
            if second >= 0:
                r_tiles[0], r = tile.sizes[second], nest.extents[second]
            f *= axis_elements(nest.extents[first], p_tiles, r, r_tiles, a, b, offset, extent)
            size *= min(distinct(tile.sizes[first], r_tiles[0], a, b), extent)
        tile.elements[x], tile.visits[x], tile.own_trips[x], tile.footprint[x] = f, v, own, size


@kernel
def exact_cost(
    tile: Tile,
    slice_: Ints,
    array: Ints,
    registers: Bools,
    buffer: Bools,
    stay: int,
    keep: int,
    nest: Nest,
    goal: Goal,
    fixed_energy: float,
    result: Floats,
) -> float:
    """Objective of one mapping; `result` receives energy, cycles and steps."""
    loops, sizes, energies = len(nest.extents), tile.sizes, goal.energies
    steps = 1.0
    for loop in range(loops):
        steps *= nested(nest.extents[loop], sizes[loop], slice_[loop])
    energy, memory, shared = fixed_energy, 0.0, 0.0
    for x in range(X):
        inner_fixed, outer_fixed = True, True  # whether none of the operand's own loops steps at the level
        v0, v1 = 1.0, 1.0
        for loop in range(loops):
            n = ceil_div(nest.extents[loop], sizes[loop])
            if nest.relevant[x, loop]:
                inner_fixed &= array[loop] >= sizes[loop]
                outer_fixed &= n == 1
            else:
                v1 *= n
                v0 *= nested(nest.extents[loop], sizes[loop], array[loop] if registers[x] else slice_[loop])
        outer_visits = 1.0 if keep == x or outer_fixed else v1
        if registers[x]:
            v = outer_visits if inner_fixed else v1 if stay == x else v0
            f = operand_elements(x, sizes, array, nest)
        else:
            v = v0
            f = operand_elements(x, sizes, slice_, nest)
        moved = moved_bytes(x, f, v, goal.widths)
        inner_energy = energies[0, x] if registers[x] else 0.0
        if buffer[x]:
            entering = moved_bytes(x, operand_elements(x, nest.extents, sizes, nest), outer_visits, goal.widths)
            energy += moved * (inner_energy + energies[1, x]) + entering * (energies[1, x] + energies[2, x])
            shared += moved + entering
            memory += entering
        else:
            energy += moved * (inner_energy + energies[2, x])
            memory += moved
    cycles = max(steps, memory / goal.bandwidths[2], shared / goal.bandwidths[1])
    result[0], result[1], result[2] = energy, cycles, steps
    return cost_of(goal, energy, cycles)
