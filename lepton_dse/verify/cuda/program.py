"""A CUDA artefact compiled for the CPU, and run: outputs, all stored results, and what every kernel asked of memory."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.cuda.emitter import INPUT_FILE, WEIGHTS_FILE
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.schedule.gpu import GpuProgram

__all__ = ["FAULTS", "HostProgram", "Order", "host_compiler"]

_COMPILE = ("-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-x", "c++")
FAULTS = ("races", "unwritten_reads", "outside_shared", "outside_global", "misaligned", "divergences")
"""What the fibres report: nothing else may be wrong with a kernel that gives the right result in two orders."""
Order = str
"""``FORWARD``, ``REVERSE`` or ``SHUFFLED``: in which order the threads of a block take turns."""


def host_compiler() -> str | None:
    """The C++ compiler that runs kernels on the CPU; None where there is none."""
    return shutil.which("g++") or shutil.which("clang++")


@dataclass(frozen=True)
class HostProgram:
    """An artefact's test program, compiled for the CPU.

    Parameters
    ----------
    artefact : Path
        Folder with ``test.cu``, the weights and the inputs.
    binary : Path
    apart : bool
        Whether every stored result lies by itself; they share one arena otherwise, as they are deployed.
    """

    artefact: Path
    binary: Path
    apart: bool

    @classmethod
    def compile(cls, compiler: str, artefact: Path, folder: Path, *, apart: bool) -> HostProgram:
        """Compile ``test.cu``.

        Raises
        ------
        LeptonError
            If it does not compile.
        """
        binary = folder / ("apart" if apart else "shared")
        chosen = ["-DLEPTON_APART"] if apart else []
        _call([compiler, *_COMPILE, *chosen, str(artefact / "test.cu"), "-o", str(binary)])
        return cls(artefact, binary, apart)

    def outputs(self, order: Order, folder: Path, count: int, *, watch: bool = False) -> tuple[list[Path], list[dict[str, int]]]:
        """Files with the outputs of every sample (of the first, where accesses are watched), and what each kernel did."""
        found = [folder / f"{self.binary.name}-{order.lower()}-{index}.bin" for index in range(count)]
        return found, self._run(order, "WATCH" if watch else "RUN", found)

    def stored(self, program: GpuProgram, order: Order, folder: Path) -> list[dict[str, NDArray[np.generic]]]:
        """All that the kernels stored, sample by sample, by tensor, in its own shape.

        Raises
        ------
        LeptonError
            If results share an arena.
        """
        if not self.apart:
            raise LeptonError("results that share an arena do not last", fix="compile with results apart")
        path = folder / "stored.bin"
        self._run(order, "DUMP", [path])
        data = path.read_bytes()
        samples, offset = [], 0
        while offset < len(data):
            sample = {}
            for buffer in program.buffers.values():
                shape = buffer.tensor.shape
                flat = np.frombuffer(data, buffer.tensor.format.numpy, buffer.tensor.elements, offset)
                lying = flat.reshape([shape[axis] for axis in buffer.layout.order])
                sample[buffer.name] = np.ascontiguousarray(lying.transpose(np.argsort(buffer.layout.order)))
                offset += buffer.bytes
            samples.append(sample)
        return samples

    def _run(self, order: Order, how: str, files: Sequence[Path]) -> list[dict[str, int]]:
        weights, inputs = (str(self.artefact / name) for name in (WEIGHTS_FILE, INPUT_FILE))
        text = _call([str(self.binary), weights, inputs, order, how, *map(str, files)])
        return [json.loads(line) for line in text.splitlines()]


def _call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingToolError(f"{command[0]} cannot be run", fix="install it") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if "error" in line] or ["no message"]
        raise LeptonError(f"exit code {done.returncode}: {lines[0].strip()}", where=Path(command[0]).name)
    return done.stdout
