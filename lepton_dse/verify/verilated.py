"""Builds a Verilated model with its C++ main, outside cocotb: about thirty times as fast on long runs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lepton_dse.errors import LeptonError
from lepton_dse.verify.simulators import verilator_binary, verilator_environment

__all__ = ["build_verilated"]


def build_verilated(sources: Sequence[Path], main: Path, top: str, folder: Path) -> Path:
    """Build `top` and `main` into one program.

    Parameters
    ----------
    sources : sequence of Path
        Verilog files.
    main : Path
        C++ main program.
    top : str
        Top module.
    folder : Path
        Where everything is built.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    MissingToolError
        If Verilator, or the compiler that it calls, is not installed.
    LeptonError
        If the design does not build; the message carries the first error line.
    """
    command = [
        *(str(verilator_binary()), "--cc", "--exe", "--build", "--build-jobs", "0", "--x-assign", "unique"),
        # A model runs for milliseconds to seconds, so compiling it well costs more than it gives.
        *(
            "--x-initial",
            "unique",
            "-Wno-fatal",
            "-CFLAGS",
            "-O1 -std=c++17",
            "--top-module",
            top,
            "-Mdir",
            str(folder),
            "-o",
            "sim",
        ),
        *(str(path.resolve()) for path in (*sources, main)),
    ]
    environment = {**os.environ, **verilator_environment()}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line] or ["no message"]
        raise LeptonError(f"Verilator does not build {top}: {lines[0]}", where=str(main))
    return folder / "sim"
