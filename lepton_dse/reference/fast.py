"""The fast exact path for lowered graphs: contractions through floating-point BLAS, everything else as defined.

Equal to :mod:`lepton_dse.ir.semantics` bit for bit; a test holds it so.
"""

from __future__ import annotations

import math

import numpy as np

from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import evaluate as define
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.accumulate import exact_block, exact_matmul
from lepton_dse.reference.engine import Array

__all__ = ["evaluate"]

_PATCH_BYTES = 1 << 25  # patches are gathered in slabs that stay within the last cache level


def evaluate(op: Op, inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array:
    """Value of one operation; arguments as for :func:`lepton_dse.ir.semantics.evaluate`."""
    if tensors[0].format.is_integer and all(tensor.format.is_integer for tensor in tensors):
        if isinstance(op.attributes, ops.Conv) and len(op.attributes.window.kernel) == 2:
            return _conv(op.attributes, inputs, output, tensors)
        if isinstance(op.attributes, ops.MatMul) and inputs[1].ndim == 2:
            return _matmul(inputs, output, tensors)
    return define(op, inputs, output, tensors)


def _peak(tensor: Tensor) -> int:
    return max(-int(tensor.format.minimum), int(tensor.format.maximum))


def _matmul(inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array:
    x, w = inputs[0], inputs[1]
    dtype, block = exact_block(_peak(tensors[0]), int(np.abs(w.astype(np.int64)).max(initial=1)))
    acc = exact_matmul(x.astype(dtype), w.astype(dtype), block).astype(output.format.numpy)
    if len(inputs) > 2:
        acc += inputs[2].astype(output.format.numpy)
    return acc


def _conv(attributes: ops.Conv, inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array:
    x, w, window = inputs[0], inputs[1], attributes.window
    dtype, block = exact_block(_peak(tensors[0]), int(np.abs(w.astype(np.int64)).max(initial=1)))
    # Channels last: a patch is then a few contiguous runs, and the product's rows are pixels.
    batch, channels, height, width = x.shape
    (top, left), (bottom, right) = window.pads_begin, window.pads_end
    padded = np.full((batch, height + top + bottom, width + left + right, channels), attributes.pad_value, dtype)
    padded[:, top : top + height, left : left + width] = np.moveaxis(x, 1, -1)
    groups, per_group = attributes.groups, w.shape[1]
    weights = np.moveaxis(w, 1, -1).reshape(groups, w.shape[0] // groups, -1).transpose(0, 2, 1).astype(dtype)
    rows, columns = output.shape[2:]
    acc = np.empty((batch, rows, columns, w.shape[0]), output.format.numpy)
    out_per_group = w.shape[0] // groups
    patch = math.prod(window.kernel) * per_group * np.dtype(dtype).itemsize * rows * columns
    slab = max(1, _PATCH_BYTES // patch)
    for start in range(0, batch, slab):
        samples = padded[start : start + slab]
        for group in range(groups):
            patches = _patches(samples[..., group * per_group : (group + 1) * per_group], window, rows, columns)
            product = exact_matmul(patches.reshape(-1, weights.shape[1]), weights[group], block)
            target = acc[start : start + slab, :, :, group * out_per_group : (group + 1) * out_per_group]
            target[...] = product.reshape(target.shape)
    if len(inputs) > 2:
        acc += inputs[2].astype(output.format.numpy)
    return np.moveaxis(acc, -1, 1)


def _patches(x: Array, window: ops.Window, rows: int, columns: int) -> Array:
    """Patches of a channels-last batch, shape (N, rows, columns, KH, KW, C), contiguous."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.strides, window.dilations
    if kh == kw == 1:
        return np.ascontiguousarray(x[:, : (rows - 1) * sh + 1 : sh, : (columns - 1) * sw + 1 : sw])
    found = np.empty((len(x), rows, columns, kh, kw, x.shape[-1]), x.dtype)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            found[:, :, :, i, j] = x[:, top : top + (rows - 1) * sh + 1 : sh, left : left + (columns - 1) * sw + 1 : sw]
    return found
