"""Accuracy, measured: a graph run on labelled data."""

from __future__ import annotations

from lepton_dse.data import Dataset, Interval, top1
from lepton_dse.errors import InvalidDataError
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.semantics import evaluate as define
from lepton_dse.reference import engine, fast

__all__ = ["accuracy"]


def accuracy(graph: Graph, data: Dataset) -> Interval:
    """Top-1 accuracy of a classifier's first output, lowered graphs integer-exact.

    Raises
    ------
    InvalidDataError
        If the data has no labels or its samples do not fit.
    """
    if data.y is None:
        raise InvalidDataError("has no labels", where="y", fix="add an integer array 'y' with one class a sample")
    evaluate = fast.evaluate if isinstance(graph, LoweredGraph) else define
    outputs = engine.run(graph, data.x, evaluate=evaluate)
    return top1(outputs[graph.outputs[0]], data.y)
