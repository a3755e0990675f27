"""What each operation and each input of a graph may choose on a mesh: all of it, the dearer of two that look alike left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import stored_bytes
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.parallel.splitting import OpLayouts, layouts_of, splittable
from lepton_dse.schedule.sharded import Strategies, sharded_program
from lepton_dse.schedule.sharded.build import OpStrategy
from lepton_dse.search.sharded.pricing import StepPrices

__all__ = ["Choice", "graph_choices", "input_layouts", "op_choices"]


@dataclass(frozen=True)
class Choice:
    """One way to share an operation.

    Parameters
    ----------
    strategy : OpStrategy
    wanted : tuple of Layout
        Of its operands.
    seconds : float
        Of the operation, of what it needs of neighbours, and of closing its sums; not of bringing operands.
    weight_bytes : int
        Of the constants that one device holds for it.
    """

    strategy: OpStrategy
    wanted: tuple[Layout, ...]
    seconds: float
    weight_bytes: int


def input_layouts(shape: tuple[int, ...], mesh: Mesh) -> list[Layout]:
    """Every layout of an input without open sums, the whole one first; several axes cut a dimension in the mesh's order."""
    return list(_layouts(Layout(((),) * len(shape)), shape, mesh, mesh.names))


def _layouts(layout: Layout, shape: tuple[int, ...], mesh: Mesh, axes: tuple[str, ...]) -> Iterator[Layout]:
    """`layout` with each of some axes left out or cutting one more dimension."""
    if not axes:
        yield layout
        return
    yield from _layouts(layout, shape, mesh, axes[1:])
    for dimension, extent in enumerate(shape):
        cut = (*layout.cuts[dimension], axes[0])
        if extent % mesh.size(cut) == 0 and mesh.sizes[axes[0]] > 1:
            cuts = (*layout.cuts[:dimension], cut, *layout.cuts[dimension + 1 :])
            yield from _layouts(Layout(cuts), shape, mesh, axes[1:])


def graph_choices(graph: Graph, mesh: Mesh, prices: StepPrices) -> dict[str, list[Choice]]:
    """The choices of every operation; those that differ in names alone have the same, listed once."""
    known: dict[object, list[Choice]] = {}
    found = {}
    for op in graph.ops:
        names = list(dict.fromkeys((*op.inputs, op.output)))
        tensors = [(tensor.shape, tensor.format, _scaled(tensor)) for tensor in (graph.tensors[name] for name in names)]
        places = tuple(names.index(name) for name in op.inputs)
        key = (op.attributes, tuple(tensors), places, tuple(name in graph.constants for name in names))
        if key not in known:
            known[key] = op_choices(graph, op, mesh, prices)
        found[op.name] = known[key]
    return found


def _scaled(tensor: Tensor) -> tuple[int | None, int | None]:
    """Along what a tensor has scales of its own; which these are decides nothing."""
    return (None, None) if tensor.quant is None else (tensor.quant.axis, tensor.quant.group)


def op_choices(graph: Graph, op: Op, mesh: Mesh, prices: StepPrices) -> list[Choice]:
    """Every way to share an operation, the cheapest of those with the same operands and result."""
    best: dict[tuple[object, ...], Choice] = {}
    for shared, layouts in _shared(graph, op, mesh):
        closed = Layout(layouts.output.cuts)
        shape = graph.tensors[op.output].shape
        for home in _layouts(closed, shape, mesh, layouts.output.partial):
            strategy = OpStrategy(shared, home)
            choice = _priced(graph, op, mesh, strategy, layouts, prices)
            known = best.get((layouts.inputs, home))
            if known is None or choice.seconds < known.seconds:
                best[layouts.inputs, home] = choice
    return list(best.values())


def _shared(graph: Graph, op: Op, mesh: Mesh) -> Iterator[tuple[dict[str, tuple[str, ...]], OpLayouts]]:
    loops = [loop.name for loop in splittable(graph, op)]
    for picked in itertools.product([None, *loops], repeat=len(mesh.names)):
        shared: dict[str, tuple[str, ...]] = {}
        for axis, loop in zip(mesh.names, picked, strict=True):
            if loop is not None and mesh.sizes[axis] > 1:
                shared[loop] = (*shared.get(loop, ()), axis)
            elif loop is not None:
                break
        else:
            layouts = layouts_of(graph, op, shared, mesh)
            if layouts is not None:
                yield shared, layouts


def _priced(graph: Graph, op: Op, mesh: Mesh, strategy: OpStrategy, layouts: OpLayouts, prices: StepPrices) -> Choice:
    """The price of the very steps that the operation becomes, by itself."""
    names = dict.fromkeys((*op.inputs, op.output))
    moving = [name for name in dict.fromkeys(op.inputs) if name not in graph.constants]
    moving = moving or list(dict.fromkeys(op.inputs))  # of constants alone: a graph needs an input
    constants = {name: graph.constants[name] for name in op.inputs if name not in moving}
    alone = Graph(graph.name, [graph.tensors[name] for name in names], [op], moving, [op.output], constants)
    arriving = {name: layouts.inputs[op.inputs.index(name)] for name in moving}
    program = sharded_program(alone, mesh, Strategies(arriving, {op.name: strategy}))
    held = sum(stored_bytes(program.shards[name].tensor) for name in program.constants)
    return Choice(strategy, layouts.inputs, prices.program(program), held)
