"""Channels that leave a graph: cut out, so that shapes shrink, or left in place at zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune.coupling import is_depthwise
from lepton_dse.compress.prune.dependencies import Dependencies
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op

__all__ = ["cut", "silenced"]

Array = NDArray[np.generic]
Removed = NDArray[np.bool_]


def cut(graph: Graph, found: Dependencies, removed: Removed) -> Graph:
    """The graph without the removed units.

    Parameters
    ----------
    graph : Graph
    found : Dependencies
        Of this graph.
    removed : ndarray of bool, shape (units,)
    """
    kept = _kept(graph, found, removed)
    constants = dict(graph.constants)
    for op in graph.ops:
        if _grouped(graph, op):
            constants[op.inputs[1]] = _cut_groups(graph, op, kept)
    grouped = {op.inputs[1] for op in graph.ops if _grouped(graph, op)}
    for name, value in graph.constants.items():
        if name not in grouped:
            for axis in range(value.ndim):
                if not kept[name, axis].all():
                    value = np.compress(kept[name, axis], value, axis=axis)  # noqa: PLW2901 (one axis after another)
            constants[name] = value
    tensors = []
    for tensor in graph.tensors.values():
        shape = tuple(int(np.count_nonzero(kept[tensor.name, axis])) for axis in range(len(tensor.shape)))
        tensors.append(replace(tensor, shape=constants[tensor.name].shape if tensor.name in constants else shape))
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    operations = [_with_shapes(graph, op, shapes) for op in graph.ops]
    return Graph(graph.name, tensors, operations, graph.inputs, graph.outputs, constants)


def silenced(graph: Graph, found: Dependencies, removed: Removed) -> Graph:
    """The graph of the same shapes with zeros for all that makes or reads a removed unit: its outputs are those of `cut`."""
    kept = _kept(graph, found, removed)
    changed: dict[str, Array] = {}
    for name, value in graph.constants.items():
        for axis in range(value.ndim):
            if not kept[name, axis].all():
                changed.setdefault(name, np.array(value))
                np.moveaxis(changed[name], axis, 0)[~kept[name, axis]] = 0
    for op in graph.ops:
        if _grouped(graph, op):
            weights = changed.get(op.inputs[1], np.array(graph.constants[op.inputs[1]]))
            for rows, columns in _blocks(graph, op, kept):
                weights[rows, ~columns] = 0
            changed[op.inputs[1]] = weights
    return graph.with_constants(changed)


def _kept(graph: Graph, found: Dependencies, removed: Removed) -> dict[tuple[str, int], Removed]:
    return {
        (tensor.name, axis): ~removed[found.units(tensor.name, axis)]
        for tensor in graph.tensors.values()
        for axis in range(len(tensor.shape))
    }


def _grouped(graph: Graph, op: Op) -> bool:
    return isinstance(op.attributes, ops.Conv) and op.attributes.groups > 1 and not is_depthwise(graph, op)


def _blocks(graph: Graph, op: Op, kept: dict[tuple[str, int], Removed]) -> list[tuple[slice, Removed]]:
    """Output channels of each group of a convolution, and which input channels of the group stay."""
    assert isinstance(op.attributes, ops.Conv)
    groups, outputs = op.attributes.groups, graph.tensors[op.output].shape[1]
    inputs = kept[op.inputs[0], 1].reshape(groups, -1)
    size = outputs // groups
    return [(slice(index * size, (index + 1) * size), columns) for index, columns in enumerate(inputs)]


def _cut_groups(graph: Graph, op: Op, kept: dict[tuple[str, int], Removed]) -> Array:
    """Weights of a grouped convolution, each group without the channels that it loses."""
    weights, rows = graph.constants[op.inputs[1]], kept[op.output, 1]
    return np.concatenate([weights[part][rows[part]][:, columns] for part, columns in _blocks(graph, op, kept)])


def _with_shapes(graph: Graph, op: Op, shapes: dict[str, tuple[int, ...]]) -> Op:
    """The operation with those attributes that state extents."""
    if isinstance(op.attributes, ops.Reshape):
        return replace(op, attributes=ops.Reshape(shapes[op.output]))
    if isinstance(op.attributes, ops.Slice):
        return replace(op, attributes=replace(op.attributes, extent=shapes[op.output]))
    if isinstance(op.attributes, ops.Conv) and is_depthwise(graph, op):
        return replace(op, attributes=replace(op.attributes, groups=shapes[op.inputs[0]][1]))
    return op
