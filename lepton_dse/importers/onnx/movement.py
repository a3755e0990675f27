"""Operators that move elements, and those that do nothing in inference."""

from __future__ import annotations

import math

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.onnx.indexing import integers
from lepton_dse.importers.onnx.node import Node
from lepton_dse.importers.onnx.pointwise import normal_axis
from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import NotSupported
from lepton_dse.ir import ops

__all__ = [
    "concat",
    "dropout",
    "flatten",
    "flattened",
    "identity",
    "pad",
    "reshape",
    "reshaped",
    "squeeze",
    "squeezed",
    "transpose",
    "unsqueeze",
    "unsqueezed",
]

Shape = tuple[int, ...]

_MODES = {"constant": ops.PadMode.CONSTANT, "reflect": ops.PadMode.REFLECT, "edge": ops.PadMode.EDGE}


def identity(node: Node, sketch: Sketch) -> str:
    """Identity: another name for the same tensor."""
    return sketch.operand(node.input(0))


def dropout(node: Node, sketch: Sketch) -> str:
    """Dropout in inference: another name for the same tensor."""
    node.ignore("ratio", "seed")
    if node.input(2):
        training = sketch.constant(node.input(2))
        if training is None or training.any():
            raise NotSupported("is in training mode")
    return sketch.operand(node.input(0))


def concat(node: Node, sketch: Sketch) -> str:
    """Concat."""
    inputs = [sketch.operand(name) for name in node.inputs]
    if not node.has("axis"):
        raise InvalidModelError("has no axis", where=node.where)
    axis = normal_axis(node, node.integer("axis", 0), len(sketch.tensors[inputs[0]].shape))
    return inputs[0] if len(inputs) == 1 else sketch.emit(node, ops.Concat(axis), inputs)


def transpose(node: Node, sketch: Sketch) -> str:
    """Transpose; the axes are reversed by default."""
    x = sketch.operand(node.input(0))
    rank = len(sketch.tensors[x].shape)
    permutation = node.integers("perm", tuple(reversed(range(rank))))
    if permutation == tuple(range(rank)):
        return x
    return sketch.emit(node, ops.Transpose(permutation), [x])


def pad(node: Node, sketch: Sketch) -> str:
    """Pad: amounts and value are attributes before opset 11 and constant inputs since; axes may be named since 18."""
    x = sketch.operand(node.input(0))
    rank = len(sketch.tensors[x].shape)
    mode = node.text("mode", "constant")
    if mode not in _MODES:
        raise NotSupported(f"pads in mode '{mode}'")
    value, axes = 0.0, tuple(range(rank))
    if node.opset < 11:
        pads, value = node.integers("pads", ()), node.real("value", 0.0)
    else:
        pads = integers(node, sketch, 1, "pads")
        if node.input(2):
            given = sketch.constant(node.input(2))
            if given is None:
                raise NotSupported("its value is not a constant")
            value = float(given.reshape(-1)[0]) if given.size == 1 else math.nan
        if node.input(3):
            axes = tuple(normal_axis(node, axis, rank) for axis in integers(node, sketch, 3, "axes"))
    if math.isnan(value) or len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise InvalidModelError(f"pads {list(pads)[:8]} with {value} do not fit a tensor of {rank} axes", where=node.where)
    begin, end = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        begin[axis], end[axis] = pads[position], pads[len(axes) + position]
    if not any(begin) and not any(end):
        return x
    return sketch.emit(node, ops.Pad(tuple(begin), tuple(end), _MODES[mode], value if mode == "constant" else 0.0), [x])


def reshape(node: Node, sketch: Sketch) -> str:
    """Reshape to a constant shape."""
    shape = reshaped(node, sketch.shape(node.input(0)), integers(node, sketch, 1, "shape"))
    return _view(node, sketch, shape)


def flatten(node: Node, sketch: Sketch) -> str:
    """Flatten to two axes."""
    return _view(node, sketch, flattened(node, sketch.shape(node.input(0))))


def squeeze(node: Node, sketch: Sketch) -> str:
    """Squeeze: axes are an attribute before opset 13 and a constant input since."""
    return _view(node, sketch, squeezed(node, sketch.shape(node.input(0)), _axes(node, sketch)))


def unsqueeze(node: Node, sketch: Sketch) -> str:
    """Unsqueeze: axes are an attribute before opset 13 and a constant input since."""
    return _view(node, sketch, unsqueezed(node, sketch.shape(node.input(0)), _axes(node, sketch)))


def _view(node: Node, sketch: Sketch, shape: Shape) -> str:
    x = sketch.operand(node.input(0))
    return x if shape == sketch.tensors[x].shape else sketch.emit(node, ops.Reshape(shape), [x])


def _axes(node: Node, sketch: Sketch) -> Shape:
    if node.opset < 13:
        return node.integers("axes", ())
    return integers(node, sketch, 1, "axes") if node.input(1) else ()


# --- shapes, shared with the folding of constants ------------------------------------------------------------------


def reshaped(node: Node, shape: Shape, wanted: Shape) -> Shape:
    """The shape that Reshape's request stands for: 0 copies an extent, one -1 takes what is left."""
    keep_zero = bool(node.integer("allowzero", 0))
    extents = []
    for axis, extent in enumerate(wanted):
        if extent == 0 and not keep_zero:
            if axis >= len(shape):
                raise InvalidModelError(f"copies axis {axis} of a tensor of shape {list(shape)}", where=node.where)
            extents.append(shape[axis])
        else:
            extents.append(extent)
    known, elements = math.prod(extent for extent in extents if extent != -1), math.prod(shape)
    if extents.count(-1) == 1 and known > 0 and elements % known == 0:
        extents[extents.index(-1)] = elements // known
    if any(extent < 0 for extent in extents) or math.prod(extents) != elements:
        raise InvalidModelError(
            f"cannot reshape {list(shape)} to {list(wanted)}", where=node.where, fix="check the batch, or export the model again"
        )
    return tuple(extents)


def flattened(node: Node, shape: Shape) -> Shape:
    """Two axes: the product of those before `axis`, and of the rest."""
    axis = node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise InvalidModelError(f"axis {axis} of a tensor with {len(shape)} axes", where=node.where)
    axis += len(shape) if axis < 0 else 0
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def squeezed(node: Node, shape: Shape, axes: Shape) -> Shape:
    """Without the named axes of extent 1, or without all such axes."""
    dropped = {normal_axis(node, axis, len(shape)) for axis in axes} or {axis for axis, extent in enumerate(shape) if extent == 1}
    if any(shape[axis] != 1 for axis in dropped):
        raise InvalidModelError(f"drops axes {sorted(dropped)} of a tensor of shape {list(shape)}", where=node.where)
    return tuple(extent for axis, extent in enumerate(shape) if axis not in dropped)


def unsqueezed(node: Node, shape: Shape, axes: Shape) -> Shape:
    """With axes of extent 1 at the named places of the result."""
    rank = len(shape) + len(axes)
    added = {normal_axis(node, axis, rank) for axis in axes}
    if len(added) != len(axes):
        raise InvalidModelError(f"inserts one axis twice: {list(axes)}", where=node.where)
    rest = iter(shape)
    return tuple(1 if axis in added else next(rest) for axis in range(rank))
