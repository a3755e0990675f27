"""GPTQ: weights are rounded one after another, and those still to come make up for the error.

E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR 2023 (after B.
Hassibi and D. Stork, "Optimal Brain Surgeon", NIPS 1992). With U the upper Cholesky factor of the damped H's inverse, weight k
gives

    e = (w_k - beta q_k) / U_kk,        w_j -= e U_kj  for all j > k

Weights are taken in the order of their inputs' power, greatest first. The target is not w itself but the weights that fit the
float outputs best from the quantised inputs, ``H^-1 C w``, which takes the error of earlier layers in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lepton_dse.compress.rounding.protocol import Layer
from lepton_dse.jit import parallel_kernel, prange

__all__ = ["DAMPING", "ROUNDING", "gptq", "regularised"]

DAMPING = 0.01
"""Added to H's diagonal, as a share of its mean; pulls weights that few samples pin down toward their own value."""

Matrix = NDArray[np.float64]


def regularised(layer: Layer) -> tuple[Matrix, Matrix]:
    """H with its damped diagonal, and the products ``w C' + damping w`` that its solution is the target of, shape (M, K).

    An input that is always zero has any weight for its target; its own is kept.
    """
    power = float(np.trace(layer.gram)) / len(layer.gram)
    damping = DAMPING * power if power > 0 else 1.0
    gram = layer.gram + damping * np.eye(len(layer.gram))
    return gram, layer.weights @ layer.cross.T + damping * layer.weights


def gptq(layer: Layer) -> NDArray[np.int64]:
    """Integers by the recursion above, shape (M, K)."""
    gram, products = regularised(layer)
    target = linalg.solve(gram, products.T, assume_a="pos").T
    order = np.argsort(-np.diag(gram), kind="stable")
    inverse = linalg.inv(gram[np.ix_(order, order)])
    upper = linalg.cholesky((inverse + inverse.T) / 2)
    rows = np.ascontiguousarray(target[:, order])
    integers = np.empty(rows.shape, np.int64)
    _walk(rows, np.ascontiguousarray(layer.beta[:, order]), np.ascontiguousarray(upper), layer.limit, integers)
    found = np.empty_like(integers)
    found[:, order] = integers
    return found


@parallel_kernel
def _walk(rows: Matrix, beta: Matrix, upper: Matrix, limit: int, integers: NDArray[np.int64]) -> None:
    """Rounds `rows` in place, weight by weight, into `integers`."""
    for m in prange(rows.shape[0]):
        for k in range(rows.shape[1]):
            q = min(max(np.rint(rows[m, k] / beta[m, k]), -limit), limit)
            integers[m, k] = int(q)
            error = (rows[m, k] - q * beta[m, k]) / upper[k, k]
            for j in range(k + 1, rows.shape[1]):
                rows[m, j] -= error * upper[k, j]


ROUNDING = gptq
