"""The least peak of blocks with lifetimes, by first fit along every order there is.

Of a placement with the least peak take the order of its offsets: first fit along it puts no block higher, so that some order
reaches the least peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

Block = tuple[int, int, int]
"""Bytes, first and last step."""


def meet(one: Block, other: Block) -> bool:
    """Whether two blocks are needed in one step."""
    return one[1] <= other[2] and other[1] <= one[2]


def least_peak(blocks: Sequence[Block]) -> int:
    """Bytes of the smallest arena."""
    return min(_peak([blocks[index] for index in order]) for order in permutations(range(len(blocks))))


def _peak(blocks: Sequence[Block]) -> int:
    placed: list[tuple[int, Block]] = []
    for block in blocks:
        at = 0
        for start, other in sorted(entry for entry in placed if meet(entry[1], block)):
            if start - at >= block[0]:
                break
            at = max(at, start + other[0])
        placed.append((at, block))
    return max(at + block[0] for at, block in placed)
