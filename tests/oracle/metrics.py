"""Metrics by their definitions: areas by comparing every pair, variances by moving one sample's weight, ranks by sorting."""

from __future__ import annotations

import itertools
import math

import numpy as np


def in_order(above: float, below: float) -> float:
    return 1.0 if above > below else 0.5 if above == below else 0.0


def area(positive: list[float], negative: list[float]) -> float:
    """Share of pairs in order, ties one half."""
    pairs = list(itertools.product(positive, negative))
    return math.fsum(in_order(a, b) for a, b in pairs) / len(pairs)


def delong_variance(positive: list[float], negative: list[float]) -> float:
    """Biometrics 44, 1988, equations 4 to 6: sample variances of the rows' and of the columns' means of the pairs' matrix."""
    matrix = np.asarray([[in_order(a, b) for b in negative] for a in positive])
    rows, columns = matrix.mean(axis=1), matrix.mean(axis=0)
    return float(rows.var(ddof=1)) / len(rows) + float(columns.var(ddof=1)) / len(columns)


def delong_covariance(first: tuple[list[float], list[float]], second: tuple[list[float], list[float]]) -> float:
    """As above for two scores of the same samples."""
    matrices = [np.asarray([[in_order(a, b) for b in negative] for a in positive]) for positive, negative in (first, second)]
    total = 0.0
    for axis in (1, 0):
        means = [matrix.mean(axis=axis) for matrix in matrices]
        total += float(np.cov(means[0], means[1], ddof=1)[0, 1]) / len(means[0])
    return total


def macro_area(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Mean area of each class against the rest, pair by pair; weights share out each class's own number of samples."""
    classes = scores.shape[1]
    sizes = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights, minlength=classes)
    true = weights * sizes[labels] / sums[labels]
    areas = []
    for k in range(classes):
        inside, outside = np.flatnonzero(labels == k), np.flatnonzero(labels != k)
        pairs = ((true[i] * true[j], in_order(scores[i, k], scores[j, k])) for i in inside for j in outside)
        areas.append(math.fsum(weight * right for weight, right in pairs) / (len(inside) * len(outside)))
    return math.fsum(areas) / classes


def macro_variance(scores: np.ndarray, labels: np.ndarray) -> float:
    """What one sample's weight more or less changes, squared and summed up (the infinitesimal jackknife within classes)."""
    step, changes = 1e-3, []
    for index in range(len(labels)):
        values = []
        for sign in (1, -1):
            weights = np.ones(len(labels))
            weights[index] += sign * step
            values.append(macro_area(scores, labels, weights))
        changes.append((values[0] - values[1]) / (2 * step))
    sizes = np.bincount(labels)[labels]
    return math.fsum(change**2 * size / (size - 1) for change, size in zip(changes, sizes, strict=True))


def among_the_first(scores: list[float], label: int, k: int) -> bool:
    """Whether a label is among the first k after sorting by falling score, equal scores by rising class."""
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return label in order[:k]
