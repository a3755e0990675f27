"""Which tensors become integers together: clips that their producer absorbs, and tensors that must share one scale."""

from __future__ import annotations

from collections.abc import Mapping

from lepton_dse.bundle import Scale
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op

__all__ = ["absorbed_clip", "scale_groups", "stored_scale"]

_ROUNDING = (ops.Conv, ops.MatMul, ops.Affine, ops.Add)
_SAME_SCALE = (
    *(ops.MaxPool, ops.AveragePool, ops.Reshape, ops.Transpose, ops.Pad, ops.Clip, ops.Concat),
    *(ops.Expand, ops.Slice),
)


def absorbed_clip(graph: Graph, op: Op) -> Op | None:
    """The Clip that `op` performs with its own final clamp: its only consumer, of a result that nothing else sees."""
    if not isinstance(op.attributes, _ROUNDING) or op.output in graph.outputs:
        return None
    users = graph.consumers(op.output)
    return users[0] if len(users) == 1 and isinstance(users[0].attributes, ops.Clip) else None


def scale_groups(graph: Graph) -> dict[str, str]:
    """Representative of each activation's group; tensors with one representative share one scale.

    Operations that only move, compare or average values leave the scale as it is, and a Concat needs one scale for all
    of its operands.
    """
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        root = name
        while parent.setdefault(root, root) != root:
            root = parent[root]
        parent[name] = root
        return root

    absorbed = {clip.name for op in graph.ops if (clip := absorbed_clip(graph, op)) is not None}
    for name in graph.inputs:
        find(name)
    for op in graph.ops:
        find(op.output)
        if isinstance(op.attributes, _SAME_SCALE) and op.name not in absorbed:
            for name in op.inputs:
                first, second = sorted((find(name), find(op.output)))
                parent[second] = first
    return {name: find(name) for name in parent}


def stored_scale(graph: Graph, scales: Mapping[str, Scale], name: str) -> Scale | None:
    """The format in which an activation is stored before anything reads it; None where it stays as it is.

    A tensor that nothing reads, that holds no reals, or that a Clip takes before it is rounded, is not stored.
    """
    scale, readers = scales.get(name), graph.consumers(name)
    if scale is None or not readers or not graph.tensors[name].format.is_float:
        return None
    producer = graph.producer(name)
    return None if producer is not None and absorbed_clip(graph, producer) is not None else scale
