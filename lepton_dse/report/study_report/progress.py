"""How the front grew as candidates were evaluated, by their figures as they are known at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lepton_dse.report.study_report.facts import Facts
from lepton_dse.study.front import pareto_front, relative_hypervolume

__all__ = ["Moment", "growth"]

_MOMENTS = 60
Moment = tuple[int, int, float]
"""Candidates evaluated, size of their front, and the share of the box that it dominates."""


def growth(facts: Facts, order: Sequence[int]) -> tuple[Moment, ...]:
    """Moments evenly spread over the search; the last one is its end.

    Parameters
    ----------
    facts : Facts
    order : sequence of int
        Indices of all candidates, in the order in which they were evaluated.
    """
    values = {entry.index: [objective.value(entry.row.figures) for objective in facts.objectives] for entry in facts.feasible}
    if not values:
        return ()
    every = np.array(list(values.values()), np.float64)
    best, worst = every.min(axis=0), every.max(axis=0)
    counts = np.unique(np.linspace(1, len(order), min(_MOMENTS, len(order))).round().astype(int))
    front, done, found = np.zeros((0, len(facts.objectives))), 0, []
    for count in counts:
        new = [values[index] for index in order[done:count] if index in values]
        front = np.concatenate((front, np.array(new, np.float64).reshape(len(new), len(facts.objectives))))
        front = front[pareto_front(front)]
        found.append((int(count), len(front), relative_hypervolume(front, best, worst)))
        done = int(count)
    return tuple(found)
