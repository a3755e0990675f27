"""The command that shares a model over many devices: a graph over a mesh, a transformer's training or serving over a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.cli.console import out, print_json, progress
from lepton_dse.cli.models import open_model
from lepton_dse.data import Dataset
from lepton_dse.emit.launch import LaunchSettings, launch_files
from lepton_dse.errors import LeptonError
from lepton_dse.files import write_bytes
from lepton_dse.flow import PlannedModel, shard
from lepton_dse.importers.transformer import is_config, read_transformer
from lepton_dse.ir.transformer import Transformer
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Violation
from lepton_dse.report.sharding import sharding_table
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, seconds
from lepton_dse.search.transformer.costs import Training
from lepton_dse.search.transformer.pricing import pricer_of
from lepton_dse.search.transformer.serving import MEMORY_SHARE, Serving, ServingPlan, plan_serving
from lepton_dse.search.transformer.training import TrainingPlan, TrainingSpace, plan_training
from lepton_dse.targets import Cluster, load_cluster

__all__ = ["ShardArguments", "share"]

_SCHEMA = 1
_SHOWN = 8


@dataclass(frozen=True)
class ShardArguments:
    """What the command line asks for; None where an option is not given."""

    model: Path
    dims: list[str]
    cluster: str
    mesh: str | None
    devices: int | None
    batch: int | None
    format: str | None
    data: Path | None
    output: Path | None
    sequence: int | None
    answer: int | None
    ttft_s: float | None
    tpot_s: float | None
    launch: Path | None
    stages: int


def share(request: ShardArguments, *, as_json: bool) -> bool:
    """Share a model; returns whether it fits."""
    cluster = load_cluster(request.cluster)
    if is_config(request.model):
        model = read_transformer(request.model)
        if request.answer is not None:
            return _serve(model, cluster, request, as_json=as_json)
        return _train(model, cluster, request, as_json=as_json)
    return _graph(cluster, request, as_json=as_json)


def _refuse(given: Mapping[str, object], why: str) -> None:
    for option, value in given.items():
        if value:
            raise LeptonError(f"{option} {why}", fix="leave it out")


# --- a graph over a mesh --------------------------------------------------------------------------------------------


def _graph(cluster: Cluster, request: ShardArguments, *, as_json: bool) -> bool:
    others = {
        "--devices": request.devices,
        "--sequence": request.sequence,
        "--answer": request.answer,
        "--launch": request.launch,
    }
    _refuse(others, "is for transformers by their config.json")
    if request.mesh is None:
        raise LeptonError("a graph is shared over a mesh", where="--mesh", fix="give one, as in --mesh x=2,y=4")
    data = None if request.data is None else Dataset.read(request.data)
    graph = open_model(request.model, request.dims)
    batch, form = 1 if request.batch is None else request.batch, request.format or "float32"
    with progress() as step:
        planned = shard(graph, cluster, request.mesh, batch=batch, format=form, data=data, stages=request.stages, progress=step)
    if request.output is not None:
        planned.save(request.output)
    if as_json:
        print_json(_graph_document(planned))
    else:
        _print_graph(planned)
        if request.output is not None:
            out().print(f"wrote {request.output}", soft_wrap=True)
    return planned.predicted.feasible


def _graph_document(planned: PlannedModel) -> dict[str, object]:
    predicted = planned.predicted.model_dump(mode="json")
    sharding = planned.plan.sharding
    assert sharding is not None
    return {
        "schema_version": _SCHEMA,
        "model": planned.plan.model,
        "sharding": sharding.model_dump(mode="json"),
        **{
            key: predicted[key]
            for key in ("latency_s", "throughput_per_s", "peak_bytes", "traffic_bytes", "resources", "bound_by")
        },
        **{key: predicted[key] for key in ("evidence", "violations", "search")},
    }


def _print_graph(planned: PlannedModel) -> None:
    sharding, predicted = planned.plan.sharding, planned.predicted
    assert sharding is not None
    assert predicted.search is not None
    out().print(sharding_table(planned.lowered, sharding))
    proof = "proved cheapest" if predicted.search.optimal else f"within {100 * predicted.search.gap:.2g}% of the bound"
    kernels, exchanges = (seconds(predicted.resources[name]) for name in ("kernels_s", "exchanges_s"))
    out().print(f"{seconds(predicted.latency_s)} a pass of {sharding.batch} ({proof}): kernels {kernels}, exchanges {exchanges}")
    out().print(f"memory of a device {scaled(predicted.peak_bytes, 'B')}; evidence: {predicted.evidence}")
    _print_violations(predicted.violations)


def _print_violations(violations: tuple[Violation, ...]) -> None:
    for violation in violations:
        out().print(f"does not fit: {violation}", soft_wrap=True)


# --- a transformer over a cluster -----------------------------------------------------------------------------------


def _devices(cluster: Cluster, request: ShardArguments) -> int:
    others = {"--mesh": request.mesh, "--data": request.data, "-o": request.output, "--dim": request.dims}
    _refuse(others, "is for graphs, not for a transformer's config.json")
    return cluster.node_size if request.devices is None else request.devices


def _train(model: Transformer, cluster: Cluster, request: ShardArguments, *, as_json: bool) -> bool:
    _refuse(
        {"--ttft": request.ttft_s, "--tpot": request.tpot_s, "--launch": request.launch},
        "is for serving, which --answer asks for",
    )
    devices = _devices(cluster, request)
    sequence = model.longest if request.sequence is None else request.sequence
    batch = devices if request.batch is None else request.batch
    formats = Precision.parse(request.format or "bfloat16")
    if not (formats.weights.is_float and formats.activations.is_float):
        raise LeptonError(f"training in {formats}", where="--format", fix="use bfloat16 or float16")
    training = Training(model, batch, sequence)
    pricer = pricer_of(cluster, str(formats))
    found = plan_training(training, devices, pricer, TrainingSpace(context=None))
    flop = model.training_flop(batch, sequence)
    if as_json:
        document = {
            "schema_version": _SCHEMA,
            "model": model.name,
            "parameters": model.parameters,
            "strategy": {name: getattr(found.strategy, name) for name in found.strategy.__dataclass_fields__},
            "step": found.step._asdict(),
            "tokens_per_s": batch * sequence / found.step.time,
            "flop_per_s_of_a_device": flop / found.step.time / devices,
            "feasible": not found.violations,
            "violations": [violation.model_dump(mode="json") for violation in found.violations],
            "search": found.search.model_dump(mode="json"),
        }
        print_json(document)
    else:
        _print_training(training, devices, found, flop)
    return not found.violations


def _print_training(training: Training, devices: int, found: TrainingPlan, flop: float) -> None:
    model = training.model
    title = (
        f"{model.name}: {count(model.parameters)} parameters, {count(training.batch)} x {count(training.sequence)} tokens a step"
    )
    table = plain_table(
        f"{title}, {count(devices)} devices",
        *("strategy", "step", "filling", "messages", "gradients", "memory", "FLOP/s of a device"),
    )
    for strategy, step in found.best[:_SHOWN]:
        parts = (seconds(value) for value in (step.time, step.bubble, step.messages, step.reduce))
        table.add_row(str(strategy), *parts, scaled(step.memory, "B"), scaled(flop / step.time / devices, "FLOP/s"))
    out().print(table)
    search = found.search
    out().print(
        f"{count(search.evaluated)} strategies priced, {count(found.feasible)} fit; the first is the fastest of all of them"
    )
    _print_violations(found.violations)


def _serve(model: Transformer, cluster: Cluster, request: ShardArguments, *, as_json: bool) -> bool:
    _refuse({"--batch": request.batch}, "is for training: serving chooses how many sequences run at once")
    devices = _devices(cluster, request)
    assert request.answer is not None
    ttft, tpot = (math.inf if limit is None else limit for limit in (request.ttft_s, request.tpot_s))
    prompt = max(1, model.longest - request.answer) if request.sequence is None else request.sequence
    serving = Serving(model, prompt, request.answer, request.format or "bfloat16", ttft_s=ttft, tpot_s=tpot)
    found = plan_serving(serving, cluster, devices)
    if request.launch is not None:
        _launch(serving, cluster, found, request.launch)
    if as_json:
        points = [{name: getattr(point, name) for name in point.__dataclass_fields__} for point in (found.best, *found.points)]
        document = {
            "schema_version": _SCHEMA,
            "model": model.name,
            "best": points[0],
            "points": points[1:],
            "feasible": not found.violations,
            "violations": [violation.model_dump(mode="json") for violation in found.violations],
            "evidence": "unchecked",
        }
        print_json(document)
    else:
        _print_serving(serving, cluster, devices, found)
    return not found.violations


def _launch(serving: Serving, cluster: Cluster, found: ServingPlan, folder: Path) -> None:
    if cluster.torus:
        raise LeptonError(f"the engines run on GPUs, {cluster.name} has {cluster.device}", where="--launch", fix="leave it out")
    if found.violations:
        return
    best = found.best
    settings = LaunchSettings(
        model=serving.model.name,
        cluster=cluster.name,
        tensor=best.tensor,
        pipeline=best.pipeline,
        copies=best.copies,
        sequences=best.sequences,
        tokens=serving.prompt + serving.answer,
        format=serving.format,
        cache=serving.cache,
        memory_share=MEMORY_SHARE,
        ttft_s=best.ttft_s,
        tpot_s=best.tpot_s,
        tokens_per_s=best.tokens_per_s,
        memory_bytes=best.memory_bytes,
    )
    for name, data in launch_files(settings).items():
        write_bytes(folder / name, data)


def _print_serving(serving: Serving, cluster: Cluster, devices: int, found: ServingPlan) -> None:
    table = plain_table(
        f"{serving.model.name} in {serving.format} on {count(devices)} devices of {cluster.name}",
        *("share a layer", "stages", "copies", "sequences", "to first token", "per token", "tokens a second", "memory"),
    )
    ranked = sorted(found.points, key=lambda point: -point.tokens_per_s)
    for point in (found.best, *(entry for entry in ranked if entry != found.best))[:_SHOWN]:
        numbers = (point.tensor, point.pipeline, point.copies, point.sequences)
        times = (seconds(point.ttft_s), seconds(point.tpot_s))
        table.add_row(*map(count, numbers), *times, f"{point.tokens_per_s:,.0f}", scaled(point.memory_bytes, "B"))
    out().print(table)
    out().print("the first is the best within the limits; nothing published has been held against serving figures: unchecked")
    _print_violations(found.violations)
