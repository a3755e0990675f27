"""Up or down: every weight takes the one of its two neighbouring integers that serves the layer's output.

M. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020, pose this binary problem and relax
it to gradient descent. Its objective is the quadratic of :mod:`lepton_dse.compress.rounding.protocol`, which can be descended
as it stands: one weight at a time takes the better of its two values, the others fixed, until none changes. No step raises the
error, nothing is drawn, and the result is a minimum that no single change improves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.rounding.gptq import regularised
from lepton_dse.compress.rounding.protocol import Layer
from lepton_dse.jit import parallel_kernel, prange

__all__ = ["ROUNDING", "SWEEPS", "adaround", "descend"]

SWEEPS = 50
"""Most passes over a channel's weights."""

Matrix = NDArray[np.float64]
Integers = NDArray[np.int64]


def adaround(layer: Layer) -> Integers:
    """Integers by coordinate descent over the neighbours of each weight, begun at the nearest, shape (M, K)."""
    below = np.floor(layer.weights / layer.beta)
    low = np.clip(below, -layer.limit, layer.limit).astype(np.int64)
    high = np.clip(np.ceil(layer.weights / layer.beta), -layer.limit, layer.limit).astype(np.int64)
    return descend(layer, layer.nearest, low, high)


def descend(layer: Layer, start: Integers, low: Integers, high: Integers) -> Integers:
    """Coordinate descent on the damped output error from `start`, each integer within its bounds.

    Parameters
    ----------
    layer : Layer
    start, low, high : ndarray of int64, shape (M, K)

    Returns
    -------
    ndarray of int64, shape (M, K)
    """
    gram, products = regularised(layer)
    found = np.ascontiguousarray(np.clip(start, low, high))
    slopes = np.ascontiguousarray((found * layer.beta) @ gram - products)
    _descend(found, slopes, np.ascontiguousarray(layer.beta), np.ascontiguousarray(gram), low, high, SWEEPS)
    return found


@parallel_kernel
def _descend(integers: Integers, slopes: Matrix, beta: Matrix, gram: Matrix, low: Integers, high: Integers, sweeps: int) -> None:
    """Descends every row of `integers` in place; `slopes` holds half the gradient, ``beta q H - products``."""
    for m in prange(integers.shape[0]):
        for _ in range(sweeps):
            changed = False
            for k in range(integers.shape[1]):
                step = beta[m, k]
                best = integers[m, k] - slopes[m, k] / (gram[k, k] * step)
                wanted = int(min(max(np.rint(best), low[m, k]), high[m, k]))
                move = (wanted - integers[m, k]) * step
                # Equal errors stay where they are, so that the descent ends.
                if move != 0.0 and move * (2.0 * slopes[m, k] + move * gram[k, k]) < 0.0:
                    integers[m, k] = wanted
                    changed = True
                    for j in range(integers.shape[1]):
                        slopes[m, j] += move * gram[k, j]
            if not changed:
                break


ROUNDING = adaround
