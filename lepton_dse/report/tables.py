"""Results as rich tables, for terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lepton_dse.data import Interval
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import Check, CheckStatus, CostReport, Plan, Violation
from lepton_dse.reference.metrics.protocol import Metric
from lepton_dse.reference.metrics.top1 import METRIC as TOP1
from lepton_dse.report.clock import clock_sentence
from lepton_dse.report.text import count, joules, scaled, seconds, share

__all__ = [
    "accuracy_table",
    "checks_table",
    "cost_table",
    "evidence",
    "op_cost_table",
    "ops_table",
    "plain_table",
    "plan_table",
    "resource_table",
    "stage_table",
    "zeros_note",
]

_MARKS = {
    CheckStatus.PASSED: ("passed", "green"),
    CheckStatus.FAILED: ("FAILED", "red"),
    CheckStatus.UNAVAILABLE: ("unavailable", "yellow"),
    CheckStatus.REPORTED: ("reported", "dim"),
}


class _PlainTable(Table):
    """A table that shows cells as they are: names from a model may hold what rich takes for markup."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Append a row."""
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def plain_table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are right-aligned."""
    table = _PlainTable(title=Text(title, "bold"), title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def ops_table(graph: Graph) -> Table:
    """Operations of a model with multiply-accumulates, parameters and tensor shapes."""
    table = plain_table(
        f"{graph.name}: {scaled(graph.macs, 'MAC')}, {count(graph.parameters)} parameters",
        "op",
        "kind",
        "output",
        "MACs",
        "params",
    )
    for op in graph.ops:
        shape = " x ".join(map(str, graph.tensors[op.output].shape))
        params = sum(graph.tensors[name].elements for name in op.inputs if name in graph.constants)
        table.add_row(op.name, op.kind, shape, count(graph.nest(op).macs), count(params))
    return table


def cost_table(title: str, reports: Sequence[CostReport]) -> Table:
    """Predicted cost of one model on several targets; evidence is that of the latency, energy is never checked."""
    headings = ("latency", "throughput", "energy (unchecked)", "peak memory", "bound by", "evidence of latency", "fits")
    table = plain_table(title, "target", *headings)
    for report in reports:
        table.add_row(
            report.target,
            seconds(report.latency_s),
            scaled(report.throughput_per_s, "/s"),
            "-" if report.energy_j is None else joules(report.energy_j),
            scaled(report.peak_bytes, "B"),
            report.bound_by,
            evidence(report),
            "yes" if report.feasible else f"no: {_lacking(report.violations[0])}",
        )
    return table


def evidence(report: CostReport) -> str:
    """How the latency is known, with the mean error of the suite that holds it."""
    return report.evidence.value if report.band is None else f"{report.evidence.value}, {report.band.mape_pct:.1f}%"


def op_cost_table(report: CostReport) -> Table:
    """Operations of one cost report, the costliest first."""
    table = plain_table(
        f"Operations on {report.target}", "op", "kind", "MACs", "latency", "share", "of peak", "bound by", "energy"
    )
    pruned = any(op.zeros is not None for op in report.ops)
    if pruned:
        table.add_column("zeros", justify="right", overflow="fold")
    total = sum(op.latency_s for op in report.ops) or 1.0
    for op in sorted(report.ops, key=lambda entry: -entry.latency_s):
        part, peak = share(op.latency_s / total), share(op.utilization)
        energy = "-" if op.energy_j is None else joules(op.energy_j)
        zeros = [] if not pruned else ["-" if op.zeros is None else str(op.zeros)]
        table.add_row(op.name, op.kind, count(op.macs), seconds(op.latency_s), part, peak, op.bound_by, energy, *zeros)
    return table


def zeros_note(report: CostReport) -> str | None:
    """How many operations have zeros among their weights, and of how many the cost is that of a kernel that skips them."""
    found = [op.zeros for op in report.ops if op.zeros is not None]
    if not found:
        return None
    priced = sum(zeros.skipped for zeros in found)
    return f"zeros in the weights of {len(found)} operation(s) on {report.target}: {priced} priced, the others not skipped here"


def _lacking(violation: Violation) -> str:
    """A violation in a few words; the levers are for where there is room."""
    return f"{violation.what} {scaled(violation.demand, violation.unit)} > {scaled(violation.bound, violation.unit)}"


def plan_table(plans: Sequence[Plan]) -> Table:
    """Predicted figures of several streaming plans."""
    table = plain_table("Plans", "target", "format", "latency", "interval", "throughput", "slowest stage", "search")
    for plan in plans:
        report = plan.predicted
        cycles = report.cycles
        search = report.search
        proof = "-" if search is None else "optimal" if search.optimal else f"gap {share(search.gap)}"
        table.add_row(
            plan.target,
            plan.precision,
            f"{count(cycles.latency)} cycles" if cycles else seconds(report.latency_s),
            f"{count(cycles.interval)} cycles" if cycles else "-",
            scaled(report.throughput_per_s, "/s"),
            cycles.slowest if cycles else report.bound_by,
            proof,
        )
    return table


def stage_table(plan: Plan) -> Table:
    """Stages of a streaming plan, with its clock below; FIFOs in front of operands stand before that behind the stage."""
    table = plain_table(
        f"{plan.model} on {plan.target}, {plan.precision}", "stage", "kind", "PE x SIMD", "multipliers", "cycles", "busy", "FIFO"
    )
    cycles = plan.predicted.cycles
    clock = cycles.clock_hz if cycles else 1.0
    if cycles is not None:
        table.caption, table.caption_justify = clock_sentence(cycles), "left"
    for op in plan.predicted.ops:
        entry = plan.op(op.name)
        table.add_row(
            op.name,
            op.kind,
            f"{op.mapping.factor('pe')} x {op.mapping.factor('simd')}",
            (entry.multiplier or "-") if op.macs else "-",
            count(round(op.latency_s * clock)),
            share(op.utilization),
            " ".join([*(f"{depth} +" for depth in entry.feed_depths if depth), str(entry.fifo_depth or "-")]),
        )
    return table


def resource_table(title: str, used: Mapping[str, float], usable: Mapping[str, float]) -> Table:
    """Device resources: estimated, usable and the share taken."""
    table = plain_table(title, "resource", "estimate", "usable", "share")
    for name, amount in used.items():
        table.add_row(name, count(amount), count(usable[name]), share(amount / usable[name]) if usable[name] else "-")
    return table


def checks_table(title: str, checks: Sequence[Check]) -> Table:
    """Predicted beside observed."""
    table = plain_table(title, "check", "predicted", "observed", "tolerance", "status")
    for check in checks:
        status = Text.assemble(_MARKS[check.status], f": {check.reason}" if check.reason else "")
        table.add_row(
            check.name,
            _value(check.predicted),
            _value(check.observed),
            "-" if check.status is CheckStatus.REPORTED else share(check.tolerance) if check.tolerance else "equal",
            status,
        )
    return table


def _value(value: float | int | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else count(value)


def accuracy_table(title: str, rows: Mapping[str, Interval], metric: Metric = TOP1) -> Table:
    """A measured metric by format with its 95% interval: shares of the samples in percent, other figures as they are."""
    table = plain_table(title, "format", metric.title, "95% interval", "samples")
    form = share if metric.share else "{:.4f}".format
    for name, value in rows.items():
        table.add_row(name, form(value.value), f"{form(value.low)} to {form(value.high)}", count(value.count))
    return table
