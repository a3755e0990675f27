"""Kernels that place blocks of memory: first fit along an order, better orders, and every canonical placement.

Times are sections 0 .. S - 1, so that a block lives from section `first[i]` to before `last[i]`; sizes and offsets are in units
of the alignment. Blocks whose sections meet may not share a unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.jit import kernel

__all__ = ["canonical", "first_fit", "improve"]

Ints = NDArray[np.int64]


@kernel
def first_fit(order: Ints, sizes: Ints, first: Ints, last: Ints, offsets: Ints) -> int:
    """Place blocks one after another at the lowest free offset; writes `offsets` and returns the peak."""
    placed = np.empty(len(order), np.int64)  # in the order of their offsets
    peak = 0
    for count in range(len(order)):
        block = order[count]
        at = 0
        for place in range(count):
            other = placed[place]
            if first[other] < last[block] and first[block] < last[other]:
                if offsets[other] - at >= sizes[block]:
                    break
                at = max(at, offsets[other] + sizes[other])
        offsets[block] = at
        peak = max(peak, at + sizes[block])
        place = count
        while place > 0 and offsets[placed[place - 1]] > at:
            placed[place] = placed[place - 1]
            place -= 1
        placed[place] = block
    return peak


@kernel
def improve(order: Ints, sizes: Ints, first: Ints, last: Ints, offsets: Ints, bound: int, trials: int, seed: int) -> int:
    """Move blocks within the order while the peak does not grow, until it is `bound`; the best is left in `offsets`."""
    count = len(order)
    now = order.copy()
    peak = first_fit(now, sizes, first, last, offsets)
    found = np.empty_like(offsets)
    state = np.uint64(seed * 2 + 1)
    for _ in range(trials):
        if peak <= bound:
            break
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        start = int((state >> np.uint64(33)) % np.uint64(count))
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        end = int((state >> np.uint64(33)) % np.uint64(count))
        tried = now.copy()
        block = tried[start]
        step = 1 if end > start else -1
        for place in range(start, end, step):
            tried[place] = tried[place + step]
        tried[end] = block
        reached = first_fit(tried, sizes, first, last, found)
        if reached <= peak:
            now, peak = tried, reached
            offsets[:] = found
    return peak


@kernel
def canonical(sizes: Ints, first: Ints, last: Ints, sections: int, capacity: int, nodes: int, offsets: Ints) -> tuple[int, int]:
    """Look for a placement within `capacity`, through all that pile blocks up in the order of their offsets.

    Any placement can be pushed down until every block stands on another or on the ground; its blocks in the order of their
    offsets are then one of the piles that are tried here. A branch ends where some section has less room left than its blocks
    need, and a block is not tried where another would fit wholly beneath it, since that one's turn would have come before.

    Parameters
    ----------
    sizes, first, last : ndarray of int64, shape (N,)
    sections : int
    capacity : int
    nodes : int
        Blocks that are put down at most.
    offsets : ndarray of int64, shape (N,)
        Where the blocks stand, if a placement is found.

    Returns
    -------
    (int, int)
        1 where one was found, 0 where there is none, -1 where the nodes ran out; and the nodes that were used.
    """
    count = len(sizes)
    top = np.zeros(sections, np.int64)
    left = np.zeros(sections, np.int64)
    for block in range(count):
        for section in range(first[block], last[block]):
            left[section] += sizes[block]
    chosen = np.full(count, -1, np.int64)
    branches = np.empty((count, count), np.int64)
    width = np.zeros(count, np.int64)
    turn = np.zeros(count, np.int64)
    saved = np.empty((count, sections), np.int64)
    used = np.zeros(count, np.bool_)
    at = np.empty(count, np.int64)
    depth = used_nodes = 0
    fresh = True
    while True:
        if fresh:
            width[depth] = _open(sizes, first, last, top, left, capacity, used, chosen, offsets, depth, at, branches[depth])
            turn[depth] = 0
            fresh = False
        if turn[depth] == width[depth]:
            depth -= 1
            if depth < 0:
                return 0, used_nodes
            block = chosen[depth]
            used[block] = False
            for section in range(first[block], last[block]):
                top[section] = saved[depth, section]
                left[section] += sizes[block]
            continue
        if used_nodes == nodes:
            return -1, used_nodes
        used_nodes += 1
        block = branches[depth, turn[depth]]
        turn[depth] += 1
        stand = 0
        for section in range(first[block], last[block]):
            stand = max(stand, top[section])
        offsets[block] = stand
        chosen[depth] = block
        used[block] = True
        for section in range(first[block], last[block]):
            saved[depth, section] = top[section]
            top[section] = stand + sizes[block]
            left[section] -= sizes[block]
        depth += 1
        if depth == count:
            return 1, used_nodes
        fresh = True


@kernel
def _open(
    sizes: Ints,
    first: Ints,
    last: Ints,
    top: Ints,
    left: Ints,
    capacity: int,
    used: Any,
    chosen: Ints,
    offsets: Ints,
    depth: int,
    at: Ints,
    branches: Ints,
) -> int:
    """The blocks that may be put down next, lowest first and larger before smaller; none where the branch ends."""
    for section in range(len(top)):
        if top[section] + left[section] > capacity:
            return 0
    before, index = (offsets[chosen[depth - 1]], chosen[depth - 1]) if depth else (0, -1)
    lowest_end = capacity + 1
    for block in range(len(sizes)):
        if not used[block]:
            stand = 0
            for section in range(first[block], last[block]):
                stand = max(stand, top[section])
            at[block] = stand
            if stand + sizes[block] > capacity:
                return 0
            lowest_end = min(lowest_end, stand + sizes[block])
    width = 0
    for block in range(len(sizes)):
        if used[block] or at[block] >= lowest_end or at[block] < before or (at[block] == before and block < index):
            continue
        place = width
        while place > 0 and (
            at[branches[place - 1]] > at[block]
            or (at[branches[place - 1]] == at[block] and sizes[branches[place - 1]] < sizes[block])
        ):
            branches[place] = branches[place - 1]
            place -= 1
        branches[place] = block
        width += 1
    return width
