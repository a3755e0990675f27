"""From an operation and those behind it to the loops of a kernel with a thread for each element or a warp for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import Access, Affine, Loop
from lepton_dse.ir.ops import Op
from lepton_dse.schedule.gpu.kernels import Buffer, Edge, Nest, Read, Source, Subscript

__all__ = ["ROWS", "copy_nest", "nest_of"]

ROWS = ops.Softmax | ops.ArgMax | ops.LayerNorm | ops.Reduce
"""Kinds that a warp computes row by row."""
_INDIRECT = {ops.Lookup: 1, ops.Gather: 0}
"""Which operand is read where a value says."""
_PASSES = {ops.Softmax: 3, ops.LayerNorm: 3}
"""How often a row is read: the peak, the sum, the results; the mean, the variance, the results."""


def nest_of(graph: Graph, chain: Sequence[Op], operands: Mapping[str, Source], result: Buffer) -> Nest:
    """The loops of a kernel.

    Parameters
    ----------
    graph : Graph
    chain : sequence of Op
        The head, then pointwise operations, each on the result of the one before.
    operands : mapping of str to Source
        How each tensor that the chain reads is stored.
    result : Buffer
        Of the last operation.

    Raises
    ------
    LeptonError
        If the result has no elements, or more than 32-bit indices reach.
    """
    head = chain[0]
    nest = graph.nest(head)
    if nest.write is None:
        raise LeptonError("a view is no kernel", where=head.name)
    shape = result.tensor.shape
    rows = isinstance(head.attributes, ROWS)
    along = _axes_along(head)
    inner = tuple((loop.name, loop.extent) for position, loop in enumerate(nest.loops) if loop.reduction or position in along)
    reads = []
    for position, (name, access) in enumerate(zip(head.inputs, _accesses(graph, head, nest.reads), strict=True)):
        source = operands[name]
        reads.append(
            Read(
                source,
                _subscripts(head, access, source.buffer, nest.loops),
                inner=_uses(access, inner),
                times=_PASSES.get(type(head.attributes), 1) if position == 0 else 1,
                indirect=_INDIRECT.get(type(head.attributes)) == position,
            )
        )
    if isinstance(head.attributes, ops.LocalResponseNorm):  # the element in the middle, once more
        source = operands[head.inputs[0]]
        reads.append(Read(source, _broadcast(head, source.buffer, shape)))
    for before, op in pairwise(chain):
        for position, name in enumerate(op.inputs):
            if name != before.output:
                indirect = _INDIRECT.get(type(op.attributes)) == position
                reads.append(Read(operands[name], _broadcast(op, operands[name].buffer, shape), indirect=indirect))
    coordinates, extents = _coordinates(nest.write, nest.loops, {name for name, _ in inner}, result)
    found = Nest(
        extents=extents,
        coordinates=coordinates,
        inner=inner,
        reads=tuple(reads),
        write=_subscripts(head, nest.write, result, nest.loops),
        write_bytes=result.element_bytes,
        rows=rows,
        written_along=bool(along),
    )
    return checked(found, head.name)


def copy_nest(source: Source, result: Buffer) -> Nest:
    """The loops that change a tensor's layout."""
    shape = result.tensor.shape
    order = result.layout.order
    subscripts = tuple(
        Subscript(Affine(((f"d{axis}", 1),)), extent, stride)
        for axis, (extent, stride) in enumerate(zip(shape, source.buffer.strides, strict=True))
    )
    write = tuple(
        Subscript(Affine(((f"d{axis}", 1),)), extent, stride)
        for axis, (extent, stride) in enumerate(zip(shape, result.strides, strict=True))
    )
    coordinates = tuple((f"d{axis}", place, 1, shape[axis]) for place, axis in enumerate(order))
    nest = Nest(tuple(shape[a] for a in order), coordinates, (), (Read(source, subscripts),), write, result.element_bytes)
    return checked(nest, result.name)


def checked(nest: Nest, where: str) -> Nest:
    """The nest itself.

    Raises
    ------
    LeptonError
        If it has nothing to do, or more than 32-bit indices reach.
    """
    if nest.results < 1 or nest.length < 1:
        raise LeptonError("has a tensor without elements", where=where, fix="give every axis at least one element")
    buffers = [read.source.buffer for read in nest.reads]
    if max(nest.results, *(buffer.tensor.elements for buffer in buffers), 0) >= 1 << 31:
        raise LeptonError("has more elements than 32-bit indices reach", where=where, fix="a smaller batch")
    return nest


def _axes_along(op: Op) -> frozenset[int]:
    """Axes along which a warp both reads and writes."""
    match op.attributes:
        case ops.Softmax(axes):
            return frozenset(axes)
        case ops.LayerNorm(axes):
            return frozenset(axes)
        case _:
            return frozenset()


def _accesses(graph: Graph, op: Op, given: Sequence[Access]) -> list[Access]:
    """One access an operand; what a loop nest leaves out (tables) is read from the start."""
    found = list(given)
    for name in op.inputs[len(found) :]:
        found.append(Access(name, tuple(Affine() for _ in graph.tensors[name].shape)))
    return found


def _uses(access: Access, inner: Sequence[tuple[str, int]]) -> bool:
    names = {name for name, _ in inner}
    return any(name in names for index in access.indices for name, _ in index.terms)


def _subscripts(op: Op, access: Access, buffer: Buffer, loops: Sequence[Loop]) -> tuple[Subscript, ...]:
    extents = {loop.name: loop.extent for loop in loops}
    edge = Edge.OUTSIDE
    if isinstance(op.attributes, ops.Pad):
        edge = {ops.PadMode.EDGE: Edge.CLAMP, ops.PadMode.REFLECT: Edge.REFLECT}.get(op.attributes.mode, Edge.OUTSIDE)
    found = []
    for index, extent, stride in zip(access.indices, buffer.tensor.shape, buffer.strides, strict=True):
        ends = [coefficient * (extents[name] - 1) for name, coefficient in index.terms]
        least = index.offset + sum(min(end, 0) for end in ends)
        most = index.offset + sum(max(end, 0) for end in ends)
        found.append(Subscript(index, extent, stride, edge if least < 0 or most >= extent else Edge.NEVER))
    return tuple(found)


def _broadcast(op: Op, buffer: Buffer, shape: tuple[int, ...]) -> tuple[Subscript, ...]:
    """Subscripts of an operand of a pointwise operation at the result's index d0, d1, ..."""
    if isinstance(op.attributes, ops.Affine):  # per channel
        return (Subscript(Affine((("d1", 1),)), buffer.tensor.shape[0], 1),)
    if isinstance(op.attributes, ops.Lookup):
        return (Subscript(Affine(), buffer.tensor.elements, 1),)
    offset = len(shape) - len(buffer.tensor.shape)
    return tuple(
        Subscript(Affine() if extent == 1 else Affine(((f"d{axis + offset}", 1),)), extent, stride)
        for axis, (extent, stride) in enumerate(zip(buffer.tensor.shape, buffer.strides, strict=True))
    )


def _coordinates(
    write: Access, loops: Sequence[Loop], inner: set[str], result: Buffer
) -> tuple[tuple[tuple[str, int, int, int], ...], tuple[int, ...]]:
    """How each outer loop follows from the number of a thread or a warp, and the extents that this number counts."""
    extents = {loop.name: loop.extent for loop in loops}
    counted: list[int] = []
    found: list[tuple[str, int, int, int]] = []
    for axis in result.layout.order:
        terms = [(name, coefficient) for name, coefficient in write.indices[axis].terms if name not in inner]
        place = len(counted)
        counted.append(1 if any(name in inner for name, _ in write.indices[axis].terms) else result.tensor.shape[axis])
        found.extend((name, place, coefficient, extents[name]) for name, coefficient in terms)
        if not any(name == f"d{axis}" for name, *_ in found) and not any(name in inner for name, _ in write.indices[axis].terms):
            found.append((f"d{axis}", place, 1, result.tensor.shape[axis]))  # what operations behind the head count by
    for loop in loops:
        if loop.name not in inner and not any(name == loop.name for name, *_ in found):
            if loop.extent != 1:
                raise LeptonError(f"loop {loop.name} does not follow from the result", where=write.tensor)
            found.append((loop.name, 0, 1, 1))
    return tuple(found), tuple(counted)
