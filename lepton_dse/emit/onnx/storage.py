"""Quantize and Dequantize: reals stored in a format, and stored constants and activations made real again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from lepton_dse.emit.onnx.integers import scaling, store
from lepton_dse.emit.onnx.reals import clip
from lepton_dse.emit.onnx.types import activation_type, weight_type
from lepton_dse.emit.onnx.writer import ModelWriter
from lepton_dse.errors import LeptonError
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import FLOAT32
from lepton_dse.numerics.quantize import QuantParams, dequantize, integer_bounds

__all__ = ["dequantized", "quantized"]


def quantized(writer: ModelWriter, x: str, output: Tensor) -> None:
    """Reals stored as an integer or as a narrow float, clamped to its finite range first.

    Raises
    ------
    LeptonError
        If the format is not one that ONNX stores.
    """
    quant, form = _scale(output), output.format
    if form.is_integer:
        store(writer, x, output, quant, *integer_bounds(form), output.name)
        return
    if len(quant.beta) > 1:
        raise LeptonError("an activation with a scale per channel", where=output.name, fix="use one scale a tensor")
    kind = activation_type(form)
    if quant.beta[0] != 1:
        x = writer.add("Div", [x, writer.reals(f"{output.name}.scale", quant.beta[0])])
    if form.bits < FLOAT32.bits:
        x = clip(writer, x, float(form.minimum), float(form.maximum))
    writer.add("Cast", [x], output.name, to=kind)


def dequantized(writer: ModelWriter, tensor: Tensor, output: Tensor) -> str:
    """A stored tensor made real; returns what a person should know of how.

    Raises
    ------
    LeptonError
        If the result is not float32, in which the reference computes it.
    """
    if output.format != FLOAT32:
        raise LeptonError(f"makes {output.format} where the reference computes in float32", where=output.name)
    quant = _scale(tensor)
    value = writer.graph.constants.get(tensor.name)
    if tensor.format.is_float:
        _cast(writer, tensor, quant, value, output)
        return ""
    if value is None:
        if len(quant.beta) > 1:
            raise LeptonError("an activation with a scale per channel", where=tensor.name, fix="use one scale a tensor")
        scale = scaling(writer, tensor, quant.beta[0], quant.zero)
        writer.add("DequantizeLinear", [tensor.name, *scale], output.name)
        return ""
    return _constant(writer, value, tensor, quant, output)


def _cast(writer: ModelWriter, tensor: Tensor, quant: QuantParams, value: NDArray[Any] | None, output: Tensor) -> None:
    """Floats: Cast, and a product where the scale is not 1.

    DequantizeLinear takes floats of 8 bits too, but onnxruntime's fusions of it with its neighbours are made for integers and
    give other numbers; a Cast they leave alone.
    """
    kind = activation_type(tensor.format)
    name = tensor.name if value is None else writer.constant(tensor.name, value, kind)
    if all(beta == 1 for beta in quant.beta):
        writer.add("Cast", [name], output.name, to=int(TensorProto.FLOAT))
        return
    real = writer.add("Cast", [name], to=int(TensorProto.FLOAT))
    writer.add("Mul", [real, writer.reals(f"{tensor.name}.scale", quant.scale(tensor.shape))], output.name)


def _constant(writer: ModelWriter, value: NDArray[Any], tensor: Tensor, quant: QuantParams, output: Tensor) -> str:
    """Weights: one scale, one per channel along an axis, or one per block of a channel."""
    kind, rank = weight_type(tensor.format), len(tensor.shape)
    axis = None if quant.axis is None else quant.axis % rank
    beta = np.asarray(quant.beta, np.float32)
    groups = 1 if axis is None or quant.group is None else beta.size // tensor.shape[axis]
    if groups > 1 and axis not in (0, rank - 1):
        writer.add("Identity", [writer.reals(tensor.name, dequantize(value, quant))], output.name)
        return "its groups lie along no axis of a matrix, so its weights are stored as float32"
    options: dict[str, int] = {}
    if groups > 1:
        # Channels and the rest as a matrix; a group is a block of consecutive elements of the rest.
        rows = axis == 0
        shape = (tensor.shape[0], -1) if rows else (-1, tensor.shape[-1])
        value = value.reshape(shape)
        beta = beta.reshape(-1, groups) if rows else beta.reshape(-1, groups).T
        options = {"axis": int(rows), "block_size": int(quant.group or 0)}
    elif beta.size > 1:
        options = {"axis": int(axis or 0)}
    operands = [writer.constant(tensor.name, value, kind)]
    operands.append(writer.reals(f"{tensor.name}.scale", beta if options else beta.reshape(())))
    # Written even where they are 0: onnxruntime's fusions add a scalar one for every channel where there is none.
    operands.append(writer.constant(f"{tensor.name}.zero_point", np.full(beta.shape if options else (), quant.zero), kind))
    whole = value.shape == tensor.shape
    real = writer.add("DequantizeLinear", operands, output.name if whole else "", **options)
    if not whole:
        writer.reshape(real, tensor.shape, fixed=True, output=output.name)
    return ""


def _scale(tensor: Tensor) -> QuantParams:
    if tensor.quant is None:
        raise LeptonError("has no scale", where=tensor.name)
    return tensor.quant
