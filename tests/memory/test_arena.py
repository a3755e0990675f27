"""Blocks in an arena: never two in one place at one time, the least peak, and a bound that holds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.memory.arena import Block, place
from lepton_dse.memory.search import canonical

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import arena as oracle

Drawn = list[tuple[int, int, int]]
AWKWARD = [(2, 0, 0), (2, 0, 1), (1, 1, 2), (1, 2, 2), (1, 1, 3), (1, 2, 3), (2, 3, 5), (2, 4, 5)]
"""Four bytes are live at once, and no arena of four holds them."""


@st.composite
def drawn(draw: st.DrawFn, most: int, size: int = 6, steps: int = 9) -> Drawn:
    found = []
    for _ in range(draw(st.integers(1, most))):
        first = draw(st.integers(0, steps))
        found.append((draw(st.integers(0, size)), first, first + draw(st.integers(0, steps))))
    return found


def blocks(entries: Drawn) -> list[Block]:
    return [Block(str(index), *entry) for index, entry in enumerate(entries)]


def live(entries: Drawn) -> int:
    return max(sum(entry[0] for entry in entries if entry[1] <= step <= entry[2]) for _, step, _ in entries)


@settings(max_examples=300, deadline=None)
@given(drawn(24, size=5_000), st.sampled_from([1, 4, 64, 256]), st.integers(0, 30), st.integers(0, 200))
def test_no_two_blocks_overlap(entries: Drawn, alignment: int, trials: int, nodes: int) -> None:
    found = place(blocks(entries), alignment=alignment, trials=trials, nodes=nodes)
    ends = []
    for index, entry in enumerate(entries):
        start = found.offsets[str(index)]
        assert start % alignment == 0
        ends.append(start + entry[0])
        for other in range(index):
            apart = start >= ends[other] or found.offsets[str(other)] >= ends[index]
            assert apart or not entry[0] or not entries[other][0] or not oracle.meet(entry, entries[other])
    assert max(ends) <= found.peak <= max(ends) + alignment - 1
    assert live(entries) <= found.bound <= found.peak


@settings(max_examples=60, deadline=None)
@given(drawn(6), st.integers(0, 20))
@example(AWKWARD, 0)
@example(AWKWARD, 100)
def test_the_peak_is_the_least_of_all_orders(entries: Drawn, trials: int) -> None:
    found = place(blocks(entries), alignment=1, trials=trials)
    assert found.peak == found.bound == oracle.least_peak(entries)


def test_a_bound_above_what_is_live_is_proved() -> None:
    found = place(blocks(AWKWARD), alignment=1)
    assert live(AWKWARD) == 4
    assert found.peak == found.bound == 5
    unproved = place(blocks(AWKWARD), alignment=1, nodes=0)
    assert (unproved.peak, unproved.bound) == (5, 4)


def test_the_complete_search_says_which_it_was() -> None:
    sizes, first, ends = (np.array(column, np.int64) for column in zip(*AWKWARD, strict=True))
    offsets = np.zeros(len(sizes), np.int64)
    assert canonical(sizes, first, ends + 1, 6, 5, 10_000, offsets)[0] == 1
    assert (offsets + sizes).max() == 5
    assert canonical(sizes, first, ends + 1, 6, 4, 10_000, offsets)[0] == 0
    assert canonical(sizes, first, ends + 1, 6, 4, 3, offsets) == (-1, 3)


@pytest.mark.parametrize("seed", range(10))
def test_many_blocks_come_close_to_what_is_live(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 150, 150)
    entries = [
        (int(size), int(start), int(start + length))
        for size, start, length in zip(rng.integers(1, 100_000, 150), starts, rng.integers(0, 8, 150), strict=True)
    ]
    found = place(blocks(entries), alignment=1)
    assert found.peak <= 1.05 * live(entries)
    assert place(blocks(entries), alignment=1) == found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Block("x", -1, 0, 1), "x: -1 bytes from step 0 to 1"),
        (lambda: Block("x", 1, 2, 1), "a last step that is not before the first"),
        (lambda: place([Block("x", 1, 0, 1), Block("x", 1, 0, 1)]), "two blocks have one name"),
        (lambda: place([], alignment=0), "an alignment of 0 bytes"),
    ],
)
def test_bad_arguments(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(LeptonError, match=message):
        make()


def test_nothing_needs_nothing() -> None:
    assert place([]).peak == place([Block("empty", 0, 0, 3)]).peak == 0
