"""Measured beside predicted times of kernels: each with its own prediction, and nothing but times is taken for a time."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.emit.cuda.emitter import kernel_identifiers
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.files import data_folder
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.schedule.gpu import GpuProgram, planned_program
from lepton_dse.sim.gpu.machine import limits_of
from lepton_dse.verify.artefact import Artefact, open_artefact
from lepton_dse.verify.cuda.device import Gpu, build, find_gpu, find_gpu_of, find_nvcc, kernel_times
from lepton_dse.verify.cuda.timed import predictions, time_checks, timed

sys.path.insert(0, str(Path(__file__).parent))
from played_tools import played_machine

TARGET = "nvidia-a100-sxm-80gb"


@pytest.fixture(scope="module")
def planned() -> ld.PlannedModel:
    return ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), TARGET, format="int8")


@pytest.fixture(scope="module")
def artefact(planned: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    return open_artefact(ld.emit(planned, tmp_path_factory.mktemp("artefact") / "cuda", emitter="cuda"))


@pytest.fixture(scope="module")
def program(planned: ld.PlannedModel) -> GpuProgram:
    return planned_program(planned.lowered, planned.plan, 8.0, limits_of(planned.target))


def printed(program: GpuProgram, times: list[float]) -> str:
    pairs = zip(kernel_identifiers(program), times, strict=True)
    return "".join(json.dumps({"kernel": name, "milliseconds": time}) + "\n" for name, time in pairs)


def checks_of(artefact: Artefact, program: GpuProgram, folder: Path) -> dict[str, Check]:
    return {check.name: check for check in timed(artefact, program, folder, lambda text: None)}


# --- pairing ------------------------------------------------------------------------------------------------------


def test_every_kernel_has_the_prediction_of_its_operations(artefact: Artefact, program: GpuProgram) -> None:
    times = [2.0**index for index in range(len(program.kernels))]
    report = artefact.plan.predicted
    (*checks, whole) = time_checks(program, report, times, "a GPU")
    priced = {cost.name: cost.latency_s for cost in report.ops}
    names = kernel_identifiers(program)
    assert [check.name for check in checks] == [f"milliseconds_of_{name}" for name in names]
    assert {check.status for check in (*checks, whole)} == {CheckStatus.REPORTED}
    for index, (check, kernel) in enumerate(zip(checks, program.kernels, strict=True)):
        before = program.kernels[index - 1] if index else None
        match kernel.name:
            case "image.q":
                assert (check.predicted, check.observed, check.reason) == (None, times[index], "the plan does not price it")
            case "t10.q.rows":
                assert (check.predicted, check.observed) == (None, times[index])
                assert check.reason == f"a change of layout, predicted with {names[index + 1]}"
            case name if before is not None and before.reordered:
                assert check.predicted == pytest.approx(priced[name] * 1e3)
                assert (check.observed, check.reason) == (times[index] + times[index - 1], f"with {names[index - 1]}")
            case name:
                assert (check.predicted, check.observed) == (pytest.approx(priced[name] * 1e3), times[index])
                assert check.reason == ""
    assert {kernel.name for kernel in program.kernels} >= {"image.q", "t10.q.rows", "conv2d0", "linear12"}
    assert sum(check.predicted for check in checks if isinstance(check.predicted, float)) == pytest.approx(whole.predicted)
    assert (whole.name, whole.observed) == ("milliseconds_on_gpu", sum(times))
    assert whole.reason == "all kernels one by one on a GPU, 1 ms in those that the plan does not price"


def kernel(name: str, *ops: str, reordered: str = "") -> Any:
    return SimpleNamespace(name=name, ops=[SimpleNamespace(name=op) for op in ops], reordered=reordered)


def test_fused_operations_and_changes_of_layout() -> None:
    """Operations of one kernel are summed; two changes go with what follows them; the last, before an output, with nothing."""
    kernels = (
        kernel("a.rows", reordered="a"),
        kernel("b.rows", reordered="b"),
        kernel("c", "c", "c.requantize", "d"),
        kernel("e.rows", reordered="e"),
        kernel("f.q", "f.q", "g"),
        kernel("h", "h.q"),
        kernel("y.rows", reordered="y"),
    )
    costs = tuple(SimpleNamespace(name=name, latency_s=time) for name, time in (("c", 1.0), ("d", 2.0), ("g", 4.0), ("z", 8.0)))
    program: Any = SimpleNamespace(kernels=kernels)
    report: Any = SimpleNamespace(ops=costs)
    found = predictions(program, report)
    assert [entry.seconds for entry in found] == [None, None, 3.0, None, 4.0, None, None]
    assert [entry.copies for entry in found] == [(), (), (0, 1), (), (), (), ()]
    assert [entry.with_kernel for entry in found] == [2, 2, None, None, None, None, None]


# --- what a program prints ----------------------------------------------------------------------------------------


def test_times_are_read() -> None:
    text = '{"kernel": "k0_a", "milliseconds": 0.004000}\n{"kernel": "k1_b", "milliseconds": 3}\n'
    assert kernel_times(text, ["k0_a", "k1_b"]) == [0.004, 3.0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "0 lines for 1 kernels"),
        ('{"kernel": "k0_a", "milliseconds": 1}\n' * 2, "2 lines for 1 kernels"),
        ("Segmentation fault\n", "line 1 gives no time: 'Segmentation fault'"),
        ('{"kernel": "k1_a", "milliseconds": 1}\n', "line 1 is of kernel 'k1_a', not of k0_a"),
        ('{"kernel": "k0_a"}\n', "line 1 gives no time"),
        ('{"kernel": "k0_a", "milliseconds": "1"}\n', "line 1 gives no time"),
        ('{"kernel": "k0_a", "milliseconds": true}\n', "line 1 gives no time"),
        ('{"kernel": "k0_a", "milliseconds": 0}\n', "line 1 gives no time"),
        ('{"kernel": "k0_a", "milliseconds": -1}\n', "line 1 gives no time"),
        ('{"kernel": "k0_a", "milliseconds": NaN}\n', "line 1 gives no time"),
        ('{"kernel": "k0_a", "milliseconds": 1e999}\n', "line 1 gives no time"),
        ('{"kernel": "k0_a", "milliseconds": ' + "9" * 400 + "}\n", "line 1 gives no time"),
        ("[1]\n", "line 1 gives no time"),
        ("3\n", "line 1 gives no time"),
        ("[" * 100_000 + "\n", "line 1 gives no time"),
    ],
)
def test_garbled_times_are_one_line(text: str, what: str) -> None:
    with pytest.raises(LeptonError) as caught:
        kernel_times(text, ["k0_a"])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"test.cu on the GPU: the times of the kernels cannot be read: {what}")
    assert message.endswith("; emit the artefact again")


@given(st.text() | st.lists(st.sampled_from(['{"kernel": "k0_a", "milliseconds": 2}', "{}", "[", '"k0_a"', "1"])).map("\n".join))
def test_nothing_else_is_a_time(text: str) -> None:
    try:
        found = kernel_times(text, ["k0_a"])
    except LeptonError:
        return
    assert len(found) == 1
    assert 0 < found[0] < math.inf


# --- the machine --------------------------------------------------------------------------------------------------


def test_a_gpu_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played_machine(tmp_path, monkeypatch, gpu="NVIDIA, the great, 580.65.06, 9.0")
    assert find_gpu() == find_gpu_of(9.0, "mine") == Gpu("NVIDIA, the great", "580.65.06", 9.0)
    assert find_nvcc() == str(tmp_path / "tools" / "nvcc")
    with pytest.raises(LeptonError, match=r"^mine has compute capability 8, the GPU here \(NVIDIA, the great\) 9; name the"):
        find_gpu_of(8.0, "mine")


@pytest.mark.parametrize("tool", ["none", "fails", "empty"])
def test_no_gpu(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if tool == "none":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        played_machine(tmp_path, monkeypatch, gpu=None if tool == "fails" else "")
    with pytest.raises(MissingToolError, match=r"^no GPU on this machine; run it where nvidia-smi lists one$"):
        find_gpu()


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"^nvcc is not installed"):
        find_nvcc()


@pytest.mark.parametrize("answer", ["a GPU", "a GPU, 580.1, many", 'Field "compute_cap" is not a valid field to query.'])
def test_an_answer_that_is_none_is_one_line(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played_machine(tmp_path, monkeypatch, gpu=answer)
    with pytest.raises(LeptonError, match=r"^nvidia-smi: '.*' describes no GPU; install a newer driver$"):
        find_gpu()


# --- an artefact --------------------------------------------------------------------------------------------------

COPIED = 'cp "$(dirname "$1")/vectors/expected_0.bin" "$5"\n'
"""Shell text that gives the reference's results."""


def test_outputs_and_times(artefact: Artefact, program: GpuProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.25 * (index + 1) for index in range(len(program.kernels))]
    (tmp_path / "times").write_text(printed(program, times))
    log = played_machine(tmp_path, monkeypatch, program=f"{COPIED}cat {tmp_path / 'times'}")
    found = checks_of(artefact, program, tmp_path)
    assert found["outputs_equal_on_gpu"].status is CheckStatus.PASSED
    assert found["milliseconds_on_gpu"].observed == sum(times)
    assert "NVIDIA A100-SXM4-80GB" in found["milliseconds_on_gpu"].reason
    assert found["milliseconds_of_k1_conv2d0"].observed == times[1]
    assert len(found) == len(program.kernels) + 2
    (line,) = log.read_text().splitlines()
    assert {"-arch=sm_80", "--fmad=false", "-std=c++17", str(artefact.folder / "test.cu")} <= set(line.split())


def test_wrong_outputs(artefact: Artefact, program: GpuProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "times").write_text(printed(program, [1.0] * len(program.kernels)))
    played_machine(tmp_path, monkeypatch, program=f"printf abcd > $5; cat {tmp_path / 'times'}")
    check = checks_of(artefact, program, tmp_path)["outputs_equal_on_gpu"]
    expected = np.fromfile(artefact.folder / "vectors" / "expected_0.bin", np.float32)
    assert (check.status, check.observed) == (CheckStatus.FAILED, expected.size)


@pytest.mark.parametrize(
    ("program_text", "what"),
    [
        ("echo nothing", r"^test\.cu on the GPU: the times of the kernels cannot be read: 1 lines for"),
        ("printf '\\377\\376\\n'", r"^test\.cu on the GPU: the times of the kernels cannot be read: 1 lines for"),
        ("echo 'cudaMalloc: out of memory' >&2; exit 3", r"^gpu: exit code 3: cudaMalloc: out of memory$"),
        ("exit 3", r"^gpu: exit code 3: no message$"),
        ("kill -9 $$", r"^gpu: exit code -9: no message$"),
    ],
)
def test_a_program_that_fails_is_one_line(
    artefact: Artefact, program: GpuProgram, program_text: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played_machine(tmp_path, monkeypatch, program=program_text)
    with pytest.raises(LeptonError, match=what):
        checks_of(artefact, program, tmp_path)


def test_without_a_gpu_it_is_unavailable(
    artefact: Artefact, program: GpuProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = played_machine(tmp_path, monkeypatch, gpu=None)
    (check,) = timed(artefact, program, tmp_path, lambda text: None)
    assert (check.name, check.status) == ("milliseconds_on_gpu", CheckStatus.UNAVAILABLE)
    assert check.reason == "no GPU on this machine"
    assert log.read_text() == ""


def test_nvcc_compiles_it(artefact: Artefact, program: GpuProgram, tmp_path: Path) -> None:
    """The text for a GPU, timing and all; what was compiled says without a GPU that there is none."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    build(nvcc, artefact.folder, program.capability, tmp_path / "program")
    if shutil.which("nvidia-smi") is None:
        command = [str(tmp_path / "program"), "weights.bin", "vectors/input.bin", "FORWARD", "RUN", str(tmp_path / "out")]
        done = subprocess.run(command, cwd=artefact.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert done.stderr.startswith("cudaStreamCreate: ")
