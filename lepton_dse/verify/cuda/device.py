"""A GPU of this machine, and a CUDA artefact built and run on it: the time of every kernel, as its test program prints it."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.emit.cuda.emitter import INPUT_FILE, WEIGHTS_FILE
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.files import inside, write_bytes

__all__ = ["Gpu", "build", "call", "find_gpu", "find_gpu_of", "find_nvcc", "kernel_times", "run", "run_files"]


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it."""

    name: str
    driver: str
    capability: float
    """Compute capability."""


def find_gpu() -> Gpu:
    """The first GPU of this machine.

    Raises
    ------
    MissingToolError
        If there is none, or none that its driver describes.
    """
    missing = MissingToolError("no GPU on this machine", fix="run it where nvidia-smi lists one")
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise missing
    command = [tool, "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise missing
    try:
        name, driver, capability = (part.strip() for part in lines[0].rsplit(",", 2))
        return Gpu(name, driver, float(capability))
    except ValueError as error:
        raise LeptonError(f"'{lines[0]}' describes no GPU", where="nvidia-smi", fix="install a newer driver") from error


def find_gpu_of(capability: float, title: str) -> Gpu:
    """The first GPU of this machine, which must be of a compute capability.

    Raises
    ------
    MissingToolError
        If there is none.
    LeptonError
        If it is of another.
    """
    found = find_gpu()
    if found.capability != capability:
        raise LeptonError(
            f"{title} has compute capability {capability:g}, the GPU here ({found.name}) {found.capability:g}",
            fix="name the hardware model of this one",
        )
    return found


def find_nvcc() -> str:
    """The path of NVIDIA's compiler.

    Raises
    ------
    MissingToolError
        If it is not installed.
    """
    found = shutil.which("nvcc")
    if found is None:
        raise MissingToolError("nvcc is not installed", fix="install NVIDIA's CUDA toolkit")
    return found


def build(nvcc: str, folder: Path, capability: float, binary: Path) -> None:
    """Compile the test program of an artefact as its CMake file does.

    Raises
    ------
    LeptonError
        If it does not compile.
    """
    architecture = f"-arch=sm_{round(10 * capability)}"
    call([nvcc, "-std=c++17", "-O3", "--fmad=false", architecture, str(folder / "test.cu"), "-o", str(binary)])


def run(binary: Path, folder: Path, outputs: Sequence[Path], identifiers: Sequence[str]) -> list[float]:
    """Run every sample of an artefact.

    Parameters
    ----------
    binary : Path
        Its test program.
    folder : Path
        Of the artefact.
    outputs : sequence of Path
        Files that the outputs go to.
    identifiers : sequence of str
        Names of the kernels in the code.

    Returns
    -------
    list of float
        Milliseconds of each kernel.

    Raises
    ------
    LeptonError
        If the program does not end normally, or prints something else than the times of these kernels.
    """
    weights, inputs = (str(folder / name) for name in (WEIGHTS_FILE, INPUT_FILE))
    text = call([str(binary), weights, inputs, "FORWARD", "RUN", *map(str, outputs)])
    return kernel_times(text, identifiers)


def run_files(nvcc: str, files: Mapping[str, bytes], capability: float, folder: Path, identifiers: Sequence[str]) -> list[float]:
    """Milliseconds of each kernel of a program with one output that is written, built and run in a folder of its own.

    Raises
    ------
    LeptonError
        If it does not build or run.
    """
    for name, data in files.items():
        write_bytes(inside(folder, name), data)
    binary = folder / "program"
    build(nvcc, folder, capability, binary)
    return run(binary, folder, [folder / "output.bin"], identifiers)


def kernel_times(text: str, identifiers: Sequence[str]) -> list[float]:
    """Milliseconds of each kernel in what a test program printed: a line of JSON for each, in their order.

    Raises
    ------
    LeptonError
        If it is anything else.
    """
    lines, found = text.splitlines(), []
    if len(lines) != len(identifiers):
        raise _garbled(f"{len(lines)} lines for {len(identifiers)} kernels")
    for number, (line, identifier) in enumerate(zip(lines, identifiers, strict=True), 1):
        try:
            entry = json.loads(line)
            name, milliseconds = entry["kernel"], entry["milliseconds"]
            if type(milliseconds) not in (int, float) or not math.isfinite(milliseconds) or milliseconds <= 0:
                raise ValueError("no time")
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise _garbled(f"line {number} gives no time: '{line[:60]}'") from error
        if name != identifier:
            raise _garbled(f"line {number} is of kernel '{str(name)[:60]}', not of {identifier}")
        found.append(float(milliseconds))
    return found


def _garbled(what: str) -> LeptonError:
    return LeptonError(
        f"the times of the kernels cannot be read: {what}", where="test.cu on the GPU", fix="emit the artefact again"
    )


def call(command: Sequence[str]) -> str:
    """What a program prints.

    Raises
    ------
    LeptonError
        If it does not end normally.
    """
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()] or ["no message"]
        first = next((line for line in lines if "error" in line.lower() or "fatal" in line.lower()), lines[0])
        raise LeptonError(f"exit code {done.returncode}: {first.strip()}", where=Path(command[0]).name)
    return done.stdout
