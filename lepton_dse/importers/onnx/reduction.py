"""Reductions along axes, and LayerNormalization."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.indexing import integers
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.pointwise import normal_axis
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import NotSupported, as_float32
from lepton_dse.ir import ops
from lepton_dse.ir.ops import ReduceFunction

__all__ = ["layer_normalization", "reduction"]

_AXES_AS_INPUT = {ReduceFunction.SUM: 13}  # the others since 18
_FLOAT = 1  # TensorProto.DataType


def reduction(which: ReduceFunction) -> Callable[[Node, Sketch], str]:
    """ReduceSum, ReduceMean, ReduceMin or ReduceMax; a mean over exactly the spatial axes is a global average pool."""

    def rule(node: Node, sketch: Sketch) -> str:
        x = sketch.operand(node.input(0))
        shape = sketch.tensors[x].shape
        if node.opset < _AXES_AS_INPUT.get(which, 18):
            named = node.integers("axes", ())
        else:
            named = integers(node, sketch, 1, "axes") if node.input(1) else ()
        keep, nothing = bool(node.integer("keepdims", 1)), bool(node.integer("noop_with_empty_axes", 0))
        axes = tuple(sorted({normal_axis(node, axis, len(shape)) for axis in named}))
        if not axes and (nothing or not shape):
            return x
        axes = axes or tuple(range(len(shape)))
        if which is not ReduceFunction.MEAN or len(shape) < 3 or axes != tuple(range(2, len(shape))):
            return sketch.emit(node, ops.Reduce(which, axes, keep), [x])
        pool = ops.AveragePool(ops.Window.full(shape[2:]))
        if keep:
            return sketch.emit(node, pool, [x])
        return sketch.emit(node, ops.Reshape(shape[:2]), [sketch.emit(node, pool, [x], last=False)])

    return rule


def layer_normalization(node: Node, sketch: Sketch) -> str:
    """LayerNormalization over the axes from `axis` on."""
    x = sketch.operand(node.input(0))
    shape = sketch.tensors[x].shape
    axis = normal_axis(node, node.integer("axis", -1), len(shape))
    if node.integer("stash_type", _FLOAT) != _FLOAT:
        raise NotSupported("does not normalise in float32")
    extents = shape[axis:]
    names = []
    for index, default in ((1, 1.0), (2, 0.0)):
        name = node.input(index)
        value = sketch.constant(name) if name else np.broadcast_to(np.float32(default), extents)
        if value is None:
            names.append(sketch.operand(name))
            continue
        try:
            fitted = np.broadcast_to(as_float32(value), extents)
        except ValueError as error:
            what = f"a scale or shift {list(value.shape)} for the extents {list(extents)}"
            raise InvalidModelError(what, where=node.where) from error
        same = bool(name) and value.shape == extents
        names.append(sketch.operand(name) if same else sketch.add_constant(f"{node.outputs[0]}_{index}", fitted))
    attributes = ops.LayerNorm(tuple(range(axis, len(shape))), node.real("epsilon", 1e-5))
    return sketch.emit(node, attributes, [x, *names])
