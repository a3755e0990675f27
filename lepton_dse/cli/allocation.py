"""The command that chooses formats and channels under budgets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lepton_dse import flow
from lepton_dse.cli.console import out, print_json, progress
from lepton_dse.cli.models import open_model
from lepton_dse.data import Dataset
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import seconds, share
from lepton_dse.search.allocate.driver import Allocation
from lepton_dse.search.allocate.problem import Measure

__all__ = ["AllocateArguments", "allocate"]

_SCHEMA = 1


@dataclass(frozen=True)
class AllocateArguments:
    """What ``lepton allocate`` was asked."""

    model: Path
    dims: list[str]
    target: str
    data: Path
    output: Path | None
    choices: list[str]
    channels: list[float]
    minimize: str
    loss_points: float | None
    latency_s: float | None
    energy_j: float | None
    bytes: float | None
    bits: float | None
    metric: str | None
    rounding: str


def allocate(asked: AllocateArguments, *, as_json: bool) -> bool:
    """Choose, print and, where asked, write a plan; false where nothing keeps the budgets."""
    graph, data = open_model(asked.model, asked.dims), Dataset.read(asked.data)
    with progress() as step:
        found = flow.allocate(
            graph,
            asked.target,
            data,
            asked.choices,
            channels=asked.channels,
            minimize=asked.minimize,
            loss_points=asked.loss_points,
            latency_s=asked.latency_s,
            energy_j=asked.energy_j,
            bytes=asked.bytes,
            bits=asked.bits,
            metric=asked.metric,
            rounding=asked.rounding,
            progress=step,
        )
    if found.bundle is not None and asked.output is not None:
        flow.plan(found.bundle, asked.target).save(asked.output)
    if as_json:
        print_json(_document(graph.name, found))
    else:
        _show(found)
        if found.bundle is not None and asked.output is not None:
            out().print(f"wrote {asked.output}")
    return found.bundle is not None


def _document(model: str, found: Allocation) -> dict[str, object]:
    measured = (
        None
        if found.measured is None
        else {"loss_points": found.measured.loss.value, "divergence": found.measured.divergence.value}
    )
    return {
        "schema_version": _SCHEMA,
        "model": model,
        "formats": {layer.layer.name: str(layer.choice) for layer in found.table},
        "channels": {entry.group.name: entry.ratio for entry in found.channels},
        "totals": {str(measure): value for measure, value in found.totals.items()},
        "measured": measured,
        "rounds": len(found.rounds),
        "search": found.result.model_dump(mode="json"),
        "violations": [violation.model_dump(mode="json") for violation in found.violations],
    }


def _show(found: Allocation) -> None:
    console = out()
    if found.bundle is None or found.measured is None:
        for violation in found.violations:
            console.print(f"no allocation keeps the budgets: {violation}")
        return
    table = plain_table("Formats", "layer", "choice", "alone: points", "divergence", "latency", "bytes")
    for row in found.table:
        alone = f"{row.alone.loss.value:.2f} [{row.alone.loss.low:.2f}, {row.alone.loss.high:.2f}]"
        cells = [f"{row.added:.2g}", seconds(row.latency_s), f"{row.bytes:,.0f}"]
        table.add_row(row.layer.name, str(row.choice), alone, *cells)
    console.print(table)
    if found.channels:
        _show_channels(found)
    points = found.measured.loss
    console.print(
        f"measured together: {points.value:.2f} points lost [{points.low:.2f}, {points.high:.2f}] on {points.count} samples"
    )
    totals = ", ".join(f"{measure.value} {value:.4g}" for measure, value in found.totals.items() if measure is not Measure.LOSS)
    console.print(f"{totals}; {len(found.rounds)} allocation(s) measured")
    proof = "the optimum, if losses add up" if found.result.optimal else f"at most {100 * found.result.gap:.2f}% from the bound"
    console.print(f"search: {proof}")


def _show_channels(found: Allocation) -> None:
    table = plain_table("Channels", "of", "with", "less", "alone: points", "divergence")
    for row in found.channels:
        alone = "-" if row.alone is None else f"{row.alone.loss.value:.2f} [{row.alone.loss.low:.2f}, {row.alone.loss.high:.2f}]"
        table.add_row(row.group.name, ", ".join(row.group.ops[1:]) or "-", share(row.ratio), alone, f"{row.added:.2g}")
    out().print(table)
