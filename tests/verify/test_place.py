"""The clock of placed designs: the tool is found and stopped, what it says is read, and a whole design lies in its band."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.emit.verilog.top import TOP
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.plan import CheckStatus
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.verify import place, verilog
from lepton_dse.verify.artefact import VerifyOptions, open_artefact
from lepton_dse.verify.place import nextpnr_binary, place_and_route
from lepton_dse.verify.synthesis import synthesise

REPORT = {
    "fmax": {"clk": {"achieved": 91.5, "constraint": 400.0}},
    "critical_paths": [
        {"from": "<async>", "to": "posedge clk", "path": [{"type": "routing", "delay": 9.0, "to": {"cell": "port"}}]},
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                {"type": "clk-to-q", "delay": 0.5, "to": {"cell": "a"}},
                {"type": "routing", "delay": 1.0, "to": {"cell": "b"}},
                {"type": "routing", "delay": 0.0, "to": {"cell": "carry"}},
                {"type": "routing", "delay": 0.7, "to": {"cell": "c"}},
            ],
        },
    ],
}


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program of the tool's name, first on the path."""
    program = folder / "bin" / "nextpnr-ecp5"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    builder = GraphBuilder("small")
    x = builder.input("x", (1, 2, 8, 8))
    weights = [
        builder.constant("c.w", rng.normal(0, 0.3, (4, 2, 3, 3)).astype(np.float32)),
        builder.constant("c.b", np.ones(4, np.float32)),
    ]
    x = builder.add(ops.Conv(ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))), [x, *weights], output="c")
    x = builder.add(ops.Clip(0.0, float("inf")), [x], output="r")
    x = builder.add(ops.MaxPool(ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))), [x], output="p")
    x = builder.add(ops.Reshape((1, 64)), [x], output="f")
    x = builder.add(ops.MatMul(), [x, builder.constant("d.w", rng.normal(0, 0.1, (64, 5)).astype(np.float32))], output="d")
    graph = builder.build([x])
    data = ld.Dataset(rng.normal(0, 1, (4, 2, 8, 8)).astype(np.float32))
    target = load_target("lattice-ecp5-85f")
    assert isinstance(target, FpgaTarget)
    few = {name: getattr(target, name).model_copy(update={"value": 3000.0 if name == "lut" else 12.0}) for name in ("lut", "dsp")}
    planned = ld.plan(graph, target.model_copy(update=few), data=data, minimize="throughput")
    assert planned.predicted.feasible
    return ld.emit(planned, tmp_path_factory.mktemp("design") / "artefact", data=data)


def test_what_the_tool_reports_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"import sys, pathlib; pathlib.Path(sys.argv[sys.argv.index('--report') + 1]).write_text({json.dumps(REPORT)!r})"
    stand_in(tmp_path, monkeypatch, body)
    placed = place_and_route(tmp_path / "top.json")
    assert placed.clock_hz == pytest.approx(91.5e6)
    assert placed.cells == ("b", "c")


def test_a_failure_is_one_line_with_the_tools_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "import sys; sys.exit('first\\nERROR: no place for cell x')")
    with pytest.raises(LeptonError, match="nextpnr-ecp5 failed: ERROR: no place for cell x"):
        place_and_route(tmp_path / "top.json")


def test_a_design_without_registers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.dumps({"fmax": {}, "critical_paths": []})
    stand_in(
        tmp_path,
        monkeypatch,
        f"import sys, pathlib; pathlib.Path(sys.argv[sys.argv.index('--report') + 1]).write_text({report!r})",
    )
    with pytest.raises(LeptonError, match="no path between two registers"):
        place_and_route(tmp_path / "top.json")


def test_the_tool_is_stopped_after_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(TimeoutError, match="took more than"):
        place_and_route(tmp_path / "top.json", limit_s=0.2)


def test_the_check_is_unavailable_without_the_tool(artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise MissingToolError("nextpnr-ecp5 is not installed", fix="pip install 'lepton_dse[place]'")

    monkeypatch.setattr(place, "nextpnr_binary", missing)
    (tmp_path / "top.json").write_text("{}")
    (check,) = verilog.clock_checks(open_artefact(artefact), "ecp5", tmp_path / "top.json", VerifyOptions())
    assert (check.name, check.status) == ("clock_in_band", CheckStatus.UNAVAILABLE)
    assert "lepton_dse[place]" in check.reason
    (check,) = verilog.clock_checks(open_artefact(artefact), "ecp5", tmp_path / "none.json", VerifyOptions())
    assert check.status is CheckStatus.UNAVAILABLE


def test_the_check_says_what_is_not_placed(artefact: Path, tmp_path: Path) -> None:
    opened = open_artefact(artefact)
    (check,) = verilog.clock_checks(opened, "xc7", tmp_path / "top.json", VerifyOptions())
    assert check.status is CheckStatus.UNAVAILABLE
    assert "only those for ecp5" in check.reason
    assert opened.plan.predicted.cycles is not None
    cycles = opened.plan.predicted.cycles.model_copy(update={"band": None})
    predicted = opened.plan.predicted.model_copy(update={"cycles": cycles})
    without = replace(opened, plan=opened.plan.model_copy(update={"predicted": predicted}))
    (check,) = verilog.clock_checks(without, "ecp5", tmp_path / "top.json", VerifyOptions())
    assert check.status is CheckStatus.UNAVAILABLE
    assert "no band" in check.reason


@pytest.mark.slow
@pytest.mark.rtl
def test_a_placed_design_lies_in_its_band(artefact: Path, tmp_path: Path, needs_tool) -> None:
    needs_tool("yosys")
    try:
        nextpnr_binary()
    except MissingToolError:
        needs_tool("nextpnr-ecp5")
    opened = open_artefact(artefact)
    synthesise(opened, tmp_path / f"{TOP}.json")
    (check,) = verilog.clock_checks(opened, "ecp5", tmp_path / f"{TOP}.json", VerifyOptions())
    assert check.status is CheckStatus.PASSED, check
