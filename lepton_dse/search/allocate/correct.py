"""Search and measurement in turns, until the answer keeps its budgets as measured and nothing more is gained.

The search works on figures that add up: the divergence that a choice adds to the quantised network, and what an operation costs.
Neither is the truth of a whole allocation. So each answer is quantised as a whole, executed on samples and priced as a whole:

* a loss above its budget lowers the limit of what divergences may add up to: by the ratio of budget to measurement at first, to
  between an answer that keeps the budget and one that does not afterwards; a loss below its budget raises the limit likewise;
* a cost above its budget, because neighbours store activations in other formats than each asked for, is added to the costs of
  the operations that are no layers.
"""

from __future__ import annotations

import math
from dataclasses import replace

from lepton_dse.plan import Violation
from lepton_dse.search.allocate.problem import Measure, Problem
from lepton_dse.search.allocate.solve import Solution, solve
from lepton_dse.search.allocate.trials import Round, Trials

__all__ = ["missed", "search"]

_NEAR = 1.001  # limits of the loss that are no further apart are not told apart
_STEP = 1.25
_SEARCHES = 4  # for every answer that is measured
_BARELY = 1e-9


def search(trials: Trials, problem: Problem, rounds: int) -> tuple[Violation, ...]:
    """Find and measure answers; they stand in `trials`.

    Parameters
    ----------
    trials : Trials
    problem : Problem
        With the budgets of all costs, and none of the loss.
    rounds : int
        Different answers to measure at most.

    Returns
    -------
    tuple of Violation
        Why nothing fits even as predicted; empty where something was measured.
    """
    bounded = trials.most() < math.inf
    base = problem.others[Measure.LOSS]
    floor = solve(replace(problem, minimize=Measure.LOSS))
    limit = trials.first_limit()
    ceiling: Solution | None = None  # the best there is if no loss counts
    kept, broken = -math.inf, math.inf  # limits whose answers keep and break the loss's budget
    for _ in range(_SEARCHES * rounds):
        if not floor.chosen:
            return () if trials.rounds else floor.violations
        # No prediction rules an answer out: what is predicted to lose least is measured too.
        least = (floor.result.best - base) * (1 + _BARELY) + base * _BARELY
        limit = least if len(trials.rounds) == rounds - 1 and kept < 0 else max(limit, least)
        held = {**problem.budgets, Measure.LOSS: base + limit} if bounded else problem.budgets
        solution = solve(replace(problem, budgets=held))
        if not solution.chosen:
            return () if trials.rounds else solution.violations
        repeated = any(entry.chosen == solution.chosen for entry in trials.rounds)
        if not repeated and len(trials.rounds) == rounds:
            break
        entry = trials.measure(solution, base + limit if bounded else None)
        corrected = _corrected(problem, entry)
        if corrected is not None:
            problem, floor, ceiling = corrected, solve(replace(corrected, minimize=Measure.LOSS)), None
            continue
        if not bounded:
            break
        lost = trials.loss(entry.measured)
        if lost <= trials.most():
            kept = max(kept, limit)
            ceiling = ceiling or solve(problem)
            if solution.result.best <= ceiling.result.best * (1 + _BARELY):
                break  # no loss could buy more
        else:
            broken = min(broken, limit, (entry.predicted - base) * (1 - _BARELY))
        if broken <= max(kept * _NEAR, least):
            break
        ratio = trials.most() / lost if lost > 0 else math.inf
        between = repeated and kept >= 0 and broken < math.inf
        limit = broken if between else _next_limit(limit, kept, broken, ratio)
    return ()


def _next_limit(limit: float, kept: float, broken: float, ratio: float) -> float:
    """Where to look next, `ratio` being the budget over what was measured."""
    if kept >= 0 and broken < math.inf:
        return (kept + broken) / 2
    if broken < math.inf:
        return limit * min(max(ratio, 0.1), 1 / _STEP)
    return limit * max(min(ratio, 4.0), _STEP)


def _corrected(problem: Problem, entry: Round) -> Problem | None:
    """The problem with the costs that the whole allocation has beyond those of its parts, where they break a budget."""
    others = dict(problem.others)
    actual = {Measure.LATENCY: entry.cost.latency_s, Measure.ENERGY: entry.cost.energy_j}
    for measure, value in actual.items():
        if value is not None and measure in problem.budgets and value > problem.budgets[measure]:
            others[measure] = others.get(measure, 0.0) + max(value - problem.total(measure, entry.chosen), 0.0) * (1 + 1e-9)
    return replace(problem, others=others) if others != problem.others else None


def missed(trials: Trials, problem: Problem) -> tuple[Violation, ...]:
    """By how much the measured allocations miss their budgets."""
    found = []
    levers = ("raise the budget", "offer wider formats", "choose a better rounding or calibration in the recipe")
    unit = "points" if trials.budgets.loss_points is not None else problem.loss_unit
    least = min(trials.loss(entry.measured) for entry in trials.rounds)
    if least > trials.most():
        what = "loss of the most accurate allocation measured"
        found.append(Violation(what=what, demand=least, bound=trials.most(), unit=unit, levers=levers))
    for measure, name in ((Measure.LATENCY, "latency_s"), (Measure.ENERGY, "energy_j")):
        budget = trials.budgets.costs.get(measure)
        values = [getattr(entry.cost, name) for entry in trials.rounds if getattr(entry.cost, name) is not None]
        if budget is not None and values and min(values) > budget:
            what = f"{measure} of the whole allocation"
            found.append(Violation(what=what, demand=min(values), bound=budget, unit=problem.unit(measure), levers=levers[:2]))
    if not found:
        what = "budgets kept together by an allocation that was measured"
        found.append(Violation(what=what, demand=1, bound=0, unit="allocation", levers=("allow more rounds", *levers)))
    return tuple(found)
