"""Which weights a pattern removes, found one weight at a time; knows nothing of matrices, sorting networks or strides."""

from __future__ import annotations

from itertools import product

import numpy as np


def _worst(entries: list[tuple[float, tuple[int, ...]]], count: int) -> list[tuple[int, ...]]:
    """The `count` entries of least score, of equals the one that comes first."""
    left = list(enumerate(entries))
    found = []
    for _ in range(count):
        best = left[0]
        for candidate in left[1:]:
            if candidate[1][0] < best[1][0]:
                best = candidate
        left.remove(best)
        found.append(best[1][1])
    return found


def n_of_m(scores: np.ndarray, n: int, m: int) -> np.ndarray:
    """For (M, C, *K) convolution scores or (K, M) matrix scores: all but the n best of m neighbours along the summed axis."""
    chosen = np.zeros(scores.shape, bool)
    if scores.ndim == 2:
        others, along, place = (range(scores.shape[1]),), scores.shape[0], 0
    else:
        others, along, place = tuple(range(extent) for axis, extent in enumerate(scores.shape) if axis != 1), scores.shape[1], 1
    for rest in product(*others):
        for start in range(0, along, m):
            entries = []
            for index in range(start, start + m):
                where = (*rest[:place], index, *rest[place:])
                entries.append((float(scores[where]), where))
            for where in _worst(entries, m - n):
                chosen[where] = True
    return chosen


def blocks(scores: np.ndarray, size: tuple[int, int], count: int) -> np.ndarray:
    """The `count` blocks of least mean score of an (M, K) matrix; edge blocks are smaller."""
    entries = []
    corners = [(top, left) for top in range(0, scores.shape[0], size[0]) for left in range(0, scores.shape[1], size[1])]
    for top, left in corners:
        inside = [
            float(scores[row, column])
            for row in range(top, min(top + size[0], scores.shape[0]))
            for column in range(left, min(left + size[1], scores.shape[1]))
        ]
        entries.append((sum(inside) / len(inside), (top, left)))
    chosen = np.zeros(scores.shape, bool)
    for top, left in _worst(entries, count):
        chosen[top : top + size[0], left : left + size[1]] = True
    return chosen
