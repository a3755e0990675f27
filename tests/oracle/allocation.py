"""Every allocation there is, one after the other."""

from __future__ import annotations

from itertools import product

from lepton_dse.search.allocate.problem import Measure, Problem


def allocations(problem: Problem) -> list[tuple[int, ...]]:
    """All allocations that keep every budget."""
    every = product(*(range(len(names)) for names in problem.choices))
    return [chosen for chosen in every if problem.fits(chosen)]


def least(problem: Problem, measure: Measure | None = None) -> float | None:
    """The least of a measure (the one that is minimised by default) over all that fit; None where nothing does."""
    what = measure or problem.minimize
    return min((problem.total(what, chosen) for chosen in allocations(problem)), default=None)
