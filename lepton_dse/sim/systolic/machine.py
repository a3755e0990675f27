"""Systolic arrays, cell by cell and cycle by cycle.

Every cycle updates every cell from its neighbours. Registers that only pass a value on are moved by renaming, not by copying: an
operand moving right stands at ``origin - t + r W + c`` of a tape, so that one step of the origin moves all of them, and a sum or
an operand moving down stands in row ``(r - t) mod S`` of a ring of S rows. What is loaded, latched or captured in a cycle lies on
a diagonal, since the control bits that command it are skewed as the operands are; only cells on the diagonal are touched.

A cycle has three parts, as in clocked logic: what takes effect with the operands that arrive (weights change over), the
products and sums, and what is stored at the closing edge (shift chains move, finished sums are latched).

Cycles go by in windows of ``WINDOW``, for the sake of the processor's caches: first the edges and the diagonals of each cycle
in turn, then the products of all of them in one sweep, which takes each sum through its next ``WINDOW`` products. A sum that
the sweep takes too far, past its end or past weights that changed over, is corrected beforehand on the diagonal. Ring and tape
have ``WINDOW`` places to spare a row, so that nothing enters over what an earlier cycle of the window still reads.

Triangles of registers at the edges skew the operands and straighten the results. They are given by what stands on their inner
side: entry ``[b, a, i]`` of a feed enters row (or column) i in cycle a of a stream of block b, 0 outside the stream, and entry
``[b, a, c]`` of the exits left column c in cycle a of the results of block b, anything outside of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lepton_dse.jit import kernel

__all__ = ["WINDOW", "run_output_stationary", "run_weight_stationary"]

WINDOW = 4
"""Cycles of one sweep; :func:`_sweep` spells them out."""


@kernel
def _sweep(
    sums: Any,
    sums_first: int,
    held: Any,
    held_first: int,
    held_step: int,
    tape: Any,
    origin: int,
    row: int,
    tape_step: int,
    count: int,
) -> None:
    """Take each of the first `count` rows of sums through the products of one window.

    Parameters
    ----------
    sums, held : arrays (S, C), (H, C)
        Sums, and the factors that do not move right.
    sums_first, held_first : int
        Where the sums and the first factors of row 0 stand; each next row one further, around the ring.
    held_step : int
        From one cycle's factors to the next cycle's.
    tape : array (L,)
        Factors moving right, row 0 at `origin` in the first cycle, each next row `row` further.
    tape_step : int
        From one cycle's to the next cycle's.
    """
    ring, columns = sums.shape
    turn = len(held)
    s, h = sums_first, held_first
    for r in range(count):
        place = origin + r * row
        h1, h2, h3 = h + held_step, h + 2 * held_step, h + 3 * held_step
        if not 0 <= h3 < turn:
            h1, h2, h3 = h1 % turn, h2 % turn, h3 % turn
        total, a0, a1, a2, a3 = sums[s], held[h], held[h1], held[h2], held[h3]
        b0, b1 = tape[place : place + columns], tape[place + tape_step : place + tape_step + columns]
        b2 = tape[place + 2 * tape_step : place + 2 * tape_step + columns]
        b3 = tape[place + 3 * tape_step : place + 3 * tape_step + columns]
        for c in range(columns):
            early = np.int64(a0[c]) * np.int64(b0[c]) + np.int64(a1[c]) * np.int64(b1[c])
            late = np.int64(a2[c]) * np.int64(b2[c]) + np.int64(a3[c]) * np.int64(b3[c])
            total[c] += early + late
        s = s + 1 if s + 1 < ring else 0
        h = h + 1 if h + 1 < turn else 0


@kernel
def _turned(place: int, size: int) -> int:
    """``place mod size`` for places less than one turn away."""
    if place < 0:
        return place + size
    return place - size if place >= size else place


@kernel
def _enter(entering: Any, tape: Any, origin: int, row: int) -> None:
    """What enters each row in each cycle of a window, from ``entering[i, r]``, which is cleared."""
    for r in range(entering.shape[1]):
        last = origin + r * row - WINDOW + 1
        for i in range(WINDOW):
            tape[last + i] = entering[WINDOW - 1 - i, r]
    entering[:] = 0


@kernel
def run_weight_stationary(feed: Any, down: Any, overlapped: bool, plan: Any, sums: Any, exits: Any) -> int:
    """Run all folds; returns the cycles.

    Parameters
    ----------
    feed : array (blocks, B + R - 1, R)
        X by tiles of M, then of K.
    down : array (blocks, R + C - 1, C)
        W by tiles of N, then of K, the last row of a tile first.
    overlapped : bool
        Whether the next tile of weights shifts in while one is in use.
    plan : int64 array (6, folds)
        Of each fold: rows of X; block of its feed; rows and columns of weights that the controller waits for (more than are
        used in padded folds); block of their feed; block of the exits.
    sums : array (R + WINDOW, C)
        Sums moving down.
    exits : int64 array (tiles of M times folds of N, B + C - 1, C)
        Receives the sums over all folds of K.
    """
    count, ring = plan.shape[1], len(sums)
    rows, columns = feed.shape[2], down.shape[2]
    # Weights on their way down, weights that have come to rest beside those in use, weights in use.
    moving, path = np.zeros((rows, columns), down.dtype), np.zeros((rows, columns), down.dtype)
    # Sums enter and leave within a window, through rows of cells beyond the ends that hold zeros.
    beyond = WINDOW - 1
    cells = np.zeros((rows + 2 * beyond, columns), down.dtype)
    stride = columns + WINDOW
    live = len(cells) * stride
    span = (live + WINDOW - 1) // WINDOW * WINDOW
    tape = np.zeros(span + live, feed.dtype)
    entering = np.zeros((WINDOW, rows), feed.dtype)
    load, start = np.zeros(count, np.int64), np.zeros(count, np.int64)
    loads, streams, first_load, first_stream = 0, 0, 0, 0
    captured, expected, total, cycles = 0, 0, 0, 0
    for f in range(count):
        total += plan[0, f] * plan[3, f]
    origin, begin = span - 1, 0
    while captured < total:
        if origin < 0:
            tape[span:] = tape[:live]
            origin = span - 1
        for i in range(WINDOW):
            t = begin + i
            cycles += captured < total
            # A stream starts when its weights are in place and the stream before has entered; then the next weights may follow.
            if streams < loads:
                ready = load[streams] + plan[2, streams]
                if streams > 0:
                    ready = max(ready, start[streams - 1] + plan[0, streams - 1])
                if t >= ready:
                    start[streams] = t
                    streams += 1
            if loads < count and loads == streams and (overlapped or captured == expected):
                load[loads] = t
                expected += plan[0, loads] * plan[3, loads]
                loads += 1
            for f in range(first_stream, streams):
                age = t - start[f]
                if age < plan[0, f] + rows - 1:
                    arriving = feed[plan[1, f], age]
                    for r in range(rows):
                        entering[i, r] += arriving[r]
                age -= rows - 1
                if 0 <= age < plan[0, f] + plan[3, f] - 1:
                    captured += min(plan[3, f] - 1, age) - max(0, age - plan[0, f] + 1) + 1
        corner, top = origin + beyond * stride, (-begin) % ring
        _enter(entering, tape, corner, stride)
        for i in range(WINDOW):
            t = begin + i
            for f in range(first_stream, streams):
                # Weights change over along the wave front; products of earlier cycles of the window are with those before.
                age = t - start[f]
                for r in range(max(0, age - plan[3, f] + 1), min(plan[2, f] - 1, age) + 1):
                    before = np.int64(cells[beyond + r, age - r])
                    cells[beyond + r, age - r] = path[r, age - r]
                    change = before - np.int64(cells[beyond + r, age - r])
                    for j in range(i):
                        operand = np.int64(tape[corner - j + r * stride + age - r])
                        sums[_turned(top + r - j, ring), age - r] += change * operand
            # The closing edge: weights move down behind the wave, and those of one column come to rest.
            if first_load < loads:
                above = (-t) % rows
                moving[above, :] = 0
                for f in range(first_load, loads):
                    age, column = t - load[f], t - load[f] - plan[2, f] + 1
                    if 0 <= age < plan[2, f] + plan[3, f] - 1:
                        moving[above, :] += down[plan[4, f], age]
                    if 0 <= column < plan[3, f]:
                        slot = above
                        for r in range(plan[2, f]):
                            path[r, column] = moving[slot, column]
                            slot = slot + 1 if slot + 1 < rows else 0
        # Every cell, every cycle: the sum from above plus the weight times the operand from the left.
        _sweep(sums, (-begin - beyond) % ring, cells, 0, 1, tape, origin, stride, stride - 1, rows + beyond)
        # Sums leave at the bottom; their row of the ring enters at the top as zeros.
        for i in range(WINDOW):
            leaving = sums[(rows - 1 - begin - i) % ring]
            for f in range(first_stream, streams):
                age = begin + i - start[f] - (rows - 1)
                if 0 <= age < plan[0, f] + plan[3, f] - 1:
                    exit_row = exits[plan[5, f], age]
                    for c in range(columns):
                        exit_row[c] += leaving[c]
            leaving[:] = 0
        begin, origin = begin + WINDOW, origin - WINDOW
        while first_load < loads and begin > load[first_load] + plan[2, first_load] + columns:
            first_load += 1
        while first_stream < streams and begin > start[first_stream] + plan[0, first_stream] + rows + columns:
            first_stream += 1
    return cycles


@kernel
def run_output_stationary(feed: Any, down: Any, depth: int, overlapped: bool, plan: Any, sums: Any, exits: Any) -> int:
    """Run all folds; returns the cycles.

    Parameters
    ----------
    feed : array (folds of M, K + R - 1, R)
        X by tiles of M.
    down : array (folds of N, K + C - 1, C)
        W by tiles of N.
    depth : int
        K.
    overlapped : bool
        Whether a fold may begin while finished sums shift out.
    plan : int64 array (4, folds)
        Of each fold: rows and columns that the controller waits for (more than are used in padded folds); blocks of the
        feeds of X and of W.
    sums : array (R, C)
        Sums in the making.
    exits : int64 array (folds, R + C - 1, C)
        Receives the results, last row first.
    """
    count = plan.shape[1]
    rows, columns = sums.shape
    # Finished sums at rest, finished sums on their way down, operands moving down.
    ready, chain = np.zeros((rows, columns), sums.dtype), np.zeros((rows, columns), sums.dtype)
    ring = rows + WINDOW
    moving = np.zeros((ring, columns), down.dtype)
    stride = columns + WINDOW
    live = rows * stride
    span = (live + WINDOW - 1) // WINDOW * WINDOW
    tape = np.zeros(span + live, feed.dtype)
    entering = np.zeros((WINDOW, rows), feed.dtype)
    start = np.zeros(count, np.int64)
    started, first, captured, expected, total, cycles = 0, 0, 0, 0, 0, 0
    for f in range(count):
        total += plan[0, f] * plan[1, f]
    origin, begin = span - 1, 0
    while captured < total:
        if origin < 0:
            tape[span:] = tape[:live]
            origin = span - 1
        for i in range(WINDOW):
            t = begin + i
            cycles += captured < total
            # A fold starts when the one before has entered and, behind it, the chain has room for the sums of this one.
            if started < count:
                free = captured == expected
                if overlapped and started > 0:
                    free = t >= start[started - 1] + max(depth, plan[0, started - 1])
                if free:
                    start[started] = t
                    expected += plan[0, started] * plan[1, started]
                    started += 1
            above = (-t) % ring
            moving[above, :] = 0
            for f in range(first, started):
                age = t - start[f]
                if age < depth + rows - 1:
                    arriving = feed[plan[2, f], age]
                    for r in range(rows):
                        entering[i, r] += arriving[r]
                if age < depth + columns - 1:
                    moving[above, :] += down[plan[3, f], age]
                age -= depth + rows - 1
                if 0 <= age < plan[0, f] + plan[1, f] - 1:
                    captured += min(plan[1, f] - 1, age) - max(0, age - plan[0, f] + 1) + 1
        top = (-begin) % ring
        _enter(entering, tape, origin, stride)
        for i in range(WINDOW):
            t = begin + i
            for f in range(first, started):
                used, width = plan[0, f], plan[1, f]
                # What stands in the bottom row leaves.
                age = t - start[f] - depth + 1 - rows
                if 0 <= age < used + width - 1:
                    exits[f, age, :] = chain[(rows - 1 - t) % rows]
                # The closing edge: sums that are complete come to rest, and a column whose last row is complete starts down.
                # Such a sum has the window's products up to this one ahead of it, and the next starts without them.
                age = t - start[f] - depth + 1
                for r in range(max(0, age - width + 1), min(used - 1, age) + 1):
                    complete = np.int64(sums[r, age - r])
                    for j in range(i + 1):
                        operand = np.int64(tape[origin - j + r * stride + age - r])
                        complete += np.int64(moving[_turned(top + r - j, ring), age - r]) * operand
                    ready[r, age - r] = complete
                    sums[r, age - r] -= complete
                column = age - used + 1
                if 0 <= column < width:
                    slot = (-t - 1) % rows
                    for r in range(used):
                        chain[slot, column] = ready[r, column]
                        slot = slot + 1 if slot + 1 < rows else 0
        # Every cell, every cycle: the product of the operands from the left and from above.
        _sweep(sums, 0, moving, top, -1, tape, origin, stride, -1, rows)
        begin, origin = begin + WINDOW, origin - WINDOW
        while first < started and begin > start[first] + depth + 2 * rows + columns:
            first += 1
    return cycles
