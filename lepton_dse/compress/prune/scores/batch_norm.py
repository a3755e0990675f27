"""The scale that a batch normalisation leaves to each channel.

Z. Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, rank channels by the factor
|gamma| of the normalisation behind them. Importing folds a normalisation into the layer before it, and gamma is then no number of
its own: of ``gamma / sigma * w`` only the product is left. The score is therefore that of the channel as it stands,

    |scale| * sqrt(sum of w^2 over the channel + b^2)

with b the folded bias and scale the factor of an Affine that directly follows (1 without one). All weights of a channel have the
same score, so it tells channels apart and nothing finer.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.compress.prune.scores.protocol import Values, WeightScores
from lepton_dse.compress.prune.sites import contractions, output_axis
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op

__all__ = ["SCORE", "batch_norm"]


def batch_norm(graph: Graph, _: Dataset | None) -> WeightScores:
    """The norm of each channel's folded weights and bias; several readers of a constant add up."""

    def scores(name: str) -> Values:
        shape = graph.tensors[name].shape
        total = np.zeros(shape)
        for op in contractions(graph):
            if op.inputs[1] == name:
                axis = output_axis(op)
                total += np.expand_dims(_norms(graph, op), tuple(other for other in range(len(shape)) if other != axis))
        return total

    return scores


def _norms(graph: Graph, op: Op) -> Values:
    """One number a channel, shape (M,)."""
    weights = np.asarray(graph.constants[op.inputs[1]], np.float64)
    rows = np.moveaxis(weights, output_axis(op), 0).reshape(weights.shape[output_axis(op)], -1)
    squares = np.square(rows).sum(axis=1)
    if len(op.inputs) > 2 and op.inputs[2] in graph.constants:
        squares = squares + np.square(np.asarray(graph.constants[op.inputs[2]], np.float64))
    norms: Values = np.sqrt(squares) * _scale(graph, op)
    return norms


def _scale(graph: Graph, op: Op) -> Values | float:
    readers = graph.consumers(op.output)
    if len(readers) != 1 or not isinstance(readers[0].attributes, ops.Affine):
        return 1.0
    scale = graph.constants.get(readers[0].inputs[1])
    # A matrix product has its channels on the last axis, an Affine on axis 1.
    if scale is None or len(scale) != graph.tensors[op.inputs[1]].shape[output_axis(op)]:
        return 1.0
    if isinstance(op.attributes, ops.MatMul) and len(graph.tensors[op.output].shape) != 2:
        return 1.0
    return np.abs(np.asarray(scale, np.float64))


SCORE = batch_norm
