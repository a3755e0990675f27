"""The quick bound for a whole row of buffer tiles at once, written so that a compiler computes several tiles in one instruction.

A row is all options of the last loop under fixed ones of the others. :func:`loose_row` is
:func:`~lepton_dse.search.tiling.bounds.loose_bound` with the loop over tiles innermost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.jit import kernel

__all__ = ["FIGURES", "loose_row", "row_halos"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FIGURES = 12
"""Scratch rows: bytes that enter often, what keeping saves, what keeping saves of a covered tile, what a moving operand lacks."""


@kernel
def row_halos(
    loop: int, index: Ints, option_counts: Ints, halos: Ints, halo_counts: Ints, axis_f: Floats, axis_size: Floats, found: Floats
) -> None:
    """Fill, by operand, elements and bytes that halos multiply into each tile of a row.

    Parameters
    ----------
    loop : int
        The last loop.
    index : (D,) int64
        Options of the others.
    found : (2, 3, O) float64
    """
    for x in range(3):
        for j in range(option_counts[loop]):
            found[0, x, j], found[1, x, j] = 1.0, 1.0
        for h in range(halo_counts[x]):
            first, second = halos[x, h, 0], halos[x, h, 1]
            for j in range(option_counts[loop]):
                p = j if first == loop else index[first]
                r = 0 if second < 0 else j if second == loop else index[second]
                found[0, x, j] *= axis_f[x, h, p, r]
                found[1, x, j] *= axis_size[x, h, p, r]


@kernel
def loose_row(
    count: int,
    f: Floats,
    base: Floats,
    factors: Floats,
    halo_rows: Floats,
    inside: Floats,
    outer_price: Floats,
    inner_price: Floats,
    least_floor: Floats,
    most_covered: Floats,
    least_fixed: float,
    least_steps: float,
    capacity: float,
    bandwidth: float,
    widths: Floats,
    scratch: Floats,
    footprint: Floats,
    energy: Floats,
    cycles: Floats,
) -> None:
    """Bounds of energy and cycles for each tile of a row.

    Parameters
    ----------
    count : int
        Tiles of the row.
    f : (3,) float64
        Elements of each operand over its loops by themselves.
    base : (3, 3) float64
        Visits, own trips and bytes of each operand over the fixed loops.
    factors : (3, 3, O) float64
        What each option of the last loop multiplies into them.
    halo_rows : (2, 3, O) float64
        From :func:`row_halos`.
    bandwidth : float
        Of main memory.
    scratch, footprint : (FIGURES, O), (3, O) float64
        Room to work in.
    energy, cycles : (O,) float64
        Filled; infinite energy where no residency fits.
    """
    for x in range(3):
        read = widths[x]
        again = 2.0 * widths[3] if x == 2 else widths[x]
        floor, most = least_floor[x], most_covered[x]
        visits, own, size, elements = base[0, x], base[1, x], base[2, x], f[x]
        visit_row, own_row, size_row = factors[0, x], factors[1, x], factors[2, x]
        element_halo, size_halo = halo_rows[0, x], halo_rows[1, x]
        often_row, more_row, kept_row, lack_row = scratch[x], scratch[3 + x], scratch[6 + x], scratch[9 + x]
        need_row = footprint[x]
        for j in range(count):
            moved = elements * element_halo[j]
            more = moved * again * (visits * visit_row[j] - 1.0)
            more = more if own * own_row[j] != 1.0 else 0.0
            often = moved * read + more
            need = size * size_row[j] * size_halo[j]
            lack = floor - often if floor > often else 0.0
            often_row[j], more_row[j], need_row[j] = often, more, need
            kept_row[j] = more if need <= most else 0.0
            lack_row[j] = 0.0 if need <= most else lack
    for j in range(count):
        more0, more1, more2 = scratch[3, j], scratch[4, j], scratch[5, j]
        most_saved = more0 if more0 > more1 else more1
        most_saved = most_saved if most_saved > more2 else more2
        busy = (scratch[0, j] + scratch[1, j] + scratch[2, j] - most_saved) / bandwidth
        cycles[j] = busy if busy > least_steps else least_steps
        energy[j] = np.inf
    for m in range(inside.shape[1]):
        p0, p1, p2 = outer_price[0, m], outer_price[1, m], outer_price[2, m]
        q0, q1, q2 = inner_price[0, m], inner_price[1, m], inner_price[2, m]
        i0, i1, i2 = inside[0, m], inside[1, m], inside[2, m]
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
