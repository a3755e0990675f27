"""Kernels on a GPU: outputs of the very program that is deployed, and the time of every kernel, where there is a GPU and nvcc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lepton_dse.emit.cuda.emitter import expected_file, kernel_identifiers
from lepton_dse.errors import MissingToolError
from lepton_dse.plan import Check, CheckStatus, CostReport
from lepton_dse.schedule.gpu import GpuProgram
from lepton_dse.verify.artefact import Artefact, Progress, compare, unavailable
from lepton_dse.verify.cuda.device import build, find_gpu, find_nvcc, run

__all__ = ["Predicted", "predictions", "time_checks", "timed"]


@dataclass(frozen=True)
class Predicted:
    """What a plan says of one kernel.

    Parameters
    ----------
    seconds : float or None
        Of all operations that the kernel computes; None where the plan prices none of them.
    copies : tuple of int
        Positions of the changes of layout before the kernel, which the plan counts with it.
    with_kernel : int or None
        Of a change of layout: position of the kernel that it is counted with.
    """

    seconds: float | None
    copies: tuple[int, ...] = ()
    with_kernel: int | None = None


def timed(artefact: Artefact, program: GpuProgram, folder: Path, progress: Progress) -> list[Check]:
    """Build with nvcc, run every sample, and report the time of each kernel in milliseconds beside the prediction.

    Raises
    ------
    LeptonError
        If it does not build or run, or prints no times.
    """
    try:
        gpu, nvcc = find_gpu(), find_nvcc()
    except MissingToolError as error:
        return [unavailable("milliseconds_on_gpu", None, error.what)]
    progress(f"running on {gpu.name}")
    binary = folder / "gpu"
    build(nvcc, artefact.folder, program.capability, binary)
    files = [folder / f"gpu-{index}.bin" for index in range(len(program.outputs))]
    times = run(binary, artefact.folder, files, kernel_identifiers(program))
    wrong = 0
    for position, name in enumerate(artefact.graph.outputs):
        form = artefact.graph.tensors[name].format
        dtype = form.numpy.newbyteorder("<")
        expected = np.fromfile(artefact.folder / expected_file(position), dtype)
        observed = np.fromfile(files[position], dtype)
        if observed.size != expected.size:
            wrong += max(observed.size, expected.size)
        elif form.is_float:
            wrong += int(np.count_nonzero(~np.isclose(expected, observed, rtol=1e-2, atol=1e-3)))
        else:
            wrong += int(np.count_nonzero(expected != observed))
    return [compare("outputs_equal_on_gpu", 0, wrong), *time_checks(program, artefact.plan.predicted, times, gpu.name)]


def time_checks(program: GpuProgram, report: CostReport, times: Sequence[float], device: str) -> list[Check]:
    """A reported figure for each kernel, measured beside predicted, and one for all of them.

    Parameters
    ----------
    program : GpuProgram
    report : CostReport
        The plan's.
    times : sequence of float
        Milliseconds of each kernel.
    device : str
        What they were measured on.
    """
    names, found, unpriced = kernel_identifiers(program), predictions(program, report), 0.0
    checks = []
    for name, entry, measured in zip(names, found, times, strict=True):
        reason = ""
        if entry.with_kernel is not None:
            reason = f"a change of layout, predicted with {names[entry.with_kernel]}"
        elif entry.seconds is None:
            reason, unpriced = "the plan does not price it", unpriced + measured
        elif entry.copies:
            reason = f"with {', '.join(names[position] for position in entry.copies)}"
        predicted = None if entry.seconds is None else entry.seconds * 1e3
        observed = measured + sum(times[position] for position in entry.copies)
        checks.append(_reported(f"milliseconds_of_{name}", predicted, observed, reason))
    reason = f"all kernels one by one on {device}" + (
        f", {unpriced:.4g} ms in those that the plan does not price" if unpriced else ""
    )
    return [*checks, _reported("milliseconds_on_gpu", report.latency_s * 1e3, sum(times), reason)]


def predictions(program: GpuProgram, report: CostReport) -> list[Predicted]:
    """What a plan predicts for each kernel of its program.

    A kernel's time is that of all operations in it. Changes of layout are counted with the next kernel that is none, as the
    planner counts them; where the plan does not price that kernel's first operation, nothing counts them.
    """
    priced = {cost.name: cost.latency_s for cost in report.ops}
    found: list[Predicted] = []
    waiting: list[int] = []
    for position, kernel in enumerate(program.kernels):
        if kernel.reordered:
            waiting.append(position)
            found.append(Predicted(None))
            continue
        own = [priced[op.name] for op in kernel.ops if op.name in priced]
        if not own:
            found.append(Predicted(None))
        else:
            counted = tuple(waiting) if kernel.name in priced else ()
            found.append(Predicted(sum(own), counted))
            for copy in counted:
                found[copy] = Predicted(None, with_kernel=position)
        waiting = []
    return found


def _reported(name: str, predicted: float | None, observed: float, reason: str) -> Check:
    return Check(name=name, predicted=predicted, observed=observed, status=CheckStatus.REPORTED, reason=reason)
