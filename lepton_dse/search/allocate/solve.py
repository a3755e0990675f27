"""The exact optimum of an allocation by mixed-integer programming, with the bound of its linear relaxation.

HiGHS decides (Q. Huangfu, J. A. J. Hall, Math. Prog. Comp. 10, 2018). Its arithmetic has tolerances, the answer has none: an
answer is summed up again correctly rounded, and one that breaks a budget is cut off and the search goes on. Objective and budgets
are scaled so that HiGHS' absolute tolerances are far below any difference that counts. The bound is HiGHS' own; it counts as
reached when it is within 1e-9 of the answer.

Of equally good answers the one is taken that costs least in the first other measure that is known, loss before latency, energy,
bytes and bits; of choices of one layer that cost the same in everything, the first. What is then still equal HiGHS decides, the
same way for the same problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint
from scipy.sparse import csr_array

from lepton_dse.errors import LeptonError
from lepton_dse.milp import milp
from lepton_dse.plan import SearchResult, Violation
from lepton_dse.search.allocate.problem import Measure, Problem

__all__ = ["Solution", "solve"]

_SAME = 1e-9
_SCALE = 1e6  # of the objective: HiGHS stops at an absolute gap of 1e-6
_CUTS = 32
_NODES = 20_000
_CLEAR = 4e-6  # of the room in a budget; HiGHS' tolerance is 1e-6
_TINY = 1e-300
_INFEASIBLE = 2  # scipy's status
_LEVERS = {
    Measure.LOSS: "offer wider formats",
    Measure.LATENCY: "offer formats that the target computes faster",
    Measure.ENERGY: "offer formats that cost the target less energy",
    Measure.BYTES: "offer narrower weights",
    Measure.BITS: "offer narrower weights",
}


@dataclass(frozen=True)
class Solution:
    """What a search found.

    Parameters
    ----------
    chosen : tuple of int
        Index of each layer's choice; empty where nothing fits.
    totals : mapping of Measure to float
        What it comes to.
    relaxation : float
        The optimum if layers could take parts of choices: no allocation is better.
    result : SearchResult
        The certificate.
    violations : tuple of Violation
        Why nothing fits.
    """

    chosen: tuple[int, ...]
    totals: Mapping[Measure, float]
    relaxation: float
    result: SearchResult
    violations: tuple[Violation, ...] = ()


def solve(problem: Problem, *, forbidden: Sequence[Sequence[int]] = ()) -> Solution:
    """The best choice of every layer.

    Parameters
    ----------
    problem : Problem
    forbidden : sequence of sequence of int
        Whole allocations that may not be taken, though they fit.

    Returns
    -------
    Solution
        Optimal where its certificate says so; with violations where no allocation keeps the budgets.

    Raises
    ------
    LeptonError
        If the solver gives up without an answer.
    """
    reach = _unreachable(problem)
    if reach:
        return _nothing(problem, reach)
    program = _Program(problem, forbidden)
    relaxation = program.relaxed()
    found = program.best()
    if found is None:
        return _nothing(problem, _joint(problem, forbidden), relaxation)
    chosen, bound = _tied(problem, forbidden, found[0]), found[1]
    totals = {measure: problem.total(measure, chosen) for measure in problem.amounts}
    best = totals[problem.minimize]
    bound = max(bound, relaxation)
    bound = best if bound >= best - _SAME * abs(best) else max(bound, 0.0)
    gap = (best - bound) / best if best > 0 else 0.0
    return Solution(chosen, totals, min(relaxation, best), _result(problem, best, bound, gap, program.solved))


def _result(problem: Problem, best: float, bound: float, gap: float, solved: int) -> SearchResult:
    count = _count(problem)
    size = str(count) if count < 10**6 else f"about 1e{len(str(count)) - 1}"
    held = ", ".join(f"{measure} <= {budget:g} {problem.unit(measure)}" for measure, budget in problem.budgets.items())
    return SearchResult(
        objective=problem.minimize.value,
        space=f"one choice for each of {len(problem.layers)} layers, {size} in all; {held or 'no budget'}; costs that add up",
        evaluated=solved,
        best=best,
        lower_bound=bound,
        gap=gap,
        optimal=gap == 0,
    )


def _count(problem: Problem) -> int:
    """Allocations whose choices agree, where every layer has equally many for each setting; an upper bound elsewhere."""
    if not problem.settings:
        return math.prod(len(names) for names in problem.choices)
    values: dict[int, set[int]] = {}
    for pair in (pair for rows in problem.settings for row in rows for pair in row):
        values.setdefault(pair[0], set()).add(pair[1])
    alike = [max(rows.count(row) for row in set(rows)) for rows in problem.settings]
    return math.prod(alike) * math.prod(map(len, values.values()))


def _nothing(problem: Problem, violations: tuple[Violation, ...], relaxation: float = 0.0) -> Solution:
    result = _result(problem, 0.0, 0.0, 0.0, 0).model_copy(update={"optimal": False})
    return Solution((), {}, relaxation, result, violations)


def _unreachable(problem: Problem) -> tuple[Violation, ...]:
    """Budgets that no allocation keeps even if nothing else counts."""
    found = []
    for measure, budget in problem.budgets.items():
        least = problem.least(measure)
        if problem.settings:
            alone = _Program(replace(problem, minimize=measure, budgets={})).best()
            least = least if alone is None else problem.total(measure, alone[0])
        if least > budget:
            found.append(_violation(problem, measure, least, budget, ""))
    return tuple(found)


def _joint(problem: Problem, forbidden: Sequence[Sequence[int]]) -> tuple[Violation, ...]:
    """For each budget the least that is reached while the others are kept."""
    found = []
    for measure, budget in problem.budgets.items():
        others = {other: value for other, value in problem.budgets.items() if other is not measure}
        best = _Program(replace(problem, minimize=measure, budgets=others), forbidden).best()
        if best is not None:
            least = problem.total(measure, best[0])
            found.append(_violation(problem, measure, least, budget, " while the other budgets are kept"))
    if not found:
        names = ", ".join(problem.budgets)
        levers = ("raise two of the budgets", "offer more choices")
        found.append(Violation(what=f"the budgets of {names} together", demand=1, bound=0, unit="allocation", levers=levers))
    return tuple(found)


def _violation(problem: Problem, measure: Measure, least: float, budget: float, beside: str) -> Violation:
    unit = problem.unit(measure)
    levers = (f"raise the budget to {least:g} {unit}", _LEVERS[measure])
    return Violation(what=f"{measure}{beside}", demand=least, bound=budget, unit=unit, levers=levers)


class _Program:
    """A problem without the choices that cannot matter, as matrices.

    Columns are the pairs of a layer and a choice. Every row of costs counts from the layer's least, so that it is at least 0 and
    the budget of it is what there is to spend.
    """

    def __init__(self, problem: Problem, forbidden: Sequence[Sequence[int]] = ()) -> None:
        self.problem = problem
        self.solved = 0
        self._forbidden = bool(forbidden)
        # Where whole allocations are forbidden, a choice that another one beats may be all that is left.
        self.columns = [
            (layer, index)
            for layer, names in enumerate(problem.choices)
            for index in (range(len(names)) if forbidden else _unbeaten(problem, layer))
        ]
        for measure, budget in problem.budgets.items():
            lowest = [row.index(min(row)) for row in problem.amounts[measure]]
            self.columns = [
                (layer, index)
                for layer, index in self.columns
                if problem.total(measure, [*lowest[:layer], index, *lowest[layer + 1 :]]) <= budget
            ]
        self.possible = len({layer for layer, _ in self.columns}) == len(problem.layers)
        self._place = {pair: column for column, pair in enumerate(self.columns)}
        count = len(self.columns)
        places = ([layer for layer, _ in self.columns], range(count))
        self._one_each = LinearConstraint(csr_array((np.ones(count), places), shape=(len(problem.layers), count)), 1, 1)
        self._agreements = self._agreeing()
        self._rows: list[NDArray[np.float64]] = []
        self._ends: list[float] = []
        for measure, budget in problem.budgets.items():
            extra, room = self._extra(measure), max(budget - problem.least(measure), 0.0)
            scale = room if room > 0 else max(float(extra.max(initial=0.0)), _TINY)
            self._rows.append(extra / scale)
            self._ends.append(room / scale)
        cost = self._extra(problem.minimize)
        spread = float(cost.max(initial=0.0))
        self._unit = spread / _SCALE if spread > 0 else 1.0
        self._cost = cost / self._unit
        for chosen in forbidden:
            self._forbid(chosen)

    def relaxed(self) -> float:
        """The optimum over parts of choices, or what it cannot be below."""
        found = milp(self._cost, constraints=self._constraints(), bounds=Bounds(0, 1)) if self.possible else None
        least = self.problem.least(self.problem.minimize)
        return least if found is None or found.fun is None else max(self._real(found.fun), least)

    def best(self) -> tuple[tuple[int, ...], float] | None:
        """The optimum and a bound from below; None where nothing fits.

        Raises
        ------
        LeptonError
            If the solver gives up without an answer.
        """
        if not self.possible:
            return None
        bound = None
        for attempt in range(_CUTS + 2):
            if attempt == _CUTS:  # budgets so near to sums of costs that HiGHS takes one for the other: stay clear of them
                budgets = len(self.problem.budgets)
                self._ends[:budgets] = [end - _CLEAR for end in self._ends[:budgets]]
            found = milp(
                self._cost,
                integrality=np.ones(len(self.columns)),
                bounds=Bounds(0, 1),
                constraints=self._constraints(),
                options={"mip_rel_gap": 0.0, "node_limit": _NODES},
            )
            self.solved += 1 + int(found.mip_node_count or 0)
            if found.status == _INFEASIBLE and attempt < _CUTS:
                return None
            if found.x is None:
                break
            bound = self._real(found.mip_dual_bound) if bound is None or attempt < _CUTS else bound
            chosen = self._chosen(found.x)
            if self.problem.fits(chosen):
                return self._polished(chosen), bound
            self._forbid(chosen)
        raise LeptonError("was not solved within its limits", where="allocation", fix="offer fewer choices, or change a budget")

    def _extra(self, measure: Measure) -> NDArray[np.float64]:
        rows = self.problem.amounts[measure]
        return np.array([rows[layer][index] - min(rows[layer]) for layer, index in self.columns])

    def _real(self, value: float) -> float:
        return float(value * self._unit + self.problem.least(self.problem.minimize))

    def _constraints(self) -> list[LinearConstraint]:
        fixed = [self._one_each, *self._agreements]
        if not self._rows:
            return fixed
        return [*fixed, LinearConstraint(csr_array(np.array(self._rows)), -np.inf, np.array(self._ends))]

    def _agreeing(self) -> list[LinearConstraint]:
        """For each value of a decision every layer that sets it takes a choice for that value where the first one does."""
        if not self.problem.settings:
            return []
        setting: dict[tuple[int, int], dict[int, list[int]]] = {}
        deciding: dict[int, list[int]] = {}
        for layer, rows in enumerate(self.problem.settings):
            for decision, _ in rows[0]:
                deciding.setdefault(decision, []).append(layer)
        for column, (layer, index) in enumerate(self.columns):
            for pair in self.problem.settings[layer][index]:
                setting.setdefault(pair, {}).setdefault(layer, []).append(column)
        entries: list[tuple[int, int, float]] = []
        count = 0
        for (decision, _), by_layer in setting.items():
            first, *others = deciding[decision]
            for layer in others:
                entries += [(count, column, 1.0) for column in by_layer.get(layer, [])]
                entries += [(count, column, -1.0) for column in by_layer.get(first, [])]
                count += 1
        rows_of, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        matrix = csr_array((values, (rows_of, columns)), shape=(count, len(self.columns)))
        return [LinearConstraint(matrix, 0, 0)] if count else []

    def _chosen(self, x: NDArray[np.float64]) -> tuple[int, ...]:
        chosen = [0] * len(self.problem.layers)
        for column in np.flatnonzero(x > 0.5):
            layer, index = self.columns[column]
            chosen[layer] = index
        return tuple(chosen)

    def _polished(self, chosen: tuple[int, ...]) -> tuple[int, ...]:
        """The answer after every single change that lowers the sum by less than HiGHS sees."""
        if self._forbidden:
            return chosen
        for layer, index in self.columns:
            other = (*chosen[:layer], index, *chosen[layer + 1 :])
            minimize = self.problem.minimize
            if self.problem.total(minimize, other) < self.problem.total(minimize, chosen) and self.problem.fits(other):
                chosen = other
        return chosen

    def _forbid(self, chosen: Sequence[int]) -> None:
        pairs = list(enumerate(chosen))
        if all(pair in self._place for pair in pairs):
            row = np.zeros(len(self.columns))
            row[[self._place[pair] for pair in pairs]] = 1.0
            self._rows.append(row)
            self._ends.append(len(chosen) - 1.0)


def _unbeaten(problem: Problem, layer: int) -> list[int]:
    """Choices that no other one of the layer that sets the same beats in every measure, nor an earlier one equals."""
    rows_set = problem.settings[layer] if problem.settings else ((),) * len(problem.choices[layer])
    costs = [tuple(rows[layer][index] for rows in problem.amounts.values()) for index in range(len(problem.choices[layer]))]
    return [
        index
        for index, cost in enumerate(costs)
        if not any(
            all(a <= b for a, b in zip(other, cost, strict=True)) and (other != cost or place < index)
            for place, other in enumerate(costs)
            if place != index and rows_set[place] == rows_set[index]
        )
    ]


def _tied(problem: Problem, forbidden: Sequence[Sequence[int]], chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Among allocations as good as `chosen`, one that costs least in the first of the other measures."""
    other = next((measure for measure in Measure if measure in problem.amounts and measure is not problem.minimize), None)
    if other is None:
        return chosen
    budgets = {**problem.budgets, problem.minimize: problem.total(problem.minimize, chosen)}
    try:
        found = _Program(replace(problem, minimize=other, budgets=budgets), forbidden).best()
    except LeptonError:
        return chosen
    return chosen if found is None or problem.total(other, found[0]) >= problem.total(other, chosen) else found[0]
