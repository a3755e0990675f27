"""The least peak of blocks with lifetimes, by first fit along every order there is.

Of a placement with the least peak take the order of its offsets: first fit along it puts no block higher, so that some order
reaches the least peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from lepton_dse.ir.graph import Graph

Block = tuple[int, int, int]
"""Bytes, first and last step."""


def meet(one: Block, other: Block) -> bool:
    """Whether two blocks are needed in one step."""
    return one[1] <= other[2] and other[1] <= one[2]


def least_peak(blocks: Sequence[Block]) -> int:
    """Bytes of the smallest arena."""
    return min(_peak([blocks[index] for index in order]) for order in permutations(range(len(blocks))))


def live_bytes(graph: Graph, sizes: dict[str, int]) -> int:
    """The most that is needed in one operation, every tensor for itself: no views, nothing in place, no constants."""
    most = sum(sizes[name] for name in {*graph.inputs, *graph.outputs}) if not graph.ops else 0
    for step in range(len(graph.ops)):
        made = {*graph.inputs, *(op.output for op in graph.ops[: step + 1])}
        needed = {*graph.outputs, graph.ops[step].output, *(name for op in graph.ops[step:] for name in op.inputs)}
        if step == 0:
            needed |= set(graph.inputs)
        most = max(most, sum(sizes[name] for name in made & needed if name not in graph.constants))
    return most


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
