"""What NSGA-II draws: children of the parents that it was given, as Optuna crosses and mutates them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.study import Space
from lepton_dse.study.sampling import Axes, propose

TARGETS = ({"target": "google-tpu-v1", "numbers": {"array_rows": [64, 128, 192, 256]}}, "nvidia-t4", "raspberry-pi-5")
SPACE = Space(
    targets=TARGETS, formats=["float32", "int8", "w4a8"], sparsities=[0, 0.25, 0.5], channels=[0, 0.25, 0.5], batches=[1, 4, 16]
)
AXES = Axes(SPACE)


def digits(indices: list[int]) -> np.ndarray:
    return np.array([list(AXES.digits(index).values()) for index in indices])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(0, SPACE.size - 1), min_size=8, max_size=8, unique=True))
def test_children_have_their_parents_places(seed: int, chosen: list[int]) -> None:
    """A parent gives each place, or one mutation in as many places as there are axes draws it anew."""
    parents = [(index, (float(number), -float(number))) for number, index in enumerate(chosen)]
    children = propose(AXES, "nsga2", 60, (seed, 1), parents)
    of_parents = [set(column) for column in digits(chosen).T]
    shared = np.mean([[place in known for place, known in zip(child, of_parents, strict=True)] for child in digits(children)])
    assert shared > 0.75


def test_parents_of_one_place_have_children_near_it() -> None:
    lonely = 17
    parents = [(lonely, (1.0, 1.0))] * 8
    children = digits(propose(AXES, "nsga2", 40, (0, 1), parents))
    moved = (children != digits([lonely])).sum(axis=1)
    assert moved.mean() < 3
    drawn = digits(propose(AXES, "random", 40, (0, 1), parents))
    assert (drawn != digits([lonely])).sum(axis=1).mean() > 3.5


@pytest.mark.parametrize("sampler", ["nsga2", "random"])
def test_draws_depend_on_the_seed_and_the_batch(sampler: str) -> None:
    parents = [(index, (float(index), -float(index))) for index in range(8)]
    first = propose(AXES, sampler, 20, (3, 1), parents)
    assert first == propose(AXES, sampler, 20, (3, 1), parents)
    assert first != propose(AXES, sampler, 20, (3, 2), parents)
    assert first != propose(AXES, sampler, 20, (4, 1), parents)
