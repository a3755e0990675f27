"""Elimination against every combination of values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.search.sharded.elimination import Table, least_sum


def cost(tables: list[Table], values: tuple[int, ...]) -> float:
    return sum(float(table.costs[tuple(values[variable] for variable in table.variables)]) for table in tables)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[Table]]:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    generator, tables = np.random.default_rng(draw(st.integers(0, 1 << 30))), []
    for _ in range(draw(st.integers(0, 8))):
        variables = draw(st.permutations(range(len(sizes))))[: draw(st.integers(1, 3))]
        costs = generator.integers(0, 9, [sizes[variable] for variable in variables]).astype(float)
        costs[generator.random(costs.shape) < 0.1] = np.inf
        tables.append(Table(tuple(variables), costs))
    return sizes, tables


@settings(deadline=None, max_examples=300)
@given(problems())
def test_the_least_of_all_combinations(problem: tuple[list[int], list[Table]]) -> None:
    sizes, tables = problem
    found = least_sum(sizes, tables, 1 << 20)
    assert found is not None
    values, least = found
    assert least == min(cost(tables, every) for every in itertools.product(*map(range, sizes)))
    assert cost(tables, tuple(values)) == least


def test_a_long_chain_takes_small_tables() -> None:
    generator = np.random.default_rng(0)
    tables = [Table((number, number + 1), generator.random((5, 5))) for number in range(500)]
    found = least_sum([5] * 501, tables, 125)
    assert found is not None
    best = np.zeros(5)
    for table in tables:
        best = (best[:, None] + table.costs).min(axis=0)
    assert found[1] == pytest.approx(best.min())
    assert least_sum([5] * 501, tables, 24) is None
