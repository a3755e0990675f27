"""What the benchmarks share: a figure with its unit, and the least time of a few repetitions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure."""

    what: str
    where: str
    value: float
    unit: str


def least_seconds(function: Callable[[], object], repetitions: int) -> float:
    """Seconds of the fastest of some calls: whatever else the machine does only ever adds to a time."""
    best = float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best
