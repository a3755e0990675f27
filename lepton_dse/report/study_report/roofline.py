"""Rooflines: what each operation attains against its operational intensity, before compression and after.

Symbols
-------
===========  =====================================================================================
N            operations: two for a multiply-accumulate, one for each iteration of other loop nests
Q_l          bytes that an operation moves at memory level l
t            its time
P, B_l       peak rate of a pair of formats, operations a second; bandwidth of level l
===========  =====================================================================================

A point stands at ``(N / Q_l, N / t)``, and no higher than the roofs above it: ``N / t <= min(P, B_l N / Q_l)`` (S. Williams,
A. Waterman and D. Patterson, "Roofline", CACM 52(4), 2009). Zeros that a kernel skips are counted as if they were computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from lepton_dse import flow
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport
from lepton_dse.report.study_report.members import Member
from lepton_dse.sim.report import compulsory_bytes
from lepton_dse.sim.roofline import machine_of
from lepton_dse.study import Hardware
from lepton_dse.targets import AnyTarget, FpgaTarget

__all__ = ["Rooflines", "widest_format"]

_REALS = ("float32", "float16", "bfloat16")
_WIDEST_INTEGER = "int16"
Point = tuple[str, list[float], int, float]
"""Name, bytes at each level, operations, seconds."""


def widest_format(target: AnyTarget) -> str:
    """The widest format that a target computes in: reals where it has them."""
    if isinstance(target, FpgaTarget):
        return _WIDEST_INTEGER
    for name in _REALS:
        if target.peak(Precision.parse(name)) is not None:
            return name
    formats = [Precision.parse(peak.format) for peak in target.peaks]
    return str(max(formats, key=lambda entry: (entry.weights.bits + entry.activations.bits, entry.activations.bits)))


class Rooflines:
    """Rooflines of several members; what they share is worked out once.

    Parameters
    ----------
    graph : Graph
        The float network.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._before: dict[tuple[Hardware, int], dict[str, Any]] = {}

    def of(self, member: Member) -> tuple[dict[str, Any], dict[str, Any]]:
        """Roofs and points before, which members share; the member's own format and points. Data for the page's script."""
        target, candidate = member.found.target, member.entry.row.candidate
        precision, graph = member.precision, member.found.graph.with_batch(candidate.batch)
        key = (replace(candidate.hardware, mesh="", stages=1), candidate.batch)
        if key not in self._before:
            self._before[key] = self._device(target, candidate.batch)
        device = self._before[key]
        roofs = _merged([*device["roofs"], *_fpga_roofs(target, [str(precision)])])
        points = _points(graph, member.found.report, precision, [name for name, _ in device["levels"]])
        return {**device, "roofs": roofs}, {"format": str(precision), "after": points}

    def _device(self, target: AnyTarget, batch: int) -> dict[str, Any]:
        name = widest_format(target)
        precision = Precision.parse(name)
        levels = [(level.name, level.bandwidth) for level in machine_of(target, precision).levels]
        report = flow.cost(self._graph, target, format=name, batch=batch)
        if isinstance(target, FpgaTarget):
            roofs = _fpga_roofs(target, [name])
        else:
            roofs = [(f"{peak.format} ({peak.unit})", 2 * peak.mac_per_s.value) for peak in target.peaks]
        before = _points(self._graph.with_batch(batch), report, precision, [level for level, _ in levels])
        bound = isinstance(target, FpgaTarget)
        return {"levels": levels, "roofs": roofs, "widest": name, "bound": bound, "before": before}


def _fpga_roofs(target: AnyTarget, formats: Iterable[str]) -> list[tuple[str, float]]:
    if not isinstance(target, FpgaTarget):
        return []
    rates = [(name, machine_of(target, Precision.parse(name)).rate) for name in formats]
    return [(f"{name} (DSPs and LUTs)", 2 * rate) for name, rate in rates if rate is not None]


def _merged(roofs: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Roofs of one height under one name, the highest first."""
    by_rate: dict[float, list[str]] = {}
    for name, rate in roofs:
        names = by_rate.setdefault(rate, [])
        names += [] if name in names else [name]
    return [(", ".join(names), rate) for rate, names in sorted(by_rate.items(), reverse=True)]


def _points(graph: Graph, report: CostReport, precision: Precision, levels: Sequence[str]) -> list[Point]:
    """Operations that take time and do something; a stage of a design moves its operands and its result once."""
    known = {op.name: op for op in graph.ops}
    found: list[Point] = []
    for cost in report.ops:
        op = known.get(cost.name)
        if op is None or cost.latency_s <= 0:
            continue
        nest = graph.nest(op)
        operations = nest.iterations * (2 if nest.multiplies else 1)
        every = compulsory_bytes(graph, op, precision)
        moved = [cost.traffic_bytes.get(level, 0.0) if cost.traffic_bytes else every for level in levels]
        if operations:
            found.append((cost.name, moved, operations, cost.latency_s))
    return found
