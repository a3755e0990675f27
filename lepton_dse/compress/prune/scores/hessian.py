"""Optimal Brain Damage, layer by layer: what the squared error of a layer's output gains when a weight becomes zero.

Y. LeCun, J. Denker and S. Solla, "Optimal Brain Damage", NIPS 1989, rank a weight by ``w^2 H_kk / 2`` with H the Hessian of the
loss. Here the loss is the mean squared change of the layer's own output over the patches x that it multiplies with, as in B.
Hassibi and D. Stork, "Optimal Brain Surgeon", NIPS 1992, and in GPTQ:

    E = mean of (delta w . x)^2,      H = 2 mean of x x',      w_k^2 H_kk / 2 = w_k^2 * mean of x_k^2

which for a single weight is exactly the rise of E.
"""

from __future__ import annotations

from lepton_dse.compress.prune.scores.inputs import moments, spread
from lepton_dse.compress.prune.scores.protocol import WeightScores
from lepton_dse.data import Dataset
from lepton_dse.ir.graph import Graph

__all__ = ["SCORE", "hessian"]

_SAMPLES = 64


def hessian(graph: Graph, data: Dataset | None) -> WeightScores:
    """``w^2 H_kk / 2`` over the first 64 samples; several readers of a constant add up.

    Raises
    ------
    InvalidDataError
        If there are no samples or they do not fit.
    """
    return spread(graph, {name: found.squares for name, found in moments(graph, data, "hessian", _SAMPLES).items()})


SCORE = hessian
