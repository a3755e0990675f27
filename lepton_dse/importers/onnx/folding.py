"""Evaluation of operators on constants: the arithmetic on shapes and weights that exporters leave in a file.

Only what is listed here is folded, in NumPy, and no result may be far larger than what it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.indexing import picked
from lepton_dse.importers.onnx.movement import flattened, reshaped, squeezed, unsqueezed
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.pointwise import normal_axis
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import Array, NotSupported, check_size, numpy_type, repeated, spread
from lepton_dse.ir.shapes import MAX_ELEMENTS

__all__ = ["FOLDABLE", "fold", "shape_of"]

Fold = Callable[[Node, Sequence[Array]], Array]


def fold(node: Node, sketch: Sketch) -> Array:
    """The value of a node whose inputs are all constants.

    Raises
    ------
    InvalidModelError
        If the inputs do not fit the operator.
    NotSupported
        If the operator uses a type or a mode that is not supported.
    """
    value = _folded(node, sketch)
    inputs = [sketch.constant(name) for name in node.inputs if name]
    if not any(source is not None and np.may_share_memory(value, source) for source in inputs):
        sketch.charge(value, node.where)
    return value


def _folded(node: Node, sketch: Sketch) -> Array:
    if node.op_type == "Constant":
        return _constant(node, sketch)
    if node.op_type == "ConstantOfShape":
        return _constant_of_shape(node, sketch)
    values = [sketch.constant(name) for name in node.inputs if name]
    present = [value for value in values if value is not None]
    if len(present) < len(node.inputs):
        raise NotSupported("leaves out an input")
    try:
        return np.asarray(FOLDABLE[node.op_type](node, present))  # an index into an array may give a bare scalar
    except InvalidModelError as error:
        raise InvalidModelError(error.what, where=error.where or node.where, fix=error.fix) from error
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
        raise InvalidModelError(f"cannot be computed on its constant inputs ({error})", where=node.where) from error


def shape_of(node: Node, shape: tuple[int, ...]) -> Array:
    """Shape and Size, which need no value of their input."""
    if node.op_type == "Size":
        return np.asarray(math.prod(shape), np.int64)
    start, end = node.integer("start", 0), node.integer("end", len(shape))
    return np.asarray(shape[start:end], np.int64)


def _constant(node: Node, sketch: Sketch) -> Array:
    for name in ("sparse_value", "value_string", "value_strings"):
        if node.has(name):
            raise NotSupported(f"has the attribute '{name}'")
    if node.has("value"):
        value = node.tensor("value", sketch.folder)
    elif node.has("value_float"):
        value = np.asarray(node.real("value_float", 0.0), np.float32)
    elif node.has("value_floats"):
        value = np.asarray(node.reals("value_floats"), np.float32)
    elif node.has("value_int"):
        value = np.asarray(node.integer("value_int", 0), np.int64)
    else:
        value = np.asarray(node.integers("value_ints", ()), np.int64) if node.has("value_ints") else None
    if value is None:
        raise InvalidModelError("holds no value", where=node.where)
    return value


def _constant_of_shape(node: Node, sketch: Sketch) -> Array:
    shape = sketch.constant(node.input(0))
    if shape is None:
        raise NotSupported("its shape is not a constant")
    value = node.tensor("value", sketch.folder)
    value = np.zeros(1, np.float32) if value is None else value
    if value.size != 1:
        raise InvalidModelError(f"repeats {value.size} values", where=node.where)
    return np.broadcast_to(value.reshape(()), _extents(node, shape))


def _extents(node: Node, value: Array) -> tuple[int, ...]:
    """A shape given as a constant."""
    extents = tuple(int(extent) for extent in value.reshape(-1)[:64])
    if value.dtype.kind != "i" or value.ndim > 1 or len(extents) > 32 or min(extents, default=0) < 0:
        raise InvalidModelError(f"{list(extents)[:8]} is no shape", where=node.where)
    if math.prod(extents) > MAX_ELEMENTS:
        raise InvalidModelError(f"asks for a tensor of shape {list(extents)}, beyond {MAX_ELEMENTS} elements", where=node.where)
    return extents


def _integers(value: Array) -> tuple[int, ...]:
    if value.dtype.kind != "i" or value.ndim > 1:
        raise ValueError("a list of integers is expected")
    return tuple(int(entry) for entry in value.reshape(-1)[:64])


def _viewed(value: Array, shape: tuple[int, ...]) -> Array:
    if repeated(value):
        return np.broadcast_to(value[(0,) * value.ndim], shape)
    check_size(value.size, [value])
    return value.reshape(shape)


def _axes_of(node: Node, values: Sequence[Array]) -> tuple[int, ...]:
    if node.opset < 13:
        return node.integers("axes", ())
    return _integers(values[1]) if len(values) > 1 else ()


def _cast(node: Node, values: Sequence[Array]) -> Array:
    node.ignore("saturate", "round_mode")
    target = numpy_type(node.integer("to", 0))
    return spread(lambda part: part.astype(target), values[0])


def _transpose(node: Node, values: Sequence[Array]) -> Array:
    return values[0].transpose(node.integers("perm", tuple(reversed(range(values[0].ndim)))))


def _gather(node: Node, values: Sequence[Array]) -> Array:
    data, index = values
    axis = normal_axis(node, node.integer("axis", 0), data.ndim)
    if index.dtype.kind != "i":
        raise TypeError("the indices are no integers")
    check_size(index.size * (data.size // max(data.shape[axis], 1)), values)
    return np.take(data, index.astype(np.int64), axis=axis)


def _slice(node: Node, values: Sequence[Array]) -> Array:
    data = values[0]
    if node.opset < 10:
        starts, ends = node.integers("starts", ()), node.integers("ends", ())
        axes, steps = node.integers("axes", tuple(range(len(starts)))), (1,) * len(starts)
    else:
        starts, ends = _integers(values[1]), _integers(values[2])
        axes = _integers(values[3]) if len(values) > 3 else tuple(range(len(starts)))
        steps = _integers(values[4]) if len(values) > 4 else (1,) * len(starts)
    kept = [slice(None)] * data.ndim
    for axis, (first, count, step) in picked(node, data.shape, starts, ends, axes, steps).items():
        end = first + count * step
        kept[axis] = slice(first, end if end >= 0 else None, step) if count else slice(0, 0)
    return data[tuple(kept)]


def _concat(node: Node, values: Sequence[Array]) -> Array:
    check_size(sum(value.size for value in values), values)
    return np.concatenate(values, axis=normal_axis(node, node.integer("axis", 0), values[0].ndim))


def _expand(node: Node, values: Sequence[Array]) -> Array:
    shape = np.broadcast_shapes(values[0].shape, _extents(node, values[1]))
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"beyond {MAX_ELEMENTS} elements")
    return np.broadcast_to(values[0], shape)


def _range(node: Node, values: Sequence[Array]) -> Array:
    node.ignore("stash_type")
    start, limit, delta = (value.reshape(())[()] for value in values)
    count = max(math.ceil((float(limit) - float(start)) / float(delta)), 0)
    check_size(count, values)
    return (start + np.arange(count) * delta).astype(values[0].dtype)


def _div(_: Node, values: Sequence[Array]) -> Array:
    a, b = values
    if a.dtype.kind == "f":
        return spread(np.divide, a, b)
    if not b.all():
        raise ZeroDivisionError("integer division by 0")

    def towards_zero(a: Array, b: Array) -> Array:
        quotient: Array = np.abs(a) // np.abs(b) * (np.sign(a) * np.sign(b))
        return quotient.astype(a.dtype)

    return spread(towards_zero, a, b)


def _where(_: Node, values: Sequence[Array]) -> Array:
    def choose(choice: Array, yes: Array, no: Array) -> Array:
        return np.where(choice.astype(np.bool_), yes, no)

    return spread(choose, *values)


def _reduce_prod(node: Node, values: Sequence[Array]) -> Array:
    data = values[0]
    axes = node.integers("axes", ()) if node.opset < 18 else _integers(values[1]) if len(values) > 1 else ()
    keep = bool(node.integer("keepdims", 1))
    if not axes and node.integer("noop_with_empty_axes", 0):
        return data
    check_size(data.size, values)
    positions = tuple(normal_axis(node, axis, data.ndim) for axis in axes) or None
    return np.asarray(np.prod(data, axis=positions, keepdims=keep, dtype=data.dtype))


def _elementwise(function: Callable[..., Array]) -> Fold:
    return lambda _, values: spread(lambda *parts: np.asarray(function(*parts)), *values)


def _chained(function: Callable[..., Array]) -> Fold:
    def folded(_: Node, values: Sequence[Array]) -> Array:
        total = values[0]
        for value in values[1:]:
            total = spread(function, total, value)
        return total

    return folded


def _power(a: Array, b: Array) -> Array:
    result: Array = np.power(a, b)
    return result.astype(a.dtype)


FOLDABLE: dict[str, Fold] = {
    "Identity": lambda _, values: values[0],
    "Cast": _cast,
    "Reshape": lambda node, values: _viewed(values[0], reshaped(node, values[0].shape, _integers(values[1]))),
    "Flatten": lambda node, values: _viewed(values[0], flattened(node, values[0].shape)),
    "Squeeze": lambda node, values: _viewed(values[0], squeezed(node, values[0].shape, _axes_of(node, values))),
    "Unsqueeze": lambda node, values: _viewed(values[0], unsqueezed(node, values[0].shape, _axes_of(node, values))),
    "Transpose": _transpose,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Expand": _expand,
    "Range": _range,
    "Where": _where,
    "ReduceProd": _reduce_prod,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _div,
    "Pow": _elementwise(_power),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Sqrt": _elementwise(np.sqrt),
    "Reciprocal": _elementwise(np.reciprocal),
    "Exp": _elementwise(np.exp),
    "Log": _elementwise(np.log),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Equal": _elementwise(np.equal),
    "Less": _elementwise(np.less),
    "Greater": _elementwise(np.greater),
    "LessOrEqual": _elementwise(np.less_equal),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Not": _elementwise(np.logical_not),
    "Min": _chained(np.minimum),
    "Max": _chained(np.maximum),
    "Sum": _chained(np.add),
}
