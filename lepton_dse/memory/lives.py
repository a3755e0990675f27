"""When each tensor of a graph is needed, and which share a block: views, and results that may overwrite their operand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import POINTWISE
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory.arena import Block

__all__ = ["Lives", "givers", "lives_of", "viewed"]

_OF_SEVERAL = ops.Add | ops.AddRequantize | ops.Binary | ops.Where
"""Pointwise kinds of which any operand may give its place; of the others the first."""


@dataclass(frozen=True)
class Lives:
    """From when to when every tensor that is no constant is needed, and whose block it lies in, before anything is placed."""

    sizes: dict[str, int]
    first: dict[str, int]
    last: dict[str, int]
    owner: dict[str, str]
    blocks: tuple[Block, ...]


def lives_of(
    graph: Graph, bytes_of: Callable[[Tensor], int], *, in_place: bool = True, order: Sequence[Op] | None = None
) -> Lives:
    """The lives of a graph's tensors, its operations run in `order`, or in its own."""
    steps = graph.ops if order is None else order
    moving = [name for name in graph.tensors if name not in graph.constants]
    sizes = {name: bytes_of(graph.tensors[name]) for name in moving}
    born = dict.fromkeys(graph.inputs, 0) | {op.output: index for index, op in enumerate(steps)}
    dies = dict(born)
    for index, op in enumerate(steps):
        for name in op.inputs:
            if name in dies:
                dies[name] = max(dies[name], index)
    dies |= {name: len(steps) for name in graph.outputs if name in dies}
    owner = {name: name for name in moving}
    until = dict(dies)  # of each block, by its owner
    for index, op in enumerate(steps):
        taken = viewed(op, owner) or (_taken(graph, op, index, owner, until, sizes) if in_place else None)
        if taken is not None:
            owner[op.output] = owner[taken]
            until[owner[taken]] = max(until[owner[taken]], dies[op.output])
    blocks = tuple(Block(name, sizes[name], born[name], until[name]) for name in moving if owner[name] == name)
    return Lives(sizes, born, dies, owner, blocks)


def viewed(op: Op, moving: Mapping[str, object]) -> str | None:
    """The operand that the result shows under another shape; None where the result has elements of its own."""
    return op.inputs[0] if isinstance(op.attributes, ops.Reshape) and op.inputs[0] in moving else None


def givers(graph: Graph, op: Op, sizes: Mapping[str, int]) -> list[str]:
    """Operands whose storage the result could take: read index for index, and as large."""
    if not isinstance(op.attributes, POINTWISE):
        return []
    shape = graph.tensors[op.output].shape
    return [
        name
        for name in (op.inputs if isinstance(op.attributes, _OF_SEVERAL) else op.inputs[:1])
        if name in sizes and graph.tensors[name].shape == shape and sizes[name] == sizes[op.output]
    ]


def _taken(
    graph: Graph, op: Op, index: int, owner: Mapping[str, str], until: Mapping[str, int], sizes: Mapping[str, int]
) -> str | None:
    """The operand whose storage the result takes: read for the last time here, and by no other operand's shape."""
    for name in givers(graph, op, sizes):
        others = [owner[each] for each in op.inputs if each in owner and each != name]
        if until[owner[name]] <= index and owner[name] not in others and sizes[owner[name]] == sizes[name]:
            return name
    return None
