"""Kernels run on the CPU: outputs in two orders of the threads, accesses that must not be, and requests beside the prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lepton_dse.emit.cuda.emitter import INPUT_FILE, expected_file, kernel_identifiers
from lepton_dse.plan import Check
from lepton_dse.schedule.gpu import GpuProgram
from lepton_dse.sim.gpu.requests import Requests, requests
from lepton_dse.verify.artefact import Artefact, Progress, compare
from lepton_dse.verify.cuda.program import FAULTS, HostProgram, Order
from lepton_dse.verify.intervals import judged

__all__ = ["executed", "predicted_counts"]

_ORDERS: tuple[Order, ...] = ("FORWARD", "REVERSE")
_GLOBAL = ("load_requests", "load_bytes", "load_sectors", "store_requests", "store_bytes", "store_sectors")
_SHARED = ("shared_loads", "shared_load_passes", "shared_stores", "shared_store_passes", "barriers")


def executed(compiler: str, artefact: Artefact, program: GpuProgram, folder: Path, progress: Progress) -> list[Check]:
    """Run an artefact on the CPU.

    Parameters
    ----------
    compiler : str
        A C++17 compiler.
    artefact : Artefact
    program : GpuProgram
        What the artefact's text was written from.
    folder : Path
        For what the run leaves.
    progress : callable

    Raises
    ------
    LeptonError
        If the program does not compile or does not end normally.
    """
    progress("compiling the kernels for this machine's CPU")
    shared = HostProgram.compile(compiler, artefact.folder, folder, apart=False)
    apart = HostProgram.compile(compiler, artefact.folder, folder, apart=True)
    checks = []
    for order in _ORDERS:
        progress(f"running every sample, threads in {order.lower()} order")
        checks.append(_outputs(artefact, program, shared, apart, order, folder))
    progress("watching every access of one sample")
    faults, counted = [], []
    for order in _ORDERS:
        seen = apart.outputs(order, folder, len(program.outputs), watch=True)[1]
        faults.append(sum(kernel[name] for kernel in seen for name in FAULTS))
        counted.append(_differing(program, seen))
    checks.append(compare("faults_of_threads", 0, sum(faults), reason="races, barriers that not all reach, or wild addresses"))
    for names, title in ((_GLOBAL, "global_requests_equal"), (_SHARED, "shared_passes_equal")):
        wrong = [entry for entries in counted for entry in entries if entry[1] in names]
        reason = "" if not wrong else f"{wrong[0][0]}: {wrong[0][1]} predicted {wrong[0][2]}, counted {wrong[0][3]}"
        checks.append(compare(title, 0, len(wrong), reason=reason))
    return checks


def predicted_counts(asked: Requests) -> dict[str, int]:
    """A prediction under the names that the kernels report."""
    return {
        "load_requests": asked.loads.requests,
        "load_bytes": asked.loads.bytes,
        "load_sectors": asked.loads.sectors,
        "store_requests": asked.stores.requests,
        "store_bytes": asked.stores.bytes,
        "store_sectors": asked.stores.sectors,
        "shared_loads": asked.shared_loads,
        "shared_load_passes": asked.shared_load_passes,
        "shared_stores": asked.shared_stores,
        "shared_store_passes": asked.shared_store_passes,
        "barriers": asked.barriers,
    }


def _differing(program: GpuProgram, seen: list[dict[str, int]]) -> list[tuple[str, str, int, int]]:
    """Kernel, figure, prediction and count, where these differ; loads whose place a value decides are not predicted."""
    found = []
    for name, kernel, counts in zip(kernel_identifiers(program), program.kernels, seen, strict=True):
        asked = requests(kernel)
        for figure, value in predicted_counts(asked).items():
            if counts[figure] != value and not (asked.indirect and figure.startswith("load_")):
                found.append((name, figure, value, counts[figure]))
    return found


def _outputs(
    artefact: Artefact, program: GpuProgram, shared: HostProgram, apart: HostProgram, order: Order, folder: Path
) -> Check:
    """Outputs of every sample: equal to the reference's, or every stored result within its bound."""
    graph, title = artefact.graph, f"outputs_equal_{order.lower()}"
    found, _ = shared.outputs(order, folder, len(program.outputs))
    wrong, reason = 0, ""
    for position, name in enumerate(graph.outputs):
        dtype = graph.tensors[name].format.numpy.newbyteorder("<")
        expected = np.fromfile(artefact.folder / expected_file(position), dtype)
        observed = np.fromfile(found[position], dtype)
        if observed.size != expected.size:
            return compare(title, expected.size, observed.size, reason=f"values of output {name}")
        differs = int(np.count_nonzero(expected != observed))
        wrong, reason = wrong + differs, reason or (f"output {name}" if differs else "")
    if not wrong:
        return compare(title, 0, 0)
    alone, _ = apart.outputs(order, folder, len(program.outputs))
    if any(one.read_bytes() != other.read_bytes() for one, other in zip(found, alone, strict=True)):
        return compare(title, 0, wrong, reason="outputs change where results share the arena")
    return _bounded(artefact, program, apart, order, folder, title)


def _bounded(artefact: Artefact, program: GpuProgram, apart: HostProgram, order: Order, folder: Path, title: str) -> Check:
    """Every stored result beside what the reference makes of the stored results that it reads."""
    graph = artefact.graph
    (first, *_) = program.inputs
    count = first.tensor.elements
    x = np.fromfile(artefact.folder / INPUT_FILE, first.tensor.format.numpy.newbyteorder("<")).reshape(-1, count)
    beyond, reason = 0, ""
    copies = {kernel.result.name: kernel.reordered for kernel in program.kernels if kernel.reordered}
    for number, sample in enumerate(apart.stored(program, order, folder)):
        for copy, source in copies.items():
            if source in sample and not np.array_equal(sample[copy].reshape(-1), sample[source].reshape(-1)):
                beyond, reason = beyond + 1, reason or f"sample {number}: '{copy}' is not '{source}'"
        recorded = {name: value for name, value in sample.items() if name not in copies and name not in graph.inputs}
        feeds = {first.name: x[number].reshape(first.tensor.shape)}
        for result in judged(graph, feeds, recorded):
            beyond += result.wrong
            reason = reason or (f"sample {number}: tensor '{result.tensor}' {result.first}" if result.wrong else "")
    return compare(title, 0, beyond, reason=reason)
