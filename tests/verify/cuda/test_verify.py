"""CUDA artefacts verified: every check of every format, and whatever was changed is refused or found."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.emit.artefact import MANIFEST
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.files import data_folder
from lepton_dse.plan import CheckStatus, Mapping
from lepton_dse.schedule.gpu import Contraction, Tile, planned_program
from lepton_dse.verify.cuda import compiled

TARGET = "nvidia-a100-sxm-80gb"
CHECKS = {
    "outputs_equal_forward",
    "outputs_equal_reverse",
    "faults_of_threads",
    "global_requests_equal",
    "shared_passes_equal",
    "shared_bytes_equal",
    "fewer_blocks_than_planned",
}


def plan(form: str) -> ld.PlannedModel:
    return ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), TARGET, format=form)


@pytest.fixture(scope="module")
def planned() -> ld.PlannedModel:
    return plan("int8")


@pytest.fixture(scope="module")
def whole(planned: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ld.emit(planned, tmp_path_factory.mktemp("artefact") / "cuda", emitter="cuda")


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "cuda"))


def listed_again(folder: Path) -> None:
    """The manifest of what now stands in a folder."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def statuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, CheckStatus]:
    """Of all checks but those of NVIDIA's compiler."""
    monkeypatch.setattr(compiled, "has_compiler", lambda: False)
    found = ld.verify(folder)
    assert not found.passed
    return {check.name: check.status for check in found.checks}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["int8", "w4a8", "float16", "bfloat16", "float32"])
def test_every_check_of_every_format(form: str, tmp_path: Path, cxx: str, nvrtc: None) -> None:
    found = ld.verify(ld.emit(plan(form), tmp_path / "cuda", emitter="cuda"))
    passed = {check.name for check in found.checks if check.status is CheckStatus.PASSED}
    assert passed >= CHECKS, [str(check) for check in found.checks]
    assert not [check for check in found.checks if check.status is CheckStatus.FAILED]
    assert found.passed


@pytest.mark.parametrize("name", ["model.cu", "lepton/contraction.cuh", "weights.bin", "vectors/expected_0.bin", "device.json"])
def test_a_changed_byte_is_refused(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(InvalidPlanError, match=r"the file was changed after it was emitted; emit the artefact again$") as caught:
        ld.verify(copied)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_wrong_weight_is_found(copied: Path, cxx: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.frombuffer((copied / "weights.bin").read_bytes(), np.int8).copy()
    data[: 8 * 16] = -data[: 8 * 16]
    data[: 8 * 16] += 1
    (copied / "weights.bin").write_bytes(data.tobytes())
    listed_again(copied)
    found = statuses(copied, monkeypatch)
    assert found["outputs_equal_forward"] is CheckStatus.FAILED
    assert found["outputs_equal_reverse"] is CheckStatus.FAILED
    assert found["faults_of_threads"] is CheckStatus.PASSED
    assert found["global_requests_equal"] is CheckStatus.PASSED


def _without_a_barrier(folder: Path) -> None:
    path = folder / "lepton" / "contraction.cuh"
    path.write_text(path.read_text().replace("__syncthreads();", ""))


def _with_a_wild_read(folder: Path) -> None:
    path = folder / "lepton" / "contraction.cuh"
    path.write_text(path.read_text().replace("return place.corner + (active ? ", "return place.corner + (active ? 4096 + "))


def _with_other_requests(folder: Path) -> None:
    path = folder / "lepton" / "runtime.cuh"
    path.write_text(
        path.read_text().replace('number("load_sectors", c.load_sectors)', 'number("load_sectors", c.load_sectors + 1)')
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "check"),
    [
        (_without_a_barrier, "faults_of_threads"),
        (_with_a_wild_read, "faults_of_threads"),
        (_with_other_requests, "global_requests_equal"),
    ],
)
def test_a_wrong_kernel_is_found(
    copied: Path, change: Callable[[Path], None], check: str, cxx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(copied)
    listed_again(copied)
    assert statuses(copied, monkeypatch)[check] is CheckStatus.FAILED


def test_without_tools_checks_are_unavailable(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiled, "has_compiler", lambda: False)
    found = ld.verify(copied)
    reasons = {check.name: check.reason for check in found.checks}
    assert {check.status for check in found.checks} == {CheckStatus.UNAVAILABLE}
    assert reasons["outputs_equal"] == "no C++ compiler is installed: install the system package 'g++'"
    assert reasons["shared_bytes_equal"] == "NVRTC is not installed: pip install 'lepton_dse[cuda]'"


def test_text_that_does_not_compile_is_one_line(copied: Path, cxx: str) -> None:
    (copied / "model.cu").write_text("#error broken\n" + (copied / "model.cu").read_text())
    listed_again(copied)
    with pytest.raises(LeptonError, match=r"^g\+\+: exit code 1: .*error: #error broken$"):
        ld.verify(copied)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "3",
        '{"compute_capability": null}',
        '{"compute_capability": "many"}',
        '{"compute_capability": [8], "multiprocessor": {}}',
        '{"compute_capability": 8.0}',
        '{"compute_capability": 8.0, "multiprocessor": {}}',
        '{"compute_capability": 8.0, "multiprocessor": 3}',
        '{"compute_capability": 8.0, "multiprocessor": {"registers": "some", "shared_bytes": 1, "threads": 1, "blocks": 1}}',
        '{"compute_capability": 8.0, "multiprocessor": {"registers": 1, "shared_bytes": 1, "threads": 1, "blocks": 1, "x": 1}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_device_file_is_one_line(copied: Path, text: str) -> None:
    (copied / "device.json").write_text(text)
    listed_again(copied)
    with pytest.raises(InvalidPlanError, match=r"device\.json: does not say what the kernels were written for; emit it again$"):
        ld.verify(copied)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"rows": 128, "columns": 128, "pitch": 128, "warp_rows": 4, "warp_columns": 2, "stages": 4},
            "shared memory: needs 131072 B, 49152 available",
        ),
        ({"pitch": 48}, "bytes of a step"),
        ({"warp_rows": 64, "rows": 1024}, "threads of a block"),
        ({"stages": 1, "asynchronous": True}, "strips in shared memory"),
        ({"rows": 24}, "whole pieces of 16 x 8 a warp"),
        ({"rows": 1 << 40}, "sums of a thread"),
    ],
)
def test_a_tile_that_is_no_kernel_is_one_line(
    planned: ld.PlannedModel, changes: dict[str, Any], what: str, tmp_path: Path
) -> None:
    program = planned_program(planned.lowered, planned.plan, 8.0)
    kernel = next(kernel for kernel in program.kernels if isinstance(kernel.work, Contraction))
    tile = replace(Tile(32, 32, 64, 2, 2, 2), **changes)
    changed = [op.model_copy(update={"mapping": tile.mapping if op.op == kernel.name else op.mapping}) for op in planned.plan.ops]
    other = planned.plan.model_copy(update={"ops": tuple(changed)})
    with pytest.raises(LeptonError, match=what) as caught:
        ld.emit(replace(planned, plan=other), tmp_path / "cuda", emitter="cuda")
    assert str(caught.value).startswith(f"{kernel.name}: tile ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cuda").exists()


def test_a_plan_without_tiles_still_has_kernels(planned: ld.PlannedModel) -> None:
    bare = [op.model_copy(update={"mapping": Mapping()}) for op in planned.plan.ops]
    plan_ = planned.plan.model_copy(update={"ops": tuple(bare)})
    program = planned_program(planned.lowered, plan_, 8.0)
    assert any(isinstance(kernel.work, Contraction) for kernel in program.kernels)
