"""Where each tensor of a graph lies in one arena, its operations in the graph's order or in one that needs less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory.arena import ALIGNMENT, Block, place
from lepton_dse.memory.lives import lives_of
from lepton_dse.memory.order import least_order
from lepton_dse.plan import MemoryMap, Place

__all__ = ["arena_bytes", "check_map", "in_less_memory", "map_memory", "packed_bytes", "stored_bytes"]

G = TypeVar("G", bound=Graph)


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
    lives = lives_of(graph, bytes_of, in_place=in_place)
    found = place(lives.blocks, alignment=alignment)
    places = {
        name: Place(
            offset=found.offsets[owner], bytes=lives.sizes[name], first=lives.first[name], last=lives.last[name], block=owner
        )
        for name, owner in lives.owner.items()
    }
    return MemoryMap(places=places, peak=found.peak, bound=found.bound, alignment=alignment)


def in_less_memory(
    graph: G,
    *,
    bytes_of: Callable[[Tensor], int] = packed_bytes,
    alignment: int = ALIGNMENT,
    in_place: bool = True,
) -> G:
    """The graph with its operations in the order of :func:`least_order`, if its arena is smaller then; itself otherwise."""
    found = least_order(graph, bytes_of=bytes_of, alignment=alignment, in_place=in_place)
    if not found.changed:
        return graph
    order = [graph.ops[index] for index in found.operations]
    own, other = (_peak_of(graph, steps, bytes_of, alignment, in_place) for steps in (graph.ops, order))
    return graph.with_order([op.name for op in order]) if other < own else graph


def arena_bytes(graph: Graph, *, bytes_of: Callable[[Tensor], int] = packed_bytes) -> int:
    """The peak of :func:`map_memory` of the graph :func:`in_less_memory`, without either.

    Graphs of one structure are ordered once, and those whose blocks are alike are placed once.
    """
    found = least_order(graph, bytes_of=bytes_of)
    own = _peak_of(graph, graph.ops, bytes_of, ALIGNMENT, True)
    if not found.changed or found.live >= own:
        return own
    return min(own, _peak_of(graph, [graph.ops[index] for index in found.operations], bytes_of, ALIGNMENT, True))


def _peak_of(graph: Graph, order: Sequence[Op], bytes_of: Callable[[Tensor], int], alignment: int, in_place: bool) -> int:
    blocks = lives_of(graph, bytes_of, in_place=in_place, order=order).blocks
    return _peak(tuple((block.bytes, block.first, block.last) for block in blocks), alignment)


@lru_cache(maxsize=512)
def _peak(blocks: tuple[tuple[int, int, int], ...], alignment: int) -> int:
    return place([Block(str(index), *block) for index, block in enumerate(blocks)], alignment=alignment).peak


def check_map(mapped: MemoryMap, graph: Graph, *, bytes_of: Callable[[Tensor], int]) -> None:
    """Hold a map against the graph that it is said to be of.

    Raises
    ------
    InvalidPlanError
        If the graph has other tensors, or one is stored in other bytes, for another time or in another block.
    """
    lives = lives_of(graph, bytes_of)
    for name in dict.fromkeys((*lives.owner, *mapped.places)):
        known = mapped.places.get(name)
        wanted = (lives.sizes[name], lives.first[name], lives.last[name], lives.owner[name]) if name in lives.owner else None
        if known is None or (known.bytes, known.first, known.last, known.block) != wanted:
            raise InvalidPlanError(
                f"the memory map is not that of the model, see tensor '{name}'", where=graph.name, fix="plan again"
            )
