"""Artefacts whose matrix products are kernels: what they give, their grids and blocks, planted faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.plan import CheckStatus
from lepton_dse.verify.xla import verifier
from tests.emit.xla_networks import transformer
from tests.verify.xla.test_verify import checks_of, sealed

pytestmark = pytest.mark.slow
needs_jax = pytest.mark.skipif(find_spec("jax") is None and not os.environ.get("CI"), reason="jax is not installed")


def emitted(folder: Path, form: str, layers: int) -> Path:
    graph = transformer(batch=1, sequence=64, heads=2, width=256, layers=layers)
    x = np.random.default_rng(0).normal(size=(1, 64, 256)).astype(np.float32)
    planned = ld.plan(graph, "google-tpu-v5e", format=form, data=ld.Dataset(x))
    return ld.emit(planned, folder, emitter="xla", data=ld.Dataset(x))


@needs_jax
@pytest.mark.parametrize(("form", "layers"), [("float32", 4), ("bfloat16", 1), ("int8", 1)])
def test_kernels_have_the_tiles_of_the_plan_and_give_what_the_reference_gives(form: str, layers: int, tmp_path: Path) -> None:
    checks = checks_of(emitted(tmp_path / "out", form, layers))
    assert {check.name for check in checks.values() if check.status is CheckStatus.FAILED} == set()
    assert checks["tiled_outputs_equal"].status is CheckStatus.PASSED
    assert checks["kernels_equal"].status is CheckStatus.PASSED
    assert checks["kernels_equal"].observed == 8 * layers


@needs_jax
def test_another_tile_and_a_wrong_kernel_are_found_out(tmp_path: Path) -> None:
    folder = emitted(tmp_path / "out", "float32", 1)
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    sealed(other, "tiled.py", lambda text: text.replace("tile=(64, 256, 128)", "tile=(32, 256, 128)", 1))
    wrong = {name for name, check in checks_of(other).items() if check.status is CheckStatus.FAILED}
    assert wrong == {"kernels_equal"}
    reason = checks_of(other)["kernels_equal"].reason
    assert "missing: 1 kernels of grid [1, 1, 1, 2], blocks 64x128 128x256 1x256 64x256" in reason
    assert "not planned: 1 kernels of grid [1, 2, 1, 2], blocks 32x128 128x256 1x256 32x256" in reason
    sealed(folder, "kernels.py", lambda text: text.replace("total[...] += jnp.dot", "total[...] = jnp.dot"))
    wrong = {name for name, check in checks_of(folder).items() if check.status is CheckStatus.FAILED}
    assert wrong == {"tiled_outputs_equal"}


@needs_jax
def test_the_script_runs_kernels_by_itself(tmp_path: Path) -> None:
    folder = emitted(tmp_path / "out", "int8", 1)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(folder / "run.py"), "--tiled"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("output 0: 0 of 16384 values differ")
    assert "run.py --tiled" in (folder / "README.md").read_text()


def test_without_jax_the_checks_of_kernels_are_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = emitted(tmp_path / "out", "float32", 1)
    monkeypatch.setattr(verifier, "find_spec", lambda name: None)
    checks = checks_of(folder)
    assert {"tiled_outputs_equal", "kernels_equal"} <= set(checks)
    assert {check.status for check in checks.values()} == {CheckStatus.UNAVAILABLE}
