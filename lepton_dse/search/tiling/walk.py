"""Walks of the space: bounds for every buffer tile, exact costs for those that may beat the best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.jit import kernel, parallel_kernel, prange
from lepton_dse.search.tiling.bounds import array_bound, entering_bytes, loose_bound, may_cover, tile_bound
from lepton_dse.search.tiling.costs import SAME, X, cost_of, describe_tile, exact_cost
from lepton_dse.search.tiling.rows import FIGURES, loose_row, row_halos

__all__ = ["BLOCK", "FOUND", "bound_chunks", "bound_tiles", "decode", "evaluate_tiles"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BLOCK = 32
"""Array choices whose least figures are looked at before their own."""
FOUND = 8
"""Of a tile: objective, energy, cycles, array choice, buffer residency, operand that stays, that memory keeps, evaluations."""


@kernel
def decode(index: int, option_counts: Ints, options: Ints, tile: Ints) -> None:
    """The tile of a number in mixed radix, the last loop fastest."""
    rest = index
    for loop in range(len(tile) - 1, -1, -1):
        tile[loop] = options[loop, rest % option_counts[loop]]
        rest //= option_counts[loop]


@parallel_kernel
def bound_chunks(
    chunk_from: int,
    chunk_to: int,
    objective: int,
    limit: float,
    best: float,
    extents: Ints,
    options: Ints,
    option_counts: Ints,
    relevant: Bools,
    single: Bools,
    halos: Ints,
    halo_counts: Ints,
    factors: Floats,
    axis_f: Floats,
    axis_size: Floats,
    masks1: Bools,
    masks0: Bools,
    largest: Ints,
    most: Floats,
    fronts: Floats,
    front_counts: Ints,
    floors: Floats,
    fixed_energy: Floats,
    inside: Floats,
    outer_price: Floats,
    inner_price: Floats,
    least_floor: Floats,
    most_covered: Floats,
    least_fixed: float,
    least_steps: float,
    energies: Floats,
    capacity: float,
    bandwidths: Floats,
    widths: Floats,
    offsets: Ints,
    numbers: Ints,
    bounds: Floats,
    counts: Ints,
) -> None:
    """Bound every tile of some chunks; a chunk is all options of the last two loops under fixed ones of the others.

    Parameters
    ----------
    factors : (3, 3, D, O) float64
        What each option multiplies into visits, own trips and bytes of each operand.
    axis_f, axis_size : (3, H, O, O) float64
        Of each halo, elements over all tiles and elements of one tile, by the options of its loops.
    offsets : (C,) int64
        Where each chunk's survivors go in `numbers` and `bounds`; both empty on a first pass that only counts.
    counts : (C,)
        Filled with the survivors of each chunk: tiles with a bound below `best`. On the second pass chunks without any are
        passed over.
    """
    loops = len(extents)
    inner, outer = option_counts[loops - 1], option_counts[loops - 2]
    filling = len(numbers) > 0
    for chunk in prange(chunk_from, chunk_to):
        position = chunk - chunk_from
        if filling and counts[position] == 0:
            continue
        index = np.zeros(loops, np.int64)
        rest = chunk
        for loop in range(loops - 3, -1, -1):
            index[loop] = rest % option_counts[loop]
            rest //= option_counts[loop]
        # Running products of visits, own trips and bytes: over the chunk's fixed loops, and with the last but one.
        base, outer_base, f = np.ones((3, X)), np.empty((3, X)), np.ones(X)
        for x in range(X):
            base[2, x] = widths[3] if x == 2 else widths[x]
            for loop in range(loops):
                if single[x, loop]:
                    f[x] *= extents[loop]
            for loop in range(loops - 2):
                for part in range(3):
                    base[part, x] *= factors[part, x, loop, index[loop]]
        visits, own, footprint, elements = np.empty(X), np.empty(X), np.empty(X), np.empty(X)
        tile, by_mask = np.empty(loops, np.int64), np.empty(len(masks1))
        halo_rows, scratch, needs = np.ones((2, X, inner)), np.empty((FIGURES, inner)), np.empty((X, inner))
        energy_row, cycle_row = np.empty(inner), np.empty(inner)
        last = np.ascontiguousarray(factors[:, :, loops - 1, :inner])
        found = 0
        for i in range(outer):
            index[loops - 2] = i
            for x in range(X):
                for part in range(3):
                    outer_base[part, x] = base[part, x] * factors[part, x, loops - 2, i]
            row_halos(loops - 1, index, option_counts, halos, halo_counts, axis_f, axis_size, halo_rows)
            loose_row(
                inner,
                f,
                outer_base,
                last,
                halo_rows,
                inside,
                outer_price,
                inner_price,
                least_floor,
                most_covered,
                least_fixed,
                least_steps,
                capacity,
                bandwidths[2],
                widths,
                scratch,
                needs,
                energy_row,
                cycle_row,
            )
            for j in range(inner):
                if cost_of(objective, limit, energy_row[j], cycle_row[j]) >= best * (1.0 - SAME):
                    continue
                index[loops - 1] = j
                for x in range(X):
                    visits[x], own[x] = outer_base[0, x] * last[0, x, j], outer_base[1, x] * last[1, x, j]
                    footprint[x], elements[x] = needs[x, j], f[x] * halo_rows[0, x, j]
                loose_bound(
                    objective,
                    limit,
                    elements,
                    visits,
                    own,
                    footprint,
                    inside,
                    outer_price,
                    inner_price,
                    least_floor,
                    most_covered,
                    least_fixed,
                    least_steps,
                    capacity,
                    bandwidths,
                    widths,
                    by_mask,
                )
                for loop in range(loops):
                    tile[loop] = options[loop, index[loop]]
                bound = tile_bound(
                    objective,
                    limit,
                    tile,
                    elements,
                    visits,
                    own,
                    footprint,
                    relevant,
                    masks1,
                    masks0,
                    largest,
                    most,
                    fronts,
                    front_counts,
                    floors,
                    fixed_energy,
                    energies,
                    bandwidths,
                    widths,
                    outer_price,
                    inner_price,
                    least_floor,
                    most_covered,
                    least_fixed,
                    least_steps,
                    by_mask,
                    best,
                )
                if bound < best * (1.0 - SAME):
                    if filling:
                        numbers[offsets[position] + found] = (chunk * outer + i) * inner + j
                        bounds[offsets[position] + found] = bound
                    found += 1
        counts[position] = found


@parallel_kernel
def bound_tiles(
    numbers: Ints,
    objective: int,
    limit: float,
    extents: Ints,
    options: Ints,
    option_counts: Ints,
    relevant: Bools,
    single: Bools,
    halos: Ints,
    halo_counts: Ints,
    masks1: Bools,
    masks0: Bools,
    largest: Ints,
    most: Floats,
    fronts: Floats,
    front_counts: Ints,
    floors: Floats,
    fixed_energy: Floats,
    inside: Floats,
    outer_price: Floats,
    inner_price: Floats,
    least_floor: Floats,
    most_covered: Floats,
    least_fixed: float,
    least_steps: float,
    energies: Floats,
    capacity: float,
    bandwidths: Floats,
    widths: Floats,
    bounds: Floats,
) -> None:
    """Bounds of numbered tiles."""
    for position in prange(len(numbers)):
        tile = np.empty(len(extents), np.int64)
        decode(numbers[position], option_counts, options, tile)
        elements, visits, own, footprint = np.empty(X), np.empty(X), np.empty(X), np.empty(X)
        describe_tile(tile, extents, relevant, single, halos, halo_counts, widths, elements, visits, own, footprint)
        by_mask = np.empty(len(masks1))
        loose_bound(
            objective,
            limit,
            elements,
            visits,
            own,
            footprint,
            inside,
            outer_price,
            inner_price,
            least_floor,
            most_covered,
            least_fixed,
            least_steps,
            capacity,
            bandwidths,
            widths,
            by_mask,
        )
        bounds[position] = tile_bound(
            objective,
            limit,
            tile,
            elements,
            visits,
            own,
            footprint,
            relevant,
            masks1,
            masks0,
            largest,
            most,
            fronts,
            front_counts,
            floors,
            fixed_energy,
            energies,
            bandwidths,
            widths,
            outer_price,
            inner_price,
            least_floor,
            most_covered,
            least_fixed,
            least_steps,
            by_mask,
            np.inf,
        )


@parallel_kernel
def evaluate_tiles(
    numbers: Ints,
    objective: int,
    limit: float,
    best: float,
    extents: Ints,
    options: Ints,
    option_counts: Ints,
    relevant: Bools,
    single: Bools,
    halos: Ints,
    halo_counts: Ints,
    masks1: Bools,
    masks0: Bools,
    largest: Ints,
    most: Floats,
    fronts: Floats,
    front_counts: Ints,
    floors: Floats,
    fixed_energy: Floats,
    slices: Ints,
    arrays: Ints,
    group_from: Ints,
    moved: Floats,
    steps: Floats,
    block_moved: Floats,
    block_steps: Floats,
    energies: Floats,
    capacity: float,
    bandwidths: Floats,
    widths: Floats,
    found: Floats,
) -> None:
    """The best mapping of each numbered tile, where it beats `best`.

    Parameters
    ----------
    group_from : (R0 + 1,) int64
        Where the array choices of each register residency begin.
    moved, steps : (K, 3), (K,) float64
        From :func:`lepton_dse.search.tiling.bounds.moving_bounds`.
    block_moved, block_steps : (ceil(K / BLOCK), 3), (ceil(K / BLOCK),) float64
        Their least values over blocks of choices.
    found : (N, FOUND) float64
        Filled; an infinite objective where nothing beats `best`.
    """
    for position in prange(len(numbers)):
        tile = np.empty(len(extents), np.int64)
        decode(numbers[position], option_counts, options, tile)
        elements, visits, own, footprint = np.empty(X), np.empty(X), np.empty(X), np.empty(X)
        describe_tile(tile, extents, relevant, single, halos, halo_counts, widths, elements, visits, own, footprint)
        entering, revisited, covered = np.empty(X), np.empty(X), np.empty((len(masks0), X), np.bool_)
        for r in range(len(masks0)):
            may_cover(tile, footprint, largest[r], most[r], relevant, covered[r])
        result, record = np.empty(3), found[position]
        record[:] = np.inf
        record[FOUND - 1] = 0
        mine = best
        for keep in range(X):
            entering_bytes(keep, elements, visits, own, widths, entering, revisited)
            for m in range(len(masks1)):
                need = 0.0
                for x in range(X):
                    if masks1[m, x]:
                        need += footprint[x]
                if need > capacity:
                    continue
                for r in range(len(masks0)):
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
                        if bound >= mine * (1.0 - SAME):
                            continue
                        k = group_from[r] - 1
                        while k + 1 < group_from[r + 1]:
                            k += 1
                            block = k // BLOCK
                            if k == group_from[r] or k % BLOCK == 0:
                                bound = _choice_bound(
                                    objective,
                                    limit,
                                    stay,
                                    tile,
                                    largest[r],
                                    relevant,
                                    masks0[r],
                                    masks1[m],
                                    covered[r],
                                    entering,
                                    revisited,
                                    block_moved[block],
                                    block_steps[block],
                                    fixed_energy[r],
                                    energies,
                                    bandwidths,
                                )
                                if bound >= mine * (1.0 - SAME):
                                    k = (block + 1) * BLOCK - 1
                                    continue
                            bound = _choice_bound(
                                objective,
                                limit,
                                stay,
                                tile,
                                arrays[k],
                                relevant,
                                masks0[r],
                                masks1[m],
                                covered[r],
                                entering,
                                revisited,
                                moved[k],
                                steps[k],
                                fixed_energy[r],
                                energies,
                                bandwidths,
                            )
                            if bound >= mine * (1.0 - SAME):
                                continue
                            value = exact_cost(
                                objective,
                                limit,
                                tile,
                                slices[k],
                                arrays[k],
                                masks0[r],
                                masks1[m],
                                stay,
                                keep,
                                extents,
                                relevant,
                                single,
                                halos,
                                halo_counts,
                                widths,
                                energies,
                                bandwidths,
                                fixed_energy[r],
                                result,
                            )
                            record[FOUND - 1] += 1
                            if value < mine * (1.0 - SAME):
                                mine = value
                                record[0], record[1], record[2] = value, result[0], result[1]
                                record[3], record[4], record[5], record[6] = k, m, stay, keep


@kernel
def _choice_bound(
    objective: int,
    limit: float,
    stay: int,
    tile: Ints,
    array: Ints,
    relevant: Bools,
    kept: Bools,
    buffered: Bools,
    covered: Bools,
    entering: Floats,
    revisited: Floats,
    moved: Floats,
    steps: float,
    fixed_energy: float,
    energies: Floats,
    bandwidths: Floats,
) -> float:
    """Bound of one array choice: like the front's, but knowing which operands the register tile spans."""
    energy, shared, memory = fixed_energy, 0.0, 0.0
    for x in range(X):
        amount = moved[x]
        if kept[x] and (x == stay or covered[x]):
            spans = covered[x]
            if spans:
                for loop in range(len(tile)):
                    if relevant[x, loop] and array[loop] < tile[loop]:
                        spans = False
                        break
            if spans:
                amount = entering[x]
            elif x == stay:
                amount = revisited[x]
            else:
                amount = max(amount, revisited[x])
        else:
            amount = max(amount, revisited[x])
        if buffered[x]:
            energy += amount * energies[1, x] + entering[x] * (energies[1, x] + energies[2, x])
            shared += amount + entering[x]
            memory += entering[x]
        else:
            energy += amount * energies[2, x]
            memory += amount
        if kept[x]:
            energy += amount * energies[0, x]
    return cost_of(objective, limit, energy, max(steps, memory / bandwidths[2], shared / bandwidths[1]))
