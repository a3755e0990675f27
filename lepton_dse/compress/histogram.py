"""How often each value of a tensor was seen over the calibration samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "Histogram"]

BINS = 4096


@dataclass
class Histogram:
    """Counts of a tensor's values between fixed ends."""

    low: float
    high: float
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: NDArray[np.floating]) -> None:
        """Count `values`, of any shape, all within the ends."""
        if self.high > self.low:
            # In double precision, since the ends may be a few float32 apart.
            self.counts += np.histogram(values.astype(np.float64), bins=BINS, range=(self.low, self.high))[0]

    @property
    def edges(self) -> NDArray[np.float64]:
        """Ends of the bins, shape (BINS + 1,)."""
        return np.linspace(self.low, self.high, BINS + 1)

    @property
    def centres(self) -> NDArray[np.float32]:
        """Middle of each bin."""
        edges = self.edges
        return ((edges[:-1] + edges[1:]) / 2).astype(np.float32)

    def quantiles(self, tail: float) -> tuple[float, float]:
        """Values that leave out a share `tail` of the counts at either end."""
        cumulative = np.cumsum(self.counts) / max(1, self.counts.sum())
        edges = self.edges
        first = int(np.searchsorted(cumulative, tail))
        last = int(np.searchsorted(cumulative, 1 - tail))
        return float(edges[min(first, BINS - 1)]), float(edges[min(last + 1, BINS)])
