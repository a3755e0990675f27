"""Placing blocks with lifetimes in one arena, with the least peak that a bounded search finds and a bound from below.

The problem is dynamic storage allocation with known lifetimes, which is NP-hard (M. Garey and D. Johnson, Computers and
Intractability, 1979, problem SR2). What is live at once is a lower bound. Orders of first fit, improved by moving blocks, usually
reach it. Where they do not, all canonical placements are tried, pruned by section and by dominance as in M. Moffitt,
"MiniMalloc: A Lightweight Memory Allocator for Hardware-Accelerated Machine Learning", ASPLOS 2023; a complete search proves the
peak least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.memory.search import canonical, first_fit, improve

__all__ = ["ALIGNMENT", "Block", "Placement", "check_alignment", "place"]

ALIGNMENT = 64
"""Bytes: a cache line of the processors, two sectors of the GPUs."""

_TRIALS = 2_000
_NODES = 200_000
_WORK = 1_000_000_000
"""Looks at a block or a section that either search takes at most, so that many blocks end after seconds too."""
_TABLE = 1 << 25  # entries of the complete search's tables at most
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Storage that is needed for a while.

    Parameters
    ----------
    name : str
    bytes : int
        0 or more.
    first, last : int
        Steps from the first to the last that need it, both included.
    """

    name: str
    bytes: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if self.bytes < 0 or self.last < self.first:
            what = f"{self.bytes} bytes from step {self.first} to {self.last}"
            raise LeptonError(what, where=self.name, fix="give 0 or more bytes and a last step that is not before the first")


@dataclass(frozen=True)
class Placement:
    """Where every block stands.

    Parameters
    ----------
    offsets : dict of str to int
        Bytes from the start of the arena.
    peak : int
        Bytes of the arena.
    bound : int
        Bytes that no placement is below; equal to the peak where it is proved least.
    """

    offsets: dict[str, int]
    peak: int
    bound: int


def place(blocks: Sequence[Block], *, alignment: int = ALIGNMENT, trials: int = _TRIALS, nodes: int = _NODES) -> Placement:
    """Give blocks offsets so that no two that are needed in one step overlap.

    Parameters
    ----------
    blocks : sequence of Block
        With names of their own.
    alignment : int
        Every offset, and the arena, is a multiple of it.
    trials : int
        Orders of first fit that are tried at most, a group; fewer of more than 700 blocks.
    nodes : int
        Steps of the complete search at most, a group; 0 leaves it out. Fewer, or none, of very many blocks.

    Returns
    -------
    Placement
        The same for the same blocks, whatever the machine. Blocks that share no step, directly or through others, are groups that
        are placed by themselves.

    Raises
    ------
    LeptonError
        If the alignment is not positive or two blocks have one name.
    """
    check_alignment(alignment)
    if len({block.name for block in blocks}) < len(blocks):
        raise LeptonError("two blocks have one name", where="blocks", fix="name each block once")
    offsets = {block.name: 0 for block in blocks}
    groups = [_Group(members, alignment) for members in _groups([block for block in blocks if block.bytes])]
    bound = max((group.live for group in groups), default=0)
    for group in groups:
        group.order(bound, trials)
    # Only a group whose peak is above what another one needs anyway is worth a complete search.
    for group in sorted(groups, key=lambda group: -group.peak):
        if group.peak > bound:
            bound = max(bound, group.prove(bound, nodes))
    for group in groups:
        offsets |= {block.name: int(at) * alignment for block, at in zip(group.blocks, group.offsets, strict=True)}
    return Placement(offsets, alignment * max((group.peak for group in groups), default=0), alignment * bound)


def check_alignment(alignment: int) -> None:
    """Refuse an alignment that is no number of bytes.

    Raises
    ------
    LeptonError
        If it is below 1.
    """
    if alignment < 1:
        raise LeptonError(f"an alignment of {alignment} bytes", where="alignment", fix="use 1 or more")


class _Group:
    """Blocks that meet, in units of the alignment and in sections of time."""

    def __init__(self, blocks: list[Block], alignment: int) -> None:
        self.blocks = blocks
        ends = np.unique([step for block in blocks for step in (block.first, block.last + 1)])
        self.sizes = np.array([-(-block.bytes // alignment) for block in blocks], np.int64)
        self.first = np.searchsorted(ends, [block.first for block in blocks]).astype(np.int64)
        self.last = np.searchsorted(ends, [block.last + 1 for block in blocks]).astype(np.int64)
        self.sections = len(ends) - 1
        steps = np.zeros(len(ends), np.int64)
        np.add.at(steps, self.first, self.sizes)
        np.subtract.at(steps, self.last, self.sizes)
        self.live = int(np.cumsum(steps).max())
        self.offsets = np.zeros(len(blocks), np.int64)
        self.peak = 0

    def order(self, enough: int, trials: int) -> None:
        """The best of some orders of first fit, improved until it is `enough`."""
        length = self.last - self.first
        keys = (-self.sizes, -self.sizes * length, -length, self.first)
        found = np.empty_like(self.offsets)
        orders = [np.lexsort((np.arange(len(key)), self.first, key)).astype(np.int64) for key in keys]
        peaks = []
        for order in orders:
            peaks.append(first_fit(order, self.sizes, self.first, self.last, found))
            if len(peaks) == 1 or peaks[-1] < min(peaks[:-1]):
                self.offsets[:] = found
        self.peak = min(peaks)
        if self.peak > enough:
            best = orders[peaks.index(self.peak)]
            trials = min(trials, _WORK // len(self.blocks) ** 2)
            self.peak = int(improve(best, self.sizes, self.first, self.last, self.offsets, enough, trials, 0))

    def prove(self, enough: int, nodes: int) -> int:
        """Search for lower peaks until there is none, one is `enough`, or the nodes run out; returns the proved bound."""
        found, count = np.empty_like(self.offsets), len(self.blocks)
        if count * (count + self.sections) > _TABLE:
            return self.live
        nodes = min(nodes, _WORK // (count + self.sections + int((self.last - self.first).sum())))
        while self.peak > max(enough, self.live):
            outcome, used = canonical(self.sizes, self.first, self.last, self.sections, self.peak - 1, nodes, found)
            if outcome == 0:
                return self.peak
            if outcome < 0:
                return self.live
            nodes -= used
            self.offsets[:] = found
            self.peak = int((found + self.sizes).max())
        return self.live


def _groups(blocks: list[Block]) -> list[list[Block]]:
    """Runs of blocks in time that no other run meets."""
    found: list[list[Block]] = []
    end = None
    for block in sorted(blocks, key=lambda block: (block.first, block.last, block.name)):
        if end is None or block.first > end:
            found.append([])
        found[-1].append(block)
        end = block.last if end is None else max(end, block.last)
    return found
