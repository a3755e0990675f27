"""Systolic arrays of cells that pass tokens, in plain Python.

Nothing here knows when anything should happen: operands carry the fold that they belong to, weights count down the cells that
they have yet to pass, and a cell that is handed two things at once, or things that do not belong together, fails an
assertion. Cycles are counted until the last result is out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

Matrix = list[list[int]]


@dataclass(frozen=True)
class Fold:
    """Where a fold starts along M, N and K, its real extents, and the rows and columns that it occupies."""

    m0: int
    n0: int
    k0: int
    m: int
    n: int
    k: int
    high: int
    wide: int


@dataclass(frozen=True)
class Operand:
    value: int
    fold: int
    index: int
    """Along the stream."""


class Delay:
    """A row of registers: what goes in comes out `length` cycles later."""

    def __init__(self, length: int) -> None:
        self.line = deque([None] * length)

    def step(self, value):
        self.line.append(value)
        return self.line.popleft()


def pieces(extent: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, extent) - first) for first in range(0, extent, size)]


class WeightCell:
    def __init__(self) -> None:
        self.weight = 0
        self.next_weight: int | None = None
        self.fold = -1
        self.right: Operand | None = None
        self.down: tuple[int, Operand] | None = None
        self.passing: tuple[int, int] | None = None


def weight_stationary(x: Matrix, w: Matrix, rows: int, columns: int, overlapped: bool, padded: bool, stream: int):
    """Result and cycles."""
    m, n, k = len(x), len(w[0]), len(w)
    folds = [
        Fold(m0, n0, k0, mf, nf, kf, rows if padded else kf, columns if padded else nf)
        for m0, mf in pieces(m, stream)
        for n0, nf in pieces(n, columns)
        for k0, kf in pieces(k, rows)
    ]
    cells = [[WeightCell() for _ in range(columns)] for _ in range(rows)]
    skew_x = [Delay(r) for r in range(rows)]
    skew_w = [Delay(c) for c in range(columns)]
    result = [[0] * n for _ in range(m)]
    waiting = [fold.m * fold.wide for fold in folds]
    loading, rows_to_load = -1, deque()
    streaming, to_stream = -1, deque()
    cycle = 0
    while any(waiting):
        if not to_stream and loading == streaming + 1 and not rows_to_load:
            streaming += 1
            to_stream = deque(range(folds[streaming].m))
        if loading == streaming and loading + 1 < len(folds) and not rows_to_load:
            free = loading < 0 or overlapped or waiting[loading] == 0
            if free and (loading < 0 or len(to_stream) == folds[loading].m or not overlapped):
                loading += 1
                rows_to_load = deque(reversed(range(folds[loading].high)))
        # What the controller hands to the skewing triangles in this cycle.
        entering: list[Operand | None] = [None] * rows
        if to_stream:
            index, fold = to_stream.popleft(), folds[streaming]
            for r in range(rows):
                value = x[fold.m0 + index][fold.k0 + r] if r < fold.k else 0
                entering[r] = Operand(value, streaming, index)
        weights: list[tuple[int, int] | None] = [None] * columns
        if rows_to_load:
            row, fold = rows_to_load.popleft(), folds[loading]
            for c in range(fold.wide):
                real = row < fold.k and c < fold.n
                weights[c] = (w[fold.k0 + row][fold.n0 + c] if real else 0, row)
        left = [skew_x[r].step(entering[r]) for r in range(rows)]
        above = [skew_w[c].step(weights[c]) for c in range(columns)]
        # All registers read their neighbours as they stood before the cycle.
        old_right = [[cell.right for cell in row] for row in cells]
        old_down = [[cell.down for cell in row] for row in cells]
        old_passing = [[cell.passing for cell in row] for row in cells]
        for r in range(rows):
            for c in range(columns):
                cell = cells[r][c]
                operand = left[r] if c == 0 else old_right[r][c - 1]
                total = old_down[r - 1][c] if r else None
                if r and operand is not None and c < folds[operand.fold].wide:
                    assert total is not None, "an operand without its sum"
                if operand is not None:
                    if operand.fold != cell.fold:
                        cell.fold = operand.fold
                        if cell.next_weight is not None:
                            cell.weight, cell.next_weight = cell.next_weight, None
                    if r == 0:
                        total = (0, operand)
                    assert total is not None
                    assert (total[1].fold, total[1].index) == (operand.fold, operand.index), "an operand met another's sum"
                    total = (total[0] + cell.weight * operand.value, operand)
                else:
                    assert total is None, "a sum without its operand"
                cell.right, cell.down = operand, total
                weight = above[c] if r == 0 else old_passing[r - 1][c]
                cell.passing = None
                if weight is not None:
                    assert cell.next_weight is None, "a weight runs over one that has not been used"
                    if weight[1] == 0:
                        cell.next_weight = weight[0]
                    else:
                        cell.passing = (weight[0], weight[1] - 1)
        for c in range(columns):
            leaving = cells[rows - 1][c].down
            if leaving is not None and c < folds[leaving[1].fold].wide:
                fold = folds[leaving[1].fold]
                waiting[leaving[1].fold] -= 1
                if c < fold.n:
                    result[fold.m0 + leaving[1].index][fold.n0 + c] += leaving[0]
        cycle += 1
    return result, cycle


class SumCell:
    def __init__(self) -> None:
        self.total = 0
        self.right: Operand | None = None
        self.down: Operand | None = None


def output_stationary(x: Matrix, w: Matrix, rows: int, columns: int, overlapped: bool, padded: bool):
    """Result and cycles."""
    m, n, k = len(x), len(w[0]), len(w)
    folds = [
        Fold(m0, n0, 0, mf, nf, k, rows if padded else mf, columns if padded else nf)
        for n0, nf in pieces(n, columns)
        for m0, mf in pieces(m, rows)
    ]
    cells = [[SumCell() for _ in range(columns)] for _ in range(rows)]
    # Finished sums on their way down: (value, fold, row it was made in), or None.
    chain: list[list[tuple[int, int, int] | None]] = [[None] * columns for _ in range(rows)]
    complete: dict[tuple[int, int], int] = {}
    skew_x = [Delay(r) for r in range(rows)]
    skew_w = [Delay(c) for c in range(columns)]
    result = [[0] * n for _ in range(m)]
    waiting = [fold.high * fold.wide for fold in folds]
    current, since = -1, 0
    cycle = 0
    while any(waiting):
        if current + 1 < len(folds):
            if current < 0:
                start = True
            elif overlapped:
                # The chain of column 0 takes one sum a cycle from the fold before.
                start = since >= k and since >= folds[current].high
            else:
                start = waiting[current] == 0
            if start:
                current, since = current + 1, 0
        entering: list[Operand | None] = [None] * rows
        falling: list[Operand | None] = [None] * columns
        if current >= 0 and since < k:
            fold = folds[current]
            for r in range(rows):
                entering[r] = Operand(x[fold.m0 + r][since] if r < fold.m else 0, current, since)
            for c in range(columns):
                falling[c] = Operand(w[since][fold.n0 + c] if c < fold.n else 0, current, since)
        since += 1
        left = [skew_x[r].step(entering[r]) for r in range(rows)]
        above = [skew_w[c].step(falling[c]) for c in range(columns)]
        old_right = [[cell.right for cell in row] for row in cells]
        old_down = [[cell.down for cell in row] for row in cells]
        # Sums of a column whose last row is complete move down by one; the one at the bottom leaves.
        moved: list[list[tuple[int, int, int] | None]] = [[None] * columns for _ in range(rows)]
        for r in range(rows):
            for c in range(columns):
                item = chain[r][c]
                if item is None:
                    continue
                value, owner, made = item
                fold = folds[owner]
                if complete.get((owner, c), 0) < fold.high:
                    target = r
                elif r == rows - 1:
                    waiting[owner] -= 1
                    if made < fold.m and c < fold.n:
                        result[fold.m0 + made][fold.n0 + c] = value
                    continue
                else:
                    target = r + 1
                assert moved[target][c] is None, "two sums in one register"
                moved[target][c] = item
        chain = moved
        for r in range(rows):
            for c in range(columns):
                cell = cells[r][c]
                a = left[r] if c == 0 else old_right[r][c - 1]
                b = above[c] if r == 0 else old_down[r - 1][c]
                assert (a is None) == (b is None), "an operand came alone"
                if a is not None and b is not None:
                    assert (a.fold, a.index) == (b.fold, b.index), "operands of different products met"
                    cell.total += a.value * b.value
                    fold = folds[a.fold]
                    if a.index == k - 1:
                        if r < fold.high and c < fold.wide:
                            assert chain[r][c] is None, "a finished sum runs over another"
                            chain[r][c] = (cell.total, a.fold, r)
                            complete[a.fold, c] = complete.get((a.fold, c), 0) + 1
                        cell.total = 0
                cell.right, cell.down = a, b
        cycle += 1
    return result, cycle


def recurrence(m: int, n: int, k: int, rows: int, columns: int, stream: int, repeats: int = 1) -> int:
    """Cycles of overlapped weight-stationary folds, fold by fold."""
    start, end, last = 0, 0, None
    for _ in range(repeats):
        for _, mf in pieces(m, stream):
            for _, nf in pieces(n, columns):
                for _, kf in pieces(k, rows):
                    start = kf if last is None else start + max(last, kf)
                    end = max(end, start + mf + rows + nf - 2)
                    last = mf
    return end
