"""The closed form of cache misses: by hand, survival against thrown dice, monotone in sets and ways, near the simulator."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.sim.cache import ORDERS, Blocking, Cache, Hierarchy, Layout, Problem, matrix_problem, simulate
from lepton_dse.sim.cpu import Misses, level_misses, nest_of, occupancy, survival, walked_sets

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import cache_lru

FOOTPRINTS = st.lists(st.tuples(st.floats(0.01, 1), st.floats(1, 12)), min_size=1, max_size=5)


def lines_of(problem: Problem, blocking: Blocking, cache: Cache) -> Misses:
    return level_misses(nest_of(problem, blocking), float(cache.sets), cache.ways, float(cache.line_bytes))


def test_occupancy_by_hand() -> None:
    assert occupancy(1, 48, 0, 1, 64) == (0.75, 1)  # three quarters of the sets hold one line
    assert occupancy(1, 96, 0, 1, 64) == (1, 1.5)
    assert occupancy(8, 1, 64, 64, 64) == (1 / 64, 8)  # eight rows one way apart: one set
    assert occupancy(8, 1, 16, 16, 64) == (4 / 64, 2)
    assert occupancy(8, 1, 17, 1, 64) == (8 / 64, 1)
    assert occupancy(8, 2, 17, 1, 8) == (1, 2)
    assert occupancy(0, 5, 1, 1, 64) == (0, 0)


def test_survival_by_hand() -> None:
    def alive(own: int, ways: int, *footprints: tuple[float, float]) -> float:
        share, depth = (np.array(values, float) for values in zip(*footprints, strict=True))
        return survival(own, share, depth, len(footprints), ways)

    assert alive(0, 1, (1, 1)) == 1
    assert alive(0, 1, (1, 2)) == 0
    assert alive(0, 1, (1, 1), (0.25, 1)) == 0.75
    # Half of the sets hold one line and half two; two thirds of the lines are in the fuller ones.
    assert alive(0, 1, (1, 1.5)) == pytest.approx(1 / 3)
    assert alive(1, 1, (0.5, 1), (0.25, 1)) == 0.5
    assert alive(0, 2, (1, 1), (0.5, 1), (0.5, 1)) == 0.75


@settings(max_examples=25, deadline=None)
@given(FOOTPRINTS, st.integers(1, 10), st.integers(0, 2**32))
def test_survival_is_the_share_of_lines_in_sets_thrown_one_by_one(
    footprints: list[tuple[float, float]], ways: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    share, depth = (np.array(values) for values in zip(*footprints, strict=True))
    throws = 40_000
    held = np.floor(depth) + (rng.random((throws, len(depth))) < depth - np.floor(depth))
    held *= rng.random((throws, len(depth))) < share
    good = held[:, 0] * (held.sum(axis=1) <= ways)
    found = survival(0, share, depth, len(depth), ways)
    lines = held[:, 0].sum()
    assert found == pytest.approx(good.sum() / lines, abs=6 * np.sqrt(12 / max(lines, 1)) + 0.01)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.1, 90), st.floats(0, 200)), min_size=1, max_size=5),
    st.floats(1, 300),
    st.floats(1, 8),
    st.integers(1, 12),
)
def test_survival_rises_with_sets_and_ways(pieces: list[tuple[int, float, float]], sets: float, more: float, ways: int) -> None:
    def alive(count: float, room: int) -> float:
        pairs = [occupancy(float(rows), lines, step, 1.0, count) for rows, lines, step in pieces]
        share, depth = (np.array(values) for values in zip(*pairs, strict=True))
        return survival(0, share, depth, len(pairs), room)

    base = alive(sets, ways)
    assert 0 <= base <= 1
    assert alive(sets * more, ways) >= base - 1e-9
    assert alive(sets, ways + 1) >= base - 1e-9


def test_a_cache_that_holds_everything_brings_in_each_line_once() -> None:
    problem = matrix_problem(48, 64, 32)
    for layouts in ((Layout.UNPACKED, Layout.UNPACKED), (Layout.PACKED, Layout.PREPACKED)):
        found = lines_of(problem, Blocking(4, 2, 8, 16, 32, 16, *layouts), Cache(1 << 22, 16))
        assert found.c == 48 * 64 / 16
        assert found.b == 64 * 32 / 16
        assert found.a + found.a_source == 48 * 32 / 16 + (16 * 16 / 16 if layouts[0] else 0)  # the buffer is used again
        assert found.b_source == 0


def test_a_cache_of_one_line_brings_in_a_line_for_every_reuse() -> None:
    """One row by one column a tile, in a cache that holds nothing from one access to the next: each element of B is a line."""
    found = lines_of(matrix_problem(16, 16, 16), Blocking(1, 1, 1, 16, 16, 16, Layout.UNPACKED, Layout.UNPACKED), Cache(64, 1))
    assert found.b == 16**3


@settings(max_examples=120, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 6), st.integers(1, 3), st.sampled_from([1, 4, 8])),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 30)),
    st.sampled_from(ORDERS),
    st.sampled_from(list(Layout)),
    st.sampled_from(list(Layout)),
    st.floats(1, 200),
    st.floats(1, 5),
    st.integers(1, 12),
)
def test_a_larger_cache_never_brings_in_more(
    sizes: tuple[int, int, int],
    tile: tuple[int, int, int],
    blocks: tuple[int, int, int],
    order: str,
    a: Layout,
    b: Layout,
    sets: float,
    more: float,
    ways: int,
) -> None:
    blocking = Blocking(*tile, tile[0] * blocks[0], tile[1] * tile[2] * blocks[1], blocks[2], a, b, order)
    nest = nest_of(matrix_problem(*sizes), blocking)
    base = level_misses(nest, sets, ways, 64.0)
    for wider in (level_misses(nest, sets * more, ways, 64.0), level_misses(nest, sets, ways + 1, 64.0)):
        assert wider.lines <= base.lines * (1 + 1e-9)
        assert wider.written <= base.written * (1 + 1e-9)
    assert all(np.isfinite(value) and value >= 0 for value in base)


def test_extents_of_2_to_the_40_do_not_wrap() -> None:
    small = nest_of(matrix_problem(64, 64, 64), Blocking(4, 2, 8, 32, 32, 32))
    huge = small._replace(m=2.0**40, n=2.0**40, k=2.0**40)
    found = level_misses(huge, 64.0, 8, 64.0)
    assert found.lines > 2.0**100
    assert np.isfinite(found.lines)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 24),
    st.integers(1, 4),
    st.integers(1, 70),
    st.integers(1, 160),
    st.integers(1, 160),
    st.sampled_from([1, 8, 64, 128]),
)
def test_walks_reach_the_sets_that_their_lines_lie_in(
    rows: int, wide: int, deep: int, apart_a: int, apart_b: int, sets: int
) -> None:
    """Operands whose rows start on lines, distances in lines: sets of every line counted one by one."""
    columns = 16 * wide
    m, n, k = rows, 16 * max(wide, apart_b), 16 * apart_a
    problem = matrix_problem(m, n, k, ldb=n)
    nest = nest_of(problem, Blocking(rows, wide, 16, rows, columns, deep, Layout.UNPACKED, Layout.UNPACKED))
    found = walked_sets(nest, float(sets), 64.0)

    def reached(count: int, pieces: int, step: int) -> int:
        return len({(row * step + piece) % sets for row in range(count) for piece in range(pieces)})

    row_b = n // 16
    walks = ((rows, 1, apart_a), (min(deep, k), wide, row_b), (rows, wide, row_b))
    for value, (count, pieces, step) in zip(found, walks, strict=True):
        power = step & -step
        exact = reached(count, pieces, step)
        assert value >= exact * (1 - 1e-12)
        # Where rows may start within a line, or run into one another's sets, it is a bound.
        if (count == 1 and pieces == 1) or (step % pieces == 0 and pieces <= power):
            assert value == pytest.approx(exact)


def test_walks_through_an_image_reach_every_set() -> None:
    nest = nest_of(matrix_problem(8, 32, 64), Blocking(4, 2, 16, 4, 32, 64))._replace(window=1)
    assert walked_sets(nest, 64.0, 64.0)[0] == 64


@pytest.mark.parametrize("rows", [9, 12, 24])
@pytest.mark.parametrize("steps", [1, 2, 4, 16])
def test_lost_lines_that_are_on_their_way_are_not_asked_for_again(rows: int, steps: int) -> None:
    """Rows of A that meet in one set of eight lines, with so many steps of k in flight, against loads gone through one by one."""
    deep = 128
    nest = nest_of(
        matrix_problem(rows, 16, deep, lda=1024), Blocking(rows, 1, 16, rows, 16, deep, Layout.UNPACKED, Layout.PREPACKED)
    )
    found = level_misses(nest, 64.0, 8, 64.0, (1.0, 1.0, 1.0), 1.0 / steps)
    walk = [(row * 4096 + p * 4, 4, False) for p in range(deep) for row in range(rows)]
    asked = cache_lru.requests(cache_lru.Level(32768, 8, 64), walk, rows * steps)
    assert found.a == pytest.approx(asked)
    assert found.b == level_misses(nest, 64.0, 8, 64.0).b


@pytest.mark.slow
def test_packed_blockings_are_close_to_the_simulator() -> None:
    """Forty blockings drawn at random, two levels each: the median error is what docs/cpu.md says, 8% or better."""
    draw = random.Random(20)
    errors = []
    for _ in range(40):
        rows, vectors, lanes = draw.choice([(6, 2, 8), (4, 3, 8), (12, 1, 8), (4, 2, 8)])
        m, n = rows * draw.randint(6, 160 // rows), vectors * lanes * draw.randint(3, 200 // (vectors * lanes))
        k = draw.choice([64, 96, 100, 128, 192, 256])
        blocks = (rows * draw.randint(1, m // rows), vectors * lanes * draw.randint(1, n // vectors // lanes))
        layout = draw.choice([Layout.PACKED, Layout.PREPACKED])
        deep, order = draw.choice([32, 64, 96, k]), draw.choice(ORDERS)
        blocking = Blocking(rows, vectors, lanes, *blocks, deep, Layout.PACKED, layout, order, draw.random() < 0.7)
        problem, caches = matrix_problem(m, n, k), (Cache(16384, 8), Cache(131072, 8))
        counts = simulate(Hierarchy(caches), problem, blocking)
        errors += [
            abs(lines_of(problem, blocking, cache).lines / count.lines - 1) for cache, count in zip(caches, counts, strict=True)
        ]
    assert median(errors) < 0.08


SCRIPT = """
from lepton_dse.sim.cache import Blocking, Layout, matrix_problem
from lepton_dse.sim.cpu import level_misses, nest_of, walked_sets
for a in (Layout.UNPACKED, Layout.PACKED):
    for order in ("npm", "pmn", "mnp"):
        blocking = Blocking(4, 2, 4, 16, 24, 20, a, Layout.PREPACKED, order)
        nest = nest_of(matrix_problem(70, 50, 90), blocking)
        merged = level_misses(nest, 2.0, 4, 64.0, (1.0, 1.0, 1.0), 0.3)
        found = (*level_misses(nest, 37.5, 4, 64.0), *merged, *walked_sets(nest, 37.5, 64.0))
        print([float(value).hex() for value in found])
"""


def test_compiled_and_interpreted_agree() -> None:
    outputs = []
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, check=True)
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 6
