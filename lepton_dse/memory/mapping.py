"""Where each tensor of a graph lives: views and results that may overwrite their operand share a block, blocks share an arena."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory.arena import ALIGNMENT, Block, place

__all__ = ["MemoryMap", "Place", "map_memory", "packed_bytes"]

_ELEMENTWISE = (
    ops.Clip | ops.LeakyRelu | ops.Sigmoid | ops.Tanh | ops.Affine | ops.Quantize | ops.Dequantize | ops.Requantize | ops.Lookup
)
_SUMS = ops.Add | ops.AddRequantize


@dataclass(frozen=True)
class Place:
    """One tensor's storage.

    Parameters
    ----------
    offset : int
        Bytes from the start of the arena.
    bytes : int
    first, last : int
        Operations, by their place in the graph, from the one that writes it (an input: 0) to the last that reads it (an output:
        one after the last of all).
    block : str
        The tensor that gave the block its name; several tensors in one block are views, or overwrite one another.
    """

    offset: int
    bytes: int
    first: int
    last: int
    block: str


@dataclass(frozen=True)
class MemoryMap:
    """An arena for everything that a graph computes; constants lie elsewhere.

    Parameters
    ----------
    places : dict of str to Place
        Of every tensor that is not a constant.
    peak, bound : int
        Bytes of the arena, and what no placement of these blocks is below.
    alignment : int
    """

    places: dict[str, Place]
    peak: int
    bound: int
    alignment: int


def packed_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor whose elements are packed."""
    return -(-tensor.bits // 8)


def map_memory(
    graph: Graph,
    *,
    bytes_of: Callable[[Tensor], int] = packed_bytes,
    alignment: int = ALIGNMENT,
    in_place: bool = True,
) -> MemoryMap:
    """Place what a graph computes, its operations run in order.

    Parameters
    ----------
    graph : Graph
    bytes_of : callable
        Bytes that a tensor takes where it is stored.
    alignment : int
        Of each block.
    in_place : bool
        Whether an elementwise result may overwrite an operand that nothing needs any more and that is as large.

    Returns
    -------
    MemoryMap
        No two tensors that are needed at once overlap, except where one is a view of the other or takes its place element by
        element.
    """
    moving = [name for name in graph.tensors if name not in graph.constants]
    sizes = {name: bytes_of(graph.tensors[name]) for name in moving}
    born = dict.fromkeys(graph.inputs, 0) | {op.output: index for index, op in enumerate(graph.ops)}
    dies = dict(born)
    for index, op in enumerate(graph.ops):
        dies |= {name: max(dies[name], index) for name in op.inputs if name in dies}
    dies |= {name: len(graph.ops) for name in graph.outputs if name in dies}
    owner = {name: name for name in moving}
    until = dict(dies)  # of each block, by its owner
    for index, op in enumerate(graph.ops):
        taken = _taken(graph, op, index, owner, until, sizes) if in_place else None
        if isinstance(op.attributes, ops.Reshape):
            taken = op.inputs[0] if op.inputs[0] in owner else None
        if taken is not None:
            owner[op.output] = owner[taken]
            until[owner[taken]] = max(until[owner[taken]], dies[op.output])
    blocks = [Block(name, sizes[name], born[name], until[name]) for name in moving if owner[name] == name]
    found = place(blocks, alignment=alignment)
    places = {name: Place(found.offsets[owner[name]], sizes[name], born[name], dies[name], owner[name]) for name in moving}
    return MemoryMap(places, found.peak, found.bound, alignment)


def _taken(
    graph: Graph, op: Op, index: int, owner: Mapping[str, str], until: Mapping[str, int], sizes: Mapping[str, int]
) -> str | None:
    """The operand whose storage the result may take: read for the last time here, index for index, and as large."""
    if not isinstance(op.attributes, _ELEMENTWISE | _SUMS):
        return None
    result = graph.tensors[op.output]
    for name in op.inputs[: 2 if isinstance(op.attributes, _SUMS) else 1]:
        if (
            name not in owner
            or until[owner[name]] > index
            or owner[name] in {owner[each] for each in graph.outputs if each in owner}
        ):
            continue
        if graph.tensors[name].shape != result.shape or sizes[name] != sizes[op.output]:
            continue
        others = [owner[each] for each in op.inputs if each in owner and each != name]
        if owner[name] not in others and sizes[owner[name]] == sizes[name]:
            return name
    return None
