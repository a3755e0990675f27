"""The magnitude of each weight.

S. Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NIPS 2015: ``|w|``. Over the weights of a
channel this is the L1 norm of H. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.compress.prune.scores.protocol import Values, WeightScores
from lepton_dse.data import Dataset
from lepton_dse.ir.graph import Graph

__all__ = ["SCORE", "magnitude"]


def magnitude(graph: Graph, _: Dataset | None) -> WeightScores:
    """``|w|``."""

    def scores(name: str) -> Values:
        return np.abs(np.asarray(graph.constants[name], np.float64))

    return scores


SCORE = magnitude
