"""How likely a line outlives everything that is touched until its next use, in a set-associative LRU cache.

Symbols
-------
=========  =========================================================================================================
S, W       sets and ways
R, c, q    a footprint: R rows of c lines, q lines from the start of one row to the next; R = 1 if contiguous
g          largest power of two that divides q: the rows start in sets g apart
f          share of the sets that the footprint reaches
d          lines of it in each set that it reaches
=========  =========================================================================================================

::

    f = min(1, min(R, max(1, S / g)) c / S)        d = R c / (S f)

so rows whose distance is a power of two pile up in S / g sets (for a power of two S, rows of other distances reach all). A set
holds floor(d) or ceil(d) lines of the footprint, in shares that average d, or none. Footprints lie independently of each other.
A line survives if its set holds at most W lines of all footprints that are touched between its two uses, its own among them,
and it sits in a fuller set in proportion to the lines there. All of this falls as S or W grow, so survival never does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lepton_dse.jit import kernel

__all__ = ["occupancy", "survival"]


@kernel
def occupancy(rows: float, lines: float, step: float, power: float, sets: float) -> tuple[float, float]:
    """Share f of the sets reached, and depth d there.

    Parameters
    ----------
    rows, lines, step : float
        R, c and q; a step of 0 or up to c means one contiguous piece.
    power : float
        g, 1 for rows that start anywhere.
    sets : float
        S.
    """
    total = rows * lines
    if total <= 0.0:
        return 0.0, 0.0
    if rows <= 1.0 or step <= lines:
        share = min(1.0, total / sets)
        return share, total / (sets * share)
    starts = min(rows, max(1.0, sets / power))
    share = min(1.0, starts * lines / sets)
    return share, total / (sets * share)


@kernel
def survival(own: int, share: Any, depth: Any, count: int, ways: int) -> float:
    """Probability that a line of footprint `own` survives.

    Parameters
    ----------
    own : int
    share, depth : ndarray, shape (count,)
        f and d of every footprint touched between the two uses.
    count : int
    ways : int
        W.
    """
    most = least = 0.0
    for index in range(count):
        if share[index] > 0.0:
            most += math.ceil(depth[index])
            if index == own or share[index] >= 1.0:
                least += math.floor(depth[index])
    if most <= ways:
        return 1.0
    if least > ways:
        return 0.0
    # chance[o]: that o lines lie in the set; ways + 1 stands for more.
    chance = np.zeros(ways + 2)
    chance[0] = 1.0
    after = np.zeros(ways + 2)
    for index in range(count):
        if share[index] <= 0.0:
            continue
        low = int(min(math.floor(depth[index]), ways + 1.0))
        high = min(low + 1, ways + 1)
        upper = depth[index] - math.floor(depth[index])
        here = share[index]
        if index == own:  # weighted by the lines that a set holds
            upper = upper * (math.floor(depth[index]) + 1.0) / depth[index]
            here = 1.0
        for held in range(ways + 2):
            after[held] = chance[held] * (1.0 - here)
        for held in range(ways + 2):
            after[min(held + low, ways + 1)] += chance[held] * here * (1.0 - upper)
            after[min(held + high, ways + 1)] += chance[held] * here * upper
        for held in range(ways + 2):
            chance[held] = after[held]
    total = 0.0
    for held in range(ways + 1):
        total += chance[held]
    return min(1.0, total)
