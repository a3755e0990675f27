"""Closed form of the lines that one cache brings in while a blocked product runs.

Symbols
-------
=============  =====================================================================================================
loops 1..6     block loops in their order, the two loops over register tiles, the loop over p; T_d trips of loop d
F_X(d)         lines of operand X that loops d.. inside touch, each counted once
M_X(d)         lines of X brought in by one run of loops d.. inside, nothing being there before
s_X(d)         chance that a line of X survives one iteration of loop d (:mod:`lepton_dse.sim.cpu.survival`), from the
               footprints at depth d + 1 of every operand touched in it
u              share of the steps of the loop over p that are too far from the step before to find its lines on their way
Z_X            sets that hold what one walk of operand X touches before it comes to the next line of its rows
=============  =====================================================================================================

::

    M_X(7) = F_X(7)
    M_X(d) = s F_X(d) r + (1 - s) T_d M_X(d + 1),    r = M_X(d + 1) / F_X(d + 1),  s = s_X(d)   if loop d moves through X
    M_X(d) = M_X(d + 1) (1 + (T_d - 1) (1 - s))                                                 if it does not

the first because neighbouring iterations share lines, the second because every iteration comes back for all of them. In the
loop over p T_d counts only u times, down to what s = 1 gives: a line that was lost but is still on its way is not asked for
again. This is the loop-by-loop reuse analysis of M. Wolf and M. Lam ("A Data Locality Optimizing Algorithm", PLDI 1991) with a
graded survival in place of "fits". C is touched behind the loop over p. An operand that is packed in loop e appears twice: its
source, read once an iteration of loop e and counted outward from there; and its buffer, with

    an iteration of loop e:  F (1 - s(e)) + M(e + 1) - F s_pack

lines (F more in the first), s(e) from its last use to the next packing and s_pack from packing to first use, between which lie
source and buffer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lepton_dse.jit import kernel
from lepton_dse.sim.cache import Blocking, Layout, Problem
from lepton_dse.sim.cpu.survival import occupancy, survival

__all__ = ["Misses", "Nest", "level_misses", "nest_of", "walked_sets"]

A, B, C, A_SOURCE, B_SOURCE, STREAMS = 0, 1, 2, 3, 4, 5
_M, _N, _K = 0, 1, 2
_UNPACKED, _PACKED, _PREPACKED = int(Layout.UNPACKED), int(Layout.PACKED), int(Layout.PREPACKED)


class Nest(NamedTuple):
    """A blocked product as numbers; strides and elements in bytes."""

    m: float
    n: float
    k: float
    rows: float
    columns: float
    mc: float
    nc: float
    kc: float
    a_element: float
    b_element: float
    c_element: float
    a_stride: float
    b_stride: float
    c_stride: float
    layout_a: int
    layout_b: int
    first: int
    """Outermost block loop: 0 m, 1 n, 2 k."""
    second: int
    third: int
    rows_inner: int
    window: int
    """1 if A's rows are windows of an image, 2 if B's columns are, else 0; the rest describes the image."""
    positions: float
    """Windows in one output row."""
    image_rows: float
    """Output rows of an image."""
    in_rows: float
    row_step: float
    row_extent: float
    row_bytes: float
    """Of an input row with all channels."""


class Misses(NamedTuple):
    """Lines brought in, by operand, and those written back."""

    a: float
    b: float
    c: float
    a_source: float
    b_source: float
    packed: float
    """Of `a` and `b`, those brought in while the buffers are filled."""
    written: float

    @property
    def lines(self) -> float:
        """All lines brought in."""
        return self.a + self.b + self.c + self.a_source + self.b_source


@kernel
def _power_of_two(lines: float) -> float:
    """Largest power of two that divides a whole number of lines; 1 for a fraction."""
    if lines < 1.0 or lines != np.floor(lines):
        return 1.0
    power = 1.0
    while np.floor(lines / (2.0 * power)) * 2.0 * power == lines:
        power *= 2.0
    return power


@kernel
def _image_lines(nest: Any, windows: float, taps: float, line: float) -> float:
    """Lines of the image that so many windows and channels' taps look at, taken as one piece."""
    image = nest.image_rows * nest.positions
    if windows >= image:
        seen = windows / image * nest.in_rows
    else:
        seen = min(nest.in_rows, max(1.0, windows / nest.positions) * nest.row_step + max(0.0, nest.row_extent - nest.row_step))
        seen *= min(1.0, windows / nest.positions)
    lines: float = seen * nest.row_bytes * taps / nest.k / line
    return max(1.0, lines)


@kernel
def _piece(size: float, stride: float, element: float, line: float) -> float:
    """Lines of one row of `size` bytes: exact where rows start on lines or pieces do not straddle, else the mean over starts."""
    whole = np.floor(stride / size) * size == stride or stride == 0.0
    if whole and np.floor(size / line) * line == size:
        return size / line
    if whole and np.floor(line / size) * size == line:
        return 1.0
    return 1.0 + (size - element) / line


@kernel
def _strided(rows: float, size: float, stride: float, element: float, line: float) -> tuple[float, float, float, float]:
    """R, c, q, g of `rows` rows of `size` bytes."""
    if rows <= 1.0:
        return 1.0, _piece(size, 0.0, element, line), 0.0, 1.0
    if stride <= size or stride < line:
        return 1.0, max(1.0, ((rows - 1.0) * stride + size) / line), 0.0, 1.0
    return rows, _piece(size, stride, element, line), stride / line, _power_of_two(stride / line)


@kernel
def _shape(
    nest: Any, copies: Any, stream: int, em: float, en: float, ek: float, line: float
) -> tuple[float, float, float, float]:
    """R, c, q, g of what a stream touches in em x en x ek iterations."""
    if stream == C:
        rows, lines, step, power = _strided(em, en * nest.c_element, nest.c_stride, nest.c_element, line)
        return copies[2] * rows, lines, step, power
    of_a = stream in (A, A_SOURCE)
    layout = _UNPACKED if stream in (A_SOURCE, B_SOURCE) else nest.layout_a if of_a else nest.layout_b
    element = nest.a_element if of_a else nest.b_element
    several = copies[0] if of_a else copies[1]
    deep = min(ek, nest.kc)
    if layout == _PACKED:
        across = min(em, nest.mc) if of_a else min(en, nest.nc)
        rows, lines, step, power = _strided(1.0, across * deep * element, 0.0, element, line)
    elif layout == _PREPACKED:
        tile, extent, across = (nest.rows, nest.m, em) if of_a else (nest.columns, nest.n, en)
        apart = np.ceil(extent / tile) * tile * nest.kc * element
        rows, lines, step, power = _strided(ek / deep, across * deep * element, apart, element, line)
    elif nest.window == (1 if of_a else 2):
        return several, _image_lines(nest, em if of_a else en, ek, line), 0.0, 1.0
    elif of_a:
        rows, lines, step, power = _strided(em, ek * element, nest.a_stride, element, line)
    else:
        rows, lines, step, power = _strided(ek, en * element, nest.b_stride, element, line)
    return several * rows, lines, step, power


@kernel
def walked_sets(nest: Any, sets: float, line: float) -> tuple[float, float, float]:
    """Z of A, B and C where they lie: mr rows of A at one p, a block of k rows of B and mr rows of C, both nr columns wide.

    An image counts as one piece, which reaches every set.

    Parameters
    ----------
    nest : Nest
    sets : float
    line : float
    """
    alone = (1.0, 1.0, 1.0)
    found = np.zeros(3)
    for operand in range(3):
        stream = A_SOURCE if operand == 0 else B_SOURCE if operand == 1 else C
        deep = min(nest.kc, nest.k) if operand == 1 else 1.0
        rows, piece, step, power = _shape(nest, alone, stream, min(nest.rows, nest.m), min(nest.columns, nest.n), deep, line)
        found[operand] = max(1.0, sets * occupancy(rows, piece, step, power, sets)[0])
    if nest.window:
        found[nest.window - 1] = max(1.0, sets)
    return found[0], found[1], found[2]


@kernel
def level_misses(nest: Any, sets: float, ways: int, line: float, copies: Any = (1.0, 1.0, 1.0), apart: float = 1.0) -> Misses:
    """Lines that a cache of `sets` x `ways` lines of `line` bytes brings in, and dirty ones that leave it.

    Parameters
    ----------
    nest : Nest
    sets : float
        Need not be whole.
    ways : int
    line : float
    copies : tuple of float
        How many cores' different parts of A, B and C share the cache.
    apart : float
        u; 1 where every access ends before the next one begins.
    """
    # Loops: their dimension, trips, and the extents inside each.
    dims = (nest.first, nest.second, nest.third, _N if nest.rows_inner else _M, _M if nest.rows_inner else _N, _K)
    whole = (nest.m, nest.n, nest.k)
    block = (min(nest.mc, nest.m), min(nest.nc, nest.n), min(nest.kc, nest.k))
    tile = (min(nest.rows, nest.m), min(nest.columns, nest.n), 1.0)
    extents = np.zeros((7, 3))
    trips = np.zeros(6)
    for dim in range(3):
        extents[0, dim] = whole[dim]
    for loop in range(6):
        dim = dims[loop]
        for other in range(3):
            extents[loop + 1, other] = extents[loop, other]
        if loop < 3:
            trips[loop] = np.ceil(whole[dim] / block[dim])
            extents[loop + 1, dim] = whole[dim] / trips[loop]  # the mean of the blocks
        else:
            extents[loop + 1, dim] = min(tile[dim], extents[loop, dim])
            trips[loop] = extents[loop, dim] / extents[loop + 1, dim]
    pack_a = 2 if nest.third != _N else 1
    pack_b = 2 if nest.third != _M else 1
    active = np.ones(STREAMS)
    if nest.layout_a != _PACKED:
        active[A_SOURCE] = 0.0
        pack_a = -1
    if nest.layout_b != _PACKED:
        active[B_SOURCE] = 0.0
        pack_b = -1
    # Footprints at each depth, and their shares and depths in the sets.
    lines = np.zeros((7, STREAMS))
    share = np.zeros((7, STREAMS))
    depth = np.zeros((7, STREAMS))
    for at in range(7):
        for stream in range(STREAMS):
            if active[stream] == 0.0:
                continue
            rows, piece, step, power = _shape(nest, copies, stream, extents[at, 0], extents[at, 1], extents[at, 2], line)
            lines[at, stream] = rows * piece
            touched = (
                (stream != A_SOURCE or at - 1 <= pack_a) and (stream != B_SOURCE or at - 1 <= pack_b) and (stream != C or at < 6)
            )
            if touched:
                share[at, stream], depth[at, stream] = occupancy(rows, piece, step, power, sets)
    found = np.zeros(STREAMS)
    packing = 0.0
    for stream in range(STREAMS):
        if active[stream] == 0.0:
            continue
        packed_at = pack_a if stream in (A, A_SOURCE) else pack_b if stream in (B, B_SOURCE) else -1
        buffer = packed_at >= 0 and stream in (A, B)
        source = packed_at >= 0 and not buffer
        start = packed_at if source else (4 if stream == C else 5)
        misses = lines[start + 1, stream]
        stop = packed_at + 1 if buffer else 0
        for loop in range(start, stop - 1, -1):
            dim = dims[loop]
            moves = dim != _N if stream in (A, A_SOURCE) else dim != _M if stream in (B, B_SOURCE) else dim != _K
            alive = survival(stream, share[loop + 1], depth[loop + 1], STREAMS, ways)
            if moves:
                each = lines[loop, stream] * misses / lines[loop + 1, stream]
                asked = trips[loop] * misses * (apart if loop == 5 else 1.0)
                misses = alive * each + (1.0 - alive) * max(asked, each)
            else:
                misses *= 1.0 + (trips[loop] - 1.0) * (1.0 - alive)
        if buffer:
            size = lines[packed_at + 1, stream]
            alive = survival(stream, share[packed_at + 1], depth[packed_at + 1], STREAMS, ways)
            other = A_SOURCE if stream == A else B_SOURCE
            pair_share = np.array([share[packed_at + 1, stream], share[packed_at + 1, other]])
            pair_depth = np.array([depth[packed_at + 1, stream], depth[packed_at + 1, other]])
            packed = survival(0, pair_share, pair_depth, 2, ways)
            runs = 1.0
            for loop in range(packed_at + 1):
                runs *= trips[loop]
            filled = runs * size * (1.0 - alive) + size * alive
            misses = filled + runs * (misses - size * packed)
            packing += filled
        found[stream] = misses
    return Misses(found[A], found[B], found[C], found[A_SOURCE], found[B_SOURCE], packing, packing + found[C])


def nest_of(problem: Problem, blocking: Blocking, image: Any = None) -> Nest:
    """The numbers of a product and its blocking.

    Parameters
    ----------
    problem : Problem
    blocking : Blocking
    image : Work, optional
        Describes the image where the problem is a convolution; its result is then taken to lie row by row.
    """
    loops = {"m": _M, "n": _N, "p": _K}
    element = float(problem.element)
    a_stride, b_stride, c_stride = (
        float(offsets[1] - offsets[0]) if len(offsets) > 1 else 0.0
        for offsets in (problem.a_rows, problem.b_rows, problem.c_rows)
    )
    return Nest(
        float(problem.m),
        float(problem.n),
        float(problem.k),
        float(blocking.rows),
        float(blocking.columns),
        float(blocking.mc),
        float(blocking.nc),
        float(blocking.kc),
        element,
        element,
        element,
        a_stride,
        b_stride,
        c_stride if image is None else image.c_step,
        int(blocking.a),
        int(blocking.b),
        loops[blocking.order[0]],
        loops[blocking.order[1]],
        loops[blocking.order[2]],
        int(blocking.rows_inner),
        0 if image is None else image.image,
        1.0 if image is None else image.positions,
        1.0 if image is None else image.image_rows,
        1.0 if image is None else image.in_rows,
        1.0 if image is None else image.row_step,
        1.0 if image is None else image.row_extent,
        1.0 if image is None else image.row_bytes,
    )
