"""Roundings by trying everything: a layer's output error sample by sample, and its least value over all choices."""

from __future__ import annotations

import itertools

import numpy as np


def squared_error(w: np.ndarray, beta: np.ndarray, q: np.ndarray, exact: np.ndarray, given: np.ndarray, damping: float) -> float:
    """Mean over samples of the squared difference of one channel's outputs, and the pull of each weight toward itself."""
    total = 0.0
    for x, y in zip(exact, given, strict=True):
        total += (float(np.dot(w, x)) - float(np.dot(beta * q, y))) ** 2
    return total / len(exact) + damping * float(((beta * q - w) ** 2).sum())


def best_of_all(
    w: np.ndarray, beta: np.ndarray, choices: list[list[int]], exact: np.ndarray, given: np.ndarray, damping: float
) -> float:
    """Least error over every combination of the choices of each weight."""
    return min(squared_error(w, beta, np.asarray(q, float), exact, given, damping) for q in itertools.product(*choices))


def no_single_change_helps(
    w: np.ndarray, beta: np.ndarray, q: np.ndarray, choices: list[list[int]], exact: np.ndarray, given: np.ndarray, damping: float
) -> bool:
    """Whether no one weight has a choice that lowers the error, the others kept."""
    here = squared_error(w, beta, q.astype(float), exact, given, damping)
    for k, options in enumerate(choices):
        for option in options:
            other = q.astype(float)
            other[k] = option
            if squared_error(w, beta, other, exact, given, damping) < here * (1 - 1e-9) - 1e-12:
                return False
    return True
