"""Scores of weights, checked; exact zeros rank before everything else, for they are pruned already."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune.scores.protocol import WeightScores
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph

__all__ = ["ALREADY", "lowest", "ranked_scores"]

ALREADY = -1.0
"""Score of a weight that is zero."""

Values = NDArray[np.float64]


def ranked_scores(graph: Graph, name: str, given: WeightScores) -> WeightScores:
    """What the score `name` gives, each constant's checked when it is asked for.

    Raises
    ------
    LeptonError
        If it gives NaN, infinity, a negative number or another shape.
    """

    def scores(constant: str) -> Values:
        found = np.asarray(given(constant), np.float64)
        value = graph.constants[constant]
        if found.shape != value.shape:
            raise LeptonError(f"the score '{name}' has shape {list(found.shape)} for {list(value.shape)}", where=constant)
        if not (np.isfinite(found).all() and (found >= 0).all()):
            raise LeptonError(
                f"the score '{name}' gives NaN, infinity or negative numbers", where=constant, fix="check the samples and weights"
            )
        return np.where(np.asarray(value) == 0, ALREADY, found)

    return scores


def lowest(scores: Values, count: int) -> NDArray[np.bool_]:
    """The `count` least of `scores`, of equals the first in row-major order, in the same shape."""
    flat: Values = scores.reshape(-1)
    if count <= 0:
        return np.zeros(scores.shape, np.bool_)
    if count >= flat.size:
        return np.ones(scores.shape, np.bool_)
    bound = np.partition(flat, count - 1)[count - 1]
    chosen: NDArray[np.bool_] = flat < bound
    ties = np.flatnonzero(flat == bound)
    chosen[ties[: count - int(np.count_nonzero(chosen))]] = True
    return chosen.reshape(scores.shape)
