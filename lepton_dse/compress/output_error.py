"""Activation ranges by the error of the products that read them.

Rounding an activation x to x' changes what a contraction behind it gives by ``W (x' - x)``. For every group of activations that
share a scale, and every candidate share of the range seen, the squares of those changes are summed over all contractions that
read the group and all calibration samples; the least sum wins. A group that no contraction reads keeps the scale it has.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lepton_dse.bundle import Scale
from lepton_dse.compress.histogram import Histogram
from lepton_dse.compress.ranges import rounded, shrunk
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.semantics import evaluate
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.reference.engine import steps

__all__ = ["by_output_error"]

_CANDIDATES = np.concatenate([np.geomspace(0.05, 0.3, 6, endpoint=False), np.linspace(0.3, 1.0, 15)])
_SAMPLES = 64


def by_output_error(
    graph: Graph,
    x: NDArray[np.float32],
    groups: Mapping[str, str],
    histograms: Mapping[str, Histogram],
    scales: Mapping[str, Scale],
    *,
    symmetric: bool = False,
) -> dict[str, QuantParams]:
    """Parameters by group, for the groups that a contraction reads.

    Parameters
    ----------
    graph : Graph
        Float graph.
    x : ndarray of float32, shape (N, ...)
        Samples; the first 64 are used.
    groups : mapping of str to str
        Group of each activation.
    histograms : mapping of str to Histogram
        Values seen, by group.
    scales : mapping of str to Scale
        Formats of activations and weights; the scales of the weights are used as they are.
    symmetric : bool
        Symmetric activations.
    """
    batch = graph.with_batch(min(len(x), _SAMPLES))
    candidates = {
        group: [shrunk(histogram, scales[group].format, float(share), symmetric=symmetric) for share in _CANDIDATES]
        for group, histogram in histograms.items()
        if group in scales
    }
    errors: dict[str, NDArray[np.float64]] = {}
    for name, value in steps(batch, {batch.inputs[0]: x[: batch.batch]}):
        group = groups.get(name, name)
        readers = [
            op for op in batch.consumers(name) if isinstance(op.attributes, ops.Conv | ops.MatMul) and op.inputs[0] == name
        ]
        if group not in candidates or not readers:
            continue
        real = np.asarray(value, np.float32)
        total = errors.setdefault(group, np.zeros(len(_CANDIDATES)))
        for index, params in enumerate(candidates[group]):
            wrong = rounded(real, params, scales[group].format) - real
            for op in readers:
                if op.inputs[1] not in batch.constants:
                    continue
                tensors = [batch.tensors[entry] for entry in op.inputs[:2]]
                weights = np.asarray(batch.constants[op.inputs[1]], np.float32)
                change = evaluate(op, [wrong, weights], batch.tensors[op.output], tensors)
                total[index] += float(np.square(change, dtype=np.float64).sum())
    return {group: candidates[group][int(np.argmin(total))] for group, total in errors.items()}
