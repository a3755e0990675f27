"""What compression did to each operation, read off the bundle itself: nothing is claimed, and nothing is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from lepton_dse.bundle import Bundle, Scale
from lepton_dse.compress.groups import absorbed_clip
from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import share

__all__ = ["Applied", "applied", "compression_table"]


@dataclass(frozen=True)
class Applied:
    """One operation of a compressed model.

    Parameters
    ----------
    op, kind : str
    weights : str
        Format of its weights and how many scales they have; empty where it has none.
    zeros : float or None
        Share of its weights that are zero.
    result : str
        Format in which its result is stored.
    computed : str
        ``integers`` or ``reals``.
    reason : str
        Why it computes on reals in a model of integers; empty elsewhere.
    """

    op: str
    kind: str
    weights: str
    zeros: float | None
    result: str
    computed: str
    reason: str


def applied(bundle: Bundle, lowered: LoweredGraph) -> tuple[Applied, ...]:
    """Every operation of a bundle's graph, in order of computation.

    Parameters
    ----------
    bundle : Bundle
    lowered : LoweredGraph
        What it lowers to.
    """
    graph, found = bundle.graph, []
    integer_model = any(scale.format.is_integer for scale in bundle.scales.values())
    made = {op.name: op for op in lowered.ops}
    for op in graph.ops:
        constant = next((name for name in op.inputs[1:2] if name in graph.constants), None)
        weights = "" if constant is None else _weights(bundle.scales.get(constant))
        zeros = None if constant is None else float(np.mean(np.asarray(graph.constants[constant]) == 0))
        stored = bundle.scales.get(op.output)
        result = str(graph.tensors[op.output].format if stored is None else stored.format)
        # An operation that is gone was absorbed by the one before it, whose rounding step clamps.
        on_integers = op.name not in made or all(lowered.tensors[name].format.is_integer for name in made[op.name].inputs)
        reason = "" if on_integers or not integer_model else _reason(op, bundle)
        found.append(Applied(op.name, op.kind, weights, zeros, result, "integers" if on_integers else "reals", reason))
    return tuple(found)


def compression_table(rows: Sequence[Applied]) -> Table:
    """The rows as a table."""
    table = plain_table("Compression", "op", "kind", "weights", "zeros", "result", "computed on", "why not on integers")
    for row in rows:
        zeros = "-" if row.zeros is None else share(row.zeros)
        table.add_row(row.op, row.kind, row.weights or "-", zeros, row.result, row.computed, row.reason or "-")
    return table


def _weights(scale: Scale | None) -> str:
    if scale is None:
        return "float32"
    count = len(scale.params.beta)
    if count == 1:
        return str(scale.format)
    return f"{scale.format}, {count} scales" + ("" if scale.params.group is None else f" of {scale.params.group}")


def _stored_as_integer(op: Op, bundle: Bundle) -> bool:
    clip = absorbed_clip(bundle.graph, op)
    scale = bundle.scales.get(op.output if clip is None else clip.output)
    return scale is not None and scale.format.is_integer


def _reason(op: Op, bundle: Bundle) -> str:
    weights = next((name for name in op.inputs[1:2] if name in bundle.graph.constants), None)
    if weights is not None and isinstance(op.attributes, ops.Conv | ops.MatMul | ops.Affine):
        scale = bundle.scales.get(weights)
        if scale is None:
            return "its weights were left as they are"
        if not all(name in bundle.scales for name in op.inputs if name not in bundle.graph.constants):
            return "its activations are real: only weights are integers"
        if not _stored_as_integer(op, bundle):
            return "its result is stored as reals, for a layer of floats"
        return "its weights' shape has no integer form here"
    if isinstance(op.attributes, ops.Softmax | ops.LocalResponseNorm):
        return f"{op.kind} has no integer definition here"
    if isinstance(op.attributes, ops.MatMul):
        return "both operands vary"
    return "what it reads is real, or too wide for a table"
