"""Operations on integers in QDQ form: DequantizeLinear, the operation on reals, QuantizeLinear.

Symbols
-------
======  ==========================================================================================
q, z    stored integer and its zero point
beta    scale of a tensor, as in :mod:`lepton_dse.numerics.quantize`
M, s    multiplier and shift of the reference's rounding step
b_q     integer bias without what the reference folds into it, ``b_q = b + z_x * sum(w)``
======  ==========================================================================================

The reference rounds ``acc * M / 2**s``; QDQ rounds ``acc * (beta_x * beta_w) / beta_y``. Both are the same number when the
weights are made real with the scale that M stands for,

    ``beta_w = M / 2**s * beta_y / beta_x``,

so that is the scale written. What is left is the rounding itself: the reference rounds halves up, ONNX rounds them to even, and a
runtime that computes in float32 may land on the other side of a half. Either is at most one unit of the result. The same holds
for sums (``beta_a = M_a / 2**s * beta_y``) and, with a factor where the divisor needs one, for averages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from lepton_dse.emit.onnx.reals import average_over_taps, clip, pads_natively, tap_counts, write_real
from lepton_dse.emit.onnx.types import activation_type, weight_type
from lepton_dse.emit.onnx.writer import ModelWriter
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.quantize import QuantParams

__all__ = ["Rounding", "add_requantize", "as_real", "lookup", "moved", "rounded", "scaling", "store"]

_UNIT = QuantParams((1.0,))
_EXACT = 1 / 8
"""Units of a result by which a divisor may be off before it is corrected by a factor."""
_INT32 = 1 << 31


@dataclass(frozen=True)
class Rounding:
    """A Requantize with the accumulation before it.

    Parameters
    ----------
    op : Op
        Conv, MatMul or SumPool on integers.
    step : ops.Requantize
    multiplier : ndarray of int64
        M, as it broadcasts against the accumulator.
    output : Tensor
        What the rounding step produces.
    """

    op: Op
    step: ops.Requantize
    multiplier: NDArray[np.int64]
    output: Tensor


def scaling(writer: ModelWriter, tensor: Tensor, beta: float, zero: int) -> list[str]:
    """Scale and zero point under the tensor's name."""
    kind = activation_type(tensor.format)
    return [writer.reals(f"{tensor.name}.scale", beta), writer.constant(f"{tensor.name}.zero_point", np.asarray(zero), kind)]


def as_real(writer: ModelWriter, tensor: Tensor, beta: float, zero: int) -> str:
    """A stored activation, or integer constant, as reals ``beta * (q - z)``."""
    kind = activation_type(tensor.format)
    if tensor.format.bits > 16:
        raise LeptonError(f"ONNX dequantises at most 16 bits, not {tensor.format}", where=tensor.name, fix="use narrower formats")
    value = writer.graph.constants.get(tensor.name)
    name = tensor.name if value is None else writer.constant(tensor.name, value, kind)
    return writer.add("DequantizeLinear", [name, *scaling(writer, tensor, beta, zero)])


def store(writer: ModelWriter, x: str, tensor: Tensor, quant: QuantParams, low: int, high: int, output: str = "") -> str:
    """Reals as integers in [low, high]: clamped as reals where the ONNX type holds more than that, then rounded.

    Raises
    ------
    LeptonError
        If the tensor has a scale per channel or is too wide.
    """
    if len(quant.beta) > 1:
        raise LeptonError("an activation with a scale per channel", where=tensor.name, fix="use one scale a tensor")
    if tensor.format.bits > 16:
        raise LeptonError(f"ONNX quantises to at most 16 bits, not to {tensor.format}", where=tensor.name)
    beta = np.float32(quant.beta[0])
    width = 8 if tensor.format.bits <= 8 else 16
    least, most = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if tensor.format.signed else (0, (1 << width) - 1)
    bottom = float(beta * np.float32(low - quant.zero)) if low > least else -math.inf
    top = float(beta * np.float32(high - quant.zero)) if high < most else math.inf
    if math.isfinite(bottom) or math.isfinite(top):
        x = clip(writer, x, bottom, top)
    return writer.add("QuantizeLinear", [x, *scaling(writer, tensor, quant.beta[0], quant.zero)], output)


def moved(writer: ModelWriter, op: Op, tensors: Sequence[Tensor], output: Tensor) -> None:
    """An operation that moves or compares integers and changes none: every operand in the unit of the result."""
    quant = output.quant or next((tensor.quant for tensor in tensors if tensor.quant is not None), _UNIT)
    beta, zero = quant.beta[0], quant.zero
    reals = [as_real(writer, tensor, beta, zero) for tensor in tensors]
    attributes = op.attributes
    if isinstance(attributes, ops.Clip):
        attributes = ops.Clip(_real_bound(attributes.low, beta, zero), _real_bound(attributes.high, beta, zero))
    elif isinstance(attributes, ops.Pad):
        value = float(np.float32(beta) * np.float32(int(attributes.value) - zero))
        attributes = ops.Pad(attributes.begin, attributes.end, attributes.mode, value)
    if isinstance(attributes, ops.ArgMax):
        write_real(writer, op, reals, tensors, output, output.name)
        return
    result = write_real(writer, Op(op.name, attributes, op.inputs, op.output), reals, tensors, output)
    # Nothing leaves the operands' range, so saturation alone is enough.
    writer.add("QuantizeLinear", [result, *scaling(writer, output, beta, zero)], output.name)


def _real_bound(bound: float, beta: float, zero: int) -> float:
    return float(np.float32(beta) * np.float32(bound - zero)) if math.isfinite(bound) else bound


def rounded(writer: ModelWriter, rounding: Rounding) -> str:
    """A contraction or sum and its rounding step; returns what a person should know of it."""
    output, step = rounding.output, rounding.step
    beta = output.quant.beta[0] if output.quant is not None else 1.0
    rule = _average if isinstance(rounding.op.attributes, ops.SumPool) else _contraction
    real, note = rule(writer, rounding, beta)
    store(writer, real, output, QuantParams((beta,), step.zero), step.low, step.high, output.name)
    return note


def _contraction(writer: ModelWriter, rounding: Rounding, beta_y: float) -> tuple[str, str]:
    op, graph, attributes = rounding.op, writer.graph, rounding.op.attributes
    x, w = (graph.tensors[name] for name in op.inputs[:2])
    beta_x = x.quant.beta[0] if x.quant is not None else 1.0
    if isinstance(attributes, ops.Conv):
        zero, axis = attributes.pad_value, 0
    else:
        zero, axis = x.quant.zero if x.quant is not None else 0, len(w.shape) - 1
    if w.name not in graph.constants or (axis and len(w.shape) != 2):
        raise LeptonError("integer weights that are no constant matrix or kernel", where=op.name, fix="keep them real")
    weights = graph.constants[w.name].astype(np.int64)
    scale = _weight_scale(rounding, beta_x, beta_y, weights.shape[axis])
    real_x = as_real(writer, x, beta_x, zero)
    kind = weight_type(w.format)
    # Zero points of zero are written out: onnxruntime's fusions add a scalar one for every channel where there is none.
    zeros = writer.constant(f"{w.name}.zero_point", np.zeros(scale.shape, np.int64), kind)
    stored = [writer.constant(w.name, weights, kind), writer.reals(f"{w.name}.scale", scale), zeros]
    real_w = writer.add("DequantizeLinear", stored, **_along(axis, scale))
    operands, unit = [real_x, real_w], np.float32(beta_x) * scale
    bias = _unfolded(graph, op, weights, zero, axis)
    narrow = max(int(bias.max()), ~int(bias.min())) < _INT32
    name = op.inputs[2] if len(op.inputs) > 2 else f"{op.name}.bias"
    if narrow and bias.any():
        parts = [writer.constant(name, bias, int(TensorProto.INT32)), writer.reals(f"{name}.scale", unit)]
        operands.append(writer.add("DequantizeLinear", parts, **_along(0, unit)))
    shapes = (x, w, Tensor("bias", bias.shape))[: len(operands)]
    result = write_real(writer, op, operands, shapes, graph.tensors[op.output])
    if narrow:
        return result, ""
    # As an operand, or in an Add that it takes for one, onnxruntime rounds a bias to 32 bits and saturates it.
    negated = (-bias * unit.astype(np.float64)).reshape(-1, *(1,) * (len(x.shape) - 2 if axis == 0 else 0))
    behind = writer.add("Sub", [result, writer.reals(name, negated)])
    return behind, "its bias leaves 32 bits: float32, and behind it"


def _along(axis: int, scale: NDArray[np.float32]) -> dict[str, Any]:
    """The axis of a scale per channel; one scale has none."""
    return {"axis": axis} if np.ndim(scale) else {}


def _unfolded(graph: Graph, op: Op, weights: NDArray[np.int64], zero: int, axis: int) -> NDArray[np.int64]:
    """The bias per channel without what the zero point of x takes from it."""
    folded: NDArray[np.int64] = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).sum(axis=1) * zero
    if len(op.inputs) < 3:
        return folded
    if op.inputs[2] not in graph.constants:
        raise LeptonError("an integer bias that is no constant", where=op.name)
    folded += graph.constants[op.inputs[2]].astype(np.int64)
    return folded


def _weight_scale(rounding: Rounding, beta_x: float, beta_y: float, channels: int) -> NDArray[np.float32]:
    """``M / 2**s * beta_y / beta_x`` per channel, or once where all are equal.

    A multiplier of 0 makes every result 0. A scale of 0 is none, so it is replaced by one that rounds every sum to 0.
    """
    multiplier = rounding.multiplier.reshape(-1).astype(np.float64)
    if multiplier.size not in (1, channels):
        raise LeptonError(f"{multiplier.size} multipliers for {channels} channels", where=rounding.op.name)
    ratio = multiplier / 2.0**rounding.step.shift
    scale = (np.where(ratio > 0, ratio, 2.0**-66) * beta_y / beta_x).astype(np.float32)
    if not (np.isfinite(scale).all() and (scale >= np.finfo(np.float32).tiny).all()):
        raise LeptonError("the weights' scale leaves float32", where=rounding.op.name, fix="calibrate on other data")
    return scale.reshape(-1)[:1].reshape(()) if (scale == scale[0]).all() else scale


def _average(writer: ModelWriter, rounding: Rounding, beta_y: float) -> tuple[str, str]:
    """A sum times ``M / 2**s`` is an average times the number it divides by; 1, mostly, which then is not written."""
    op, graph = rounding.op, writer.graph
    pool = op.attributes
    assert isinstance(pool, ops.SumPool)
    x, window = graph.tensors[op.inputs[0]], pool.window
    beta_x = x.quant.beta[0] if x.quant is not None else 1.0
    ratio = rounding.multiplier.astype(np.float64) / 2.0**rounding.step.shift * (beta_y / beta_x)
    real = as_real(writer, x, beta_x, pool.offset)
    span = 2.0**rounding.output.format.bits
    zeros = (0,) * len(window.kernel)
    if set(window.dilations) != {1}:
        ones = writer.reals("ones", np.ones((x.shape[1], 1, *window.kernel)))
        total = Op(op.name, ops.Conv(window, x.shape[1]), op.inputs, op.output)
        summed = write_real(writer, total, [real, ones], [x], graph.tensors[op.output])
        divided = writer.add("Mul", [summed, writer.reals("divisor", ratio)])
        return divided, "dilated, which onnxruntime's integer pools are not: a convolution with ones"
    inside = tap_counts(window, x.shape, zeros, count_include_pad=False)
    for counts, including in ((inside, False), (np.asarray(float(window.taps)), True)):
        if np.abs(ratio * counts - 1).max() * span < _EXACT and (pads_natively(window) or not including):
            average = Op(op.name, ops.AveragePool(window, including), op.inputs, op.output)
            return write_real(writer, average, [real], [x], graph.tensors[op.output]), ""
    mean = average_over_taps(writer, real, window)
    factor = ratio * window.taps
    return writer.add("Mul", [mean, writer.reals("divisor", factor)]), "its divisor is the reference's, as a factor"


def add_requantize(writer: ModelWriter, op: Op, step: ops.AddRequantize, output: Tensor) -> None:
    """A sum of two tensors, each made real in the unit that its multiplier stands for."""
    beta = output.quant.beta[0] if output.quant is not None else 1.0
    reals = []
    operands = ((step.zero_a, step.multiplier_a), (step.zero_b, step.multiplier_b))
    for name, (zero, multiplier) in zip(op.inputs, operands, strict=True):
        # With a multiplier of 0 the operand adds nothing: any scale does that takes it far below half a unit.
        ratio = multiplier / 2.0**step.shift if multiplier else 2.0**-40
        reals.append(as_real(writer, writer.graph.tensors[name], float(np.float32(ratio * beta)), zero))
    total = writer.add("Add", reals)
    store(writer, total, output, QuantParams((beta,), step.zero), step.low, step.high, output.name)


def lookup(writer: ModelWriter, op: Op, step: ops.Lookup, output: Tensor) -> None:
    """A table, read by Gather at ``x - least``: exact."""
    table = writer.graph.tensors[op.inputs[1]]
    entries = writer.constant(table.name, writer.graph.constants[table.name], activation_type(table.format))
    index = writer.add("Cast", [op.inputs[0]], to=int(TensorProto.INT32))
    least = writer.constant("least", np.asarray(step.least), int(TensorProto.INT32))
    writer.add("Gather", [entries, writer.add("Sub", [index, least])], output.name, axis=0)
