"""Operators that pick elements: Slice, Split, Gather and Expand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.pointwise import normal_axis
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import Array, NotSupported
from lepton_dse.ir import ops

__all__ = ["expand", "gather", "integers", "picked", "slice_of", "split"]

Shape = tuple[int, ...]
_MOST = 64  # entries of a list that names axes


def integers(node: Node, sketch: Sketch, index: int, what: str) -> Shape:
    """A constant input that is a list of integers.

    Raises
    ------
    InvalidModelError
        If it is left out or holds something else.
    NotSupported
        If it is no constant.
    """
    if not node.input(index):
        raise InvalidModelError(f"has no {what}", where=node.where)
    value = sketch.constant(node.input(index))
    if value is None:
        raise NotSupported(f"its {what} are not a constant")
    if value.dtype.kind != "i" or value.ndim > 1 or value.size > _MOST:
        raise InvalidModelError(f"its {what} are not a list of integers", where=node.where)
    return tuple(int(entry) for entry in value.reshape(-1))


def slice_of(node: Node, sketch: Sketch) -> str:
    """Slice: bounds are attributes before opset 10 and constant inputs since."""
    x = sketch.operand(node.input(0))
    shape = sketch.tensors[x].shape
    if node.opset < 10:
        starts, ends = node.integers("starts", ()), node.integers("ends", ())
        axes, steps = node.integers("axes", tuple(range(len(starts)))), (1,) * len(starts)
    else:
        starts, ends = integers(node, sketch, 1, "starts"), integers(node, sketch, 2, "ends")
        axes = integers(node, sketch, 3, "axes") if node.input(3) else tuple(range(len(starts)))
        steps = integers(node, sketch, 4, "steps") if node.input(4) else (1,) * len(starts)
    chosen = picked(node, shape, starts, ends, axes, steps)
    begin, extent, step = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, (first, count, stride) in chosen.items():
        if count < 1:
            raise InvalidModelError(f"takes no element of axis {axis} of {list(shape)}", where=node.where)
        begin[axis], extent[axis], step[axis] = first, count, stride if count > 1 else 1
    return _sliced(node, sketch, x, begin, extent, step)


def picked(
    node: Node, shape: Shape, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> dict[int, tuple[int, int, int]]:
    """First element, number of elements and step along each axis that Slice names: bounds count from the end and are clamped.

    Raises
    ------
    InvalidModelError
        If the lists differ in length, name an axis twice or hold a step of 0.
    """
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise InvalidModelError("its starts, ends, axes and steps differ in length", where=node.where)
    found: dict[int, tuple[int, int, int]] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        position = normal_axis(node, axis, len(shape))
        size = shape[position]
        if step == 0 or position in found:
            raise InvalidModelError("a step of 0" if step == 0 else f"slices axis {position} twice", where=node.where)
        low, high = (0, size) if step > 0 else (-1, size - 1)
        first, last = (min(max(place + size if place < 0 else place, low), high) for place in (start, end))
        if step < 0:
            first = max(first, 0) if size else first
        found[position] = first, max(-(-(last - first) // step), 0), step
    return found


def split(node: Node, sketch: Sketch) -> str:
    """Split: every output is a Slice; sizes are an attribute before opset 13, an input since, equal if neither is given."""
    x = sketch.operand(node.input(0))
    shape = sketch.tensors[x].shape
    axis = normal_axis(node, node.integer("axis", 0), len(shape))
    parts = node.integer("num_outputs", len(node.outputs))
    given = integers(node, sketch, 1, "sizes") if node.opset >= 13 and node.input(1) else ()
    sizes = given or node.integers("split", ())
    if not sizes:
        each = math.ceil(shape[axis] / max(parts, 1))
        sizes = tuple(max(min(each, shape[axis] - each * part), 0) for part in range(min(parts, _MOST)))
    if parts != len(node.outputs) or len(sizes) != parts or min(sizes) < 1 or sum(sizes) != shape[axis]:
        raise InvalidModelError(f"splits an axis of {shape[axis]} into {list(sizes)[:8]}", where=node.where)
    start = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        begin, extent = [0] * len(shape), list(shape)
        begin[axis], extent[axis] = start, size
        start += size
        if name:
            sketch.define(name, _sliced(node, sketch, x, begin, extent, [1] * len(shape), name))
    return sketch.operand(node.outputs[0])


def expand(node: Node, sketch: Sketch) -> str:
    """Expand to a constant shape."""
    x, wanted = sketch.operand(node.input(0)), integers(node, sketch, 1, "extents")
    shape = sketch.tensors[x].shape
    try:
        result = tuple(int(extent) for extent in np.broadcast_shapes(shape, wanted))
    except ValueError as error:
        raise InvalidModelError(f"cannot repeat {list(shape)} to {list(wanted)}", where=node.where) from error
    if len(result) > len(shape):
        x = sketch.emit(node, ops.Reshape((1,) * (len(result) - len(shape)) + shape), [x], last=False)
    return x if result == sketch.tensors[x].shape else sketch.emit(node, ops.Expand(result), [x])


def gather(node: Node, sketch: Sketch) -> str:
    """Gather: constant indices at even distances are a Slice, and one alone also drops its axis."""
    x, indices = sketch.operand(node.input(0)), sketch.constant(node.input(1))
    shape = sketch.tensors[x].shape
    axis = normal_axis(node, node.integer("axis", 0), len(shape))
    if indices is None:
        return sketch.emit(node, ops.Gather(axis), [x, sketch.operand(node.input(1))])
    if indices.dtype.kind != "i":
        raise InvalidModelError("its indices are no integers", where=node.where)
    size = shape[axis]
    outside = indices[(indices < -size) | (indices >= size)]
    if outside.size:
        raise InvalidModelError(f"reads index {int(outside.reshape(-1)[0])} of an axis of {size}", where=node.where)
    places = np.where(indices < 0, indices + size, indices).astype(np.int64)
    steps = np.diff(places.reshape(-1))
    if places.ndim < 2 and places.size and not (steps != steps[:1]).any() and not (steps[:1] == 0).any():
        return _evenly(node, sketch, x, axis, places)
    return sketch.emit(node, ops.Gather(axis), [x, sketch.add_constant(node.input(1), places)])


def _evenly(node: Node, sketch: Sketch, x: str, axis: int, places: Array) -> str:
    shape = sketch.tensors[x].shape
    begin, extent, step = [0] * len(shape), list(shape), [1] * len(shape)
    begin[axis], extent[axis] = int(places.reshape(-1)[0]), places.size
    step[axis] = int(places[1] - places[0]) if places.size > 1 else 1
    if places.ndim:
        return _sliced(node, sketch, x, begin, extent, step)
    kept = _sliced(node, sketch, x, begin, extent, step, last=False)
    return sketch.emit(node, ops.Reshape(shape[:axis] + shape[axis + 1 :]), [kept])


def _sliced(
    node: Node,
    sketch: Sketch,
    x: str,
    begin: Sequence[int],
    extent: Sequence[int],
    step: Sequence[int],
    output: str = "",
    *,
    last: bool = True,
) -> str:
    """A Slice, or the tensor itself where that takes all of it in order."""
    if tuple(extent) == sketch.tensors[x].shape and all(stride == 1 for stride in step):
        return x
    return sketch.emit(node, ops.Slice(tuple(begin), tuple(extent), tuple(step)), [x], last=last, output=output)
