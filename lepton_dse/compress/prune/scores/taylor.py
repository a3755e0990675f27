"""What the loss would change by, to first order, if a weight became zero.

P. Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019: the loss L changes by about ``w dL/dw``. The
loss is the mean cross-entropy of the classes over all samples, and the score ``|w dL/dw|``. Gradients need PyTorch.
"""

from __future__ import annotations

import numpy as np

from lepton_dse.compress.prune.scores.protocol import Values, WeightScores, samples
from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidDataError, MissingToolError
from lepton_dse.ir.graph import Graph

__all__ = ["SCORE", "taylor"]

_BATCH = 64


def taylor(graph: Graph, data: Dataset | None) -> WeightScores:
    """``|w dL/dw|``, the loss being the mean cross-entropy over all samples.

    Raises
    ------
    InvalidDataError
        If there are no samples, no labels, or they do not fit.
    MissingToolError
        If PyTorch is not installed.
    """
    given = samples(graph, data, "taylor")
    if given.y is None:
        raise InvalidDataError("the score 'taylor' needs labels", where="y", fix="add one class a sample")
    try:
        import torch

        from lepton_dse.compress.trainable.module import TrainableGraph
    except ImportError as error:
        raise MissingToolError(
            "gradients need PyTorch", where="score 'taylor'", fix="install it with: pip install 'lepton_dse[torch]'"
        ) from error
    module = TrainableGraph(graph)
    for start in range(0, len(given), _BATCH):
        logits = module(torch.from_numpy(np.ascontiguousarray(given.x[start : start + _BATCH])))
        labels = given.y[start : start + _BATCH]
        if logits.ndim != 2 or labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise InvalidDataError(f"labels do not name one of the outputs {list(logits.shape[1:])}", where="y")
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum") / len(given)
        torch.autograd.backward(loss)

    def scores(name: str) -> Values:
        parameter = module.parameters_by_name[name]
        if parameter.grad is None:
            return np.zeros(graph.tensors[name].shape)
        gradient = parameter.grad.detach().numpy().astype(np.float64)
        return np.abs(np.asarray(graph.constants[name], np.float64) * gradient)

    return scores


SCORE = taylor
