"""Suites of training runs: the errors that the documentation states, from one fitted constant."""

from __future__ import annotations

import pytest

from lepton_dse.targets import load_cluster
from lepton_dse.validate.protocol import Context, SuiteResult
from lepton_dse.validate.sharding import SUITES, Case, fit_slowdown, korthikanti, megatron


@pytest.fixture(scope="module")
def results() -> dict[str, SuiteResult]:
    return {suite.name: suite.run(suite, Context()) for suite in SUITES}


@pytest.mark.parametrize(
    ("name", "rows", "mean", "most"),
    [
        ("sharding-korthikanti", 8, 3.0, 6.0),
        ("sharding-megatron", 10, 5.0, 9.0),
        ("sharding-korthikanti-crossed", 8, 6.0, 9.0),
        ("sharding-megatron-crossed", 10, 6.0, 9.0),
        ("sharding-memory", 28, 0.2, 1.2),
        ("sharding-goyal", 2, 6.0, 6.0),
        ("sharding-runs", 6, 15.0, 22.0),
    ],
)
def test_errors_are_as_documented(results: dict[str, SuiteResult], name: str, rows: int, mean: float, most: float) -> None:
    result = results[name]
    assert len([row for row in result.rows if row.scored]) == rows
    assert result.mape_pct is not None
    assert result.max_pct is not None
    assert result.mape_pct <= mean
    assert result.max_pct <= most


def test_activations_equal_the_published_bars(results: dict[str, SuiteResult]) -> None:
    for row in results["sharding-memory"].rows:
        if row.case.endswith(("activations", "activations, both")):
            assert row.error_pct == pytest.approx(0.0, abs=1e-6)


def test_the_clusters_constant_is_the_fit_to_both_tables() -> None:
    assert load_cluster("dgx-a100").kernel_slowdown.value == pytest.approx(fit_slowdown((*korthikanti(), *megatron())), abs=2e-3)


def test_the_fit_has_the_least_squares_of_relative_errors() -> None:
    cases = (Case("a", 1.0, 1.2), Case("b", 2.0, 2.1), Case("c", 5.0, 5.9))

    def squares(factor: float) -> float:
        return sum((factor * case.predicted / case.measured - 1) ** 2 for case in cases)

    best = fit_slowdown(cases)
    assert all(squares(best) <= squares(best + shift) for shift in (-1e-3, 1e-3))
