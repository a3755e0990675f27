"""Affine maps per channel go into the weights before them: y = (x W + b) s + t = x (W s) + (b s + t).

Only where the intermediate result has no other reader and the weights are constants. What no neighbour absorbs stays. Zeros
around an image become those that the convolution behind it adds itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import Array, as_float32, filled, spread, stored
from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op

__all__ = ["absorb"]


def absorb(sketch: Sketch) -> None:
    """Merge affine maps and biases of `sketch` into the operations before them, in place."""
    readers = Counter([*(name for op in sketch.operations for name in op.inputs), *_outputs(sketch)])
    kept: list[Op] = []
    producers: dict[str, int] = {}
    for op in sketch.operations:
        position = producers.get(op.inputs[0], -1)
        before = kept[position] if position >= 0 and readers[op.inputs[0]] == 1 else None
        merged = None if before is None else _merged(sketch, before, op)
        if merged is None:
            producers[op.output] = len(kept)
            kept.append(op)
        else:
            producers[op.output] = position
            kept[position] = merged
    sketch.operations[:] = kept


def _outputs(sketch: Sketch) -> list[str]:
    return [sketch.operand(name) for name in sketch.outputs if sketch.constant(name) is None]


def _merged(sketch: Sketch, before: Op, op: Op) -> Op | None:
    """`op` done by `before`, or None where that is not possible."""
    constants = [sketch.constants.get(name) for name in op.inputs[1:]]
    made = sketch.tensors[before.output].shape
    if op.attributes == ops.Unary(ops.UnaryFunction.NEGATE) and isinstance(before.attributes, ops.Conv | ops.MatMul | ops.Affine):
        channel = filled(-1, np.empty(made[-1] if isinstance(before.attributes, ops.MatMul) else made[1]))
        return _with_affine(sketch, before, op, channel, filled(0, channel))
    if any(value is None for value in constants):
        return None
    values = [value for value in constants if value is not None]
    if isinstance(op.attributes, ops.Affine):
        # The channels of a map are axis 1, those of a matrix product its last axis.
        fits = not isinstance(before.attributes, ops.MatMul) or len(made) == 2
        return _with_affine(sketch, before, op, values[0], values[1]) if fits else None
    if isinstance(op.attributes, ops.Conv) and isinstance(before.attributes, ops.Pad):
        return _with_padding(before, before.attributes, op, op.attributes)
    if isinstance(op.attributes, ops.Add) and isinstance(before.attributes, ops.MatMul) and made:
        is_row = values[0].shape[-1:] == made[-1:] and values[0].size == made[-1] and sketch.tensors[op.output].shape == made
        row = values[0].reshape(-1)
        return _with_affine(sketch, before, op, filled(1, row), row) if is_row else None
    return None


def _with_padding(before: Op, pad: ops.Pad, op: Op, conv: ops.Conv) -> Op | None:
    """The convolution of what is padded, where the padding is of zeros and grows the image only."""
    if pad.mode is not ops.PadMode.CONSTANT or pad.value != 0 or any((*pad.begin[:2], *pad.end[:2])):
        return None
    if min((*pad.begin, *pad.end)) < 0:
        return None
    begin = tuple(own + added for own, added in zip(conv.window.pads_begin, pad.begin[2:], strict=True))
    end = tuple(own + added for own, added in zip(conv.window.pads_end, pad.end[2:], strict=True))
    window = replace(conv.window, pads_begin=begin, pads_end=end)
    return Op(op.name, replace(conv, window=window), (before.inputs[0], *op.inputs[1:]), op.output)


def _with_affine(sketch: Sketch, before: Op, op: Op, scale: Array, shift: Array) -> Op | None:
    weights = sketch.constants.get(before.inputs[1]) if len(before.inputs) > 1 else None
    bias = sketch.constants.get(before.inputs[2]) if len(before.inputs) > 2 else filled(0, shift)
    if weights is None or bias is None:
        return None
    plain = bool((stored(scale) == 1).all())
    match before.attributes:
        case ops.Conv():
            along = (-1, *[1] * (weights.ndim - 1))
        case ops.Affine() | ops.MatMul():
            along = (-1,)
        case _:
            return None
    names = list(before.inputs[:2])
    if not plain:
        scaled = spread(lambda weight, factor: weight * factor, weights, scale.reshape(along))
        names[1] = sketch.add_constant(f"{op.output}_weight", as_float32(scaled))
    total = spread(lambda b, factor, t: b.astype(np.float64) * factor + t, bias, scale, shift)
    names.append(sketch.add_constant(f"{op.output}_bias", as_float32(total)))
    return Op(before.name, before.attributes, (before.inputs[0], *names[1:]), op.output)
