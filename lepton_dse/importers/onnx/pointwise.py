"""Activations, normalisations and the choice of a class."""

from __future__ import annotations

import math

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.arithmetic import affine
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import Array, NotSupported, as_float32, spread
from lepton_dse.ir import ops

__all__ = [
    "argmax",
    "batch_normalization",
    "clip",
    "leaky_relu",
    "local_response_norm",
    "normal_axis",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]


def normal_axis(node: Node, axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises
    ------
    InvalidModelError
        If the tensor has no such axis.
    """
    if not -rank <= axis < rank:
        raise InvalidModelError(f"axis {axis} of a tensor with {rank} axes", where=node.where)
    return axis % rank


def relu(node: Node, sketch: Sketch) -> str:
    """Relu."""
    return sketch.emit(node, ops.Clip(0.0, math.inf), [sketch.operand(node.input(0))])


def clip(node: Node, sketch: Sketch) -> str:
    """Clip: bounds are attributes before opset 11 and constant inputs since."""
    if node.opset < 11:
        low, high = node.real("min", -math.inf), node.real("max", math.inf)
    else:
        low, high = _bound(node, sketch, 1, -math.inf), _bound(node, sketch, 2, math.inf)
    return sketch.emit(node, ops.Clip(low, high), [sketch.operand(node.input(0))])


def _bound(node: Node, sketch: Sketch, index: int, default: float) -> float:
    if not node.input(index):
        return default
    value = sketch.constant(node.input(index))
    if value is None:
        raise NotSupported("its bounds are not constants")
    bound = float(value.reshape(-1)[0]) if value.size == 1 else math.nan
    if math.isnan(bound):
        raise InvalidModelError("a bound is not one number", where=node.where)
    return bound


def leaky_relu(node: Node, sketch: Sketch) -> str:
    """LeakyRelu."""
    return sketch.emit(node, ops.LeakyRelu(node.real("alpha", 0.01)), [sketch.operand(node.input(0))])


def sigmoid(node: Node, sketch: Sketch) -> str:
    """Sigmoid."""
    return sketch.emit(node, ops.Sigmoid(), [sketch.operand(node.input(0))])


def tanh(node: Node, sketch: Sketch) -> str:
    """Tanh."""
    return sketch.emit(node, ops.Tanh(), [sketch.operand(node.input(0))])


def softmax(node: Node, sketch: Sketch) -> str:
    """Softmax: before opset 13, all axes from `axis` on are normalised together."""
    x = sketch.operand(node.input(0))
    rank = len(sketch.tensors[x].shape)
    if node.opset < 13:
        axes = tuple(range(normal_axis(node, node.integer("axis", 1), rank), rank))
    else:
        axes = (normal_axis(node, node.integer("axis", -1), rank),)
    return sketch.emit(node, ops.Softmax(axes), [x])


def argmax(node: Node, sketch: Sketch) -> str:
    """ArgMax."""
    x = sketch.operand(node.input(0))
    axis = normal_axis(node, node.integer("axis", 0), len(sketch.tensors[x].shape))
    attributes = ops.ArgMax(axis, bool(node.integer("keepdims", 1)), bool(node.integer("select_last_index", 0)))
    return sketch.emit(node, attributes, [x])


def local_response_norm(node: Node, sketch: Sketch) -> str:
    """LRN, over neighbouring channels."""
    size = node.integer("size", 0)
    if not 1 <= size <= 1 << 16:
        raise InvalidModelError(f"normalises over {size} channels", where=node.where)
    attributes = ops.LocalResponseNorm(size, node.real("alpha", 1e-4), node.real("beta", 0.75), node.real("bias", 1.0))
    return sketch.emit(node, attributes, [sketch.operand(node.input(0))])


def batch_normalization(node: Node, sketch: Sketch) -> str:
    """BatchNormalization in inference: an affine map per channel."""
    if node.integer("training_mode", 0):
        raise NotSupported("is in training mode")
    node.ignore("momentum")
    constants = [sketch.constant(name) for name in node.inputs[1:5]]
    if len(constants) != 4 or any(value is None for value in constants):
        raise NotSupported("its scale, shift, mean and variance are not all constants")
    x = sketch.operand(node.input(0))
    scale, shift, mean, variance = (_as_float64(as_float32(value)) for value in constants if value is not None)
    if not scale.shape == shift.shape == mean.shape == variance.shape == sketch.tensors[x].shape[1:2]:
        raise InvalidModelError("its statistics do not have one entry per channel", where=node.where)
    epsilon = node.real("epsilon", 1e-5)
    scale = spread(lambda gamma, square: gamma / np.sqrt(square + epsilon), scale, variance)
    shift = spread(lambda beta, centre, factor: beta - centre * factor, shift, mean, scale)
    return affine(node, sketch, x, scale, shift)


def _as_float64(value: Array) -> Array:
    return spread(lambda part: part.astype(np.float64), value)
