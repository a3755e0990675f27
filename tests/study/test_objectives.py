"""Objectives and constraints."""

from __future__ import annotations

import math

import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.study.objectives import Constraint, Objective, needs_data


def test_what_is_greater_is_turned() -> None:
    figures = {"latency_s": 2.0, "throughput_per_s": 5.0, "energy_j": None, "peak_bytes": math.inf}
    assert Objective("latency_s").value(figures) == 2
    assert Objective("throughput_per_s").value(figures) == -5
    assert Objective("energy_j").value(figures) is None
    assert Objective("peak_bytes").value(figures) is None
    assert Objective("lut").value(figures) is None


@pytest.mark.parametrize(
    ("text", "value", "excess"),
    [
        ("latency_s <= 1e-3", 1e-3, 0.0),
        ("latency_s<=1e-3", 2e-3, 1.0),
        (" throughput_per_s >= 100 ", 50.0, 0.5),
        ("throughput_per_s >= 100", 200.0, 0.0),
        ("loss_points <= 0", 0.25, 0.25),
        ("loss_points <= -1", -0.5, 0.5),
        ("energy_j <= 1", None, math.inf),
    ],
)
def test_by_how_much_a_bound_is_missed(text: str, value: float | None, excess: float) -> None:
    found = Constraint.parse(text)
    figures = {found.figure: value}
    assert found.excess(figures) == pytest.approx(excess)
    assert bool(found.broken(figures)) == (excess > 0)
    assert Constraint.parse(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", "latency_s", "latency_s < 1", "latency_s <= fast", "latency_s <= 1e", "1 <= latency_s", "latency_s <= 1e999"]
)
def test_what_is_no_constraint(text: str) -> None:
    with pytest.raises(LeptonError, match="is no constraint"):
        Constraint.parse(text)


def test_unknown_figures_are_named() -> None:
    with pytest.raises(LeptonError, match="no figure 'speed'; known: latency_s"):
        Objective("speed")
    with pytest.raises(LeptonError, match="no figure 'speed'"):
        Constraint.parse("speed >= 1")


def test_only_accuracy_needs_data() -> None:
    assert not needs_data([Objective("latency_s")], [Constraint.parse("energy_j <= 1")])
    assert needs_data([Objective("latency_s")], [Constraint.parse("loss_points <= 1")])
    assert needs_data([Objective("accuracy")], [])
