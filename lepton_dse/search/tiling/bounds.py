"""Lower bounds of the tile search, from the loosest to the tightest; the symbols are those of :mod:`.costs`.

For a buffer tile and an operand that memory's loops keep, the traffic of memory is exact. Of the array's traffic, an
operand that stays in place moves at least what enters the buffer; one that moves does so at least as often as it would
under an unbounded buffer, ``v >= product of ceil(B_d / A_d)``. Both meet the exact value where tiles divide one another, so the
bound is tight. Latency is bounded by steps, and by each level's bytes at its bandwidth, of the same relaxed traffic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.jit import kernel, parallel_kernel, prange
from lepton_dse.search.tiling.costs import SAME, X, cost_of, moved_bytes
from lepton_dse.sim.loopnest.counting import axis_elements, ceil_div
from lepton_dse.sim.loopnest.traffic import footprint_elements

__all__ = [
    "array_bound",
    "entering_bytes",
    "largest_footprints",
    "least_axes",
    "loose_bound",
    "may_cover",
    "moving_bounds",
    "tile_bound",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@parallel_kernel
def moving_bounds(
    slices: Ints,
    arrays: Ints,
    resident: Bools,
    extents: Ints,
    relevant: Bools,
    single: Bools,
    halos: Ints,
    halo_counts: Ints,
    least_axis: Ints,
    widths: Floats,
    moved: Floats,
    steps: Floats,
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
        for loop in range(len(extents)):
            total *= ceil_div(extents[loop], slices[k, loop])
        steps[k] = total
        for x in range(X):
            tile = arrays[k] if resident[k, x] else slices[k]
            v = 1.0
            f = 1.0
            for loop in range(len(extents)):
                if not relevant[x, loop]:
                    v *= ceil_div(extents[loop], tile[loop])
                if single[x, loop]:
                    f *= extents[loop]
            for index in range(halo_counts[x]):
                first, second = halos[x, index, 0], halos[x, index, 1]
                f *= least_axis[x, index, tile[first], tile[second] if second >= 0 else 1]
            moved[k, x] = moved_bytes(x, f, v, widths)


@kernel
def largest_footprints(tiles: Ints, single: Bools, halos: Ints, halo_counts: Ints, widths: Floats, most: Floats) -> None:
    """Fill the most bytes of each operand in any of the register tiles."""
    for x in range(X):
        most[x] = 0.0
        for k in range(len(tiles)):
            size = footprint_elements(x, tiles[k], single, halos, halo_counts) * (widths[3] if x == 2 else widths[x])
            most[x] = max(most[x], size)


@parallel_kernel
def least_axes(
    x: int,
    index: int,
    needed: Bools,
    extents: Ints,
    options: Ints,
    option_counts: Ints,
    halos: Ints,
    least: Ints,
) -> None:
    """Least elements of a halo's axis over all buffer tiles, for each pair of register tiles.

    Parameters
    ----------
    needed : (P, R) bool
        Pairs that occur.
    least : (P, R) int64
        Filled.
    """
    first, second, a, b, offset, extent = halos[x, index]
    r = extents[second] if second >= 0 else 1
    for p in prange(1, needed.shape[0]):
        p_tiles, r_tiles = np.ones(2, np.int64), np.ones(2, np.int64)
        for q in range(1, needed.shape[1]):
            if not needed[p, q]:
                continue
            fewest = -1
            for i in range(option_counts[first]):
                p_tiles[1] = options[first, i]
                p_tiles[0] = min(p, p_tiles[1])
                for j in range(option_counts[second] if second >= 0 else 1):
                    if second >= 0:
                        r_tiles[1] = options[second, j]
                        r_tiles[0] = min(q, r_tiles[1])
                    found = axis_elements(extents[first], p_tiles, r, r_tiles, a, b, offset, extent)
                    if fewest < 0 or found < fewest:
                        fewest = found
            least[p, q] = fewest


@kernel
def loose_bound(
    objective: int,
    limit: float,
    elements: Floats,
    visits: Floats,
    own_trips: Floats,
    footprint: Floats,
    inside: Floats,
    outer_price: Floats,
    inner_price: Floats,
    least_floor: Floats,
    most_covered: Floats,
    least_fixed: float,
    least_steps: float,
    capacity: float,
    bandwidths: Floats,
    widths: Floats,
    by_mask: Floats,
) -> float:
    """A quick bound for one buffer tile: memory keeps one operand, the array another; the third moves.

    Parameters
    ----------
    elements, visits : (3,) float64
        f and the product of n_d over irrelevant loops, of each operand at the buffer.
    own_trips : (3,) float64
        Product of n_d over relevant loops.
    footprint : (3,) float64
        Bytes in the buffer.
    inside, outer_price, inner_price : (3, R1) float64
        By residency of the buffer: 1 for the operands that it keeps, joules for each byte that enters its tiles, and for each
        byte that the array takes.
    least_floor : (3,) float64
        Least bytes that any array choice moves of an operand that does not stay in place.
    most_covered : (3,) float64
        Most bytes of an operand in any register tile; only a smaller buffer tile may stay in place under every loop order.
    by_mask : (R1,) float64
        Filled with the bound for each residency of the buffer.
    """
    f0, f1, f2 = elements[0] * widths[0], elements[1] * widths[1], elements[2] * widths[2]
    more0 = 0.0 if own_trips[0] == 1.0 else f0 * (visits[0] - 1.0)
    more1 = 0.0 if own_trips[1] == 1.0 else f1 * (visits[1] - 1.0)
    more2 = 0.0 if own_trips[2] == 1.0 else 2.0 * elements[2] * widths[3] * (visits[2] - 1.0)
    often0, often1, often2 = f0 + more0, f1 + more1, f2 + more2
    covered0, covered1 = footprint[0] <= most_covered[0], footprint[1] <= most_covered[1]
    covered2 = footprint[2] <= most_covered[2]
    lack0 = 0.0 if covered0 else max(0.0, least_floor[0] - often0)
    lack1 = 0.0 if covered1 else max(0.0, least_floor[1] - often1)
    lack2 = 0.0 if covered2 else max(0.0, least_floor[2] - often2)
    kept0, kept1, kept2 = (more0 if covered0 else 0.0), (more1 if covered1 else 0.0), (more2 if covered2 else 0.0)
    memory = often0 + often1 + often2 - max(more0, more1, more2)
    cycles = max(least_steps, memory / bandwidths[2])
    for m in range(len(by_mask)):
        p0, p1, p2 = outer_price[0, m], outer_price[1, m], outer_price[2, m]
        q0, q1, q2 = inner_price[0, m], inner_price[1, m], inner_price[2, m]
        kept = max(more0 * p0 + kept0 * q0, more1 * p1 + kept1 * q1, more2 * p2 + kept2 * q2)
        moving0, moving1, moving2 = lack0 * q0, lack1 * q1, lack2 * q2
        energy = often0 * (p0 + q0) + often1 * (p1 + q1) + often2 * (p2 + q2) - kept
        energy += moving0 + moving1 + moving2 - max(moving0, moving1, moving2) + least_fixed
        need = footprint[0] * inside[0, m] + footprint[1] * inside[1, m] + footprint[2] * inside[2, m]
        by_mask[m] = energy if need <= capacity else np.inf
    least = np.inf
    for m in range(len(by_mask)):
        by_mask[m] = cost_of(objective, limit, by_mask[m], cycles)
        least = min(least, by_mask[m])
    return least


@kernel
def array_bound(
    objective: int,
    limit: float,
    stay: int,
    kept: Bools,
    buffered: Bools,
    covered: Bools,
    entering: Floats,
    revisited: Floats,
    front: Floats,
    front_counts: Ints,
    floor: Floats,
    fixed_energy: float,
    energies: Floats,
    bandwidths: Floats,
) -> float:
    """Least objective under one residency of both levels, one operand that stays and one that memory keeps.

    Parameters
    ----------
    kept, buffered : (3,) bool
        Operands in the registers and in the buffer.
    covered : (3,) bool
        Operands whose own loops a register tile may span within the buffer's tile.
    entering, revisited : (3,) float64
        Bytes that enter the buffer's tiles, and as many as if memory did not keep the operand.
    front : (8, F, 2) float64
        By set of operands in place, the array's least (energy, cycles).
    floor : (3,) float64
        Least bytes that each operand moves where it does not stay in place.
    """
    energy, shared, memory, key = 0.0, 0.0, 0.0, 0
    moving_energy, moving_shared, moving_memory = fixed_energy, 0.0, 0.0
    for x in range(X):
        if buffered[x]:
            energy += entering[x] * (energies[1, x] + energies[2, x])
            shared += entering[x]
            memory += entering[x]
        if kept[x] and (x == stay or covered[x]):
            key |= 1 << x
            moved = entering[x] if covered[x] else revisited[x]
            if buffered[x]:
                energy += moved * (energies[0, x] + energies[1, x])
                shared += moved
            else:
                energy += moved * (energies[0, x] + energies[2, x])
                memory += moved
        else:
            # The buffer's tile limits the register tile: no operand is visited less often than the buffer's tiles are.
            moved = max(floor[x], revisited[x])
            moving_energy += moved * ((energies[1, x] if buffered[x] else energies[2, x]) + (energies[0, x] if kept[x] else 0.0))
            if buffered[x]:
                moving_shared += moved
            else:
                moving_memory += moved
    busy = max((memory + moving_memory) / bandwidths[2], (shared + moving_shared) / bandwidths[1])
    best = np.inf
    for index in range(front_counts[key]):
        whole = energy + max(front[key, index, 0], moving_energy)
        best = min(best, cost_of(objective, limit, whole, max(front[key, index, 1], busy)))
    return best


@kernel
def entering_bytes(
    keep: int, elements: Floats, visits: Floats, own_trips: Floats, widths: Floats, entering: Floats, revisited: Floats
) -> None:
    """Fill the bytes that enter the buffer's tiles where memory keeps operand `keep`, and where it keeps none."""
    for x in range(X):
        revisited[x] = moved_bytes(x, elements[x], visits[x], widths)
        once = keep == x or own_trips[x] == 1.0
        entering[x] = moved_bytes(x, elements[x], 1.0, widths) if once else revisited[x]


@kernel
def may_cover(tile: Ints, footprint: Floats, largest: Ints, most: Floats, relevant: Bools, covered: Bools) -> None:
    """Fill, for each operand, whether a register tile may span its own loops in the buffer's tile.

    Parameters
    ----------
    largest : (D,) int64
        Largest register tile of each loop under one residency.
    most : (3,) float64
        Most bytes of each operand in any of them.
    """
    for x in range(X):
        covered[x] = footprint[x] <= most[x]
        for loop in range(len(tile)):
            if relevant[x, loop] and tile[loop] > largest[loop]:
                covered[x] = False


@kernel
def tile_bound(
    objective: int,
    limit: float,
    tile: Ints,
    elements: Floats,
    visits: Floats,
    own_trips: Floats,
    footprint: Floats,
    relevant: Bools,
    masks1: Bools,
    masks0: Bools,
    largest: Ints,
    most: Floats,
    fronts: Floats,
    front_counts: Ints,
    floors: Floats,
    fixed_energy: Floats,
    energies: Floats,
    bandwidths: Floats,
    widths: Floats,
    outer_price: Floats,
    inner_price: Floats,
    least_floor: Floats,
    most_covered: Floats,
    least_fixed: float,
    least_steps: float,
    by_mask: Floats,
    best: float,
) -> float:
    """Least objective that any mapping with one buffer tile may have, if it is under `best`; infinite where nothing fits.

    Parameters
    ----------
    largest, most : (R0, D) int64, (R0, 3) float64
        See :func:`may_cover`, by residency of the registers.
    fronts : (R1, R0, 8, F, 2) float64
        See :func:`array_bound`, by residency of both levels.
    by_mask : (R1,) float64
        From :func:`loose_bound`.
    """
    least = np.inf
    entering, revisited, taken = np.empty(X), np.empty(X), np.empty(X)
    covered = np.empty((len(masks0), X), np.bool_)
    for r in range(len(masks0)):
        may_cover(tile, footprint, largest[r], most[r], relevant, covered[r])
    for keep in range(X):
        entering_bytes(keep, elements, visits, own_trips, widths, entering, revisited)
        cycles = max(least_steps, (entering[0] + entering[1] + entering[2]) / bandwidths[2])
        for x in range(X):
            taken[x] = entering[x] if footprint[x] <= most_covered[x] else max(least_floor[x], revisited[x])
        for m in range(len(masks1)):
            if by_mask[m] >= best * (1.0 - SAME):
                continue
            # First for the least of all array choices, then by residency of the registers, then by operand that stays.
            outer, inner, saved = 0.0, 0.0, 0.0
            for x in range(X):
                outer += entering[x] * outer_price[x, m]
                inner += taken[x] * inner_price[x, m]
                saved = max(saved, (taken[x] - revisited[x]) * inner_price[x, m])
            if cost_of(objective, limit, outer + inner - saved + least_fixed, cycles) >= best * (1.0 - SAME):
                continue
            for r in range(len(masks0)):
                energy, saved = outer + fixed_energy[r], 0.0
                for x in range(X):
                    price = inner_price[x, m] + (energies[0, x] if masks0[r, x] else 0.0)
                    moving = max(floors[r, x], revisited[x]) * price
                    if masks0[r, x] and covered[r, x]:
                        energy += entering[x] * price
                    else:
                        energy += moving
                        if masks0[r, x]:
                            saved = max(saved, moving - revisited[x] * price)
                if cost_of(objective, limit, energy - saved, cycles) >= best * (1.0 - SAME):
                    continue
                for stay in range(X):
                    if not masks0[r, stay] and (stay > 0 or masks0[r].any()):
                        continue
                    bound = array_bound(
                        objective,
                        limit,
                        stay,
                        masks0[r],
                        masks1[m],
                        covered[r],
                        entering,
                        revisited,
                        fronts[m, r],
                        front_counts[m, r],
                        floors[r],
                        fixed_energy[r],
                        energies,
                        bandwidths,
                    )
                    least = min(least, bound)
    return least
