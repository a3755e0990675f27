"""Every allocation there is, one after the other."""

from __future__ import annotations

from itertools import product

from lepton_dse.search.allocate.problem import Measure, Problem


def allocations(problem: Problem) -> list[tuple[int, ...]]:
    """All allocations whose choices agree and that keep every budget."""
    every = product(*(range(len(names)) for names in problem.choices))
    return [chosen for chosen in every if _agree(problem, chosen) and problem.fits(chosen)]


def _agree(problem: Problem, chosen: tuple[int, ...]) -> bool:
    """Whether no two rows set one decision differently, pair by pair."""
    made = [dict(rows[index]) for rows, index in zip(problem.settings, chosen, strict=False)]
    return not any(first[decision] != second[decision] for first in made for second in made for decision in first.keys() & second)


def least(problem: Problem, measure: Measure | None = None) -> float | None:
    """The least of a measure (the one that is minimised by default) over all that fit; None where nothing does."""
    what = measure or problem.minimize
    return min((problem.total(what, chosen) for chosen in allocations(problem)), default=None)
