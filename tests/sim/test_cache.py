"""The exact cache simulator against dictionaries, access by access: random traces, blocked products, convolutions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.ir.ops import Window
from lepton_dse.sim.cache import (
    ORDERS,
    Addresses,
    Blocking,
    Cache,
    Hierarchy,
    Layout,
    conv_problem,
    fill,
    matrix_problem,
    simulate,
    simulate_trace,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import cache_lru

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 5), st.sampled_from([1, 4, 16, 64])).map(
    lambda shape: Cache(shape[0] * shape[1] * shape[2], shape[1], shape[2])
)
WORDS = {Layout.UNPACKED: "no", Layout.PACKED: "nest", Layout.PREPACKED: "before"}


def levels_of(caches: list[Cache]) -> list[cache_lru.Level]:
    return [cache_lru.Level(cache.size_bytes, cache.ways, cache.line_bytes) for cache in caches]


def as_tuples(counts: object) -> list[tuple[int, int, int, int]]:
    return [(count.read_misses, count.write_misses, count.lines, count.write_backs) for count in counts]  # type: ignore[attr-defined]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SHAPES, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 70), st.integers(0, 1)), max_size=300),
)
def test_random_traces(caches: list[Cache], trace: list[tuple[int, int, int]]) -> None:
    hierarchy, oracle = Hierarchy(caches), levels_of(caches)
    half = len(trace) // 2
    total = [np.zeros(4, int) for _ in caches]
    for part in (trace[:half], trace[half:]):  # the state carries over
        found = simulate_trace(hierarchy, *(np.array([entry[axis] for entry in part], np.int64) for axis in range(3)))
        total = [so_far + np.array(count) for so_far, count in zip(total, as_tuples(found), strict=True)]
    cache_lru.run(oracle, [(address, size, bool(store)) for address, size, store in trace])
    assert [tuple(count) for count in total] == [cache_lru.counts(level) for level in oracle]
    assert as_tuples(hierarchy.read()) == [cache_lru.counts(level) for level in oracle]


def test_a_trace_by_hand() -> None:
    """Two ways of 4-byte lines in one set: the least recently touched line leaves, and only a dirty one is written back."""
    hierarchy = Hierarchy([Cache(8, 2, 4)])
    found = simulate_trace(hierarchy, [0, 4, 0, 8, 4, 6], [4, 4, 4, 4, 4, 4], [1, 0, 0, 0, 0, 0])[0]
    # 0 misses dirty, 4 misses, 0 hits, 8 takes the place of 4, 4 takes that of 0 (written back), 6 straddles 4 and 8: both there.
    assert as_tuples([found]) == [(3, 1, 4, 1)]
    assert found.misses == 4


def test_an_access_over_two_lines_counts_once_and_brings_in_both() -> None:
    found = simulate_trace(Hierarchy([Cache(64, 2, 16), Cache(256, 2, 16)]), [14, 14], [4, 4], [0, 1])
    assert as_tuples(found) == [(1, 0, 2, 0), (1, 0, 2, 0)]


def test_far_addresses_do_not_wrap() -> None:
    far = 1 << 60
    found = simulate_trace(Hierarchy([Cache(128, 2, 64)]), [far, far + 64, far, 0], [8, 8, 8, 8], [0, 0, 0, 0])[0]
    assert found.read_misses == 3


BLOCKINGS = st.fixed_dictionaries(
    {
        "sizes": st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 19)),
        "tile": st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)),
        "blocks": st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 18)),
        "order": st.sampled_from(ORDERS),
        "rows_inner": st.booleans(),
        "a": st.sampled_from(list(Layout)),
        "b": st.sampled_from(list(Layout)),
    }
)


def blocking_of(drawn: dict) -> Blocking:  # type: ignore[type-arg]
    (rows, vectors, lanes), (high, wide, deep) = drawn["tile"], drawn["blocks"]
    sizes = (rows * high, vectors * lanes * wide, deep)
    return Blocking(rows, vectors, lanes, *sizes, drawn["a"], drawn["b"], drawn["order"], drawn["rows_inner"])


@settings(max_examples=120, deadline=None)
@given(BLOCKINGS, st.lists(SHAPES, min_size=1, max_size=2), st.integers(0, 3), st.integers(0, 3), st.sampled_from([1, 4, 8]))
def test_blocked_products(drawn: dict, caches: list[Cache], more_a: int, more_b: int, element: int) -> None:  # type: ignore[type-arg]
    (m, n, k), blocking = drawn["sizes"], blocking_of(drawn)
    problem = matrix_problem(m, n, k, element=element, lda=k + more_a, ldb=n + more_b)
    places = Addresses.in_sequence(problem, blocking, start=drawn["sizes"][0] * 5)
    hierarchy, oracle = Hierarchy(caches), levels_of(caches)
    found = simulate(hierarchy, problem, blocking, places)
    trace = list(
        cache_lru.blocked(
            drawn["sizes"],
            drawn["tile"],
            (blocking.mc, blocking.nc, blocking.kc),
            blocking.order,
            blocking.rows_inner,
            (WORDS[blocking.a], WORDS[blocking.b]),
            cache_lru.Operand(places.a, element, (k + more_a, 1)),
            cache_lru.Operand(places.b, element, (n + more_b, 1)),
            cache_lru.Operand(places.c, element, (n, 1)),
            (places.packed_a, places.packed_b),
        )
    )
    cache_lru.run(oracle, trace)
    assert as_tuples(found) == [cache_lru.counts(level) for level in oracle]
    assert hierarchy.accesses.tolist() == [sum(not store for *_, store in trace), sum(store for *_, store in trace)]


@settings(max_examples=60, deadline=None)
@given(
    BLOCKINGS,
    st.lists(SHAPES, min_size=1, max_size=2),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(2, 6), st.integers(2, 6)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(1, 5),
)
def test_convolutions(
    drawn: dict,  # type: ignore[type-arg]
    caches: list[Cache],
    x: tuple[int, int, int, int],
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    pad: int,
    filters: int,
) -> None:
    spread = [dilation * (size - 1) + 1 for size in kernel]
    out = tuple((x[2 + axis] + 2 * pad - spread[axis]) // stride + 1 for axis in range(2))
    if min(out) < 1:
        return
    window = Window(kernel, (stride, stride), (dilation, dilation), (pad, pad), (pad, pad))
    problem = conv_problem(x, filters, window, (out[0], out[1]))
    blocking = blocking_of(drawn)
    places = Addresses.in_sequence(problem, blocking)
    oracle = levels_of(caches)
    found = simulate(Hierarchy(caches), problem, blocking, places)
    positions = out[0] * out[1]
    image = cache_lru.Image(places.a, 4, x[1:], kernel, (out[0], out[1]), stride, dilation, pad)

    class Result(cache_lru.Operand):
        def at(self, row: int, column: int) -> int:
            sample, place = divmod(row, positions)
            return self.base + ((sample * filters + column) * positions + place) * 4

    cache_lru.run(
        oracle,
        cache_lru.blocked(
            (problem.m, filters, problem.k),
            drawn["tile"],
            (blocking.mc, blocking.nc, blocking.kc),
            blocking.order,
            blocking.rows_inner,
            (WORDS[blocking.a], WORDS[blocking.b]),
            image,
            cache_lru.Operand(places.b, 4, (filters, 1)),
            Result(places.c, 4, (0, 0)),
            (places.packed_a, places.packed_b),
            whole_c=positions == 1 or filters == 1,
        ),
    )
    assert as_tuples(found) == [cache_lru.counts(level) for level in oracle]


def test_a_fill_stores_every_step() -> None:
    hierarchy = Hierarchy([Cache(64, 1, 16)])
    fill(hierarchy, 32, 64, 4)
    assert as_tuples(hierarchy.read()) == [(0, 4, 4, 0)]
    assert hierarchy.accesses.tolist() == [0, 16]


def test_rows_a_power_of_two_apart_meet_in_few_sets() -> None:
    """64 rows 4096 bytes apart share one set of eight lines: every access of A misses; 16 elements more, and few do."""
    blocking = Blocking(1, 1, 1, 64, 1, 1, Layout.UNPACKED, Layout.UNPACKED, "pnm")
    missed = []
    for lda in (1024, 1040):
        found = simulate(Hierarchy([Cache(32768, 8)]), matrix_problem(64, 1, 16, lda=lda), blocking)[0]
        missed.append(found.misses)
    assert missed[0] > 1000
    assert missed[1] < 200


def test_a_cache_that_holds_everything_misses_each_line_once() -> None:
    problem = matrix_problem(64, 64, 64)
    blocking = Blocking(4, 2, 8, 16, 32, 16, Layout.UNPACKED, Layout.UNPACKED)
    found = simulate(Hierarchy([Cache(1 << 20, 16)]), problem, blocking)[0]
    assert found.lines == 3 * 64 * 64 * 4 // 64
    assert found.write_backs == 0


def test_more_ways_never_miss_more() -> None:
    """LRU with the same sets is a stack algorithm."""
    problem = matrix_problem(48, 48, 48)
    blocking = Blocking(4, 1, 8, 24, 24, 16)
    missed = [simulate(Hierarchy([Cache(16 * ways * 64, ways)]), problem, blocking)[0].misses for ways in range(1, 9)]
    assert missed == sorted(missed, reverse=True)
    assert missed[0] > missed[-1]


SCRIPT = """
import sys
from lepton_dse.sim.cache import *
counts = []
for order in ORDERS:
    for a in (Layout.UNPACKED, Layout.PACKED):
        blocking = Blocking(2, 2, 2, 4, 8, 3, a, Layout.PACKED, order, order < "n")
        found = simulate(Hierarchy([Cache(256, 2, 16), Cache(1024, 4, 16)]), matrix_problem(7, 9, 8), blocking)
        counts.append([(c.read_misses, c.write_misses, c.lines, c.write_backs) for c in found])
print(counts)
"""


def test_compiled_and_interpreted_agree() -> None:
    outputs = []
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 100


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cache(1024, 0), "0 ways"),
        (lambda: Cache(1024, 2, 48), "48 bytes"),
        (lambda: Cache(1000, 2, 64), "multiple"),
        (lambda: Cache(0, 1, 64), "multiple"),
        (lambda: Hierarchy([]), "without caches"),
        (lambda: simulate_trace(Hierarchy([Cache(64, 1)]), [-1], [1], [0]), "negative"),
        (lambda: simulate_trace(Hierarchy([Cache(64, 1)]), [1], [0], [0]), "below 1"),
        (lambda: simulate_trace(Hierarchy([Cache(64, 1)]), [1], [1], [2]), "unknown kind"),
        (lambda: simulate_trace(Hierarchy([Cache(64, 1)]), [1, 2], [1], [0]), "differ in shape"),
        (lambda: Blocking(1, 1, 1, 0, 1, 1), "below 1"),
        (lambda: Blocking(4, 1, 8, 6, 8, 1), "whole register tiles"),
        (lambda: Blocking(1, 1, 1, 1, 1, 1, order="abc"), "no loop order"),
        (lambda: matrix_problem(0, 1, 1), "every extent"),
        (lambda: matrix_problem(4, 4, 4, lda=3), "overlap"),
        (lambda: fill(Hierarchy([Cache(64, 1)]), 0, 8, 0), "step"),
        (
            lambda: simulate(
                Hierarchy([Cache(64, 1)]), matrix_problem(1, 1, 1), Blocking(1, 1, 1, 1, 1, 1), Addresses(-1, 0, 0, 0, 0)
            ),
            "negative address",
        ),
        (lambda: conv_problem((1, 0, 4, 4), 1, Window.full((1, 1)), (4, 4)), "every extent"),
    ],
)
def test_wrong_arguments_are_one_clear_error(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LeptonError, match=message):
        make()
