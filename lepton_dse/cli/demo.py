"""``lepton demo``: the main job end to end, with what was predicted beside what was observed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from lepton_dse import flow
from lepton_dse.cli.console import out, progress
from lepton_dse.data import Dataset, Interval
from lepton_dse.demo.digits import load_digits_split
from lepton_dse.files import data_folder, write_text
from lepton_dse.importers import load_model
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import CheckStatus, CostReport
from lepton_dse.report.dataflow import dataflow_svg
from lepton_dse.report.tables import accuracy_table, checks_table, cost_table, ops_table, plan_table, resource_table, stage_table
from lepton_dse.targets import FpgaTarget, target_names

__all__ = ["run"]

MODEL = "digits_cnn.onnx"
FORMATS = ("int8", "w4a8")
DEVICES = ("amd-zynq-7020", "lattice-ecp5-85f")
HOST = "amd-epyc-9654"
SYNTHESISED = {("amd-zynq-7020", "int8"), ("lattice-ecp5-85f", "w4a8")}
_CALIBRATION, _IMAGES = 256, 128


@dataclass
class _Results:
    """What the demo collects."""

    costs: list[CostReport] = field(default_factory=list)
    accuracies: dict[str, Interval] = field(default_factory=dict)
    plans: dict[tuple[str, str], flow.PlannedModel] = field(default_factory=dict)
    verifications: dict[tuple[str, str], flow.Verification] = field(default_factory=dict)


def run(folder: Path, *, synthesis: bool) -> bool:
    """Run every step, print the tables, and write plans, artefacts, pictures and ``results.json`` under `folder`.

    Returns
    -------
    bool
        Whether every design fits and no check failed.
    """
    training, held_out = load_digits_split()
    graph = load_model(data_folder("models") / MODEL)
    runs = [(device, precision) for device in (*DEVICES, HOST) for precision in FORMATS]
    results = _Results()
    with progress(3 + 3 * len(runs)) as step:
        step("costing on all devices")
        results.costs = [flow.cost(graph, name) for name in target_names(unit=False)]
        step("measuring float accuracy")
        results.accuracies["float32"] = flow.accuracy(graph, held_out)
        for device, precision in runs:
            step(f"planning {precision} for {device}")
            planned = _planned(graph, device, precision, training, folder)
            results.plans[device, precision] = planned
            if device == DEVICES[0]:
                results.accuracies[precision] = flow.accuracy(planned, held_out)
        artefacts = {}
        for device, precision in runs:
            step(f"emitting {precision} for {device}")
            if results.plans[device, precision].predicted.feasible:
                folder_of = _place(folder, device, precision)
                artefacts[device, precision] = flow.emit(results.plans[device, precision], folder_of, data=held_out.take(_IMAGES))
        step("verifying every design")
        for key, verification in _verified(artefacts, synthesis=synthesis):
            results.verifications[key] = verification
            step(f"verified {key[1]} for {key[0]}")
        results.verifications = {key: results.verifications[key] for key in artefacts}
        step("writing pictures and results")
        _write(folder, results)
    _show(graph, folder, results)
    return all(key in results.verifications and results.verifications[key].passed for key in results.plans)


def _verified(artefacts: dict[tuple[str, str], Path], *, synthesis: bool) -> Iterator[tuple[tuple[str, str], flow.Verification]]:
    """Verify artefacts side by side, a process a core: most of the time goes to compilers, simulators and synthesis."""
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=get_context("spawn")) as pool:
        try:
            # The synthesised ones take longest, so they start first.
            ordered = sorted(artefacts, key=lambda key: key not in SYNTHESISED)
            running = {
                pool.submit(flow.verify, artefacts[key], synthesis=synthesis and key in SYNTHESISED): key for key in ordered
            }
            for done in as_completed(running):
                yield running[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _place(folder: Path, device: str, precision: str) -> Path:
    return folder / "artefacts" / f"{device}-{precision}"


def _planned(graph: Graph, device: str, precision: str, training: Dataset, folder: Path) -> flow.PlannedModel:
    planned = flow.plan(graph, device, format=precision, data=training.take(_CALIBRATION), minimize="throughput")
    planned.save(folder / "plans" / f"{device}-{precision}.json")
    return planned


def _write(folder: Path, results: _Results) -> None:
    for (device, precision), planned in results.plans.items():
        if planned.predicted.cycles is not None and planned.predicted.ops:
            write_text(folder / f"{device}-{precision}.svg", dataflow_svg(planned.plan, planned.lowered))
    document = {
        "accuracy": {name: {"top1": value.value, "images": value.count} for name, value in results.accuracies.items()},
        "costs": [report.model_dump(mode="json") for report in results.costs],
        "designs": [
            {
                "target": device,
                "format": precision,
                "predicted": results.plans[device, precision].predicted.model_dump(mode="json"),
                "checks": [check.model_dump(mode="json") for check in verification.checks],
            }
            for (device, precision), verification in results.verifications.items()
        ],
    }
    write_text(folder / "results.json", json.dumps(document, indent=1) + "\n")


def _show(graph: Graph, folder: Path, results: _Results) -> None:
    console = out()
    console.print(ops_table(graph))
    console.print(cost_table(f"{graph.name}, int8, batch 1, before planning", results.costs))
    console.print(accuracy_table("Accuracy on held-out digits, integer-exact", results.accuracies))
    streaming = {key: planned for key, planned in results.plans.items() if isinstance(planned.target, FpgaTarget)}
    console.print(plan_table([planned.plan for planned in streaming.values()]))
    for (device, precision), planned in streaming.items():
        target = planned.target
        assert isinstance(target, FpgaTarget), "only streaming plans are listed"
        if not planned.predicted.feasible:
            console.print(f"{device} {precision} does not fit: {planned.predicted.violations[0]}")
            continue
        console.print(stage_table(planned.plan))
        console.print(resource_table(f"Resources of {device}, {precision}", planned.predicted.resources, target.resources()))
    for (device, precision), verification in results.verifications.items():
        console.print(
            checks_table(f"{device}, {precision}: predicted beside observed on {_IMAGES} held-out images", verification.checks)
        )
    checks = [check for verification in results.verifications.values() for check in verification.checks]
    counts = {status: sum(check.status is status for check in checks) for status in CheckStatus}
    counted = ((status, count) for status, count in counts.items() if count or status is not CheckStatus.REPORTED)
    console.print(", ".join(f"{count} checks {status.value}" for status, count in counted))
    console.print(f"plans, artefacts and pictures are in {folder}", soft_wrap=True)
