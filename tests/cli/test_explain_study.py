"""``lepton explain`` of a study's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ASKED = 'data = "data.npz"\nsubject_to = ["weight_bytes <= {bytes}"]'
SPACE = "batches = [1, 4]\n"


@pytest.fixture
def folder(finished: Callable[[str, str], Path]) -> Path:
    return finished(ASKED.format(bytes=200), SPACE)


def test_the_best_of_the_first_objective_is_explained(lepton: Any, folder: Path) -> None:
    result = lepton("explain", folder)
    assert (result.code, result.err) == (0, "")
    assert "on raspberry-pi-5, batch 1" in result.out.splitlines()[0]
    assert "It has the least latency" in result.out
    assert "Constraint: weights at most 200 B" in result.out
    assert "Next lever: one other choice each" in result.out or "No other single choice" in result.out


def test_any_candidate_is_explained(lepton: Any, folder: Path) -> None:
    said = [lepton("explain", folder, "--candidate", index) for index in range(8)]
    assert all(result.err == "" for result in said)
    assert {result.code for result in said} == {0, 1}
    for index, result in enumerate(said):
        assert result.out.startswith(f"Candidate {index}: ")
        assert (result.code == 1) == ("It is out: " in result.out)
    assert any("is nowhere worse" in result.out for result in said)


@pytest.mark.parametrize("index", [8, -1])
def test_a_candidate_that_was_not_evaluated(lepton: Any, folder: Path, index: int) -> None:
    assert f"candidate {index} was not evaluated" in lepton("explain", folder, f"--candidate={index}").complaint


def test_a_folder_without_a_study(lepton: Any, work: Path) -> None:
    assert "holds no study" in lepton("explain", work).complaint
    assert "holds no study" in lepton("explain", work / "plan.json", "--candidate", 1).complaint


def test_nothing_feasible(lepton: Any, finished: Callable[[str, str], Path]) -> None:
    folder = finished(ASKED.format(bytes=1), SPACE)
    assert "nothing is feasible" in lepton("explain", folder).complaint
    assert lepton("explain", folder, "--candidate", 0).code == 1
