"""Accuracy, measured: a graph run on labelled data, and its outputs held against labels or against the float network's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Dataset, Interval
from lepton_dse.errors import InvalidDataError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.semantics import evaluate as define
from lepton_dse.numerics.quantize import dequantize
from lepton_dse.reference import engine, fast
from lepton_dse.reference.metrics.bootstrap import metric_of
from lepton_dse.reference.metrics.protocol import Metric, MetricLike, Outputs

__all__ = ["accuracy", "before_argmax", "outputs_of"]


def accuracy(graph: Graph, data: Dataset, metric: MetricLike = "top1", *, reference: Graph | None = None) -> Interval:
    """A metric of a network's first output, lowered graphs integer-exact.

    Parameters
    ----------
    graph : Graph
    data : Dataset
    metric : str, Metric or callable
        Registered name, or a function of scores, shape (N, ...), and labels, shape (N,); top-1 accuracy by default. Where it
        needs scores and the network ends with the class that an ArgMax chooses, the scores are those that it chooses from.
    reference : Graph, optional
        The float network, for metrics that compare with it.

    Raises
    ------
    InvalidDataError
        If labels or the reference are needed and not there, samples or labels do not fit, or outputs are not finite.
    LeptonError
        If the metric is not known, or a user's function gives no number.
    """
    chosen = metric_of(metric)
    if chosen.labels and data.y is None:
        raise InvalidDataError("has no labels", where="y", fix="add an integer array 'y' with one class a sample")
    if chosen.reference and reference is None:
        raise InvalidDataError(
            f"the metric {chosen.name} compares with the float network", where="reference", fix="give that network as reference"
        )
    exact = _first_output(reference, data, chosen) if chosen.reference and reference is not None else None
    return chosen.measure(outputs_of(graph, data, chosen, exact))


def outputs_of(graph: Graph, data: Dataset, metric: Metric, exact: NDArray[np.generic] | None = None) -> Outputs:
    """What a metric looks at: a network's first output for the samples, lowered graphs integer-exact.

    Parameters
    ----------
    graph : Graph
    data : Dataset
    metric : Metric
    exact : ndarray, optional
        The same output of the float network.

    Raises
    ------
    InvalidDataError
        If samples or labels do not fit, or an output is not a number.
    """
    probabilities = _ends_with_softmax(before_argmax(graph) if metric.scores else graph)
    return Outputs(_first_output(graph, data, metric), data.y, exact, probabilities)


def before_argmax(graph: Graph) -> Graph:
    """The graph up to the scores that its first output's ArgMax chooses from; a graph that ends otherwise is as it is."""
    last = graph.producer(graph.outputs[0])
    if last is None or not isinstance(last.attributes, ops.ArgMax) or graph.consumers(last.output):
        return graph
    operations = [op for op in graph.ops if op is not last]
    read = {name for op in operations for name in (*op.inputs, op.output)} | set(graph.inputs)
    tensors = [tensor for name, tensor in graph.tensors.items() if name in read]
    constants = {name: value for name, value in graph.constants.items() if name in read}
    outputs = list(dict.fromkeys([last.inputs[0], *graph.outputs[1:]]))
    return type(graph)(graph.name, tensors, operations, graph.inputs, outputs, constants)


def _ends_with_softmax(graph: Graph) -> bool:
    """Whether the first output is a Softmax's, as it is or read back from integers."""
    last = graph.producer(graph.outputs[0])
    while last is not None and isinstance(last.attributes, ops.Quantize | ops.Dequantize):
        last = graph.producer(last.inputs[0])
    return last is not None and isinstance(last.attributes, ops.Softmax)


def _first_output(graph: Graph, data: Dataset, metric: Metric) -> NDArray[np.generic]:
    graph = before_argmax(graph) if metric.scores else graph
    evaluate = fast.evaluate if isinstance(graph, LoweredGraph) else define
    name = graph.outputs[0]
    values = engine.run(graph, data.x, evaluate=evaluate)[name]
    quant = graph.tensors[name].quant
    return values if quant is None else dequantize(values, quant)
