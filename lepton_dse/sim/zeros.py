"""Zeros in weights: how many there are and whether they follow the pattern that tensor cores skip. Exact, from the weights.

The summed axis of a convolution is that of its input channels, at each tap by itself, and of a product the second but last. A
pattern of two in four stands where four divides that axis and every run of four along it, counted from the start, holds at
least two zeros (A. Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv:2104.08378).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lepton_dse.bundle import Bundle
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.quantize import integer_bounds, quantize
from lepton_dse.plan import Zeros

__all__ = ["as_stored", "zeros_in", "zeros_of"]

_RUN = 4
_KEPT = 2


def zeros_of(graph: Graph, op: Op) -> Zeros | None:
    """Zeros among the weights of a convolution or product; None where it has no weights or none is zero."""
    if not isinstance(op.attributes, ops.Conv | ops.MatMul) or op.inputs[1] not in graph.constants:
        return None
    value = graph.constants[op.inputs[1]]
    if value.ndim < 2:
        return None
    return zeros_in(value, 1 if isinstance(op.attributes, ops.Conv) else value.ndim - 2)


def zeros_in(weights: NDArray[np.generic], summed: int) -> Zeros | None:
    """Zeros of one constant; None where there is none.

    Parameters
    ----------
    weights : ndarray
        An axis of stride 0, which repeats what it holds, is looked at once.
    summed : int
        The axis that products are summed along.
    """
    divides = weights.shape[summed] % _RUN == 0
    repeated = [stride == 0 and (axis != summed or not divides) for axis, stride in enumerate(weights.strides)]
    unique = weights[tuple(slice(0, 1) if once else slice(None) for once in repeated)]
    if unique.size == 0:
        return None
    if weights.strides[summed] == 0 and divides:
        unique = np.take(unique, range(_RUN), axis=summed)
    kept = int(np.count_nonzero(unique))
    if kept == unique.size:
        return None
    patterned = divides and 2 * kept <= unique.size
    if patterned:
        runs = np.moveaxis(unique, summed, -1).reshape(-1, _RUN)
        patterned = bool((np.count_nonzero(runs, axis=1) <= _KEPT).all())
    return Zeros(share=float(1 - Fraction(kept, unique.size)), two_of_four=patterned)


def as_stored(bundle: Bundle) -> Graph:
    """A bundle's float graph in which weights that are stored as the integer zero are zero."""
    changed = {}
    for op in bundle.graph.ops:
        name = op.inputs[1] if len(op.inputs) > 1 else ""
        scale, value = bundle.scales.get(name), bundle.graph.constants.get(name)
        if value is None or scale is None or not scale.format.is_integer or not isinstance(op.attributes, ops.Conv | ops.MatMul):
            continue
        limit = integer_bounds(scale.format)[1]
        lost = (quantize(np.asarray(value, np.float32), scale.params, -limit, limit) == 0) & (value != 0)
        if lost.any():
            changed[name] = np.where(lost, np.zeros_like(value), value)
    return bundle.graph.with_constants(changed) if changed else bundle.graph
