"""Kernels on a GPU: outputs of the very program that is deployed, and the time of every kernel, where there is a GPU and nvcc."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np

from lepton_dse.emit.cuda.emitter import INPUT_FILE, WEIGHTS_FILE, expected_file
from lepton_dse.errors import LeptonError
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.schedule.gpu import GpuProgram
from lepton_dse.verify.artefact import Artefact, Progress, compare, unavailable

__all__ = ["gpu_name", "timed"]


def gpu_name() -> str | None:
    """The first GPU of this machine, as its driver names it; None where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    done = subprocess.run([tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def timed(artefact: Artefact, program: GpuProgram, folder: Path, progress: Progress) -> list[Check]:
    """Build with nvcc, run every sample, and report the time of all kernels in milliseconds beside the prediction.

    Raises
    ------
    LeptonError
        If it does not build or run.
    """
    found, nvcc = gpu_name(), shutil.which("nvcc")
    if found is None or nvcc is None:
        return [unavailable("milliseconds_on_gpu", None, "no GPU on this machine" if found is None else "nvcc is not installed")]
    progress(f"running on {found}")
    binary = folder / "gpu"
    architecture = f"-arch=sm_{round(10 * program.capability)}"
    source = str(artefact.folder / "test.cu")
    _call([nvcc, "-std=c++17", "-O3", "--fmad=false", architecture, source, "-o", str(binary)])
    files = [folder / f"gpu-{index}.bin" for index in range(len(program.outputs))]
    weights, inputs = (str(artefact.folder / name) for name in (WEIGHTS_FILE, INPUT_FILE))
    text = _call([str(binary), weights, inputs, "FORWARD", "RUN", *map(str, files)])
    milliseconds = sum(json.loads(line)["milliseconds"] for line in text.splitlines())
    wrong = 0
    for position, name in enumerate(artefact.graph.outputs):
        dtype = artefact.graph.tensors[name].format.numpy.newbyteorder("<")
        expected = np.fromfile(artefact.folder / expected_file(position), dtype)
        observed = np.fromfile(files[position], dtype)
        if artefact.graph.tensors[name].format.is_float:
            wrong += int(np.count_nonzero(~np.isclose(expected, observed, rtol=1e-2, atol=1e-3)))
        else:
            wrong += int(np.count_nonzero(expected != observed))
    predicted = artefact.plan.predicted.latency_s * 1e3
    time = Check(
        name="milliseconds_on_gpu",
        predicted=predicted,
        observed=milliseconds,
        status=CheckStatus.REPORTED,
        reason=f"all kernels one by one on {found}",
    )
    return [compare("outputs_equal_on_gpu", 0, wrong), time]


def _call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise LeptonError(f"exit code {done.returncode}: {lines[0]}", where=Path(command[0]).name)
    return done.stdout
