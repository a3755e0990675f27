"""Lower bounds of the tile search, from the loosest to the tightest; the symbols are those of :mod:`.costs`.

For a buffer tile and an operand that memory's loops keep, the traffic of memory is exact. Of the array's traffic, an
operand that stays in place moves at least what enters the buffer; one that moves does so at least as often as it would
under an unbounded buffer, ``v >= product of ceil(B_d / A_d)``. Both meet the exact value where tiles divide one another, so the
bound is tight. Latency is bounded by steps, and by each level's bytes at its bandwidth, of the same relaxed traffic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lepton_dse.jit import kernel, parallel_kernel, prange
from lepton_dse.search.tiling.costs import SAME, cost_of, moved_bytes
from lepton_dse.search.tiling.records import Bools, Floats, Goal, Ints, Known, Nest, Tile, X
from lepton_dse.sim.loopnest.counting import axis_elements, ceil_div
from lepton_dse.sim.loopnest.traffic import footprint_elements

__all__ = [
    "Room",
    "array_bound",
    "choice_bound",
    "entering_bytes",
    "largest_footprints",
    "least_axes",
    "may_cover",
    "moving_bounds",
    "new_room",
    "tile_bound",
]


class Room(NamedTuple):
    """What the bounds of one tile write.

    Parameters
    ----------
    entering, revisited : (3,) float64
        Bytes that enter the buffer's tiles, and as many as if memory did not keep the operand.
    covered : (3, R0) float64
        1 for operands in the registers whose own loops a register tile may span within the buffer's tile.
    by_buffer : (2, R1) float64
        By residency of the buffer, joules of all that enters and least joules of all, infinite where it does not fit.
    by_registers : (R0,) float64
        By residency of the registers, least joules.
    """

    entering: Floats
    revisited: Floats
    covered: Floats
    by_buffer: Floats
    by_registers: Floats


@kernel
def new_room(known: Known) -> Room:
    """Room for the bounds of a tile."""
    buffers, registers = len(known.masks1), len(known.masks0)
    return Room(np.empty(X), np.empty(X), np.empty((X, registers)), np.empty((2, buffers)), np.empty(registers))


@parallel_kernel
def moving_bounds(
    slices: Ints, arrays: Ints, resident: Bools, nest: Nest, least_axis: Ints, widths: Floats, moved: Floats, steps: Floats
) -> None:
    """For each of K array choices, the least bytes that each operand moves at the array if it does not stay in place.

    Parameters
    ----------
    least_axis : (3, H, P, R) int64
        From :func:`least_axes`.
    moved : (K, 3) float64
        Filled; for operands not kept in registers, the slices of all steps.
    steps : (K,) float64
        Filled with the least number of steps.
    """
    for k in prange(len(slices)):
        total = 1.0
        for loop in range(len(nest.extents)):
            total *= ceil_div(nest.extents[loop], slices[k, loop])
        steps[k] = total
        for x in range(X):
            tile = arrays[k] if resident[k, x] else slices[k]
            v = 1.0
            f = 1.0
            for loop in range(len(nest.extents)):
                if not nest.relevant[x, loop]:
                    v *= ceil_div(nest.extents[loop], tile[loop])
                if nest.single[x, loop]:
                    f *= nest.extents[loop]
            for index in range(nest.halo_counts[x]):
                first, second = nest.halos[x, index, 0], nest.halos[x, index, 1]
                f *= least_axis[x, index, tile[first], tile[second] if second >= 0 else 1]
            moved[k, x] = moved_bytes(x, f, v, widths)


@kernel
def largest_footprints(tiles: Ints, nest: Nest, widths: Floats) -> Floats:
    """The most bytes of each operand in any of the register tiles."""
    most = np.zeros(X)
    for x in range(X):
        for k in range(len(tiles)):
            elements = footprint_elements(x, tiles[k], nest.single, nest.halos, nest.halo_counts)
            most[x] = max(most[x], elements * (widths[3] if x == 2 else widths[x]))
    return most


@parallel_kernel
def least_axes(x: int, index: int, needed: Bools, nest: Nest, least: Ints) -> None:
    """Least elements of a halo's axis over all buffer tiles, for each pair of register tiles.

    Parameters
    ----------
    needed : (P, R) bool
        Pairs that occur.
    least : (P, R) int64
        Filled.
    """
    first, second, a, b, offset, extent = nest.halos[x, index]
    r = nest.extents[second] if second >= 0 else 1
    for p in prange(1, needed.shape[0]):
        p_tiles, r_tiles = np.ones(2, np.int64), np.ones(2, np.int64)
        for q in range(1, needed.shape[1]):
            if not needed[p, q]:
                continue
            fewest = -1
            for i in range(nest.counts[first]):
                p_tiles[1] = nest.options[first, i]
                p_tiles[0] = min(p, p_tiles[1])
                for j in range(nest.counts[second] if second >= 0 else 1):
                    if second >= 0:
                        r_tiles[1] = nest.options[second, j]
                        r_tiles[0] = min(q, r_tiles[1])
                    found = axis_elements(nest.extents[first], p_tiles, r, r_tiles, a, b, offset, extent)
                    if fewest < 0 or found < fewest:
                        fewest = found
            least[p, q] = fewest


@kernel
def array_bound(m: int, r: int, stay: int, known: Known, goal: Goal, room: Room) -> float:
    """Least objective under one residency of both levels, one operand that stays and the one that memory keeps."""
    energies, energy, shared, memory, key = goal.energies, 0.0, 0.0, 0.0, 0
    moving_energy, moving_shared, moving_memory = known.fixed[r], 0.0, 0.0
    for x in range(X):
        entering, revisited, buffered = room.entering[x], room.revisited[x], known.masks1[m, x]
        if buffered:
            energy += entering * (energies[1, x] + energies[2, x])
            shared += entering
            memory += entering
        if known.masks0[r, x] and (x == stay or room.covered[x, r] > 0.0):
            key |= 1 << x
            moved = entering if room.covered[x, r] > 0.0 else revisited
            if buffered:
                energy += moved * (energies[0, x] + energies[1, x])
                shared += moved
            else:
                energy += moved * (energies[0, x] + energies[2, x])
                memory += moved
        else:
            # The buffer's tile limits the register tile: no operand is visited less often than the buffer's tiles are.
            moved = max(known.floors[x, r], revisited)
            moving_energy += moved * ((energies[1, x] if buffered else energies[2, x]) + known.register_price[x, r])
            if buffered:
                moving_shared += moved
            else:
                moving_memory += moved
    busy = max((memory + moving_memory) / goal.bandwidths[2], (shared + moving_shared) / goal.bandwidths[1])
    best = np.inf
    for index in range(known.front_counts[m, r, key]):
        whole = energy + max(known.fronts[m, r, key, index, 0], moving_energy)
        best = min(best, cost_of(goal, whole, max(known.fronts[m, r, key, index, 1], busy)))
    return best


@kernel
def choice_bound(
    m: int,
    r: int,
    stay: int,
    tile: Tile,
    array: Ints,
    moved: Floats,
    steps: float,
    nest: Nest,
    known: Known,
    goal: Goal,
    room: Room,
) -> float:
    """Bound of one array choice: like the front's, but knowing which operands the register tile spans."""
    energies, energy, shared, memory = goal.energies, known.fixed[r], 0.0, 0.0
    for x in range(X):
        amount, entering, kept = moved[x], room.entering[x], known.masks0[r, x]
        spans = kept and room.covered[x, r] > 0.0
        if spans:
            for loop in range(len(array)):
                if nest.relevant[x, loop] and array[loop] < tile.sizes[loop]:
                    spans = False
                    break
        if spans:
            amount = entering
        elif kept and x == stay:
            amount = room.revisited[x]
        else:
            amount = max(amount, room.revisited[x])
        if known.masks1[m, x]:
            energy += amount * energies[1, x] + entering * (energies[1, x] + energies[2, x])
            shared += amount + entering
            memory += entering
        else:
            energy += amount * energies[2, x]
            memory += amount
        if kept:
            energy += amount * energies[0, x]
    return cost_of(goal, energy, max(steps, memory / goal.bandwidths[2], shared / goal.bandwidths[1]))


@kernel
def entering_bytes(keep: int, tile: Tile, widths: Floats, room: Room) -> None:
    """Fill the bytes that enter the buffer's tiles where memory keeps operand `keep`, and where it keeps none."""
    for x in range(X):
        room.revisited[x] = moved_bytes(x, tile.elements[x], tile.visits[x], widths)
        once = keep == x or tile.own_trips[x] == 1.0
        room.entering[x] = moved_bytes(x, tile.elements[x], 1.0, widths) if once else room.revisited[x]


@kernel
def may_cover(tile: Tile, nest: Nest, known: Known, room: Room) -> None:
    """Fill, by residency of the registers, which operands a register tile may span within the buffer's tile."""
    for x in range(X):
        footprint, covered = tile.footprint[x], room.covered[x]
        for r in range(len(covered)):
            covered[r] = known.kept[x, r] if footprint <= known.most[x, r] else 0.0
        for loop in range(len(tile.sizes)):
            if nest.relevant[x, loop]:
                size = tile.sizes[loop]
                for r in range(len(covered)):
                    covered[r] = covered[r] if size <= known.largest[loop, r] else 0.0


@kernel
def _bound_by_buffer(tile: Tile, known: Known, capacity: float, room: Room) -> None:
    """Least joules by residency of the buffer, over all array choices."""
    e0, e1, e2 = room.entering[0], room.entering[1], room.entering[2]
    v0, v1, v2 = room.revisited[0], room.revisited[1], room.revisited[2]
    n0, n1, n2 = tile.footprint[0], tile.footprint[1], tile.footprint[2]
    t0 = e0 if n0 <= known.most_covered[0] else max(known.least_floor[0], v0)
    t1 = e1 if n1 <= known.most_covered[1] else max(known.least_floor[1], v1)
    t2 = e2 if n2 <= known.most_covered[2] else max(known.least_floor[2], v2)
    inside, outer_price, inner_price, found = known.inside, known.outer_price, known.inner_price, room.by_buffer
    for m in range(inside.shape[1]):
        q0, q1, q2 = inner_price[0, m], inner_price[1, m], inner_price[2, m]
        need = n0 * inside[0, m] + n1 * inside[1, m] + n2 * inside[2, m]
        outer = e0 * outer_price[0, m] + e1 * outer_price[1, m] + e2 * outer_price[2, m]
        saved0, saved1, saved2 = (t0 - v0) * q0, (t1 - v1) * q1, (t2 - v2) * q2
        saved = saved0 if saved0 > 0.0 else 0.0
        saved = saved1 if saved1 > saved else saved
        saved = saved2 if saved2 > saved else saved
        least = outer + (t0 * q0 + t1 * q1 + t2 * q2) - saved + known.least_fixed
        found[0, m], found[1, m] = outer, least if need <= capacity else np.inf


@kernel
def _bound_by_registers(m: int, known: Known, room: Room) -> None:
    """Least joules by residency of the registers under one of the buffer."""
    e0, e1, e2 = room.entering[0], room.entering[1], room.entering[2]
    v0, v1, v2 = room.revisited[0], room.revisited[1], room.revisited[2]
    q0, q1, q2 = known.inner_price[0, m], known.inner_price[1, m], known.inner_price[2, m]
    outer, found, covered = room.by_buffer[0, m], room.by_registers, room.covered
    floors, kept, prices, fixed = known.floors, known.kept, known.register_price, known.fixed
    for r in range(len(found)):
        price0, price1, price2 = q0 + prices[0, r], q1 + prices[1, r], q2 + prices[2, r]
        moving0 = (floors[0, r] if floors[0, r] > v0 else v0) * price0
        moving1 = (floors[1, r] if floors[1, r] > v1 else v1) * price1
        moving2 = (floors[2, r] if floors[2, r] > v2 else v2) * price2
        saved0 = (moving0 - v0 * price0) * (kept[0, r] - covered[0, r])
        saved1 = (moving1 - v1 * price1) * (kept[1, r] - covered[1, r])
        saved2 = (moving2 - v2 * price2) * (kept[2, r] - covered[2, r])
        saved = saved0 if saved0 > saved1 else saved1
        saved = saved if saved > saved2 else saved2
        energy = outer + fixed[r]
        energy += e0 * price0 if covered[0, r] > 0.0 else moving0
        energy += e1 * price1 if covered[1, r] > 0.0 else moving1
        energy += e2 * price2 if covered[2, r] > 0.0 else moving2
        found[r] = energy - saved


@kernel
def tile_bound(tile: Tile, nest: Nest, known: Known, goal: Goal, room: Room, best: float) -> float:
    """Least objective that any mapping with one buffer tile may have, if it is under `best`; infinite where nothing fits."""
    least, beaten = np.inf, best * (1.0 - SAME)
    may_cover(tile, nest, known, room)
    for keep in range(X):
        entering_bytes(keep, tile, goal.widths, room)
        entering = room.entering[0] + room.entering[1] + room.entering[2]
        cycles = max(known.least_steps, entering / goal.bandwidths[2])
        # First for the least of all array choices, then by residency of the registers, then by operand that stays.
        _bound_by_buffer(tile, known, goal.capacity, room)
        for m in range(len(known.masks1)):
            if cost_of(goal, room.by_buffer[1, m], cycles) >= beaten:
                continue
            _bound_by_registers(m, known, room)
            for r in range(len(known.masks0)):
                if cost_of(goal, room.by_registers[r], cycles) >= beaten:
                    continue
                for stay in range(X):
                    if known.masks0[r, stay] or (stay == 0 and not known.masks0[r].any()):
                        least = min(least, array_bound(m, r, stay, known, goal, room))
    return least
