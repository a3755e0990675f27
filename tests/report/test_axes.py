"""Axes: round values stand inside, some but not too many, whatever the range."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.report.axes import Axis


@given(st.floats(1e-12, 1e12), st.floats(1.001, 1e6), st.sampled_from([True, False, None]))
def test_an_axis_has_two_to_nine_round_values_inside(low: float, factor: float, logarithmic: bool | None) -> None:
    axis = Axis.over([low, low * factor], 100.0, 500.0, logarithmic=logarithmic)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    places = [axis.place(tick) for tick in ticks]
    assert min(places) >= 100.0 - 1e-6
    assert max(places) <= 500.0 + 1e-6
    assert min(after - before for before, after in pairwise(places)) > 20
    assert 100.0 <= axis.place(low) < axis.place(low * factor) <= 500.0


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((14.0, 100.0), [15, 20, 30, 50, 70, 100]),
        ((8.68, 9.2), [8.7, 8.8, 8.9, 9.0, 9.1, 9.2]),
        ((1.0, 1e4), [1, 10, 100, 1000, 10000]),
    ],
)
def test_what_a_logarithmic_axis_shows(ends: tuple[float, float], wanted: list[float]) -> None:
    assert Axis.over(ends, 0.0, 1.0, logarithmic=True).ticks() == pytest.approx(wanted)
