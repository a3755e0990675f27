"""Shares of samples, and differences of shares between matched samples, with their intervals.

``p = hits / n``, z the 97.5% point of the normal distribution.

Wilson's score interval (E. B. Wilson, JASA 22, 1927): all shares q with ``|p - q| <= z sqrt(q (1 - q) / n)``.

Of the same n samples before and after a change, b are hits only before and c only after. The loss is ``(b - c) / n``; its
interval is Wald's for matched pairs with half a sample added to each of the four cells (A. Agresti, Y. Min, Statistics in
Medicine 24, 2005): with ``N = n + 2``, ``B = b + 1/2``, ``C = c + 1/2``, ``(B - C) / N +- z sqrt(B + C - (B - C)^2 / N) / N``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Interval

__all__ = ["Z", "matched_loss", "wilson"]

Z = 1.959963984540054


def wilson(hits: int, count: int) -> Interval:
    """A share with Wilson's interval."""
    share = hits / count
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return Interval(share, centre - half, centre + half, count)


def matched_loss(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Interval:
    """Share of hits that was lost between matched samples, with Agresti and Min's interval."""
    count = len(before)
    lost, won = int(np.count_nonzero(before & ~after)), int(np.count_nonzero(after & ~before))
    total, b, c = count + 2.0, lost + 0.5, won + 0.5
    centre = (b - c) / total
    half = Z * math.sqrt(b + c - (b - c) ** 2 / total) / total
    return Interval((lost - won) / count, centre - half, centre + half, count)
