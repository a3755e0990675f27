"""Fronts and dominated volumes as their definitions say, with no shortcut."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Each point against each other one; of equal ones the first."""

    def beats(other: int, own: int) -> bool:
        pairs = list(zip(points[other], points[own], strict=True))
        if any(left > right for left, right in pairs):
            return False
        return any(left < right for left, right in pairs) or other < own

    return [own for own in range(len(points)) if not any(beats(other, own) for other in range(len(points)) if other != own)]


def volume(points: Sequence[Sequence[int]], corner: Sequence[int]) -> Fraction:
    """Cells of the grid that all coordinates span, each counted if its lower corner is dominated."""
    axes = [sorted({min(point[axis], limit) for point in points} | {limit}) for axis, limit in enumerate(corner)]
    total = Fraction(0)
    for cell in product(*(range(len(axis) - 1) for axis in axes)):
        low = [axis[position] for axis, position in zip(axes, cell, strict=True)]
        high = [axis[position + 1] for axis, position in zip(axes, cell, strict=True)]
        if any(all(value <= least for value, least in zip(point, low, strict=True)) for point in points):
            size = Fraction(1)
            for least, most in zip(low, high, strict=True):
                size *= most - least
            total += size
    return total
