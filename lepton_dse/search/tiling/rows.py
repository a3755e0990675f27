"""The quick bound for whole rows of buffer tiles at once, written so that a compiler computes several tiles in one instruction.

A row is all options of the last loop under fixed ones of the others; short rows are bounded several at a time. Of each tile it is
assumed that memory keeps one operand and the array another; the third moves.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.jit import kernel
from lepton_dse.search.tiling.records import Floats, Goal, Ints, Known, Nest, Tables, X

__all__ = ["ELEMENTS", "FIGURES", "FOOTPRINT", "OWN_TRIPS", "VISITS", "fill_row", "loose_row"]

ELEMENTS, VISITS, OWN_TRIPS, FOOTPRINT = 0, 1, 2, 3
"""Places of a tile's figures in rows; see :class:`~lepton_dse.search.tiling.records.Tile`."""
FIGURES = 12
"""Scratch rows: bytes that enter often, what keeping saves, what keeping saves of a covered tile, what a moving operand lacks."""


@kernel
def fill_row(at: int, index: Ints, base: Floats, nest: Nest, tables: Tables, rows: Floats) -> None:
    """Describe one row of tiles from place `at` on.

    Parameters
    ----------
    index : (D,) int64
        Options of all loops but the last.
    base : (4, 3) float64
        Figures of each operand without halos, over all loops but the last.
    rows : (4, 3, N) float64
    """
    last = len(index) - 1
    count = nest.counts[last]
    for x in range(X):
        f, size = base[ELEMENTS, x], base[FOOTPRINT, x]
        for h in range(nest.halo_counts[x]):
            first, second = nest.halos[x, h, 0], nest.halos[x, h, 1]
            if last not in (first, second):
                f *= tables.axis_f[x, h, index[first], index[second] if second >= 0 else 0]
                size *= tables.axis_size[x, h, index[first], index[second] if second >= 0 else 0]
        visits, own = base[VISITS, x], base[OWN_TRIPS, x]
        for j in range(count):
            rows[ELEMENTS, x, at + j] = f
            rows[VISITS, x, at + j] = visits * tables.factors[0, x, last, j]
            rows[OWN_TRIPS, x, at + j] = own * tables.factors[1, x, last, j]
            rows[FOOTPRINT, x, at + j] = size * tables.factors[2, x, last, j]
        for h in range(nest.halo_counts[x]):
            first, second = nest.halos[x, h, 0], nest.halos[x, h, 1]
            if last in (first, second):
                for j in range(count):
                    p = j if first == last else index[first]
                    r = 0 if second < 0 else j if second == last else index[second]
                    rows[ELEMENTS, x, at + j] *= tables.axis_f[x, h, p, r]
                    rows[FOOTPRINT, x, at + j] *= tables.axis_size[x, h, p, r]


@kernel
def loose_row(count: int, rows: Floats, known: Known, goal: Goal, scratch: Floats, energy: Floats, cycles: Floats) -> None:
    """Bounds of energy and cycles for each of `count` tiles.

    Parameters
    ----------
    rows : (4, 3, N) float64
        From :func:`fill_row`.
    scratch : (FIGURES, N) float64
        Room to work in.
    energy, cycles : (N,) float64
        Filled; infinite energy where no residency fits.
    """
    for x in range(X):
        read = goal.widths[x]
        again = 2.0 * goal.widths[3] if x == 2 else goal.widths[x]
        floor, most = known.least_floor[x], known.most_covered[x]
        elements, visits, own, need = rows[ELEMENTS, x], rows[VISITS, x], rows[OWN_TRIPS, x], rows[FOOTPRINT, x]
        often_row, more_row, kept_row, lack_row = scratch[x], scratch[3 + x], scratch[6 + x], scratch[9 + x]
        for j in range(count):
            more = elements[j] * again * (visits[j] - 1.0)
            more = more if own[j] != 1.0 else 0.0
            often = elements[j] * read + more
            lack = floor - often if floor > often else 0.0
            often_row[j], more_row[j] = often, more
            kept_row[j] = more if need[j] <= most else 0.0
            lack_row[j] = 0.0 if need[j] <= most else lack
    bandwidth, least_steps = goal.bandwidths[2], known.least_steps
    for j in range(count):
        more0, more1, more2 = scratch[3, j], scratch[4, j], scratch[5, j]
        most_saved = more0 if more0 > more1 else more1
        most_saved = most_saved if most_saved > more2 else more2
        busy = (scratch[0, j] + scratch[1, j] + scratch[2, j] - most_saved) / bandwidth
        cycles[j] = busy if busy > least_steps else least_steps
        energy[j] = np.inf
    footprint, least_fixed, capacity = rows[FOOTPRINT], known.least_fixed, goal.capacity
    for m in range(len(known.masks1)):
        p0, p1, p2 = known.outer_price[0, m], known.outer_price[1, m], known.outer_price[2, m]
        q0, q1, q2 = known.inner_price[0, m], known.inner_price[1, m], known.inner_price[2, m]
        i0, i1, i2 = known.inside[0, m], known.inside[1, m], known.inside[2, m]
        for j in range(count):
            kept0 = scratch[3, j] * p0 + scratch[6, j] * q0
            kept1 = scratch[4, j] * p1 + scratch[7, j] * q1
            kept2 = scratch[5, j] * p2 + scratch[8, j] * q2
            kept = kept0 if kept0 > kept1 else kept1
            kept = kept if kept > kept2 else kept2
            lack0, lack1, lack2 = scratch[9, j] * q0, scratch[10, j] * q1, scratch[11, j] * q2
            lack = lack0 if lack0 > lack1 else lack1
            lack = lack if lack > lack2 else lack2
            bound = scratch[0, j] * (p0 + q0) + scratch[1, j] * (p1 + q1) + scratch[2, j] * (p2 + q2)
            bound = bound - kept + (lack0 + lack1 + lack2 - lack) + least_fixed
            need = footprint[0, j] * i0 + footprint[1, j] * i1 + footprint[2, j] * i2
            bound = bound if need <= capacity else np.inf
            energy[j] = bound if bound < energy[j] else energy[j]
