"""C++ text of values: types, literals, and what each pointwise operation makes of its operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.schedule.gpu import Source

__all__ = ["ctype", "literal", "pointwise", "real_value", "value_type"]

_FLOATS = {"float32": "float", "float64": "double", "bool": "bool", "float16": "lepton::half", "bfloat16": "lepton::bfloat16"}
_EXACT_FLOAT_BITS = 16  # integers of so many bits and their zero points are exact in float32
_UNARY = {
    ops.UnaryFunction.NEGATE: "-{0}",
    ops.UnaryFunction.ABSOLUTE: "fabsf({0})",
    ops.UnaryFunction.SQUARE_ROOT: "sqrtf({0})",
    ops.UnaryFunction.RECIPROCAL: "1.0f / {0}",
    ops.UnaryFunction.EXPONENTIAL: "expf({0})",
    ops.UnaryFunction.LOGARITHM: "logf({0})",
    ops.UnaryFunction.ERROR_FUNCTION: "erff({0})",
}
_BINARY = {
    ops.BinaryFunction.SUBTRACT: "{0} - {1}",
    ops.BinaryFunction.MULTIPLY: "{0} * {1}",
    ops.BinaryFunction.DIVIDE: "{0} / {1}",
    ops.BinaryFunction.POWER: "powf({0}, {1})",
    ops.BinaryFunction.MINIMUM: "lepton::least_of({0}, {1})",
    ops.BinaryFunction.MAXIMUM: "lepton::greatest_of({0}, {1})",
}
_FLOAT32_ONLY = {
    ops.UnaryFunction.ABSOLUTE,
    ops.UnaryFunction.SQUARE_ROOT,
    ops.UnaryFunction.RECIPROCAL,
    ops.UnaryFunction.EXPONENTIAL,
    ops.UnaryFunction.LOGARITHM,
    ops.UnaryFunction.ERROR_FUNCTION,
    ops.BinaryFunction.DIVIDE,
    ops.BinaryFunction.POWER,
}
_RELATIONS = {
    ops.Relation.EQUAL: "==",
    ops.Relation.LESS: "<",
    ops.Relation.LESS_OR_EQUAL: "<=",
    ops.Relation.GREATER: ">",
    ops.Relation.GREATER_OR_EQUAL: ">=",
}


def ctype(form: NumberFormat) -> str:
    """The type that stores a format.

    Raises
    ------
    LeptonError
        For float formats that the device code has no conversions for.
    """
    if str(form) in _FLOATS:
        return _FLOATS[str(form)]
    if form.is_float:
        raise LeptonError(f"the CUDA emitter has no {form}", fix="plan with float32, float16, bfloat16 or integers")
    return f"{form.numpy.name}_t"


def value_type(source: Source) -> str:
    """The type of an operand once it is read."""
    return "float" if source.scaled is not None else ctype(source.buffer.tensor.format)


def literal(value: float, kind: str) -> str:
    """A number of a C++ type."""
    if kind in ("float", "double"):
        if math.isinf(value):
            return "lepton::infinity()" if value > 0 else "-lepton::infinity()"
        return f"{float(value).hex()}{'f' if kind == 'float' else ''}"
    if kind == "bool":
        return "true" if value else "false"
    return f"{int(value)}LL" if kind.startswith(("int64", "uint64")) else str(int(value))


def real_value(source: Source, text: str) -> str:
    """The value that a stored number stands for, where its reader wants reals."""
    stored = source.scaled
    if stored is None:
        return text
    assert stored.quant is not None, "a lowered graph checks it"
    return f"lepton::dequantize({text}, {stored.quant.zero}, {literal(stored.quant.beta[0], 'float')})"


def pointwise(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    """The result of a pointwise operation as an expression of its operands' values.

    Parameters
    ----------
    op : Op
    values : sequence of str
        One expression an operand.
    tensors : sequence of Tensor
        The operands as they are stored.
    output : Tensor

    Raises
    ------
    LeptonError
        If there is no rule for the operation.
    """
    rule = _RULES.get(type(op.attributes))
    if rule is None:
        where = f"{op.kind} '{op.name}'"
        raise LeptonError("the CUDA emitter has no rule for it", where=where, fix="another target, or change the model")
    return rule(op, values, tensors, output)


_Rule = Callable[[Op, Sequence[str], Sequence[Tensor], Tensor], str]


def _rounded(product: str, a: ops.Requantize | ops.AddRequantize) -> str:
    return f"lepton::rounded({product}, {a.shift}, {a.zero}, {a.low}, {a.high})"


def _requantize(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    assert isinstance(op.attributes, ops.Requantize), "dispatched by kind"
    return _rounded(f"static_cast<int64_t>({values[0]}) * {values[1]}", op.attributes)


def _add_requantize(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    a = op.attributes
    assert isinstance(a, ops.AddRequantize), "dispatched by kind"
    first = f"(static_cast<int64_t>({values[0]}) - ({a.zero_a})) * {a.multiplier_a}"
    second = f"(static_cast<int64_t>({values[1]}) - ({a.zero_b})) * {a.multiplier_b}"
    return _rounded(f"{first} + {second}", a)


def _quantize(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    quant, form = output.quant, output.format
    assert quant is not None, "a lowered graph checks it"
    if len(quant.beta) > 1:
        raise LeptonError("activations with several scales", where=op.name, fix="quantize activations per tensor")
    beta = literal(quant.beta[0], "float")
    if form.is_float:
        limit = literal(min(float(form.maximum), 3.4028234663852886e38), "float")
        return f"lepton::encode<{ctype(form)}>({values[0]}, {beta}, {limit})"
    bounds = f"{int(form.minimum)}, {int(form.maximum)}"
    wide = "" if form.bits <= _EXACT_FLOAT_BITS else "_wide"
    return f"lepton::quantize{wide}<{ctype(form)}>({values[0]}, {beta}, {quant.zero}, {bounds})"


def _dequantize(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    quant = tensors[0].quant
    assert quant is not None, "a lowered graph checks it"
    if len(quant.beta) > 1:
        raise LeptonError("activations with several scales", where=op.name, fix="quantize activations per tensor")
    return f"lepton::dequantize({values[0]}, {quant.zero}, {literal(quant.beta[0], 'float')})"


def _clip(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    a = op.attributes
    assert isinstance(a, ops.Clip), "dispatched by kind"
    kind, text = ctype(output.format), values[0]
    if math.isfinite(a.low):
        text = f"lepton::greatest_of<{kind}>({text}, {literal(a.low, kind)})"
    if math.isfinite(a.high):
        text = f"lepton::least_of<{kind}>({text}, {literal(a.high, kind)})"
    return text


def _leaky(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    assert isinstance(op.attributes, ops.LeakyRelu), "dispatched by kind"
    return f"({values[0]} >= 0 ? {values[0]} : {literal(op.attributes.alpha, 'float')} * {values[0]})"


def _real_only(texts: Mapping[Any, str], attribute: str) -> _Rule:
    def rule(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
        kind = getattr(op.attributes, attribute)
        text = texts[kind]
        if kind in _FLOAT32_ONLY and str(output.format) != "float32":
            raise LeptonError(f"{kind.value} of {output.format}", where=op.name, fix="float32 only on this target")
        return "(" + text.format(*(f"({value})" for value in values)) + ")"

    return rule


def _compare(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    assert isinstance(op.attributes, ops.Compare), "dispatched by kind"
    return f"({values[0]} {_RELATIONS[op.attributes.relation]} {values[1]})"


def _cast(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    kind = ctype(output.format)
    return f"({values[0]} != 0)" if kind == "bool" else f"static_cast<{kind}>({values[0]})"


def _gelu(op: Op, values: Sequence[str], tensors: Sequence[Tensor], output: Tensor) -> str:
    assert isinstance(op.attributes, ops.Gelu), "dispatched by kind"
    return f"lepton::gelu{'_approximate' if op.attributes.approximate else ''}({values[0]})"


def _form(text: str) -> _Rule:
    return lambda op, values, tensors, output: text.format(*values)


_RULES: dict[type, _Rule] = {
    ops.Add: _form("({0} + {1})"),
    ops.AddRequantize: _add_requantize,
    ops.Affine: _form("({0} * {1} + {2})"),
    ops.Binary: _real_only(_BINARY, "function"),
    ops.Cast: _cast,
    ops.Clip: _clip,
    ops.Compare: _compare,
    ops.Dequantize: _dequantize,
    ops.Gelu: _gelu,
    ops.LeakyRelu: _leaky,
    ops.Lookup: _form("{1}"),
    ops.Quantize: _quantize,
    ops.Requantize: _requantize,
    ops.Sigmoid: _form("lepton::sigmoid({0})"),
    ops.Tanh: _form("tanhf({0})"),
    ops.Unary: _real_only(_UNARY, "function"),
    ops.Where: _form("({0} ? {1} : {2})"),
    # These move elements; the reads say from where.
    ops.Expand: _form("{0}"),
    ops.Slice: _form("{0}"),
    ops.Transpose: _form("{0}"),
}
