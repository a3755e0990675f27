"""What a pruning did to each layer, and why it left a layer alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lepton_dse.compress.prune.dependencies import Dependencies, dependencies
from lepton_dse.compress.prune.settings import Kind, Scope, Settings
from lepton_dse.compress.prune.sites import Site, contractions, refusal
from lepton_dse.compress.prune.weights import refused_shape
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op

__all__ = ["OpReport", "report"]


@dataclass(frozen=True)
class OpReport:
    """One layer before and after.

    Parameters
    ----------
    op : str
        Name of the Conv or MatMul.
    channels : (int, int)
        Output channels before and after.
    weights : (int, int)
        Weights before and after, zeros included.
    zeros : (float, float)
        Share of them that is zero, before and after.
    reason : str
        Why it kept all of its channels (kind "channels") or has no more zeros (other kinds); empty if it was pruned.
    """

    op: str
    channels: tuple[int, int]
    weights: tuple[int, int]
    zeros: tuple[float, float]
    reason: str


def report(
    before: Graph, after: Graph, *, kind: str | None = None, n: int = 2, m: int = 4, block: tuple[int, int] = (4, 4)
) -> tuple[OpReport, ...]:
    """Every layer that multiplies with weights, in order of computation.

    Parameters
    ----------
    before, after : Graph
        A graph and what :func:`lepton_dse.compress.prune.pruning.prune` or ``masked`` made of it.
    kind : str, optional
        What was asked for; without it "channels" if a shape has changed, else "weights".
    n, m, block
        As asked for.

    Raises
    ------
    LeptonError
        If `after` lacks one of the layers, or the arguments are outside their range.
    """
    present = {op.name: op for op in contractions(after)}
    missing = [op.name for op in contractions(before) if op.name not in present]
    if missing:
        raise LeptonError("the pruned graph has no such layer", where=missing[0], fix="give the graph that was pruned")
    shrunk = any(_extents(before, op) != _extents(after, present[op.name]) for op in contractions(before))
    wanted = kind or (Kind.CHANNELS if shrunk else Kind.WEIGHTS)
    asked = Settings.of(0.0, kind=wanted, score="", scope=Scope.LAYER, n=n, m=m, block=block)
    found = dependencies(before) if asked.kind is Kind.CHANNELS else None
    lines = []
    for op in contractions(before):
        counterpart = present[op.name]
        channels = (_channels(before, op), _channels(after, counterpart))
        zeros = (_zeros(before, op), _zeros(after, counterpart))
        if found is not None:
            reason = "" if channels[1] < channels[0] else _why_no_channel(before, op, found)
        else:
            reason = "" if zeros[1] > zeros[0] else _why_no_weight(before, op, asked)
        weights = (math.prod(_extents(before, op)), math.prod(_extents(after, counterpart)))
        lines.append(OpReport(op.name, channels, weights, zeros, reason))
    return tuple(lines)


def _extents(graph: Graph, op: Op) -> tuple[int, ...]:
    return graph.tensors[op.inputs[1]].shape


def _channels(graph: Graph, op: Op) -> int:
    return _extents(graph, op)[0] if isinstance(op.attributes, ops.Conv) else _extents(graph, op)[-1]


def _zeros(graph: Graph, op: Op) -> float:
    value = graph.constants.get(op.inputs[1])
    return 0.0 if value is None else 1 - float(np.count_nonzero(value)) / value.size


def _why_no_channel(graph: Graph, op: Op, found: Dependencies) -> str:
    reason = refusal(graph, op)
    if reason:
        return reason
    units = found.units(op.inputs[1], 0 if isinstance(op.attributes, ops.Conv) else 1)
    free = [unit for unit in units.tolist() if unit not in found.reasons]
    if not free:
        return found.reasons[int(units[0])]
    balanced = any(np.isin(blocks, free).any() for blocks in found.balances)
    tail = " and its neighbours' convolution groups must lose equally many" if balanced else ""
    return f"the ratio leaves each of its {len(free)} free channels{tail}"


def _why_no_weight(graph: Graph, op: Op, asked: Settings) -> str:
    reason = refusal(graph, op) or refused_shape(Site(op.inputs[1], op, _extents(graph, op)), asked)
    return reason or f"the ratio leaves all of its {math.prod(_extents(graph, op))} weights, or they were zero already"
