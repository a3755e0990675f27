"""Shape and format of an operation's output, from its attributes and inputs. One function a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import BOOL, INT64, NumberFormat

__all__ = ["MAX_ELEMENTS", "infer"]

MAX_ELEMENTS = 1 << 32  # a tensor above this is a broken or hostile file, not a network that fits any device
_MAX_RANK = 16

Shape = tuple[int, ...]
Rule = Callable[[Any, Sequence[Tensor]], Shape]


def infer(attributes: ops.Attributes, inputs: Sequence[Tensor]) -> tuple[Shape, NumberFormat]:
    """Shape and default format of the output of an operation.

    The format is that of the first input, except for ArgMax (int64), Compare (bool), Cast (what it says) and Where (that of
    what it chooses from). Lowering states the formats of integer results.

    Raises
    ------
    InvalidModelError
        If the inputs do not fit the operation.
    """
    low, high = _ARITY.get(type(attributes), (1, 1))
    if not low <= len(inputs) <= high:
        expected = str(low) if low == high else f"{low} to {high}"
        raise InvalidModelError(f"takes {expected} inputs, not {len(inputs)}")
    shape = _RULES[type(attributes)](attributes, inputs)
    if any(extent < 1 for extent in shape):
        raise InvalidModelError(f"gives an empty tensor {list(shape)}")
    if len(shape) > _MAX_RANK or np.prod([float(extent) for extent in shape]) > MAX_ELEMENTS:
        raise InvalidModelError(f"gives a tensor of shape {list(shape)}, beyond {MAX_ELEMENTS} elements or {_MAX_RANK} axes")
    return shape, _format(attributes, inputs)


def _format(attributes: ops.Attributes, inputs: Sequence[Tensor]) -> NumberFormat:
    match attributes:
        case ops.ArgMax():
            return INT64
        case ops.Compare():
            return BOOL
        case ops.Cast(to):
            return to
        case ops.Where():
            return inputs[1].format
        case _:
            return inputs[0].format


def _same(_: Any, inputs: Sequence[Tensor]) -> Shape:
    return inputs[0].shape


def _windowed(window: ops.Window, x: Tensor) -> Shape:
    spatial = x.shape[2:]
    fields = (window.kernel, window.strides, window.dilations, window.pads_begin, window.pads_end)
    if len(x.shape) < 3 or any(len(field) != len(spatial) for field in fields):
        raise InvalidModelError(f"a window of {len(window.kernel)} axes over a tensor of shape {list(x.shape)}")
    if any(value < 1 for field in fields[:3] for value in field) or any(value < 0 for field in fields[3:] for value in field):
        raise InvalidModelError("kernel, strides and dilations must be at least 1 and pads at least 0")
    extent = window.output_extent(spatial)
    if any(value < 1 for value in extent):
        raise InvalidModelError(f"the window {list(window.kernel)} does not fit in {list(spatial)}")
    return extent


def _conv(attributes: ops.Conv, inputs: Sequence[Tensor]) -> Shape:
    x, w = inputs[0], inputs[1]
    extent = _windowed(attributes.window, x)
    if len(w.shape) != len(x.shape) or w.shape[2:] != attributes.window.kernel:
        raise InvalidModelError(f"weights {list(w.shape)} do not match the kernel {list(attributes.window.kernel)}")
    groups = attributes.groups
    if groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise InvalidModelError(f"weights {list(w.shape)} in {groups} groups do not match {x.shape[1]} input channels")
    if len(inputs) > 2 and inputs[2].shape != (w.shape[0],):
        raise InvalidModelError(f"a bias {list(inputs[2].shape)} for {w.shape[0]} output channels")
    return (x.shape[0], w.shape[0], *extent)


def _matmul(_: ops.MatMul, inputs: Sequence[Tensor]) -> Shape:
    x, w = inputs[0].shape, inputs[1].shape
    if not x or len(w) < 2 or x[-1] != w[-2]:
        raise InvalidModelError(f"cannot multiply {list(x)} by {list(w)}")
    shape = (*w[:-2], w[-1]) if len(x) == 1 else (*_broadcast(x[:-2], w[:-2]), x[-2], w[-1])
    if len(inputs) > 2 and inputs[2].shape != (w[-1],):
        raise InvalidModelError(f"a bias {list(inputs[2].shape)} for {w[-1]} outputs")
    return shape


def _broadcast(*shapes: Shape) -> Shape:
    try:
        return tuple(int(extent) for extent in np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise InvalidModelError("cannot broadcast " + " with ".join(str(list(shape)) for shape in shapes)) from error


def _affine(_: ops.Affine, inputs: Sequence[Tensor]) -> Shape:
    x = inputs[0].shape
    if len(x) < 2 or any(tensor.shape != (x[1],) for tensor in inputs[1:]):
        raise InvalidModelError(f"scale and shift must have one entry per channel of {list(x)}")
    return x


def _axis(axis: int, rank: int) -> int:
    if not 0 <= axis < rank:
        raise InvalidModelError(f"axis {axis} of a tensor with {rank} axes")
    return axis


def _axes(axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    for axis in axes:
        _axis(axis, rank)
    if not axes or len(set(axes)) != len(axes):
        raise InvalidModelError(f"the axes {list(axes)}, of which there must be at least one, and none twice")
    return axes


def _softmax(attributes: ops.Softmax, inputs: Sequence[Tensor]) -> Shape:
    for axis in attributes.axes:
        _axis(axis, len(inputs[0].shape))
    return inputs[0].shape


def _layer_norm(attributes: ops.LayerNorm, inputs: Sequence[Tensor]) -> Shape:
    x = inputs[0].shape
    extents = tuple(x[axis] for axis in sorted(_axes(attributes.axes, len(x))))
    if attributes.axes != tuple(sorted(attributes.axes)) or any(tensor.shape != extents for tensor in inputs[1:]):
        raise InvalidModelError(f"scale and shift must have the extents {list(extents)} of {list(x)} along its ascending axes")
    return x


def _reduce(attributes: ops.Reduce, inputs: Sequence[Tensor]) -> Shape:
    x = inputs[0].shape
    axes = _axes(attributes.axes, len(x))
    kept = (1 if axis in axes else extent for axis, extent in enumerate(x) if attributes.keepdims or axis not in axes)
    return tuple(kept)


def _argmax(attributes: ops.ArgMax, inputs: Sequence[Tensor]) -> Shape:
    shape = list(inputs[0].shape)
    axis = _axis(attributes.axis, len(shape))
    shape[axis : axis + 1] = [1] if attributes.keepdims else []
    return tuple(shape)


def _pool(attributes: ops.MaxPool | ops.AveragePool | ops.SumPool, inputs: Sequence[Tensor]) -> Shape:
    return (*inputs[0].shape[:2], *_windowed(attributes.window, inputs[0]))


def _pad(attributes: ops.Pad, inputs: Sequence[Tensor]) -> Shape:
    x = inputs[0].shape
    if not len(x) == len(attributes.begin) == len(attributes.end):
        raise InvalidModelError(f"pads for {len(attributes.begin)} axes on a tensor of shape {list(x)}")
    if attributes.mode is ops.PadMode.REFLECT and any(
        max(begin, end) >= extent for extent, begin, end in zip(x, attributes.begin, attributes.end, strict=True)
    ):
        raise InvalidModelError(f"reflects more than the tensor {list(x)} holds")
    return tuple(extent + begin + end for extent, begin, end in zip(x, attributes.begin, attributes.end, strict=True))


def _concat(attributes: ops.Concat, inputs: Sequence[Tensor]) -> Shape:
    first = list(inputs[0].shape)
    axis = _axis(attributes.axis, len(first))
    total = 0
    for tensor in inputs:
        shape = list(tensor.shape)
        if len(shape) != len(first) or shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :]:
            raise InvalidModelError(f"cannot join {first} and {shape} along axis {axis}")
        total += shape[axis]
    first[axis] = total
    return tuple(first)


def _reshape(attributes: ops.Reshape, inputs: Sequence[Tensor]) -> Shape:
    elements = 1
    for extent in attributes.shape:
        elements *= extent
    if elements != inputs[0].elements:
        raise InvalidModelError(f"cannot reshape {list(inputs[0].shape)} to {list(attributes.shape)}")
    return attributes.shape


def _transpose(attributes: ops.Transpose, inputs: Sequence[Tensor]) -> Shape:
    shape = inputs[0].shape
    if sorted(attributes.permutation) != list(range(len(shape))):
        raise InvalidModelError(f"{list(attributes.permutation)} is no permutation of {len(shape)} axes")
    return tuple(shape[axis] for axis in attributes.permutation)


def _expand(attributes: ops.Expand, inputs: Sequence[Tensor]) -> Shape:
    x = inputs[0].shape
    if _broadcast(x, attributes.shape) != attributes.shape:
        raise InvalidModelError(f"cannot repeat {list(x)} to {list(attributes.shape)}")
    return attributes.shape


def _slice(attributes: ops.Slice, inputs: Sequence[Tensor]) -> Shape:
    x = inputs[0].shape
    fields = (attributes.begin, attributes.extent, attributes.step)
    if any(len(field) != len(x) for field in fields):
        raise InvalidModelError(f"slices {len(attributes.begin)} axes of a tensor of shape {list(x)}")
    for axis, (begin, extent, step) in enumerate(zip(*fields, strict=True)):
        last = begin + (extent - 1) * step
        if step == 0 or extent < 1 or not (0 <= begin < x[axis] and 0 <= last < x[axis]):
            raise InvalidModelError(f"takes {extent} elements from {begin} in steps of {step} of an axis of {x[axis]}")
    return attributes.extent


def _gather(attributes: ops.Gather, inputs: Sequence[Tensor]) -> Shape:
    x, indices = inputs[0].shape, inputs[1]
    axis = _axis(attributes.axis, len(x))
    if not indices.format.is_integer:
        raise InvalidModelError(f"indices of {indices.format}")
    return (*x[:axis], *indices.shape, *x[axis + 1 :])


def _where(_: ops.Where, inputs: Sequence[Tensor]) -> Shape:
    if inputs[0].format != BOOL:
        raise InvalidModelError(f"a condition of {inputs[0].format}, which must be bool")
    return _broadcast(*(tensor.shape for tensor in inputs))


def _pair(_: Any, inputs: Sequence[Tensor]) -> Shape:
    return _broadcast(inputs[0].shape, inputs[1].shape)


_ARITY: dict[type, tuple[int, int]] = {
    ops.Conv: (2, 3),
    ops.MatMul: (2, 3),
    ops.Affine: (3, 3),
    ops.Add: (2, 2),
    ops.AddRequantize: (2, 2),
    ops.Binary: (2, 2),
    ops.Compare: (2, 2),
    ops.Where: (3, 3),
    ops.LayerNorm: (3, 3),
    ops.Gather: (2, 2),
    ops.Concat: (1, 1 << 16),
    ops.Requantize: (2, 2),
    ops.Lookup: (2, 2),
}
_RULES: dict[type, Rule] = {
    ops.Conv: _conv,
    ops.MatMul: _matmul,
    ops.Affine: _affine,
    ops.Add: _pair,
    ops.AddRequantize: _pair,
    ops.Binary: _pair,
    ops.Compare: _pair,
    ops.Where: _where,
    ops.Unary: _same,
    ops.Gelu: _same,
    ops.Cast: _same,
    ops.Clip: _same,
    ops.LeakyRelu: _same,
    ops.Sigmoid: _same,
    ops.Tanh: _same,
    ops.Softmax: _softmax,
    ops.LayerNorm: _layer_norm,
    ops.Reduce: _reduce,
    ops.ArgMax: _argmax,
    ops.MaxPool: _pool,
    ops.AveragePool: _pool,
    ops.SumPool: _pool,
    ops.LocalResponseNorm: _same,
    ops.Pad: _pad,
    ops.Concat: _concat,
    ops.Reshape: _reshape,
    ops.Transpose: _transpose,
    ops.Expand: _expand,
    ops.Slice: _slice,
    ops.Gather: _gather,
    ops.Quantize: _same,
    ops.Dequantize: _same,
    ops.Requantize: _same,
    ops.Lookup: _same,
}
