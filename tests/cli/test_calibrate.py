"""`lepton calibrate`: writes a hardware model that the program then knows, or says in one line why it cannot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lepton_dse.targets import CpuTarget, load_target
from lepton_dse.validate import host as measuring


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of its own, and measurements so short that their values mean nothing."""
    if shutil.which("gcc") is None and os.environ.get("CI") != "true":
        pytest.skip("gcc is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    real = measuring.measure_host
    monkeypatch.setattr("lepton_dse.cli.calibration.measure_host", lambda step, rounds: real(step, rounds=rounds, scale=0.01))
    return tmp_path


def test_the_host_becomes_a_target(quick: Path, lepton: Any) -> None:
    result = lepton("calibrate", "--rounds", "1")
    assert (result.code, result.err) == (0, "")
    path = quick / ".config" / "lepton_dse" / "hwmodels" / "host.toml"
    assert str(path) in result.out
    assert "--target host" in result.out
    target = load_target("host")
    assert isinstance(target, CpuTarget)
    assert target.unverified == ()
    assert "host" in lepton("targets").out


def test_a_named_file(quick: Path, lepton: Any, work: Path) -> None:
    result = lepton("calibrate", "-o", quick / "mine.toml", "--rounds", "1")
    assert result.code == 0
    report = lepton("cost", work / "model.onnx", "--target", quick / "mine.toml", "--json").document
    assert report["results"][0]["feasible"]
    assert not (quick / ".config").exists()


def test_wrong_arguments_are_one_line(lepton: Any, tmp_path: Path) -> None:
    assert ".toml" in lepton("calibrate", "-o", tmp_path / "host.json").complaint
    assert "rounds" in lepton("calibrate", "-o", tmp_path / "host.toml", "--rounds", "0").complaint
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_it_is_one_line(lepton: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    line = lepton("calibrate", "-o", tmp_path / "host.toml").complaint
    assert "gcc" in line
    assert "install" in line
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(quick: Path, lepton: Any) -> None:
    assert lepton("calibrate", "-o", "/proc/nowhere/host.toml", "--rounds", "1").complaint
