"""Where each tensor of a graph lives: views and results that may overwrite their operand share a block, blocks share an arena."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import POINTWISE
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory.arena import ALIGNMENT, Block, place
from lepton_dse.plan import MemoryMap, Place

__all__ = ["arena_bytes", "check_map", "map_memory", "packed_bytes", "stored_bytes"]

_OF_SEVERAL = ops.Add | ops.AddRequantize | ops.Binary | ops.Where
"""Pointwise kinds of which any operand may give its place; of the others the first."""


@dataclass(frozen=True)
class _Lives:
    """From when to when every tensor that is no constant is needed, and whose block it lies in, before anything is placed."""

    sizes: dict[str, int]
    first: dict[str, int]
    last: dict[str, int]
    owner: dict[str, str]
    blocks: tuple[Block, ...]


def packed_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor whose elements are packed."""
    return -(-tensor.bits // 8)


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor in a program: elements narrower than a byte take a whole one."""
    return tensor.elements * tensor.format.numpy.itemsize


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
    lives = _lives(graph, bytes_of, in_place=in_place)
    found = place(lives.blocks, alignment=alignment)
    places = {
        name: Place(
            offset=found.offsets[owner], bytes=lives.sizes[name], first=lives.first[name], last=lives.last[name], block=owner
        )
        for name, owner in lives.owner.items()
    }
    return MemoryMap(places=places, peak=found.peak, bound=found.bound, alignment=alignment)


def arena_bytes(graph: Graph, *, bytes_of: Callable[[Tensor], int] = packed_bytes) -> int:
    """The peak of :func:`map_memory`, without the map; graphs whose blocks are alike are placed once."""
    return _peak(tuple((block.bytes, block.first, block.last) for block in _lives(graph, bytes_of).blocks))


@lru_cache(maxsize=256)
def _peak(blocks: tuple[tuple[int, int, int], ...]) -> int:
    return place([Block(str(index), *block) for index, block in enumerate(blocks)]).peak


def check_map(mapped: MemoryMap, graph: Graph, *, bytes_of: Callable[[Tensor], int]) -> None:
    """Hold a map against the graph that it is said to be of.

    Raises
    ------
    InvalidPlanError
        If the graph has other tensors, or one is stored in other bytes, for another time or in another block.
    """
    lives = _lives(graph, bytes_of)
    for name in dict.fromkeys((*lives.owner, *mapped.places)):
        known = mapped.places.get(name)
        wanted = (lives.sizes[name], lives.first[name], lives.last[name], lives.owner[name]) if name in lives.owner else None
        if known is None or (known.bytes, known.first, known.last, known.block) != wanted:
            raise InvalidPlanError(
                f"the memory map is not that of the model, see tensor '{name}'", where=graph.name, fix="plan again"
            )


def _lives(graph: Graph, bytes_of: Callable[[Tensor], int], *, in_place: bool = True) -> _Lives:
    moving = [name for name in graph.tensors if name not in graph.constants]
    sizes = {name: bytes_of(graph.tensors[name]) for name in moving}
    born = dict.fromkeys(graph.inputs, 0) | {op.output: index for index, op in enumerate(graph.ops)}
    dies = dict(born)
    for index, op in enumerate(graph.ops):
        for name in op.inputs:
            if name in dies:
                dies[name] = max(dies[name], index)
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
    blocks = tuple(Block(name, sizes[name], born[name], until[name]) for name in moving if owner[name] == name)
    return _Lives(sizes, born, dies, owner, blocks)


def _taken(
    graph: Graph, op: Op, index: int, owner: Mapping[str, str], until: Mapping[str, int], sizes: Mapping[str, int]
) -> str | None:
    """The operand whose storage the result may take: read for the last time here, index for index, and as large."""
    if not isinstance(op.attributes, POINTWISE):
        return None
    result = graph.tensors[op.output]
    for name in op.inputs if isinstance(op.attributes, _OF_SEVERAL) else op.inputs[:1]:
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
