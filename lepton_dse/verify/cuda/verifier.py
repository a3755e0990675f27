"""Checks of a CUDA artefact, from what needs only a C++ compiler to what needs a GPU."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

from lepton_dse.emit.cuda.emitter import DEVICE_FILE
from lepton_dse.errors import InvalidPlanError
from lepton_dse.files import read_text
from lepton_dse.plan import Check
from lepton_dse.schedule.gpu import GpuProgram, Limits, planned_program
from lepton_dse.verify.artefact import Artefact, Verifier, VerifyOptions, unavailable
from lepton_dse.verify.cuda.compiled import compiled
from lepton_dse.verify.cuda.executed import executed
from lepton_dse.verify.cuda.program import host_compiler
from lepton_dse.verify.cuda.timed import timed

__all__ = ["VERIFIER"]


def run(artefact: Artefact, options: VerifyOptions) -> list[Check]:
    """Run, compile and, where there is a GPU, time a CUDA artefact.

    Raises
    ------
    LeptonError
        If the program does not compile or does not end normally.
    """
    program = _program(artefact)
    compiler = host_compiler()
    with tempfile.TemporaryDirectory(prefix="lepton-cuda-") as scratch:
        folder = Path(scratch)
        if compiler is None:
            checks = [unavailable("outputs_equal", 0, "no C++ compiler is installed: install the system package 'g++'")]
        else:
            checks = executed(compiler, artefact, program, folder, options.progress)
        options.progress("compiling the kernels for the GPU")
        checks += compiled(artefact.folder, program)
        checks += timed(artefact, program, folder, options.progress)
    return checks


VERIFIER = Verifier("cuda", run)


def _program(artefact: Artefact) -> GpuProgram:
    path = artefact.folder / DEVICE_FILE
    try:
        device = json.loads(read_text(path))
        capability = float(device["compute_capability"])
        if not math.isfinite(capability):
            raise ValueError("compute_capability")
        limits = Limits(**{name: float(value) for name, value in device["multiprocessor"].items()})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidPlanError("does not say what the kernels were written for", where=str(path), fix="emit it again") from error
    return planned_program(artefact.graph, artefact.plan, capability, limits)
