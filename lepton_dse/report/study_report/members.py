"""Which members of the front the page shows op by op, and what it tells of each: operations, the device, the proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport, Mapping, OpCost
from lepton_dse.report.clock import clock_sentence
from lepton_dse.report.study_report.facts import Facts
from lepton_dse.report.text import count, joules, scaled, seconds, share
from lepton_dse.sim.report import stored_format
from lepton_dse.study import Standing
from lepton_dse.study.detail import Detail, Repriced, Shared
from lepton_dse.targets import FpgaTarget

__all__ = ["HEADINGS", "Member", "members_of", "plan_of", "proof_words"]

_PRODUCTS = {"dsp": "products in DSPs", "lut": "products in LUTs", "packed": "two products a DSP"}

_STORED = ("kind", "bits of weights", "bits of activations", "zeros")
HEADINGS = (
    (
        "operation",
        *_STORED,
        "mapping",
        "MACs",
        "bytes moved",
        "time",
        "share of time",
        "bound by",
        "of peak",
        "energy",
        "evidence",
    ),
    ("stage", *_STORED, "folding", "MACs", "bytes moved", "busy", "of slowest", "bound by", "of interval", "energy", "evidence"),
    ("operation", *_STORED, "shared by", "MACs", "stage", "time", "share of time", "evidence"),
)
"""Of the table of operations: on processors, of a streaming design, and on devices that share them."""
_SHARED = 2
Cell = str | tuple[str, str]
"""Text, or text with a smaller one below it."""
_MEMBERS = 48
_ROWS = 3_000
"""Members and operations in all that a page shows: more of them make it slow to write and large."""
_BOUNDS = {
    "arithmetic": ("compute", ""),
    "vector": ("compute", "vector unit"),
    "stream": ("compute", "its input stream"),
    "launch": ("overhead", "launch"),
    "latency": ("overhead", "latency"),
    "idle": ("-", ""),
}
"""What keeps an operation from being faster, by the word of its cost; all other words are memories."""
_RESOURCES = {"LUT": "LUT (lookup tables)", "FF": "FF (flip-flops)", "DSP": "DSP (multipliers)", "BRAM18": "BRAM18 (block RAMs)"}


@dataclass(frozen=True)
class Member:
    """A member of the front, priced again.

    Parameters
    ----------
    entry : Standing
    found : Repriced
    """

    entry: Standing
    found: Repriced

    @property
    def precision(self) -> Precision:
        """Formats of its network."""
        return Precision.parse(self.entry.row.candidate.variant.format)


def members_of(facts: Facts, detail: Detail, progress: Callable[[str], None]) -> tuple[Member, ...]:
    """The best of every objective and members evenly spread along the front, as many as a page bears, in the front's order.

    Parameters
    ----------
    facts : Facts
    detail : Detail
    progress : callable
        Told the member that is about to be priced.

    Raises
    ------
    LeptonError
        If a member costs something else than was recorded.
    """
    chosen = _spread(facts)
    found = []
    for number, entry in enumerate(chosen, 1):
        progress(f"plan {number} of {len(chosen)}: {entry.row.candidate}")
        found.append(Member(entry, detail.priced(entry)))
    return tuple(found)


def _spread(facts: Facts) -> list[Standing]:
    front = facts.front
    room = max(1, min(_MEMBERS, _ROWS // max(1, len(facts.study.graph.ops))))
    if len(front) <= room:
        return list(front)
    best = {facts.best(objective)[0].index for objective in facts.objectives}
    places = np.linspace(0, len(front) - 1, max(0, room - len(best))).round().astype(int)
    kept = best | {front[int(place)].index for place in places}
    return [entry for entry in front if entry.index in kept]


def plan_of(member: Member) -> dict[str, Any]:
    """A member's plan as data for the page's script; all numbers are text already, but shares that are drawn."""
    report, target = member.found.report, member.found.target
    if member.found.shared is not None:
        rows, note = _shared_operations(member, member.found.shared), _shared_note(member, member.found.shared)
        proof = proof_words(report)
        return {"kind": _SHARED, "ops": rows, "total": None, "note": note, "use": _use(member), "proof": proof}
    streams = report.cycles is not None
    longest = max((op.latency_s for op in report.ops), default=0.0)
    whole = (longest if streams else sum(op.latency_s for op in report.ops)) or 1.0
    known = str(report.evidence) + ("" if report.band is None else f", {report.band.mape_pct:.1f}%")
    rows = [_operation(member, op, whole, known) for op in report.ops]
    return {
        "kind": int(streams),
        "ops": rows,
        "total": None if streams else _total(report, known),
        "note": _note(report, target.name),
        "use": _use(member),
        "proof": proof_words(report),
    }


def proof_words(report: CostReport) -> str:
    """How near to the best possible the mapping is, as far as the search knows."""
    search = report.search
    if search is None:
        return "Nothing was searched for this figure: it is a bound that no design is faster than."
    write = seconds if search.objective in ("latency", "seconds of all steps") else count
    looked = f"The search went over {count(search.evaluated)} mappings ({search.space}) for the least {search.objective}."
    if search.optimal:
        return f"{looked} It proved that none of them is better than {write(search.best)}."
    bound = f"It found {write(search.best)}, and proved that nothing can be below {write(search.lower_bound)}"
    return f"{looked} {bound}: at most {share(search.gap)} could still be gained."


def _operation(member: Member, op: OpCost, whole: float, known: str) -> list[Any]:
    graph, plan = member.found.graph, member.found.plan
    weights: Cell = "-"
    activations: Cell = "-"
    zeros: Cell = "-"
    source = next((entry for entry in graph.ops if entry.name == op.name), None)
    if source is not None:
        weights, activations, zeros = _stored(member, graph, source, op)
    if plan is not None:
        entry = plan.op(op.name)
        made = f", {_PRODUCTS[entry.multiplier]}" if op.macs and entry.multiplier else ""
        sizes = (op.mapping.factor("pe"), op.mapping.factor("simd"))
        lanes = f"PE {sizes[0]} x SIMD {sizes[1]}" if op.macs else f"{sizes[1]} lanes"
        mapping: tuple[str, str] = (lanes + made, f"FIFO of {entry.fifo_depth or 2} words behind it")
    else:
        mapping = _mapping(op.mapping)
    return [
        op.name,
        op.kind,
        weights,
        activations,
        zeros,
        mapping,
        count(op.macs),
        _moved(op.traffic_bytes),
        seconds(op.latency_s) if op.latency_s else "-",
        share(op.latency_s / whole) if op.latency_s else "-",
        _BOUNDS.get(op.bound_by, ("memory", op.bound_by)) if op.latency_s else "-",
        share(op.utilization) if op.latency_s else "-",
        "-" if op.energy_j is None else joules(op.energy_j),
        known,
    ]


def _shared_operations(member: Member, shared: Shared) -> list[list[Cell]]:
    """Operations of the lowered graph: which loops the axes of the mesh share, the stage, and the time with its exchanges."""
    whole, stage = sum(shared.seconds.values()) or 1.0, 1
    rows: list[list[Cell]] = []
    for op in shared.graph.ops:
        entry, taken = shared.sharding.ops[op.name], shared.seconds[op.name]
        stage += op.name in shared.sharding.stages
        result = shared.graph.tensors[op.output]
        constant = next((name for name in op.inputs[1:2] if name in shared.graph.constants), None)
        weights: Cell = "-"
        zeros: Cell = "-"
        if constant is not None:
            form = shared.graph.tensors[constant].format
            weights, zeros = (str(form.bits), str(form)), share(float(np.mean(np.asarray(shared.graph.constants[constant]) == 0)))
        loops = ", ".join(f"{loop} over {'+'.join(axes)}" for loop, axes in entry.loops.items()) or "whole on every device"
        nest = shared.graph.nest(op)
        rows.append(
            [
                op.name,
                op.kind,
                weights,
                (str(result.format.bits), str(result.format)),
                zeros,
                (loops, f"result [{', '.join('+'.join(axes) or '-' for axes in entry.home)}]"),
                count(nest.iterations if nest.multiplies else 0),
                count(stage),
                seconds(taken) if taken else "-",
                share(taken / whole) if taken else "-",
                str(member.found.report.evidence),
            ]
        )
    return rows


def _shared_note(member: Member, shared: Shared) -> str:
    report, stages = member.found.report, len(shared.sharding.stages) + 1
    kernels, exchanges = (seconds(report.resources[name]) for name in ("kernels_s", "exchanges_s"))
    sent = scaled(report.traffic_bytes["exchanged"], "B")
    piped = f"; {count(stages)} stages work at the same time on different batches" if stages > 1 else ""
    return (
        f"{count(int(report.resources['devices']))} devices of {shared.sharding.cluster}, {member.found.target.name} each, share "
        f"each operation along the axes of the mesh {shared.sharding.mesh}{piped}. Of the latency, kernels take {kernels} and "
        f"exchanges {exchanges}, whose messages have {sent} and whose time is with the operation that they serve."
    )


def _stored(member: Member, graph: Graph, source: Op, op: OpCost) -> tuple[Cell, Cell, Cell]:
    """Formats of an operation's weights and result, and the zeros among its weights."""
    precision = member.precision
    result = stored_format(graph, source.output, precision)
    constant = next((name for name in source.inputs[1:2] if name in graph.constants), None)
    if constant is None:
        return "-", (str(result.bits), str(result)), "-"
    stored = stored_format(graph, constant, precision)
    none = float(np.mean(np.asarray(graph.constants[constant]) == 0))
    skipped = "skipped" if op.zeros is not None and op.zeros.skipped else "not skipped" if none else ""
    return (str(stored.bits), str(stored)), (str(result.bits), str(result)), (share(none), skipped)


def _mapping(mapping: Mapping) -> tuple[str, str]:
    """A mapping in a line, and the rest of it in a second one."""
    sizes = [
        f"{level} " + " x ".join(f"{loop}{size}" for loop, size in tiles.items() if size)
        for level, tiles in mapping.tiles.items()
    ]
    by_axis: dict[str, list[str]] = {}
    for unroll in mapping.spatial:
        by_axis.setdefault(unroll.axis, []).append(f"{unroll.loop}{unroll.factor}")
    spread = [f"{axis}: {' x '.join(parts)}" for axis, parts in by_axis.items()]
    order = [f"loops {', '.join(mapping.order)}"] if mapping.order else []
    first, *rest = [*sizes, *spread, *order] or ["-"]
    return first, "; ".join(rest)


def _moved(traffic: dict[str, float]) -> tuple[str, str]:
    """Bytes at the level furthest out, and at the others."""
    levels = list(traffic.items())
    if not levels:
        return "-", ""
    *inner, (outer, amount) = levels
    return f"{scaled(amount, 'B')}", "; ".join([outer, *(f"{name} {scaled(value, 'B')}" for name, value in inner[::-1])])


def _total(report: CostReport, known: str) -> list[Any]:
    macs = sum(op.macs for op in report.ops)
    energy = "-" if report.energy_j is None else joules(report.energy_j)
    cells: list[Any] = ["all", "", "", "", "", ("", ""), count(macs), _moved(report.traffic_bytes), seconds(report.latency_s)]
    return [*cells, share(1.0), "", "", energy, known]


def _note(report: CostReport, target: str) -> str:
    if report.cycles is None:
        return "Operations run one after another, so their times add up to the latency. A dash stands where none is taken."
    cycles = report.cycles
    return (
        f"Every operation is a stage of its own on {target}, and all stages work at the same time on different samples: the "
        f"slowest, {cycles.slowest}, sets the time between results, {count(cycles.interval)} cycles. A "
        f"sample takes {count(cycles.latency)} cycles from end to end. Data between stages stay on the chip. "
        f"{clock_sentence(cycles)}"
    )


def _use(member: Member) -> list[tuple[str, str, str, float, str]]:
    """What it takes of the device: name, used, available, share, and what that means."""
    report, target = member.found.report, member.found.target
    if report.resources and isinstance(target, FpgaTarget):
        usable = target.resources()
        return [_taken(_RESOURCES.get(name, name), amount, usable[name], count, "") for name, amount in report.resources.items()]
    if isinstance(target, FpgaTarget):
        return []
    levels: Sequence[tuple[str, float]] = [(level.name, level.capacity_bytes.value) for level in target.levels]
    *inner, (outer, capacity) = levels

    def size(amount: float) -> str:
        return scaled(amount, "B")

    found = [_taken(f"{outer} (main memory)", report.peak_bytes, capacity, size, "")]
    for name, room in inner[::-1]:
        fits = "all of it fits" if report.peak_bytes <= room else "only a part fits at a time"
        found.append(_taken(f"{name} (on the chip)", report.peak_bytes, room, size, fits))
    return found


def _taken(
    name: str, used: float, available: float, write: Callable[[float], str], note: str
) -> tuple[str, str, str, float, str]:
    return name, write(used), write(available), round(used / available, 6) if available else 0.0, note
