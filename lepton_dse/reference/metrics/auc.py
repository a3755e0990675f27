"""Area under the receiver operating characteristic: how likely a sample of a class scores above one of the others.

=========  ============================================================================================================
K          classes: two, with one score a sample (that of class 1) or one a class; or more, with one score a class
m_k, n_k   samples of class k, and of all others
s_k        a sample's score of class k against the rest. Two classes: their scores' difference. More: the logarithm of
           class k's probability, from a Softmax if the network ends with none
V_k(i)     of a sample i of class k the share of the others, of any other sample the share of class k, that the
           comparison of s_k puts in order: the sample of class k above; equal scores count one half
A_k        mean of V_k over class k, which is the mean over all others: the area of class k against the rest
=========  ============================================================================================================

The value is the mean of all A_k; of two classes both are the same.

Interval: value +- 1.96 standard errors, within 0 and 1. The variance is that of E. R. DeLong, D. M. DeLong and D. L.
Clarke-Pearson, Biometrics 44, 1988: the areas are U-statistics, and what a sample contributes are its components V. A sample i of
class j enters A_j with weight 1 / m_j and every other A_k with 1 / n_k, so its contribution to the value, times m_j, is

    g(i) = (V_j(i) + sum over k != j of (m_j / n_k) V_k(i)) / K

and the variance is the sum over the classes of the sample variance of g among the class's samples over m_j. For two classes that
is DeLong's formula; for more, its extension to K independent samples (their U-statistics as in P. K. Sen, Calcutta Statistical
Association Bulletin 10, 1960). A difference on the same samples has the variance of the differences of g, which holds DeLong's
covariance. Ranks give V in a sort a class (X. Sun, W. Xu, IEEE Signal Processing Letters 21, 2014).

Where no pair is out of order the variance is 0 and the interval a point. Of a class with one sample no variance is known: the
interval is then all that the value can be.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

from lepton_dse.data import Interval
from lepton_dse.errors import InvalidDataError
from lepton_dse.reference.metrics.proportion import Z
from lepton_dse.reference.metrics.protocol import Labels, Metric, Outputs, Rows

__all__ = ["METRIC"]


def _scores(outputs: Outputs) -> Rows:
    """s, shape (N, K)."""
    rows = outputs.rows()
    if rows.shape[1] == 1:
        return np.concatenate([-rows, rows], axis=1)
    if rows.shape[1] == 2:
        apart = rows[:, 1] - rows[:, 0]
        return np.stack([-apart, apart], axis=1)
    if outputs.probabilities:
        return rows
    # log1p keeps apart what is close to certain.
    shifted = rows - rows.max(axis=1, keepdims=True)
    first = shifted.argmax(axis=1)[:, None]
    others = np.exp(shifted)
    np.put_along_axis(others, first, 0.0, axis=1)
    return np.asarray(shifted - np.log1p(others.sum(axis=1, keepdims=True)), np.float64)


def _components(scores: Rows, labels: Labels) -> tuple[float, Rows]:
    """The value, and g of each sample."""
    count, classes = scores.shape
    sizes = np.bincount(labels, minlength=classes)
    if (sizes == 0).any():
        absent = int((sizes == 0).argmax())
        what = (
            f"no sample of class {absent}, so no area" if np.count_nonzero(sizes) > 1 else f"all samples are of class {labels[0]}"
        )
        raise InvalidDataError(what, where="y", fix="give samples of every class")
    own = np.arange(classes) == labels[:, None]
    g, areas = np.zeros(count), []
    for k in range(classes):
        inside = own[:, k]
        ranks, m, n = rankdata(scores[:, k]), int(sizes[k]), count - int(sizes[k])
        v = np.empty(count)
        v[inside] = (ranks[inside] - rankdata(scores[inside, k])) / n
        v[~inside] = 1 - (ranks[~inside] - rankdata(scores[~inside, k])) / m
        areas.append(float(v[inside].mean()))
        g += v * np.where(inside, 1.0, sizes[labels] / n) / classes
    return math.fsum(areas) / classes, g


def _error(g: Rows, labels: Labels) -> float:
    """Standard error, infinite where a class has one sample."""
    parts = [g[labels == k] for k in np.unique(labels)]
    return math.sqrt(math.fsum(float(part.var(ddof=1)) / len(part) if len(part) > 1 else math.inf for part in parts))


def _measure(outputs: Outputs) -> Interval:
    scores = _scores(outputs)
    labels = outputs.checked_labels(scores.shape[1])
    value, g = _components(scores, labels)
    half = Z * _error(g, labels)
    return Interval(value, max(value - half, 0.0), min(value + half, 1.0), len(labels))


def _lost(before: Outputs, after: Outputs) -> Interval:
    first, second = _scores(before), _scores(after)
    labels = before.checked_labels(first.shape[1])
    (a, g), (b, h) = _components(first, labels), _components(second, labels)
    half = Z * _error(g - h, labels)
    return Interval(a - b, max(a - b - half, -1.0), min(a - b + half, 1.0), len(labels))


METRIC = Metric("auc", "AUC", _measure, _lost, scores=True)
