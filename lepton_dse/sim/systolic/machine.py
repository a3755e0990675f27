"""Systolic arrays, cell by cell and cycle by cycle.

Every cycle visits every cell once and updates its registers from its neighbours. Registers that only pass a value on are
moved by renaming, not by copying: an operand moving right lies in a row of storage whose origin moves left by one a cycle,
and a sum or an operand moving down lies in storage row ``(r - t) mod R``. What is loaded, latched or captured in a cycle lies on
a diagonal, since the control bits that command it are skewed as the operands are; only cells on the diagonal are touched.

A cycle has three parts, as in clocked logic: what takes effect with the operands that arrive (weights change over), the
products and sums, and what is stored at the closing edge (shift chains move, finished sums are latched).

Triangles of registers at the edges skew the operands and straighten the results. They are given by what stands on their inner
side: entry ``[b, a, i]`` of a feed enters row (or column) i in cycle a of a stream of block b, 0 outside the stream, and entry
``[b, a, c]`` of the exits left column c in cycle a of the results of block b, anything outside of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lepton_dse.jit import kernel

__all__ = ["run_output_stationary", "run_weight_stationary"]


@kernel
def _multiply_accumulate(sums: Any, sums_first: int, held: Any, held_first: int, tape: Any, origin: int) -> None:
    """One sweep over all cells; row r's registers stand in storage rows ``(first + r) mod R``."""
    rows, columns = sums.shape
    s, h = sums_first, held_first
    for r in range(rows):
        total, factor, right = sums[s], held[h], tape[r, origin : origin + columns]
        for c in range(columns):
            total[c] += np.int64(factor[c]) * np.int64(right[c])
        s = s + 1 if s + 1 < rows else 0
        h = h + 1 if h + 1 < rows else 0


@kernel
def run_weight_stationary(
    feed: Any,
    down: Any,
    overlapped: bool,
    plan: Any,
    moving: Any,
    path: Any,
    cells: Any,
    tape: Any,
    sums: Any,
    exits: Any,
) -> int:
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
    moving, path, cells : arrays (R, C)
        Weights on their way down, weights that have come to rest beside those in use, weights in use.
    tape : array (R, C + cycles)
        Operands moving right.
    sums : array (R, C)
        Sums moving down.
    exits : int64 array (tiles of M times folds of N, B + C - 1, C)
        Receives the sums over all folds of K.
    """
    count = plan.shape[1]
    rows, columns = cells.shape
    span = tape.shape[1] - columns
    entering = np.zeros(rows, tape.dtype)
    load, start = np.zeros(count, np.int64), np.zeros(count, np.int64)
    loads, streams, first_load, first_stream = 0, 0, 0, 0
    captured, expected, total = 0, 0, 0
    for f in range(count):
        total += plan[0, f] * plan[3, f]
    origin, t = span, 0
    while captured < total:
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
        if origin == 0:
            tape[:, span:] = tape[:, :columns]
            origin = span
        origin -= 1
        entering[:] = 0
        for f in range(first_stream, streams):
            age = t - start[f]
            if age < plan[0, f] + rows - 1:
                arriving = feed[plan[1, f], age]
                for r in range(rows):
                    entering[r] += arriving[r]
            # Weights change over along the wave front.
            for r in range(max(0, age - plan[3, f] + 1), min(plan[2, f] - 1, age) + 1):
                cells[r, age - r] = path[r, age - r]
        for r in range(rows):
            tape[r, origin] = entering[r]
        # Every cell: the sum from above plus the weight times the operand from the left.
        _multiply_accumulate(sums, (-t) % rows, cells, 0, tape, origin)
        # Sums leave at the bottom; their storage row enters at the top as zeros.
        leaving = sums[(rows - 1 - t) % rows]
        for f in range(first_stream, streams):
            age = t - start[f] - (rows - 1)
            if 0 <= age < plan[0, f] + plan[3, f] - 1:
                captured += min(plan[3, f] - 1, age) - max(0, age - plan[0, f] + 1) + 1
                exit_row = exits[plan[5, f], age]
                for c in range(columns):
                    exit_row[c] += leaving[c]
        leaving[:] = 0
        # The closing edge: weights move down behind the wave, and those of one column come to rest.
        if first_load < loads:
            top = (-t) % rows
            moving[top, :] = 0
            for f in range(first_load, loads):
                age, column = t - load[f], t - load[f] - plan[2, f] + 1
                if age < plan[2, f] + plan[3, f] - 1:
                    moving[top, :] += down[plan[4, f], age]
                if 0 <= column < plan[3, f]:
                    slot = top
                    for r in range(plan[2, f]):
                        path[r, column] = moving[slot, column]
                        slot = slot + 1 if slot + 1 < rows else 0
        while first_load < loads and t >= load[first_load] + plan[2, first_load] + columns:
            first_load += 1
        while first_stream < streams and t >= start[first_stream] + plan[0, first_stream] + rows + columns:
            first_stream += 1
        t += 1
    return t


@kernel
def run_output_stationary(
    feed: Any,
    down: Any,
    depth: int,
    overlapped: bool,
    plan: Any,
    ready: Any,
    chain: Any,
    sums: Any,
    tape: Any,
    moving: Any,
    exits: Any,
) -> int:
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
    ready, chain, sums : arrays (R, C)
        Finished sums at rest, finished sums on their way down, sums in the making.
    tape : array (R, C + cycles)
        Operands moving right.
    moving : array (R, C)
        Operands moving down.
    exits : int64 array (folds, R + C - 1, C)
        Receives the results, last row first.
    """
    count = plan.shape[1]
    rows, columns = sums.shape
    span = tape.shape[1] - columns
    entering = np.zeros(rows, tape.dtype)
    start = np.zeros(count, np.int64)
    started, first, captured, expected, total = 0, 0, 0, 0, 0
    for f in range(count):
        total += plan[0, f] * plan[1, f]
    origin, t = span, 0
    while captured < total:
        # A fold starts when the one before has entered and, behind it, the chain has room for the sums of this one.
        if started < count:
            free = captured == expected
            if overlapped and started > 0:
                free = t >= start[started - 1] + max(depth, plan[0, started - 1])
            if free:
                start[started] = t
                expected += plan[0, started] * plan[1, started]
                started += 1
        if origin == 0:
            tape[:, span:] = tape[:, :columns]
            origin = span
        origin -= 1
        top = (-t) % rows
        entering[:] = 0
        moving[top, :] = 0
        for f in range(first, started):
            age = t - start[f]
            if age < depth + rows - 1:
                arriving = feed[plan[2, f], age]
                for r in range(rows):
                    entering[r] += arriving[r]
            if age < depth + columns - 1:
                moving[top, :] += down[plan[3, f], age]
        for r in range(rows):
            tape[r, origin] = entering[r]
        # Every cell: the product of the operands from the left and from above.
        _multiply_accumulate(sums, 0, moving, top, tape, origin)
        for f in range(first, started):
            used, width = plan[0, f], plan[1, f]
            # What stands in the bottom row leaves.
            age = t - start[f] - depth + 1 - rows
            if 0 <= age < used + width - 1:
                captured += min(width - 1, age) - max(0, age - used + 1) + 1
                exits[f, age, :] = chain[(rows - 1 - t) % rows]
            # The closing edge: sums that are complete come to rest, and a column whose last row is complete starts down.
            age = t - start[f] - depth + 1
            for r in range(max(0, age - width + 1), min(used - 1, age) + 1):
                ready[r, age - r] = sums[r, age - r]
                sums[r, age - r] = 0
            column = age - used + 1
            if 0 <= column < width:
                slot = (-t - 1) % rows
                for r in range(used):
                    chain[slot, column] = ready[r, column]
                    slot = slot + 1 if slot + 1 < rows else 0
        while first < started and t >= start[first] + depth + 2 * rows + columns:
            first += 1
        t += 1
    return t
