"""Functions of one and two tensors, comparisons, choices and conversions.

A constant per channel of axis 1 becomes an affine map, which a neighbour may absorb; any other operand is read as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import Array, as_float32, filled, numpy_type, spread
from lepton_dse.ir import ops
from lepton_dse.ir.ops import BinaryFunction, Relation, UnaryFunction
from lepton_dse.numerics.formats import BOOL, NumberFormat

__all__ = [
    "add",
    "affine",
    "both",
    "cast",
    "comparison",
    "div",
    "either",
    "extreme",
    "function",
    "gelu",
    "inverse",
    "mul",
    "power",
    "sub",
    "sum_of",
    "where",
]

Rule = Callable[[Node, Sketch], str]


def add(node: Node, sketch: Sketch) -> str:
    """Add: a constant per channel is a shift, which a neighbour may absorb."""
    x, constant = _constant_operand(node, sketch)
    if constant is None:
        return sketch.emit(node, ops.Add(), [sketch.operand(node.input(0)), sketch.operand(node.input(1))])
    shift = _per_channel(sketch, x, constant)
    if shift is None:
        return sketch.emit(node, ops.Add(), [x, sketch.operand(node.input(1 if sketch.constant(node.input(0)) is None else 0))])
    return affine(node, sketch, x, filled(1, shift), shift)


def sum_of(node: Node, sketch: Sketch) -> str:
    """Sum of any number of tensors, as a chain of Adds."""
    return _chain(node, sketch, ops.Add())


def mul(node: Node, sketch: Sketch) -> str:
    """Mul: a constant per channel is a scale."""
    x, scale = _channel_constant(node, sketch)
    if scale is None:
        return _binary(node, sketch, BinaryFunction.MULTIPLY)
    return affine(node, sketch, x, scale, filled(0, scale))


def div(node: Node, sketch: Sketch) -> str:
    """Div: by a constant per channel it is a scale."""
    x, divisor = _channel_constant(node, sketch)
    if divisor is None or sketch.constant(node.input(0)) is not None:
        return _binary(node, sketch, BinaryFunction.DIVIDE)
    return affine(node, sketch, x, spread(np.reciprocal, divisor), filled(0, divisor))


def sub(node: Node, sketch: Sketch) -> str:
    """Sub: of, or from, a constant per channel it is a shift."""
    x, constant = _channel_constant(node, sketch)
    if constant is None:
        return _binary(node, sketch, BinaryFunction.SUBTRACT)
    if sketch.constant(node.input(0)) is not None:
        return affine(node, sketch, x, filled(-1, constant), constant)
    return affine(node, sketch, x, filled(1, constant), spread(np.negative, constant))


def power(node: Node, sketch: Sketch) -> str:
    """Pow: by 1, 2 and one half it is the tensor, its square and its root."""
    x, exponent = node.input(0), sketch.constant(node.input(1))
    if exponent is not None and exponent.size == 1 and sketch.constant(x) is None:
        known = float(exponent.reshape(-1)[0])
        operand = sketch.operand(x)
        shape = sketch.tensors[operand].shape
        if exponent.ndim <= len(shape) and sketch.tensors[operand].format.is_float:
            if known == 1:
                return operand
            if known == 2:
                return sketch.emit(node, ops.Binary(BinaryFunction.MULTIPLY), [operand, operand])
            if known == 0.5:
                return sketch.emit(node, ops.Unary(UnaryFunction.SQUARE_ROOT), [operand])
        if exponent.dtype.kind in "iu":  # an integer exponent of reals
            reals = sketch.add_constant(f"{node.outputs[0]}_exponent", exponent.astype(np.float32))
            return sketch.emit(node, ops.Binary(BinaryFunction.POWER), [operand, reals])
    return _binary(node, sketch, BinaryFunction.POWER)


def extreme(which: BinaryFunction) -> Rule:
    """Min or Max of any number of tensors; by one number it is a Clip."""

    def rule(node: Node, sketch: Sketch) -> str:
        constants = [sketch.constant(name) for name in node.inputs]
        bounds = [value for value in constants if value is not None and value.size == 1 and value.dtype.kind == "f"]
        others = [name for name, value in zip(node.inputs, constants, strict=True) if value is None]
        if len(node.inputs) == 2 and len(bounds) == len(others) == 1 and bounds[0].ndim <= len(sketch.shape(others[0])):
            bound = float(bounds[0].reshape(-1)[0])
            if math.isnan(bound):
                raise InvalidModelError("a bound is not a number", where=node.where)
            x = sketch.operand(others[0])
            low, high = (bound, math.inf) if which is BinaryFunction.MAXIMUM else (-math.inf, bound)
            return x if math.isinf(low) and math.isinf(high) else sketch.emit(node, ops.Clip(low, high), [x])
        return _chain(node, sketch, ops.Binary(which))

    return rule


def function(which: UnaryFunction) -> Rule:
    """An operator that applies one function to every element."""

    def rule(node: Node, sketch: Sketch) -> str:
        return sketch.emit(node, ops.Unary(which), [sketch.operand(node.input(0))])

    return rule


def gelu(node: Node, sketch: Sketch) -> str:
    """Gelu."""
    how = node.text("approximate", "none")
    if how not in ("none", "tanh"):
        raise InvalidModelError(f"approximate is '{how}'", where=node.where)
    return sketch.emit(node, ops.Gelu(how == "tanh"), [sketch.operand(node.input(0))])


def comparison(relation: Relation) -> Rule:
    """An operator that compares two tensors."""

    def rule(node: Node, sketch: Sketch) -> str:
        return sketch.emit(node, ops.Compare(relation), [sketch.operand(node.input(0)), sketch.operand(node.input(1))])

    return rule


def both(node: Node, sketch: Sketch) -> str:
    """And: the lesser of two truth values."""
    return sketch.emit(node, ops.Binary(BinaryFunction.MINIMUM), _truths(node, sketch, 2))


def either(node: Node, sketch: Sketch) -> str:
    """Or: the greater of two truth values."""
    return sketch.emit(node, ops.Binary(BinaryFunction.MAXIMUM), _truths(node, sketch, 2))


def inverse(node: Node, sketch: Sketch) -> str:
    """Not: whether a truth value is false."""
    false = sketch.add_constant(f"{node.outputs[0]}_false", np.zeros((), np.bool_))
    return sketch.emit(node, ops.Compare(Relation.EQUAL), [*_truths(node, sketch, 1), false])


def where(node: Node, sketch: Sketch) -> str:
    """Where."""
    return sketch.emit(node, ops.Where(), [sketch.operand(name) for name in node.inputs[:3]])


def cast(node: Node, sketch: Sketch) -> str:
    """Cast: tensors hold all reals in float32, so that from reals to reals it is another name."""
    node.ignore("saturate", "round_mode")
    target = numpy_type(node.integer("to", 0))
    x = sketch.operand(node.input(0))
    source = sketch.tensors[x].format
    real = np.issubdtype(target, np.floating) or target.kind not in "iub"
    form = NumberFormat.parse("float32") if real else NumberFormat.from_numpy(target)
    return x if form == source else sketch.emit(node, ops.Cast(form), [x])


def _truths(node: Node, sketch: Sketch, count: int) -> list[str]:
    operands = [sketch.operand(name) for name in node.inputs[:count]]
    if any(sketch.tensors[name].format != BOOL for name in operands):
        raise InvalidModelError("reads what are no truth values", where=node.where)
    return operands


def _binary(node: Node, sketch: Sketch, which: BinaryFunction) -> str:
    return sketch.emit(node, ops.Binary(which), [sketch.operand(node.input(0)), sketch.operand(node.input(1))])


def _chain(node: Node, sketch: Sketch, attributes: ops.Add | ops.Binary) -> str:
    total = sketch.operand(node.input(0))
    for index, name in enumerate(node.inputs[1:], 2):
        total = sketch.emit(node, attributes, [total, sketch.operand(name)], last=index == len(node.inputs))
    return total


def _constant_operand(node: Node, sketch: Sketch) -> tuple[str, Array | None]:
    """Of two operands, the tensor that varies and the constant, if one of them is a constant."""
    for index in (1, 0):
        value = sketch.constant(node.input(index))
        if value is not None:
            return sketch.operand(node.input(1 - index)), as_float32(value)
    return sketch.operand(node.input(0)), None


def _channel_constant(node: Node, sketch: Sketch) -> tuple[str, Array | None]:
    """The tensor that varies and the constant per channel that it meets, if that is what the other operand is."""
    x, constant = _constant_operand(node, sketch)
    return x, None if constant is None else _per_channel(sketch, x, constant)


def _per_channel(sketch: Sketch, x: str, constant: Array) -> Array | None:
    """The constant as one float64 per channel of axis 1, or None if it is not that."""
    shape = sketch.tensors[x].shape
    aligned = (1,) * (len(shape) - constant.ndim) + constant.shape
    if len(shape) < 2 or len(aligned) != len(shape) or aligned[1] not in (1, shape[1]):
        return None
    if any(extent != 1 for axis, extent in enumerate(aligned) if axis != 1):
        return None
    return spread(lambda part: part.astype(np.float64), np.broadcast_to(constant.reshape(-1), (shape[1],)))


def affine(node: Node, sketch: Sketch, x: str, scale: Array, shift: Array) -> str:
    """``x * scale[c] + shift[c]`` over channel axis 1."""
    parts = {"scale": scale, "shift": shift}
    names = [sketch.add_constant(f"{node.outputs[0]}_{part}", as_float32(value)) for part, value in parts.items()]
    return sketch.emit(node, ops.Affine(), [x, *names])
