"""Artefacts: written from plans, and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lepton_dse import registry
from lepton_dse.data import Dataset
from lepton_dse.emit.artefact import EmitRequest, Emitter, finish
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.files import write_bytes, write_folder
from lepton_dse.flow.model import PlannedModel
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.plan import Check, CheckStatus
from lepton_dse.reference.vectors import make_vectors
from lepton_dse.schedule.gpu import planned_program
from lepton_dse.schedule.sharded import planned_sharding, planned_stages, unshared_program
from lepton_dse.schedule.stream import StreamGraph, foldings_of, stream_graph, stream_schedule
from lepton_dse.sim.gpu.machine import limits_of
from lepton_dse.sim.stream import stall_case
from lepton_dse.targets import FpgaTarget, GpuTarget
from lepton_dse.verify.artefact import Verifier, VerifyOptions, open_artefact

__all__ = ["Verification", "emit", "emitters_for", "to_onnx", "verify"]

_STALL_SEEDS = (0, 1, 2, 3, 4, 5, 6)
_STALL_FRAMES = 4
_PRODUCTS = 4_000_000_000  # that all test vectors together may take where none are given


@dataclass(frozen=True)
class Verification:
    """Checks of one artefact."""

    artefact: Path
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.status is not CheckStatus.FAILED for check in self.checks)

    @property
    def complete(self) -> bool:
        """Whether every check passed, none being unavailable; figures that are only reported do not count."""
        return all(check.status in (CheckStatus.PASSED, CheckStatus.REPORTED) for check in self.checks)


def to_onnx(graph: Graph, path: str | Path) -> Path:
    """Write a float or lowered graph as an ONNX model; returns the path.

    Raises
    ------
    LeptonError
        If the graph has no ONNX form, or writing fails; an earlier file is then left whole.
    """
    from lepton_dse.emit.onnx import export

    write_bytes(Path(path), export(graph))
    return Path(path)


def emitters_for(family: str, *, sharded: bool = False) -> tuple[Emitter, ...]:
    """Emitters that serve a family, the family's own first; of plans for a mesh, those that write programs of several devices."""
    every: list[Emitter] = [registry.load(registry.Group.EMITTERS, name) for name in registry.names(registry.Group.EMITTERS)]
    serving = [emitter for emitter in every if family in emitter.families and (emitter.shards or not sharded)]
    return tuple(sorted(serving, key=lambda emitter: (emitter.on_request, emitter.families.index(family), emitter.name)))


def emit(
    planned: PlannedModel,
    folder: str | Path,
    *,
    emitter: str | None = None,
    data: Dataset | None = None,
) -> Path:
    """Write a plan's artefact.

    Parameters
    ----------
    planned : PlannedModel
    folder : str or Path
        New, empty, or holding an earlier artefact.
    emitter : str, optional
        The family's own by default.
    data : Dataset, optional
        Samples for the test vectors, all of them. By default the first of those in the bundle: as many as take four billion
        multiply-accumulates together, at least one, so that large networks are written and run in little time.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InvalidPlanError
        If the plan is not feasible.
    LeptonError
        If no emitter serves, or writing fails; an earlier artefact is then left whole.
    """
    plan = planned.plan
    if not plan.predicted.feasible:
        raise InvalidPlanError(
            f"the plan does not fit: {plan.predicted.violations[0]}", where=plan.target, fix="see 'lepton explain'"
        )
    serving = emitters_for(planned.target.family, sharded=plan.sharding is not None)
    chosen = next((entry for entry in serving if emitter in (None, entry.name)), None)
    if chosen is None:
        asked = f"no emitter '{emitter}'" if emitter else "no emitter"
        known = ", ".join(entry.name for entry in serving)
        fix = f"known: {known}" if known else "plan for an fpga or a cpu target"
        raise LeptonError(f"{asked} for {planned.target.family} targets", fix=fix)
    request = _request(planned, data)
    out = Path(folder)
    write_folder(out, finish(chosen, request))
    return out


def _request(planned: PlannedModel, data: Dataset | None) -> EmitRequest:
    graph, target = planned.lowered, planned.target
    x = data.x if data is not None else _samples(planned.bundle.samples, graph)
    sharding = planned.plan.sharding
    if not isinstance(target, FpgaTarget):
        if sharding is not None and sharding.stages:
            staged = planned_stages(graph, sharding)
            passed = tuple(dict.fromkeys(transfer.tensor for transfer in staged.transfers))
            return EmitRequest(planned.plan, graph, make_vectors(graph, x, passed), staged=staged)
        sharded = unshared_program(graph) if sharding is None else planned_sharding(graph, sharding)
        kernels = None
        if isinstance(target, GpuTarget) and sharding is None:
            kernels = planned_program(graph, planned.plan, target.compute_capability.value, limits_of(target))
        return EmitRequest(planned.plan, graph, make_vectors(graph, x), gpu=kernels, sharded=sharded)
    streams = stream_graph(graph)
    if not isinstance(streams, StreamGraph):
        raise InvalidPlanError(str(streams[0]), where=planned.plan.model, fix="plan again")
    schedule = stream_schedule(streams, foldings_of(planned.plan, streams))
    vectors = make_vectors(graph, x, (streams.input.name, streams.output.name))
    stalls = tuple(stall_case(schedule, seed, min(_STALL_FRAMES, len(x))) for seed in _STALL_SEEDS)
    return EmitRequest(planned.plan, graph, vectors, schedule, stalls, target.fabric)


def _samples(x: NDArray[np.float32], graph: LoweredGraph) -> NDArray[np.float32]:
    """The first samples, no more than the reference runs in a moment, and at least one."""
    each = max(graph.macs // graph.batch, 1)
    return x[: max(1, _PRODUCTS // each)]


def verify(
    folder: str | Path, *, synthesis: bool = False, placement: bool = False, progress: Callable[[str], None] | None = None
) -> Verification:
    """Run an artefact and compare what it does with what was predicted; needs nothing but the folder.

    Parameters
    ----------
    folder : str or Path
    synthesis : bool
        Also synthesise FPGA designs and compare resources.
    placement : bool
        After that, also place and route designs for ECP5 and hold the clock against the plan's band.
    progress : callable, optional
        Told what is about to run.

    Raises
    ------
    InvalidPlanError
        If the folder is no artefact or a byte of it was changed.
    """
    artefact = open_artefact(Path(folder))
    verifier: Verifier = registry.load(registry.Group.VERIFIERS, artefact.emitter)
    try:
        checks = verifier.run(artefact, VerifyOptions(synthesis, placement, progress or (lambda text: None)))
    except (FileNotFoundError, KeyError, ValueError) as error:  # the manifest fits, yet a file lacks what is read from it
        raise InvalidPlanError(f"the artefact is inconsistent: {error}", where=str(folder), fix="emit it again") from error
    return Verification(Path(folder), tuple(checks))
