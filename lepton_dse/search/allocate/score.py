"""How far a network's scores are from the float network's, and how often its classes are right.

=============  ==========================================================================================================
divergence     of classifiers: mean over the samples of ``KL(p || q) = sum p log(p / q)`` in nats, p the probabilities of
               the float network and q those of the other (S. Kullback, R. A. Leibler, Ann. Math. Statist. 22, 1951).
               Scores that no Softmax made into probabilities are made so here. Of other outputs: the mean over the
               samples of ``|y - f|**2`` over the mean of ``|f|**2``. Interval: normal, from the spread of the samples.
correct        a metric (:mod:`lepton_dse.reference.metrics`) with its interval. Where none is chosen: of labelled samples
               top-1 accuracy, of others agreement with the float network, and of a network with one output its cosine
               with the float network's.
loss           what the other network has less of it, in points: hundredths. Interval: the metric's, for matched samples.
=============  ==========================================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Dataset, Interval
from lepton_dse.errors import InvalidDataError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.reference import engine
from lepton_dse.reference.accuracy import before_argmax
from lepton_dse.reference.metrics.bootstrap import metric_of
from lepton_dse.reference.metrics.proportion import Z
from lepton_dse.reference.metrics.protocol import MetricLike, Outputs

__all__ = ["Scored", "Scorer", "classifies", "scoring_graph"]

_LEAST = 1e-30  # probability below which a float32 Softmax gives zero


@dataclass(frozen=True)
class Scored:
    """What one network does on the samples.

    Parameters
    ----------
    divergence : Interval
        In nats, or relative to the output's power; not a proportion.
    correct : Interval
    loss : Interval
        In points, against the float network; below 0 where it is better.
    """

    divergence: Interval
    correct: Interval
    loss: Interval


def scoring_graph(graph: Graph) -> Graph:
    """The graph up to the scores that a final ArgMax chooses from; other graphs are as they are.

    Raises
    ------
    InvalidDataError
        If the graph has several inputs or outputs.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        found = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise InvalidDataError(f"has {found}", where=graph.name, fix="give a network with one of each")
    return before_argmax(graph)


def classifies(graph: Graph) -> bool:
    """Whether a network's output is one score for each of several classes."""
    shape = graph.tensors[graph.outputs[0]].shape
    return len(shape) > 1 and shape[1] > 1 and math.prod(shape[1:]) == shape[1]


class Scorer:
    """Compares scores with those of a float network on the same samples.

    Parameters
    ----------
    graph : Graph
        Float graph that ends with scores; see :func:`scoring_graph`.
    data : Dataset
    metric : str, Metric or callable, optional
        What is lost; greater is better. See the module's text for what it is where none is given.

    Raises
    ------
    InvalidDataError
        If samples do not fit the graph, or a label names no class.
    """

    def __init__(self, graph: Graph, data: Dataset, metric: MetricLike | None = None) -> None:
        self._data = data
        self._exact = np.asarray(engine.run(graph, data.x)[graph.outputs[0]], np.float64).reshape(len(data), -1)
        last = graph.producer(graph.outputs[0])
        self.classifies = classifies(graph)
        self._normal = last is not None and isinstance(last.attributes, ops.Softmax)
        if data.y is not None and metric is None:
            if not self.classifies:
                raise InvalidDataError("the network gives no scores of classes", where="y", fix="leave the labels out")
            shape = graph.tensors[graph.outputs[0]].shape
            if data.y.min() < 0 or data.y.max() >= shape[1]:
                wrong = int(data.y.min() if data.y.min() < 0 else data.y.max())
                raise InvalidDataError(f"a label of {wrong}", where="y", fix=f"use classes from 0 to {shape[1] - 1}")
        unlabelled = "agreement" if self._exact.shape[1] > 1 else "cosine"
        self.metric = metric_of(metric if metric is not None else "top1" if data.y is not None else unlabelled)
        self._before = self._outputs(self._exact)
        self.metric.measure(self._before)  # what it cannot measure is told before anything else is

    def score(self, scores: NDArray[np.generic]) -> Scored:
        """Figures of another network's scores, shape (N, ...)."""
        given = np.asarray(scores, np.float64).reshape(len(self._data), -1)
        after = self._outputs(given)
        lost = self.metric.lost(self._before, after)
        points = Interval(100 * lost.value, 100 * lost.low, 100 * lost.high, lost.count)
        return Scored(_mean(self._divergences(given)), self.metric.measure(after), points)

    def _outputs(self, scores: NDArray[np.float64]) -> Outputs:
        return Outputs(scores, self._data.y, self._exact, self._normal)

    def _divergences(self, given: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.classifies:
            power = float(np.mean(np.sum(self._exact**2, axis=1))) or 1.0
            return np.asarray(np.sum((given - self._exact) ** 2, axis=1) / power, np.float64)
        p, q = self._logarithms(self._exact), self._logarithms(given)
        return np.asarray(np.maximum(np.sum(np.exp(p) * (p - q), axis=1), 0.0), np.float64)

    def _logarithms(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._normal:
            shares = np.maximum(scores, _LEAST)
            return np.asarray(np.log(shares / shares.sum(axis=1, keepdims=True)), np.float64)
        shifted = scores - scores.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True)), np.float64)


def _mean(values: NDArray[np.float64]) -> Interval:
    count = len(values)
    mean = float(values.mean())
    half = Z * float(values.std(ddof=1)) / float(np.sqrt(count)) if count > 1 else float("inf")
    return Interval(mean, max(mean - half, 0.0), mean + half, count)
