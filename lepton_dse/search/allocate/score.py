"""How far a network's scores are from the float network's, and how often its classes are right.

=============  ==========================================================================================================
divergence     of classifiers: mean over the samples of ``KL(p || q) = sum p log(p / q)`` in nats, p the probabilities of
               the float network and q those of the other (S. Kullback, R. A. Leibler, Ann. Math. Statist. 22, 1951).
               Scores that no Softmax made into probabilities are made so here. Of other outputs: the mean over the
               samples of ``|y - f|**2`` over the mean of ``|f|**2``. Interval: normal, from the spread of the samples.
correct        of labelled samples the share whose greatest score is the label's; of others the share that agrees with
               the float network. Interval: Wilson's score interval.
loss           what the other network has less of it, in points. Interval: for matched pairs with half a sample added
               to each of the four cells (A. Agresti, Y. Min, Statistics in Medicine 24, 2005).
=============  ==========================================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Dataset, Interval, top1
from lepton_dse.errors import InvalidDataError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.reference import engine

__all__ = ["Scored", "Scorer", "classifies", "scoring_graph"]

_Z = 1.959963984540054  # the 97.5% point of the normal distribution
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
    last = graph.producer(graph.outputs[0])
    if last is None or not isinstance(last.attributes, ops.ArgMax):
        return graph
    operations = [op for op in graph.ops if op is not last]
    read = {name for op in operations for name in (*op.inputs, op.output)} | set(graph.inputs)
    tensors = [tensor for name, tensor in graph.tensors.items() if name in read]
    constants = {name: value for name, value in graph.constants.items() if name in read}
    return Graph(graph.name, tensors, operations, graph.inputs, [last.inputs[0]], constants)


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

    Raises
    ------
    InvalidDataError
        If samples do not fit the graph, or a label names no class.
    """

    def __init__(self, graph: Graph, data: Dataset) -> None:
        self._data = data
        self._exact = np.asarray(engine.run(graph, data.x)[graph.outputs[0]], np.float64).reshape(len(data), -1)
        last = graph.producer(graph.outputs[0])
        self.classifies = classifies(graph)
        self._normal = last is not None and isinstance(last.attributes, ops.Softmax)
        if data.y is not None:
            if not self.classifies:
                raise InvalidDataError("the network gives no scores of classes", where="y", fix="leave the labels out")
            shape = graph.tensors[graph.outputs[0]].shape
            if data.y.min() < 0 or data.y.max() >= shape[1]:
                wrong = int(data.y.min() if data.y.min() < 0 else data.y.max())
                raise InvalidDataError(f"a label of {wrong}", where="y", fix=f"use classes from 0 to {shape[1] - 1}")
        # Two outputs agree where the greatest element is the same one.
        self._labels = data.y if data.y is not None else np.asarray(self._exact.argmax(1), np.int64)
        self._right = self._exact.argmax(1) == self._labels

    def score(self, scores: NDArray[np.generic]) -> Scored:
        """Figures of another network's scores, shape (N, ...)."""
        given = np.asarray(scores, np.float64).reshape(len(self._data), -1)
        right = given.argmax(1) == self._labels
        return Scored(_mean(self._divergences(given)), top1(given, self._labels), _paired(self._right, right))

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
    half = _Z * float(values.std(ddof=1)) / float(np.sqrt(count)) if count > 1 else float("inf")
    return Interval(mean, max(mean - half, 0.0), mean + half, count)


def _paired(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Interval:
    """Loss in points between matched pairs."""
    count = len(before)
    lost, won = int(np.count_nonzero(before & ~after)), int(np.count_nonzero(after & ~before))
    total, b, c = count + 2.0, lost + 0.5, won + 0.5
    centre = (b - c) / total
    half = _Z * float(np.sqrt(b + c - (b - c) ** 2 / total)) / total
    return Interval(100 * (lost - won) / count, 100 * (centre - half), 100 * (centre + half), count)
