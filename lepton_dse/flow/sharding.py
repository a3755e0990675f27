"""A model and a mesh of a cluster's devices become a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lepton_dse.bundle import Bundle
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.flow.compression import quantized, recipe
from lepton_dse.flow.model import PlannedModel
from lepton_dse.ir.graph import Graph
from lepton_dse.lower import lower_bundle
from lepton_dse.memory import Block, map_memory, place, stored_bytes
from lepton_dse.parallel.layout import Mesh
from lepton_dse.parallel.splitting import layouts_of, splittable
from lepton_dse.plan import Calibration, CostReport, Evidence, OpPlan, Plan, Violation
from lepton_dse.schedule.sharded import (
    Compute,
    ShardedProgram,
    StagedProgram,
    operands_of,
    result_of,
    sharding_of,
    staged_program,
)
from lepton_dse.schedule.sharded.traffic import predicted_collectives
from lepton_dse.search.sharded import ShardedPlan, StepPrices, plan_sharding, plan_stages, prices_of, send_seconds
from lepton_dse.sim.mixed import formats_of
from lepton_dse.targets import Cluster, load_cluster

__all__ = ["shard", "sharding_misfits", "staged_report"]


def shard(
    model: Graph | Bundle,
    cluster: str | Path | Cluster,
    mesh: str | Mesh,
    *,
    batch: int = 1,
    format: str = "float32",
    data: Dataset | None = None,
    stages: int = 1,
    seed: int = 0,
    time_limit_s: float = 120.0,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> PlannedModel:
    """Decide how the devices of a mesh share a model, quantising it first where that was not done.

    Parameters
    ----------
    model : Graph or Bundle
        A float graph, or a bundle, which is planned as it is.
    cluster : str, Path or Cluster
        Its device is the plan's target.
    mesh : str or Mesh
        Such as ``x=2,y=4``.
    batch : int
        Samples of a pass, all devices together.
    format : str
        Default formats, for example ``float32``, ``bfloat16`` or ``int8``; of a graph.
    data : Dataset, optional
        Calibration samples; seeded noise where there are none, and the plan says so.
    stages : int
        Of a pipeline, each on a mesh of its own.
    seed : int
        Of the noise.
    time_limit_s : float
        After which the best strategies so far are taken, with their gap.
    progress : callable
        Told what is about to be done.
    **options
        Of :func:`~lepton_dse.flow.recipe`.

    Returns
    -------
    PlannedModel
        ``predicted.search`` says whether its strategies are proved cheapest under the closed forms.

    Raises
    ------
    LeptonError
        For wrong arguments, or a model whose samples mix.
    """
    hardware = cluster if isinstance(cluster, Cluster) else load_cluster(cluster)
    axes = mesh if isinstance(mesh, Mesh) else Mesh.parse(mesh)
    if batch < 1:
        raise LeptonError(f"a batch of {batch} samples", fix="use at least 1")
    calibration: Calibration | None = None
    if isinstance(model, Bundle):
        if options:
            raise LeptonError(f"a bundle is quantised already; {', '.join(options)} came too late", fix="shard the graph instead")
        bundle, precision = model, model.precision
    else:
        chosen = recipe(format, **options)
        precision = chosen.precision
        bundle, calibration = quantized(model, chosen, data, seed, progress)
    lowered = lower_bundle(bundle).with_batch(batch)
    prices = prices_of(hardware)
    progress(f"choosing strategies on a mesh of {axes.devices} devices")
    found = plan_sharding(lowered, axes, prices, time_limit_s=time_limit_s)
    begins, predicted = staged_report(found, stages, batch, prices)
    formats = formats_of(bundle, precision)
    decided = Plan(
        model=bundle.graph.name,
        bundle_digest=bundle.digest,
        target=prices.device.name,
        target_digest=prices.device.digest,
        precision=str(precision),
        calibration=calibration,
        seed=seed,
        objective="latency",
        ops=tuple(OpPlan(op=op.name, precision=str(formats[op.name])) for op in bundle.graph.ops),
        memory=map_memory(lowered, bytes_of=stored_bytes),
        sharding=sharding_of(found.strategies, axes, hardware.name, batch, begins),
        predicted=predicted,
    )
    return PlannedModel(decided, bundle, prices.device)


def sharding_misfits(graph: Graph, mesh: Mesh, stages: int, cluster: Cluster) -> tuple[Violation, ...]:
    """Why a mesh cannot share a lowered graph at all; empty where it can.

    Parameters
    ----------
    graph : Graph
        For the batch of a pass.
    mesh : Mesh
    stages : int
    cluster : Cluster
    """
    found = []
    if (devices := stages * mesh.devices) > cluster.size:
        levers = ("a smaller mesh", *(("fewer stages",) if stages > 1 else ()), "a larger cluster")
        found.append(_violation(f"mesh {mesh} on {cluster.name}", devices, cluster.size, "devices", levers))
    if stages > len(graph.ops):
        found.append(_violation("stages of a pipeline", stages, len(graph.ops), "operations", ("fewer stages",)))
    for name, size in mesh.axes:
        if size > 1 and not _shares(graph, name, size):
            smaller = next((other for other in range(size - 1, 1, -1) if _shares(graph, name, other)), None)
            levers = ("no such axis" if smaller is None else f"an axis of {smaller}", f"a batch that {size} divides")
            found.append(_violation(f"what the {size} devices of axis {name} share evenly", 1, 0, "loop", levers))
    return tuple(found)


def _violation(what: str, demand: int, bound: int, unit: str, levers: tuple[str, ...]) -> Violation:
    return Violation(what=what, demand=float(demand), bound=float(bound), unit=unit, levers=levers)


def _shares(graph: Graph, axis: str, size: int) -> bool:
    """Whether any operation has a loop that an axis of so many devices may share."""
    mesh = Mesh(((axis, size),))
    return any(
        loop.extent % size == 0 and layouts_of(graph, op, {loop.name: (axis,)}, mesh) is not None
        for op in graph.ops
        for loop in splittable(graph, op)
    )


def staged_report(found: ShardedPlan, stages: int, batch: int, prices: StepPrices) -> tuple[tuple[str, ...], CostReport]:
    """Operations with which the stages of a pipeline after the first begin, and what all of it costs.

    Parameters
    ----------
    found : ShardedPlan
        Strategies of the whole graph, which every stage keeps.
    stages : int
    batch : int
    prices : StepPrices

    Raises
    ------
    LeptonError
        If there are more stages than operations, or more devices than the cluster has.
    """
    begins, slowest = plan_stages(found.program, stages, prices)
    staged = staged_program(found.program.graph, found.program.mesh, found.strategies, begins)
    return begins, _report(found, staged, slowest, prices, batch)


def _report(found: ShardedPlan, staged: StagedProgram, slowest: float, prices: StepPrices, batch: int) -> CostReport:
    program = found.program
    kernels = links = 0.0
    for step in program.steps:
        seconds = prices.step(step, program)
        if isinstance(step, Compute):
            kernels += seconds
        else:
            links += seconds
    sends = send_seconds(staged.graph, program, prices)
    passed = sum(sends[position] for position, op in enumerate(staged.graph.ops) if op.name in staged.begins)
    messages = sum(entry.message_bytes for part in staged.stages for entry in predicted_collectives(part))
    sent = messages + staged.mesh.devices * sum(transfer.device_bytes for transfer in staged.transfers)
    weights = max(map(_held, staged.stages)) if staged.begins else found.weight_bytes
    peak = max(_held(part) + _arena(part) for part in staged.stages) if staged.begins else weights + _arena(program)
    violations = _too_large(found.violations, weights, prices.device.levels[-1].capacity_bytes.value)
    return CostReport(
        target=prices.device.name,
        feasible=not violations,
        latency_s=found.seconds + passed,
        throughput_per_s=batch / slowest if slowest else 0.0,
        energy_j=None,
        peak_bytes=peak,
        traffic_bytes={"exchanged": float(sent)},
        resources={"devices": float(staged.devices), "kernels_s": kernels, "exchanges_s": links + passed},
        bound_by="kernels" if kernels >= links else "exchanges",
        evidence=Evidence.UNCHECKED,
        violations=violations,
        search=found.search,
    )


def _held(program: ShardedProgram) -> int:
    """Bytes of the constants that one device holds."""
    return sum(stored_bytes(program.shards[name].tensor) for name in program.constants)


def _too_large(found: tuple[Violation, ...], weights: int, capacity: float) -> tuple[Violation, ...]:
    """What the search found not to fit, as far as the stage with the most weights does not fit either."""
    if weights <= capacity:
        return ()
    return tuple(entry.model_copy(update={"demand": float(weights), "levers": (*entry.levers, "more stages")}) for entry in found)


def _arena(program: ShardedProgram) -> int:
    """Bytes of the least arena that holds what one device computes, its steps run in order."""
    first = dict.fromkeys(program.inputs.values(), 0)
    last = dict(first)
    for number, step in enumerate(program.steps):
        first[result_of(step)] = last[result_of(step)] = number
        last |= {name: number for name in operands_of(step) if name in first}
    last |= dict.fromkeys(program.outputs.values(), len(program.steps))
    blocks = [Block(name, stored_bytes(program.shards[name].tensor), first[name], last[name]) for name in first]
    return place(blocks).peak
