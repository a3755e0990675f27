"""Kernels compiled by NVIDIA's compiler, with no GPU: registers, spills and shared memory as ptxas reports them.

NVRTC comes as a wheel (``pip install 'lepton_dse[cuda]'``); it compiles the artefact's own text to machine code for an
architecture and hands on ptxas' report.
"""

from __future__ import annotations

import importlib.util
import io
import re
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.emit.cuda.emitter import kernel_identifiers
from lepton_dse.errors import LeptonError
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.schedule.gpu import Contraction, GpuProgram, resident_blocks
from lepton_dse.verify.artefact import compare, unavailable

__all__ = ["Usage", "architectures", "compiled", "has_compiler", "usage"]

MISSING = "NVRTC is not installed: pip install 'lepton_dse[cuda]'"


@dataclass(frozen=True)
class Usage:
    """What one kernel takes: registers of a thread, bytes of spills of a thread, and shared memory of a block."""

    registers: int
    spill_bytes: int
    shared_bytes: int


def has_compiler() -> bool:
    """Whether NVRTC and its Python bindings are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("cuda", "cuda.core", "cuda.bindings", "nvidia"))


def architectures() -> tuple[int, ...]:
    """Compute capabilities, times ten, that the installed NVRTC compiles for."""
    from cuda.bindings import nvrtc

    _, found = nvrtc.nvrtcGetSupportedArchs()
    return tuple(int(number) for number in found)


def usage(folder: Path, architecture: str) -> dict[str, Usage]:
    """Compile ``model.cu`` of an artefact.

    Parameters
    ----------
    folder : Path
    architecture : str
        For example ``sm_90``.

    Returns
    -------
    dict of str to Usage
        By the kernel's name in the code.

    Raises
    ------
    LeptonError
        If it does not compile for the architecture.
    """
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(std="c++17", arch=architecture, include_path=[str(folder)], ptxas_options=["-v"], fma=False)
    log = io.StringIO()
    try:
        Program((folder / "model.cu").read_text(), "c++", options).compile("cubin", logs=log)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if "error" in line] or [str(error)]
        raise LeptonError(f"does not compile for {architecture}: {lines[0]}", where=str(folder / "model.cu")) from error
    return _parsed(log.getvalue())


def _parsed(log: str) -> dict[str, Usage]:
    found = {}
    parts = re.split(r"Compiling entry function '(\w+)' for", log)
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        registers = re.search(r"Used (\d+) registers", text)
        spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", text)
        shared = re.search(r"(\d+) bytes smem", text)
        if registers is None or spills is None:
            raise LeptonError("ptxas reports no registers or no spills", where=name, fix="another version of NVRTC")
        found[name] = Usage(int(registers[1]), int(spills[1]) + int(spills[2]), int(shared[1]) if shared else 0)
    return found


def compiled(folder: Path, program: GpuProgram) -> list[Check]:
    """Shared memory of every kernel beside the prediction, and that none spills.

    Raises
    ------
    LeptonError
        If the kernels do not compile.
    """
    if not has_compiler():
        return [unavailable("shared_bytes_equal", 0, MISSING)]
    number = round(10 * program.capability)
    if number not in architectures():
        reason = f"NVRTC of this version compiles for {min(architectures())} and later, not for {number}"
        return [unavailable("shared_bytes_equal", 0, f"{reason}: install an older nvidia-cuda-nvrtc")]
    found = usage(folder, f"sm_{number}")
    wrong = [
        (name, kernel.shared_bytes, found[name].shared_bytes)
        for name, kernel in zip(kernel_identifiers(program), program.kernels, strict=True)
        if found[name].shared_bytes != kernel.shared_bytes
    ]
    reason = "" if not wrong else f"{wrong[0][0]}: predicted {wrong[0][1]} bytes, ptxas {wrong[0][2]}"
    return [compare("shared_bytes_equal", 0, len(wrong), reason=reason), *_resident(program, found)]


def _resident(program: GpuProgram, found: dict[str, Usage]) -> list[Check]:
    """Blocks that a multiprocessor holds with ptxas' registers beside the plan's: never fewer, and of how many kernels equal."""
    if program.limits is None:
        return []
    fewer = equal = spilled = 0
    tiled = [
        (found[name], kernel, kernel.work)
        for name, kernel in zip(kernel_identifiers(program), program.kernels, strict=True)
        if isinstance(kernel.work, Contraction)
    ]
    for used, kernel, work in tiled:
        held = resident_blocks(work, used.registers, program.limits)
        fewer += held < kernel.resident
        equal += held == kernel.resident
        spilled += used.spill_bytes
    checks = [compare("fewer_blocks_than_planned", 0, fewer)]
    what = {
        "kernels_with_planned_blocks": (len(tiled), equal, "resident on a multiprocessor with ptxas' registers"),
        "spilled_bytes": (0, spilled, "of a thread, all kernels"),
    }
    for name, (predicted, observed, reason) in what.items():
        checks.append(Check(name=name, predicted=predicted, observed=observed, status=CheckStatus.REPORTED, reason=reason))
    return checks
