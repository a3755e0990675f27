"""What a score is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidDataError
from lepton_dse.ir.graph import Graph

__all__ = ["Score", "Values", "WeightScores", "samples"]

Values = NDArray[np.float64]
WeightScores = Callable[[str], Values]
"""Scores of the weights in a constant, by its name, in its shape: at least 0, and greater for what matters more."""
Score = Callable[[Graph, Dataset | None], WeightScores]
"""A method: looks at the network, and at samples if it needs any."""


def samples(graph: Graph, data: Dataset | None, score: str) -> Dataset:
    """The samples, checked against the network.

    Raises
    ------
    InvalidDataError
        If there are none or they do not fit the network's single input.
    """
    if data is None:
        raise InvalidDataError(
            f"the score '{score}' needs samples", where="data", fix="give a data set or use the score 'magnitude'"
        )
    if len(graph.inputs) != 1:
        raise InvalidDataError(f"the model has {len(graph.inputs)} inputs and the data has one", where=graph.name)
    expected = graph.tensors[graph.inputs[0]].shape[1:]
    if data.x.shape[1:] != expected:
        raise InvalidDataError(
            f"samples of shape {list(data.x.shape[1:])}, the model takes {list(expected)}", where=graph.inputs[0]
        )
    return data
