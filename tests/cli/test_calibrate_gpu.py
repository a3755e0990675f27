"""`lepton calibrate --gpu`: one line where it cannot be, before anything is compiled; with a GPU, here played, a model of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lepton_dse.targets import GpuTarget, load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "verify" / "cuda"))
from played_tools import played_machine

T4 = "Tesla T4, 580.65.06, 7.5"
TIMED = """\
bytes=$(wc -c < "$1")
echo "{\\"kernel\\": \\"k0_product\\", \\"milliseconds\\": $(awk "BEGIN { print 0.01 + $bytes / 1e8 }")}"
"""
"""A program that takes ten microseconds, and longer with more weights."""
FEW = ((16, 64, 64), (64, 64, 128), (1, 512, 512), (128, 128, 64), (64, 256, 256), (256, 64, 32))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of its own, and few products."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("lepton_dse.cli.calibration.PRODUCTS", FEW)
    return tmp_path


def test_a_hardware_model_is_written(few: Path, lepton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = played_machine(few, monkeypatch, gpu=T4, program=TIMED)
    result = lepton("calibrate", "--gpu", "nvidia-t4", "--format", "int8", "--format", "float32", "--format", "int8")
    assert (result.code, result.err) == (0, "")
    path = few / ".config" / "lepton_dse" / "hwmodels" / "nvidia-t4-measured.toml"
    assert str(path) in result.out
    assert "Tesla T4" in result.out
    assert "--target nvidia-t4-measured" in result.out
    calls = log.read_text().splitlines()
    assert len(calls) == 2 * len(FEW)
    assert all("-arch=sm_75" in call for call in calls)
    target = load_target("nvidia-t4-measured")
    assert isinstance(target, GpuTarget)
    assert [entry.formats for entry in target.calibrations] == [("int8",), ("float32",)]
    assert "Tesla T4, driver 580.65.06" in target.sources["emitted-int8"].title
    assert "nvidia-t4-measured" in lepton("targets").out


def test_a_named_file_and_all_formats(few: Path, lepton: Any, monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    log = played_machine(few, monkeypatch, gpu=T4, program=TIMED)
    result = lepton("calibrate", "--gpu", "nvidia-t4", "-o", few / "mine.toml")
    assert result.code == 0
    assert len(log.read_text().splitlines()) == 2 * len(FEW)
    plan = lepton("plan", work / "model.onnx", "--target", few / "mine.toml", "-o", few / "plan.json")
    assert plan.code == 0
    assert not (few / ".config").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--gpu", "raspberry-pi-5"], "--gpu: raspberry-pi-5 is of family cpu; name a GPU"),
        (["--gpu", "nvidia-t5"], "no target called 'nvidia-t5'; did you mean nvidia-t4"),
        (["--gpu", "missing.toml"], "missing.toml: no such file"),
        (["--gpu", "nvidia-t4", "--format", "int7.5"], "'int7.5' is not a format"),
        (
            ["--gpu", "nvidia-t4", "--format", "bfloat16"],
            "no kernel multiplies bfloat16 on nvidia-t4; choose among int8, float32",
        ),
        (["--gpu", "nvidia-t4", "-o", "mine.json"], "mine.json: not the name of a hardware model; end it in .toml"),
        (["--gpu", "nvidia-t4", "--rounds", "3"], "--rounds: rounds are the host's; leave it out beside --gpu"),
        (["--format", "int8"], "--format: formats are a GPU's; name it with --gpu"),
        (["--gpu", "nvidia-a100-sxm-80gb"], "has compute capability 8, the GPU here (Tesla T4) 7.5"),
    ],
)
def test_wrong_arguments_are_one_line(
    few: Path, arguments: list[str], what: str, lepton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = played_machine(few, monkeypatch, gpu=T4, program=TIMED)
    assert what in lepton("calibrate", *arguments).complaint
    assert log.read_text() == ""
    assert not (few / ".config").exists()


def test_without_a_gpu_nothing_is_compiled(few: Path, lepton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = played_machine(few, monkeypatch, gpu=None, program=TIMED)
    assert lepton("calibrate", "--gpu", "nvidia-t4").complaint.startswith("lepton: error: no GPU on this machine; ")
    assert log.read_text() == ""


def test_without_nvcc_it_is_one_line(few: Path, lepton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    played_machine(few, monkeypatch, gpu=T4)
    (few / "tools" / "nvcc").unlink()
    monkeypatch.setenv("PATH", str(few / "tools"))
    assert "nvcc is not installed; install" in lepton("calibrate", "--gpu", "nvidia-t4").complaint


@pytest.mark.parametrize(
    ("program", "what"),
    [
        ("echo broken", "the times of the kernels cannot be read: line 1 gives no time: 'broken'"),
        ("echo 'cudaMalloc: out of memory' >&2; exit 3", "exit code 3: cudaMalloc: out of memory"),
    ],
)
def test_a_program_that_fails_is_one_line(
    few: Path, program: str, what: str, lepton: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    played_machine(few, monkeypatch, gpu=T4, program=program)
    assert what in lepton("calibrate", "--gpu", "nvidia-t4", "-o", few / "mine.toml").complaint
    assert not (few / "mine.toml").exists()
