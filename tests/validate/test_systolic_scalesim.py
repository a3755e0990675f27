"""The systolic-scalesim suite: equal where SCALE-Sim is sound, and short by the named defect where it is not."""

from __future__ import annotations

import pytest

from lepton_dse.sim.systolic import Array, Dataflow, array_cycles, folds
from lepton_dse.validate.figures import figures
from lepton_dse.validate.protocol import Context
from lepton_dse.validate.systolic import SUITES, cycles_in_their_convention

ENTRIES = figures("scalesim_3_0_0")


def test_weight_and_input_stationary_counts_are_equal() -> None:
    result = SUITES[0].run(SUITES[0], Context())
    assert result.mape_pct == result.max_pct == 0
    assert sum(row.scored for row in result.rows) >= 15
    assert any("exactly that" in note for note in result.notes)
    for row, entry in zip(result.rows, ENTRIES, strict=True):
        assert row.scored == (entry["dataflow"] != "output")
        assert (row.error_pct == 0) == row.scored


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry["dataflow"] == "output"], ids=lambda entry: entry["cycles"]
)
def test_output_stationary_lacks_the_way_out(entry: dict[str, str]) -> None:
    rows, columns, m, n, k, cycles = (int(entry[name]) for name in ("rows", "columns", "m", "n", "k", "cycles"))
    count = folds(m, rows) * folds(n, columns)
    assert cycles == count * (rows + columns + k - 2) - 1
    assert cycles_in_their_convention(rows, columns, Dataflow.OUTPUT, m, n, k) - cycles == count * rows


def test_known_counts() -> None:
    """512 cubed and conv2_x of ResNet-18, weight stationary."""
    for rows, shape, cycles in (
        (32, (512, 512, 512), 155_135),
        (128, (512, 512, 512), 14_303),
        (32, (3136, 64, 576), 116_279),
        (128, (3136, 64, 576), 17_589),
    ):
        assert cycles_in_their_convention(rows, rows, Dataflow.WEIGHT, *shape) == cycles
        assert array_cycles(Array(rows, rows), Dataflow.WEIGHT, *shape) < cycles  # overlap saves
