"""Fronts and hypervolumes against their definitions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.study.front import crowding, hypervolume, pareto_front, relative_hypervolume
from lepton_dse.study.sampling import elite

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import dominance


@st.composite
def clouds(draw: Any, *, most: int = 12) -> list[tuple[int, ...]]:
    axes = draw(st.integers(1, 4))
    return draw(st.lists(st.tuples(*[st.integers(0, 5)] * axes), min_size=1, max_size=most))


@given(clouds(most=25))
def test_front_is_what_nothing_dominates(points: list[tuple[int, ...]]) -> None:
    assert pareto_front(points).tolist() == dominance.front(points)


@given(clouds(most=7), st.integers(1, 7))
def test_hypervolume_is_the_sum_of_dominated_cells(points: list[tuple[int, ...]], limit: int) -> None:
    corner = [limit] * len(points[0])
    assert hypervolume(points, corner) == dominance.volume(points, corner)


@given(clouds(), st.randoms())
def test_order_of_points_does_not_matter(points: list[tuple[int, ...]], shuffled: Any) -> None:
    other = list(points)
    shuffled.shuffle(other)
    assert {points[index] for index in pareto_front(points)} == {other[index] for index in pareto_front(other)}
    corner = [6] * len(points[0])
    assert hypervolume(points, corner) == pytest.approx(hypervolume(other, corner))


def test_nothing_has_no_front_and_no_volume() -> None:
    assert pareto_front(np.zeros((0, 3))).tolist() == []
    assert hypervolume(np.zeros((0, 3)), [1, 1, 1]) == 0


@pytest.mark.parametrize("axes", [2, 3])
def test_many_points(axes: int) -> None:
    rng = np.random.default_rng(0)
    front = rng.dirichlet(np.ones(axes), 2_000)  # all of one sum: none dominates another
    behind = front[rng.integers(0, len(front), 98_000)] + rng.random((98_000, axes)) + 1e-9
    order = rng.permutation(100_000)
    found = pareto_front(np.concatenate((front, behind))[order])
    assert sorted(order[found]) == list(range(2_000))


def test_relative_hypervolume_is_a_share_of_the_box() -> None:
    front = np.array([[0.0, 2.0], [1.0, 0.0]])
    assert relative_hypervolume(front, np.array([0.0, 0.0]), np.array([2.0, 2.0])) == 0.5
    assert relative_hypervolume(front[:1], np.array([0.0, 2.0]), np.array([1.0, 2.0])) == 1.0
    assert relative_hypervolume(front[:1], np.array([0.0, 2.0]), np.array([0.0, 2.0])) == 1.0


@given(clouds(), st.integers(1, 12))
def test_elite_takes_whole_fronts_first(points: list[tuple[int, ...]], count: int) -> None:
    chosen = elite(np.array(points, float), count)
    assert len(chosen) == len(set(chosen)) == min(count, len(points))
    front = set(dominance.front(points))
    assert front <= set(chosen) or set(chosen) <= front


def test_crowding_of_a_line() -> None:
    points = np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]])
    assert crowding(points).tolist() == [np.inf, 2.0, np.inf]
