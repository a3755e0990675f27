"""Runs the scripts of an artefact in processes of their own, which import nothing of this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.xla.emitter import RUN_FILE
from lepton_dse.errors import LeptonError

__all__ = ["Kernel", "Observation", "call", "observe", "observed"]


@dataclass(frozen=True)
class Kernel:
    """A call of a kernel.

    Parameters
    ----------
    grid : tuple of int
    blocks : tuple of tuple of int
        Of its operands and its result.
    times : int
        How often it is called.
    """

    grid: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    times: int


@dataclass(frozen=True)
class Observation:
    """What a run gave.

    Parameters
    ----------
    folder : Path
        Its results, one file each.
    argument_bytes : int
        Of one device, by the compiler's memory analysis.
    flops : float
        By the compiler's cost analysis: every operation, not only contractions.
    imported : tuple of str
        Packages that the process imported.
    hlo : str
        The compiled program; empty where nothing was compiled.
    kernels : tuple of Kernel
        Those of Pallas that the source calls, where it was run with them.
    """

    folder: Path
    argument_bytes: int
    flops: float
    imported: tuple[str, ...]
    hlo: str
    kernels: tuple[Kernel, ...] = ()

    def result(self, position: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Values of one result."""
        return np.fromfile(self.folder / f"result_{position}.bin", dtype.newbyteorder("<"))


def observe(artefact: Path, out: Path, *options: str) -> Observation:
    """Run the artefact's script and read what it observed.

    Raises
    ------
    LeptonError
        If the program does not compile or does not end normally.
    """
    call(artefact, RUN_FILE, *options, "--observe", str(out))
    return observed(out)


def observed(out: Path) -> Observation:
    """What a run left in a folder."""
    said = json.loads((out / "observed.json").read_text())
    hlo = out / "compiled.hlo"
    return Observation(
        out,
        int(said.get("argument_bytes", 0)),
        float(said.get("flops", 0.0)),
        tuple(said["imported"]),
        hlo.read_text() if hlo.exists() else "",
        tuple(
            Kernel(tuple(entry["grid"]), tuple(map(tuple, entry["blocks"])), int(entry["times"]))
            for entry in said.get("kernels", ())
        ),
    )


def call(artefact: Path, script: str, *options: str) -> None:
    """Run a script of the artefact on devices of the processor.

    Raises
    ------
    LeptonError
        If it does not end normally.
    """
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(artefact / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        said = next(
            (line for line in reversed(lines) if "Error" in line or "error" in line), lines[-1] if lines else "no message"
        )
        raise LeptonError(f"exit code {done.returncode}: {said.strip()[:300]}", where=script)
