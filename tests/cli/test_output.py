"""What the commands print: help, stable keys of JSON, and nothing else on stdout."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_dse.targets import target_names

COMMANDS = ("demo", "doctor", "targets", "inspect", "memory", "cost", "plan", "study", "explain", "emit", "verify")


def test_help_lists_the_commands(lepton: Any) -> None:
    for arguments in (["--help"], []):
        text = lepton(*arguments).out
        assert all(re.search(rf"^\W*{name}\s", text, re.MULTILINE) for name in COMMANDS), text
    assert lepton("--help").code == 0
    assert lepton().code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, lepton: Any) -> None:
    result = lepton(command, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out


def test_the_installed_program_prints_one_line_and_no_traceback(tmp_path: Path) -> None:
    code = "from lepton_dse.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(tmp_path / "no.onnx")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"lepton: error: [^\n]+\n", done.stderr)


def test_inspect_json(lepton: Any, work: Path) -> None:
    result = lepton("inspect", work / "model.onnx", "--json")
    document = result.document
    assert result.code == 0
    assert set(document) == {"schema_version", "model", "digest", "ops", "macs", "params", "unsupported"}
    assert all(set(op) == {"name", "kind", "macs", "params", "in_bytes", "out_bytes"} for op in document["ops"])
    assert document["macs"] == sum(op["macs"] for op in document["ops"]) == 2 * 9 * 9 + 18 * 4
    assert document["params"] == sum(op["params"] for op in document["ops"]) == 18 + 2 + 72 + 4
    assert document["ops"][0]["in_bytes"] == 25 * 4
    assert document["ops"][0]["out_bytes"] == 18 * 4


def test_cost_json(lepton: Any, work: Path) -> None:
    result = lepton("cost", work / "model.onnx", "--all", "--json")
    document = result.document
    assert result.code == 0
    assert set(document) == {"schema_version", "model", "results"}
    assert [entry["target"] for entry in document["results"]] == list(target_names(unit=False))
    keys = {"target", "feasible", "latency_s", "throughput_per_s", "energy_j", "peak_bytes", "traffic_bytes", "resources"}
    keys |= {"bound_by", "evidence", "violations", "search", "ops"}
    per_op = {"name", "kind", "macs", "latency_s", "energy_j", "bound_by", "utilization", "traffic_bytes", "mapping"}
    for entry in document["results"]:
        assert keys <= set(entry)
        assert all(per_op <= set(op) for op in entry["ops"])


def test_plan_json_is_the_plan_file(lepton: Any, work: Path) -> None:
    arguments = ("--target", "amd-zynq-7020", "-o", work / "new.json", "--data", work / "data.npz", "--json", "--measure", "12")
    result = lepton("plan", work / "model.onnx", *arguments)
    assert result.code == 0
    assert result.document == __import__("json").loads((work / "new.json").read_text())


def test_plan_says_what_it_was_calibrated_on(lepton: Any, work: Path) -> None:
    base = ("plan", work / "model.onnx", "--target", "unit-cpu", "-o", work / "new.json")
    assert "seeded noise" in lepton(*base).out
    assert "noise" in lepton("explain", work / "new.json").out
    with_data = lepton(*base, "--data", work / "data.npz", "--measure", "12").out
    assert "noise" not in with_data
    assert "95% interval" in with_data
    assert "real samples" in lepton("explain", work / "new.json").out


@pytest.mark.parametrize(
    ("metric", "heading"), [("auc", "AUC"), ("top2", "top-2"), ("cosine", "cosine"), ("agreement", "agreement")]
)
def test_plan_measures_the_metric_that_is_asked_for(metric: str, heading: str, lepton: Any, work: Path) -> None:
    base = ("plan", work / "model.onnx", "--target", "unit-cpu", "-o", work / "new.json")
    shown = lepton(*base, "--data", work / "data.npz", "--measure", "12", "--metric", metric).out
    assert heading in shown
    (exact,) = (line for line in shown.splitlines() if line.startswith("│ float "))
    assert ("%" in exact) == (metric in ("top2", "agreement"))
    if metric in ("cosine", "agreement"):
        assert "100.0%" in exact or "1.0000" in exact


def test_what_compares_networks_needs_no_labels(lepton: Any, work: Path) -> None:
    with np.load(work / "data.npz") as data:
        np.savez(work / "plain.npz", x=data["x"])
    base = ("plan", work / "model.onnx", "--target", "unit-cpu", "-o", work / "new.json", "--data", work / "plain.npz")
    assert lepton(*base, "--measure", "12", "--metric", "agreement").code == 0
    assert "labelled" in lepton(*base, "--measure", "12", "--metric", "auc").complaint


def test_explain_names_what_binds_and_the_next_lever(lepton: Any, work: Path) -> None:
    result = lepton("explain", work / "plan.json")
    assert result.code == 0
    assert "bound by" in result.out
    assert "Next lever" in result.out


def test_targets_json(lepton: Any) -> None:
    document = lepton("targets", "--json").document
    assert [entry["name"] for entry in document["targets"]] == list(target_names())
    one = lepton("targets", "amd-zynq-7020", "--json").document
    assert one["lut"]["value"] == 53200
    assert "finn" in one["sources"]


def test_doctor_json(lepton: Any) -> None:
    document = lepton("doctor", "--json").document
    assert all(set(tool) == {"name", "found", "unlocks", "install"} for tool in document["tools"])
    assert {"g++", "iverilog", "verilator", "yosys"} <= {tool["name"] for tool in document["tools"]}
    assert lepton("doctor").code == 0


def test_verify_json(lepton: Any, work: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    result = lepton("verify", work / "cpp", "--json")
    document = result.document
    assert result.code == 0
    assert set(document) == {"schema_version", "artefact", "passed", "checks"}
    assert document["passed"] is True
    assert [(check["name"], check["observed"], check["status"]) for check in document["checks"]] == [
        ("outputs_equal", 0, "passed")
    ]
    assert {"name", "predicted", "observed", "tolerance", "status"} <= set(document["checks"][0])
    assert "passed" in lepton("verify", work / "cpp").out


def test_strict_fails_what_is_unavailable(lepton: Any, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(work))
    assert lepton("verify", work / "cpp").code == 0
    assert "unavailable" in lepton("verify", work / "cpp").out
    assert lepton("verify", work / "cpp", "--strict").code == 1
