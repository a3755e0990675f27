"""What the squared error of a layer's output gains when a weight becomes zero and the layer's bias takes over its mean.

With ``x`` the inputs that a layer multiplies with, taking ``w_k`` away and adding ``w_k * mean of x_k`` to the bias changes the
output by ``w_k (x_k - mean of x_k)``, so that its mean squared error is exactly

    E = w_k^2 * variance of x_k

An input that never moves costs nothing to lose. Pruning leaves the bias as it is; a little training moves it.
"""

from __future__ import annotations

from lepton_dse.compress.prune.scores.inputs import moments, spread
from lepton_dse.compress.prune.scores.protocol import WeightScores
from lepton_dse.data import Dataset
from lepton_dse.ir.graph import Graph

__all__ = ["SCORE", "variance"]


def variance(graph: Graph, data: Dataset | None, *, most: int = 256) -> WeightScores:
    """``w^2`` times the variance of its input over the first `most` samples; several readers of a constant add up.

    Raises
    ------
    InvalidDataError
        If there are no samples or they do not fit.
    """
    return spread(graph, {name: found.variances for name, found in moments(graph, data, "variance", most).items()})


SCORE = variance
