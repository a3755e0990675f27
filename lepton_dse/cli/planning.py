"""The commands that predict and decide: cost, plan, explain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lepton_dse import flow
from lepton_dse.cli.console import out, print_json, progress
from lepton_dse.cli.models import open_model
from lepton_dse.compress.prune import prune
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.reference.metrics.bootstrap import metric_of
from lepton_dse.report.compression import applied, compression_table
from lepton_dse.report.sharding import sharding_table
from lepton_dse.report.tables import (
    accuracy_table,
    cost_table,
    evidence,
    op_cost_table,
    plan_table,
    resource_table,
    stage_table,
    zeros_note,
)
from lepton_dse.report.text import count, seconds
from lepton_dse.search.levers import levers
from lepton_dse.sim.energy import power_note
from lepton_dse.targets import FpgaTarget, load_target, target_names

__all__ = ["Compression", "PlanArguments", "cost", "explain", "plan"]

_SCHEMA = 1


def cost(
    model: Path, names: list[str], dims: list[str], *, every: bool, format: str, batch: int, ops: bool, as_json: bool
) -> bool:
    """Print predicted cost; false where it fits no target."""
    chosen = [*names, *(target_names(unit=False) if every else ())]
    if not chosen:
        raise LeptonError("no target given", fix="name one with --target, or use --all")
    targets = [load_target(name) for name in dict.fromkeys(chosen)]
    graph = open_model(model, dims)
    reports = [flow.cost(graph, target, format=format, batch=batch) for target in targets]
    if as_json:
        rows = [report.model_dump(mode="json") for report in reports]
        print_json({"schema_version": _SCHEMA, "model": graph.name, "results": rows})
    else:
        console = out()
        console.print(cost_table(f"{graph.name}, {format}, batch {batch}", reports))
        for text in filter(None, map(zeros_note, reports)):
            console.print(text)
        for report, target in zip(reports, targets, strict=True) if ops else ():
            console.print(op_cost_table(report))
            if (note := power_note(report, target)) is not None:
                console.print(str(note))
    return any(report.feasible for report in reports)


@dataclass(frozen=True)
class Compression:
    """How ``lepton plan`` was asked to compress."""

    method: str
    rounding: str
    correct_bias: bool
    overrides: list[str]
    prune: float
    kind: str
    score: str

    @property
    def formats(self) -> dict[str, str]:
        """Formats of single operations."""
        for text in self.overrides:
            if not all(text.rpartition("=")[::2]):
                raise LeptonError(f"--override {text}", fix="write OP=FORMAT, such as conv1=w4a8")
        return {name: form for name, _, form in (text.rpartition("=") for text in self.overrides)}


@dataclass(frozen=True)
class PlanArguments:
    """What ``lepton plan`` was asked."""

    model: Path
    dims: list[str]
    target: str
    output: Path
    format: str
    data: Path | None
    minimize: str
    compression: Compression
    measure: int
    metric: str
    seed: int


def plan(asked: PlanArguments, *, as_json: bool) -> bool:
    """Make and write a plan; false where nothing fits."""
    target = load_target(asked.target)
    data = Dataset.read(asked.data) if asked.data is not None else None
    if asked.measure < 0:
        raise LeptonError(f"--measure {asked.measure}", fix="give a number of samples, or 0")
    metric = metric_of(asked.metric)
    if asked.measure and (data is None or (metric.labels and data.y is None)):
        kind = "labelled data" if metric.labels else "data"
        raise LeptonError(f"--measure needs {kind}", fix="give --data an .npz file with x" + (" and y" if metric.labels else ""))
    graph = open_model(asked.model, asked.dims)
    chosen = asked.compression
    with progress() as step:
        small = graph
        if chosen.prune:
            step("pruning")
            small = prune(graph, chosen.prune, kind=chosen.kind, score=chosen.score, data=data)
        step("calibrating and searching")
        planned = flow.plan(
            small,
            target,
            format=asked.format,
            data=data,
            minimize=asked.minimize,
            seed=asked.seed,
            progress=step,
            method=chosen.method,
            rounding=chosen.rounding,
            correct_bias=chosen.correct_bias,
            overrides=chosen.formats,
        )
        measured = {}
        if asked.measure and data is not None:
            step("measuring accuracy")
            subset = data.take(asked.measure)
            models: dict[str, Graph | flow.PlannedModel] = {"float": graph, asked.format: planned}
            measured = {name: flow.accuracy(model, subset, metric, reference=graph) for name, model in models.items()}
    planned.save(asked.output)
    if as_json:
        print_json(json.loads(planned.plan.to_json()))
        return planned.predicted.feasible
    console = out()
    calibration = planned.plan.calibration
    if calibration is not None and calibration.source == "noise":
        console.print("calibrated on seeded noise, not on data: accuracy is unknown", style="yellow")
    if not planned.predicted.feasible:
        for violation in planned.predicted.violations:
            console.print(f"does not fit: {violation}")
        return False
    if chosen.prune:
        console.print(_shrunk(graph, small))
    console.print(plan_table([planned.plan]))
    if isinstance(target, FpgaTarget):
        console.print(stage_table(planned.plan))
        console.print(resource_table("Resources", planned.predicted.resources, target.resources()))
    if (text := zeros_note(planned.predicted)) is not None:
        console.print(text)
    if measured:
        console.print(accuracy_table("Accuracy, measured integer-exact", measured, metric))
    console.print(f"wrote {asked.output}")
    return True


def _shrunk(before: Graph, after: Graph) -> str:
    macs, parameters = (f"{count(getattr(before, what))} -> {count(getattr(after, what))}" for what in ("macs", "parameters"))
    zeros = sum(int((value == 0).sum()) for value in after.constants.values())
    left = f"{macs} multiply-accumulates, {parameters} parameters, {count(zeros)} of them zero"
    return f"pruned: {left}; accuracy is lower until it is trained again"


def explain(path: Path) -> bool:
    """Print why a plan is as it is; false where it does not fit."""
    planned = flow.read_plan(path)
    plan = planned.plan
    target = planned.target
    report = plan.predicted
    advice = () if plan.sharding or not report.feasible else levers(plan, planned.bundle.graph, planned.lowered, target)
    console = out()
    if plan.calibration is not None:
        kind = "real samples" if plan.calibration.source == "data" else "seeded noise"
        rounding = "" if plan.calibration.rounding == "nearest" else f", weights rounded by {plan.calibration.rounding}"
        corrected = ", biases corrected" if plan.calibration.bias_correction else ""
        calibrated = f"calibrated on {plan.calibration.samples} of {kind} by {plan.calibration.method.value}"
        console.print(f"{plan.precision}, {calibrated}{rounding}{corrected}")
    if not report.feasible:
        console.print("It does not fit:")
        for violation in report.violations:
            console.print(f"  {violation}")
        return False
    console.print(f"Latency {seconds(report.latency_s)}, bound by {report.bound_by}; evidence: {evidence(report)}")
    if report.search is not None:
        proof = "the optimum of the space" if report.search.optimal else f"at most {100 * report.search.gap:.1f}% from the bound"
        console.print(f"{report.search.objective}: {report.search.best:g}, {proof}")
        console.print(f"space: {report.search.space} ({report.search.evaluated} options)")
    if isinstance(target, FpgaTarget):
        console.print(stage_table(plan))
        console.print(resource_table("Resources", report.resources, target.resources()))
    elif plan.sharding is not None:
        console.print(sharding_table(planned.lowered, plan.sharding))
    else:
        console.print(op_cost_table(report))
    if (text := zeros_note(report)) is not None:
        console.print(text)
    console.print(compression_table(applied(planned.bundle, planned.lowered)))
    if plan.sharding is None:
        console.print("Next lever:")
    for lever in advice:
        console.print(f"  {lever}")
    return True
