"""Share of samples whose greatest score is the label's; interval: Wilson's score interval (E. B. Wilson, JASA 22, 1927)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Interval
from lepton_dse.reference.metrics.proportion import matched_loss, wilson
from lepton_dse.reference.metrics.protocol import Labels, Metric, Outputs, chosen_classes

__all__ = ["METRIC", "top1"]


def top1(scores: NDArray[np.generic], labels: Labels) -> Interval:
    """Share of samples whose greatest score, or whose predicted index, is the label.

    Parameters
    ----------
    scores : ndarray, shape (N, classes), or integer indices of shape (N,) or (N, 1)
        Outputs of a classifier.
    labels : ndarray of int64, shape (N,)
        True classes.

    Raises
    ------
    InvalidDataError
        If a label names no class, or there is one real score a sample.
    """
    return _measure(Outputs(scores, labels))


def _hits(outputs: Outputs) -> NDArray[np.bool_]:
    predicted, classes = chosen_classes(outputs.scores)
    return np.equal(predicted, outputs.checked_labels(classes))


def _measure(outputs: Outputs) -> Interval:
    hits = _hits(outputs)
    return wilson(int(np.count_nonzero(hits)), len(hits))


def _lost(before: Outputs, after: Outputs) -> Interval:
    return matched_loss(_hits(before), _hits(after))


METRIC = Metric("top1", "top-1", _measure, _lost, share=True)
