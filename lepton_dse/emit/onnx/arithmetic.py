"""Functions of elements, choices, reductions and the picking of elements as standard ONNX operators, one rule a kind.

Gelu and a layer normalisation over other than the last axes have no operator in the operator set that is written; they are spelt
out, and a runtime or an importer may see through that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from onnx import TensorProto

from lepton_dse.emit.onnx.types import activation_type
from lepton_dse.emit.onnx.writer import ModelWriter
from lepton_dse.ir import ops
from lepton_dse.ir.ops import BinaryFunction, ReduceFunction, Relation, UnaryFunction
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import BOOL

__all__ = ["RULES"]

_BINARY = {
    BinaryFunction.SUBTRACT: "Sub",
    BinaryFunction.MULTIPLY: "Mul",
    BinaryFunction.DIVIDE: "Div",
    BinaryFunction.POWER: "Pow",
    BinaryFunction.MINIMUM: "Min",
    BinaryFunction.MAXIMUM: "Max",
}
_OF_TRUTHS = {BinaryFunction.MINIMUM: "And", BinaryFunction.MAXIMUM: "Or"}
_UNARY = {
    UnaryFunction.NEGATE: "Neg",
    UnaryFunction.ABSOLUTE: "Abs",
    UnaryFunction.SQUARE_ROOT: "Sqrt",
    UnaryFunction.RECIPROCAL: "Reciprocal",
    UnaryFunction.EXPONENTIAL: "Exp",
    UnaryFunction.LOGARITHM: "Log",
    UnaryFunction.ERROR_FUNCTION: "Erf",
}
_RELATIONS = {
    Relation.EQUAL: "Equal",
    Relation.LESS: "Less",
    Relation.LESS_OR_EQUAL: "LessOrEqual",
    Relation.GREATER: "Greater",
    Relation.GREATER_OR_EQUAL: "GreaterOrEqual",
}
_REDUCTIONS = {
    ReduceFunction.SUM: "ReduceSum",
    ReduceFunction.MEAN: "ReduceMean",
    ReduceFunction.MINIMUM: "ReduceMin",
    ReduceFunction.MAXIMUM: "ReduceMax",
}
_FRONT = -(1 << 31)  # the end of a slice that runs backwards off the front


def _binary(writer: ModelWriter, binary: ops.Binary, inputs: list[str], tensors: Sequence[Tensor], *rest: Any) -> None:
    kinds = _OF_TRUTHS if tensors[0].format == BOOL else _BINARY
    writer.add(kinds[binary.function], inputs, rest[-1])


def _compare(writer: ModelWriter, compare: ops.Compare, inputs: list[str], tensors: Sequence[Tensor], *rest: Any) -> None:
    operands = [_wide(writer, name, tensor) for name, tensor in zip(inputs, tensors, strict=True)]
    writer.add(_RELATIONS[compare.relation], operands, rest[-1])


def _wide(writer: ModelWriter, name: str, tensor: Tensor) -> str:
    """Integers in one of the two types that onnxruntime compares and indexes with; the rest as it is."""
    form = tensor.format
    if not form.is_integer or form == BOOL or (form.signed and form.bits > 16):
        return name
    return writer.add("Cast", [name], to=int(TensorProto.INT64))


def _where(writer: ModelWriter, _: ops.Where, inputs: list[str], *rest: Any) -> None:
    writer.add("Where", inputs, rest[-1])


def _unary(writer: ModelWriter, unary: ops.Unary, inputs: list[str], *rest: Any) -> None:
    writer.add(_UNARY[unary.function], inputs, rest[-1])


def _gelu(writer: ModelWriter, gelu: ops.Gelu, inputs: list[str], *rest: Any) -> None:
    x = inputs[0]
    if gelu.approximate:
        cube = writer.add("Mul", [writer.add("Mul", [x, x]), x])
        inner = writer.add("Add", [x, writer.add("Mul", [cube, writer.reals("cubic", 0.044715)])])
        curve = writer.add("Tanh", [writer.add("Mul", [inner, writer.reals("slope", math.sqrt(2 / math.pi))])])
    else:
        curve = writer.add("Erf", [writer.add("Div", [x, writer.reals("width", math.sqrt(2))])])
    gate = writer.add("Add", [curve, writer.reals("one", 1.0)])
    writer.add("Mul", [writer.add("Mul", [x, gate]), writer.reals("half", 0.5)], rest[-1])


def _cast(writer: ModelWriter, cast: ops.Cast, inputs: list[str], *rest: Any) -> None:
    writer.add("Cast", inputs, rest[-1], to=activation_type(cast.to))


def _layer_norm(
    writer: ModelWriter, norm: ops.LayerNorm, inputs: list[str], tensors: Sequence[Tensor], _: Tensor, output: str
) -> None:
    shape, axes, x = tensors[0].shape, norm.axes, inputs[0]
    if axes == tuple(range(axes[0], len(shape))):
        writer.add("LayerNormalization", inputs, output, axis=axes[0], epsilon=norm.epsilon)
        return
    along = writer.indices("axes", axes)
    kept = tuple(extent if axis in axes else 1 for axis, extent in enumerate(shape))
    scale, shift = (writer.reshape(name, kept, fixed=True) for name in inputs[1:])
    centred = writer.add("Sub", [x, writer.add("ReduceMean", [x, along], keepdims=1)])
    variance = writer.add("ReduceMean", [writer.add("Mul", [centred, centred]), along], keepdims=1)
    deviation = writer.add("Sqrt", [writer.add("Add", [variance, writer.reals("epsilon", norm.epsilon)])])
    scaled = writer.add("Mul", [writer.add("Div", [centred, deviation]), scale])
    writer.add("Add", [scaled, shift], output)


def _reduce(writer: ModelWriter, reduce: ops.Reduce, inputs: list[str], *rest: Any) -> None:
    operands = [inputs[0], writer.indices("axes", reduce.axes)]
    writer.add(_REDUCTIONS[reduce.function], operands, rest[-1], keepdims=int(reduce.keepdims))


def _expand(writer: ModelWriter, expand: ops.Expand, inputs: list[str], _: Sequence[Tensor], result: Tensor, output: str) -> None:
    shape = expand.shape
    if writer.dynamic and not writer.is_fixed(result.name):
        shape = (1, *shape[1:])  # an extent of 1 keeps whatever batch there is
    writer.add("Expand", [inputs[0], writer.indices("shape", shape)], output)


def _slice(writer: ModelWriter, picked: ops.Slice, inputs: list[str], tensors: Sequence[Tensor], _: Tensor, output: str) -> None:
    fields = zip(tensors[0].shape, picked.begin, picked.extent, picked.step, strict=True)
    rows = []
    for axis, (size, begin, extent, step) in enumerate(fields):
        if (begin, extent, step) != (0, size, 1):
            end = begin + extent * step
            rows.append((begin, end if end >= 0 else _FRONT, axis, step))
    if not rows:
        writer.add("Identity", inputs, output)
        return
    columns = zip(("starts", "ends", "axes", "steps"), zip(*rows, strict=True), strict=True)
    writer.add("Slice", [inputs[0], *(writer.indices(name, column) for name, column in columns)], output)


def _gather(writer: ModelWriter, gather: ops.Gather, inputs: list[str], tensors: Sequence[Tensor], *rest: Any) -> None:
    writer.add("Gather", [inputs[0], _wide(writer, inputs[1], tensors[1])], rest[-1], axis=gather.axis)


RULES: dict[type, Callable[[ModelWriter, Any, list[str], Sequence[Tensor], Tensor, str], object]] = {
    ops.Binary: _binary,
    ops.Compare: _compare,
    ops.Where: _where,
    ops.Unary: _unary,
    ops.Gelu: _gelu,
    ops.Cast: _cast,
    ops.LayerNorm: _layer_norm,
    ops.Reduce: _reduce,
    ops.Expand: _expand,
    ops.Slice: _slice,
    ops.Gather: _gather,
}
