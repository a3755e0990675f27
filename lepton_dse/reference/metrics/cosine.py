"""Cosine of the angle between a network's outputs and the float network's, on average over the samples.

Of a sample with outputs y and the float network's f, ``y . f / (|y| |f|)``; 1 where both are zero, 0 where one of them is. It
does not see a common factor. Interval: the seeded percentile bootstrap of :mod:`lepton_dse.reference.metrics.bootstrap`
(B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3).
"""

from __future__ import annotations

import numpy as np

from lepton_dse.data import Interval
from lepton_dse.errors import InvalidDataError
from lepton_dse.reference.metrics.bootstrap import percentile_interval
from lepton_dse.reference.metrics.protocol import Metric, Outputs, Rows

__all__ = ["METRIC"]


def _cosines(outputs: Outputs) -> Rows:
    exact, given = outputs.reference_rows(), outputs.rows()
    if exact.shape != given.shape:
        found = f"{exact.shape[1]} outputs a sample, the network gives {given.shape[1]}"
        raise InvalidDataError(found, where="reference", fix="name its own float network")
    # By the greatest element first: squares of what float64 holds may be too large for it or vanish.
    exact, given = (
        rows / np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.finfo(np.float64).tiny) for rows in (exact, given)
    )
    lengths = np.linalg.norm(exact, axis=1), np.linalg.norm(given, axis=1)
    products = np.where(lengths[0] * lengths[1] > 0, lengths[0] * lengths[1], 1.0)
    cosines = np.clip(np.sum(exact * given, axis=1) / products, -1.0, 1.0)
    return np.where((lengths[0] == 0) & (lengths[1] == 0), 1.0, cosines)


def _measure(outputs: Outputs) -> Interval:
    cosines = _cosines(outputs)
    return percentile_interval(lambda picked: float(cosines[picked].mean()), len(cosines))


def _lost(before: Outputs, after: Outputs) -> Interval:
    lost = _cosines(before) - _cosines(after)
    return percentile_interval(lambda picked: float(lost[picked].mean()), len(lost))


METRIC = Metric("cosine", "cosine", _measure, _lost, labels=False, reference=True, scores=True)
