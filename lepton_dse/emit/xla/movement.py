"""Operations that move elements and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.types import is_float, tensor_type
from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor

__all__ = ["RULES", "taken"]


def taken(body: Body, x: Value, indices: Value, axis: int) -> Value:
    """Slices of x along an axis, one for each index, all inside."""
    rank = len(indices.shape)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    offset = [*range(axis), *range(axis + rank, len(shape))]
    sizes = [1 if position == axis else extent for position, extent in enumerate(x.shape)]
    text = (
        f'"stablehlo.gather"({x.name}, {indices.name}) <{{dimension_numbers = #stablehlo.gather<offset_dims = {offset}, '
        f"collapsed_slice_dims = [{axis}], start_index_map = [{axis}], index_vector_dim = {rank}>, "
        f"indices_are_sorted = false, slice_sizes = array<i64: {', '.join(map(str, sizes))}>}}>"
        f" : ({x.type}, {indices.type}) -> {tensor_type(shape, x.kind)}"
    )
    return body.emit(text, shape, x.kind)


def _reshape(body: Body, _: ops.Reshape, inputs: list[Value], __: Sequence[Tensor], output: Tensor) -> Value:
    return body.reshape(inputs[0], output.shape)


def _transpose(body: Body, attributes: ops.Transpose, inputs: list[Value], *_: Any) -> Value:
    return body.transpose(inputs[0], attributes.permutation)


def _expand(body: Body, _: ops.Expand, inputs: list[Value], __: Sequence[Tensor], output: Tensor) -> Value:
    return body.broadcast(inputs[0], output.shape)


def _concat(body: Body, attributes: ops.Concat, inputs: list[Value], *_: Any) -> Value:
    return body.concatenate(inputs, attributes.axis)


def _slice(body: Body, attributes: ops.Slice, inputs: list[Value], *_: Any) -> Value:
    """A slice backwards is one forwards, reversed."""
    begin, end, step, backwards = [], [], [], []
    for axis, (first, extent, stride) in enumerate(zip(attributes.begin, attributes.extent, attributes.step, strict=True)):
        low, high = sorted((first, first + (extent - 1) * stride))
        begin.append(low)
        end.append(high + 1)
        step.append(abs(stride))
        if stride < 0 and extent > 1:
            backwards.append(axis)
    found = body.slice(inputs[0], begin, end, step)
    return body.reverse(found, backwards) if backwards else found


def _pad(body: Body, attributes: ops.Pad, inputs: list[Value], *_: Any) -> Value:
    x = inputs[0]
    if attributes.mode is ops.PadMode.CONSTANT:
        fill = attributes.value if is_float(x.kind) else int(attributes.value)
        return body.pad(x, fill, attributes.begin, attributes.end)
    for axis, (before, after) in enumerate(zip(attributes.begin, attributes.end, strict=True)):
        x = _grown(body, x, axis, max(before, 0), max(after, 0), attributes.mode)
    low = [max(-before, 0) for before in attributes.begin]
    high = [extent - max(-after, 0) for extent, after in zip(x.shape, attributes.end, strict=True)]
    return body.slice(x, low, high)


def _grown(body: Body, x: Value, axis: int, before: int, after: int, mode: ops.PadMode) -> Value:
    extent = x.shape[axis]

    def along(begin: int, end: int) -> Value:
        first = [begin if position == axis else 0 for position in range(len(x.shape))]
        last = [end if position == axis else size for position, size in enumerate(x.shape)]
        return body.slice(x, first, last)

    parts = [x]
    if mode is ops.PadMode.EDGE:
        shape = list(x.shape)
        if before:
            shape[axis] = before
            parts.insert(0, body.broadcast(along(0, 1), tuple(shape)))
        if after:
            shape[axis] = after
            parts.append(body.broadcast(along(extent - 1, extent), tuple(shape)))
    else:
        if before:
            parts.insert(0, body.reverse(along(1, before + 1), [axis]))
        if after:
            parts.append(body.reverse(along(extent - 1 - after, extent - 1), [axis]))
    return body.concatenate(parts, axis)


def _gather(body: Body, attributes: ops.Gather, inputs: list[Value], *_: Any) -> Value:
    x, indices = inputs[0], body.convert(inputs[1], "i64" if inputs[1].kind.endswith("64") else "i32")
    negative = body.compare("LT", indices, body.like(indices, 0))
    wrapped = body.apply("add", indices, body.like(indices, x.shape[attributes.axis]))
    return taken(body, x, body.select(negative, wrapped, indices), attributes.axis)


RULES: dict[type, Any] = {
    ops.Reshape: _reshape,
    ops.Transpose: _transpose,
    ops.Expand: _expand,
    ops.Concat: _concat,
    ops.Slice: _slice,
    ops.Pad: _pad,
    ops.Gather: _gather,
}
