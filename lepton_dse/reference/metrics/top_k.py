"""Share of samples whose label is among the k greatest scores; interval: Wilson's score interval (E. B. Wilson, JASA 22, 1927).

Of equal scores those of lower classes come first, as for the greatest one: top-1 is the same as the metric of that name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Interval
from lepton_dse.errors import InvalidDataError
from lepton_dse.reference.metrics.proportion import matched_loss, wilson
from lepton_dse.reference.metrics.protocol import Metric, Outputs

__all__ = ["METRIC", "top_k"]


def top_k(k: int) -> Metric:
    """The metric for one k, at least 1.

    Its measurement raises InvalidDataError where a label names no class or there are no more than k classes' scores.
    """

    def hits(outputs: Outputs) -> NDArray[np.bool_]:
        scores: NDArray[Any] = outputs.scores.reshape(len(outputs.scores), -1)
        classes = scores.shape[1]
        if k > classes:
            raise InvalidDataError(f"top{k} of {classes} scores a sample", where="metric", fix=f"use at most top{classes}")
        labels = outputs.checked_labels(classes)[:, None]
        own = np.take_along_axis(scores, labels, axis=1)
        ahead = (scores > own) | ((scores == own) & (np.arange(classes) < labels))
        return np.asarray(ahead.sum(axis=1) < k, np.bool_)

    def measure(outputs: Outputs) -> Interval:
        found = hits(outputs)
        return wilson(int(np.count_nonzero(found)), len(found))

    def lost(before: Outputs, after: Outputs) -> Interval:
        return matched_loss(hits(before), hits(after))

    return Metric(f"top{k}", f"top-{k}", measure, lost, scores=True, share=True)


METRIC = top_k
