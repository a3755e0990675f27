"""The solver against plain enumeration, its bounds, and what it says where nothing fits."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.search.allocate.problem import Measure, Problem
from lepton_dse.search.allocate.solve import solve

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
from allocation import allocations, least

MEASURES = (Measure.LOSS, Measure.LATENCY, Measure.BYTES)


@st.composite
def problems(draw: st.DrawFn, *, whole: bool = False) -> Problem:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    number = st.integers(0, 20).map(float) if whole else st.just(0.0) | st.floats(1e-9, 1e6)
    amounts = {measure: tuple(tuple(draw(number) for _ in range(size)) for size in sizes) for measure in MEASURES}
    most = {measure: sum(max(row) for row in rows) for measure, rows in amounts.items()}
    budgets = {measure: draw(st.floats(0, 1)) * most[measure] for measure in draw(st.sets(st.sampled_from(MEASURES)))}
    if whole:
        budgets = {measure: float(round(value)) for measure, value in budgets.items()}
    others = {measure: draw(number) for measure in MEASURES if draw(st.booleans())}
    budgets = {measure: value + others.get(measure, 0.0) for measure, value in budgets.items()}
    names = tuple(f"layer{index}" for index in range(len(sizes)))
    choices = tuple(tuple(str(index) for index in range(size)) for size in sizes)
    return Problem(names, choices, amounts, draw(st.sampled_from(MEASURES)), budgets, others)


@st.composite
def problems_that_agree(draw: st.DrawFn, *, whole: bool = False) -> Problem:
    """Up to three decisions of two or three values; a row sets up to two of them, in all combinations or some."""
    values = draw(st.lists(st.integers(2, 3), min_size=1, max_size=3))
    number = st.integers(0, 9).map(float) if whole else st.floats(1e-6, 1e3)
    made: list[list[tuple[tuple[int, int], ...]]] = []
    for _ in range(draw(st.integers(1, 4))):
        decisions = sorted(draw(st.sets(st.integers(0, len(values) - 1), max_size=2)))
        combined = list(product(*([(decision, value) for value in range(values[decision])] for decision in decisions)))
        kept = draw(st.lists(st.sampled_from(combined), min_size=1, max_size=len(combined), unique=True))
        made.append([entry for entry in kept for _ in range(draw(st.integers(1, 2)))])
    amounts = {measure: tuple(tuple(draw(number) for _ in row) for row in made) for measure in MEASURES}
    budgets = {
        measure: draw(st.floats(0.3, 1)) * sum(max(row) for row in amounts[measure])
        for measure in draw(st.sets(st.sampled_from(MEASURES), max_size=2))
    }
    names = tuple(f"row{index}" for index in range(len(made)))
    choices = tuple(tuple(str(index) for index in range(len(row))) for row in made)
    minimize = draw(st.sampled_from(MEASURES))
    return Problem(names, choices, amounts, minimize, budgets, settings=tuple(map(tuple, made)))


@settings(max_examples=200, deadline=None)
@given(st.booleans().flatmap(lambda whole: problems_that_agree(whole=whole)))
def test_the_optimum_of_choices_that_agree_is_that_of_enumeration(problem: Problem) -> None:
    agree(problem)


def test_choices_that_set_other_decisions_are_refused() -> None:
    amounts = {Measure.LOSS: ((0.0, 1.0),)}
    Problem(("a",), (("x", "y"),), amounts, Measure.LOSS, settings=((((0, 0),), ((0, 1),)),))
    with pytest.raises(LeptonError, match="different decisions"):
        Problem(("a",), (("x", "y"),), amounts, Measure.LOSS, settings=((((0, 0),), ((1, 1),)),))
    with pytest.raises(LeptonError, match="one entry a choice"):
        Problem(("a",), (("x", "y"),), amounts, Measure.LOSS, settings=((((0, 0),),),))


def agree(problem: Problem) -> None:
    best, found = least(problem), solve(problem)
    if best is None:
        assert not found.chosen
        assert found.violations
        assert not found.result.optimal
        return
    assert problem.fits(found.chosen)
    assert problem.total(problem.minimize, found.chosen) == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert found.relaxation <= best * (1 + 1e-9) + 1e-9
    assert found.result.optimal
    assert found.result.gap == 0
    assert not found.violations


@settings(max_examples=150, deadline=None)
@given(problems())
def test_optimum_is_that_of_enumeration(problem: Problem) -> None:
    agree(problem)


@settings(max_examples=150, deadline=None)
@given(problems(whole=True))
def test_optimum_is_that_of_enumeration_where_budgets_are_met_exactly(problem: Problem) -> None:
    agree(problem)


@settings(max_examples=60, deadline=None)
@given(problems(whole=True))
def test_ties_go_to_what_costs_least_otherwise(problem: Problem) -> None:
    found = solve(problem)
    if not found.chosen:
        return
    best = problem.total(problem.minimize, found.chosen)
    other = next(measure for measure in MEASURES if measure is not problem.minimize)
    equal = [chosen for chosen in allocations(problem) if problem.total(problem.minimize, chosen) == best]
    assert problem.total(other, found.chosen) == min(problem.total(other, chosen) for chosen in equal)
    assert solve(problem).chosen == found.chosen


@settings(max_examples=60, deadline=None)
@given(problems(whole=True), st.floats(1, 2))
def test_a_larger_budget_is_never_worse(problem: Problem, factor: float) -> None:
    tight = solve(problem)
    wide = solve(replace(problem, budgets={measure: value * factor for measure, value in problem.budgets.items()}))
    if tight.chosen:
        assert wide.chosen
        assert wide.result.best <= tight.result.best


@settings(max_examples=60, deadline=None)
@given(problems(whole=True), st.data())
def test_forbidden_allocations_are_not_taken(problem: Problem, data: st.DataObject) -> None:
    every = allocations(problem)
    forbidden = data.draw(st.lists(st.sampled_from(every), max_size=3)) if every else []
    left = [chosen for chosen in every if chosen not in forbidden]
    found = solve(problem, forbidden=forbidden)
    if not left:
        assert not found.chosen
        return
    assert found.chosen in left
    assert found.result.best == min(problem.total(problem.minimize, chosen) for chosen in left)


@settings(max_examples=60, deadline=None)
@given(problems(whole=True))
def test_a_violation_names_the_least_that_can_be_reached(problem: Problem) -> None:
    found = solve(problem)
    for violation in found.violations:
        measure = next((entry for entry in MEASURES if violation.what.split()[0] == entry), None)
        if measure is None:
            continue
        assert violation.demand > violation.bound == problem.budgets[measure]
        held = {other: value for other, value in problem.budgets.items() if other is not measure}
        eased = replace(problem, budgets={**held, measure: violation.demand} if "other budgets" in violation.what else {})
        reached = least(eased, measure)
        assert reached == violation.demand
        assert any(f"{violation.demand:g}" in lever for lever in violation.levers)


def test_two_budgets_that_fit_alone_and_not_together() -> None:
    amounts = {Measure.LOSS: ((3.0, 0.0),), Measure.BYTES: ((1.0, 4.0),)}
    found = solve(Problem(("a",), (("int4", "int8"),), amounts, Measure.LOSS, {Measure.LOSS: 2.0, Measure.BYTES: 3.0}))
    assert [(entry.what.split()[0], entry.demand) for entry in found.violations] == [("loss", 3.0), ("bytes", 4.0)]


def test_a_choice_that_breaks_a_budget_by_less_than_the_solver_sees_is_not_taken() -> None:
    over = math.nextafter(1.0, 2.0)
    amounts = {Measure.LOSS: ((over, 1.0, 0.5),), Measure.BYTES: ((1.0, 2.0, 3.0),)}
    found = solve(Problem(("a",), (("x", "y", "z"),), amounts, Measure.BYTES, {Measure.LOSS: 1.0}))
    assert found.chosen == (1,)
    rows = ((1.0, 0.0),) * 4 + ((1e-12, 0.0),)
    cost = ((0.0, 1.0),) * 4 + ((0.0, 0.25),)
    wide = Problem(
        tuple("abcde"), (("p", "q"),) * 5, {Measure.LOSS: rows, Measure.BYTES: cost}, Measure.BYTES, {Measure.LOSS: 4.0}
    )
    assert solve(wide).chosen == (0, 0, 0, 0, 1)


def test_the_relaxation_is_below_the_optimum() -> None:
    amounts = {Measure.LOSS: ((2.0, 0.0), (2.0, 0.0)), Measure.BYTES: ((1.0, 3.0), (1.0, 3.0))}
    found = solve(Problem(("a", "b"), (("int4", "int8"),) * 2, amounts, Measure.BYTES, {Measure.LOSS: 3.0}))
    assert found.result.best == 4.0
    assert found.relaxation == pytest.approx(3.0)
    assert found.result.optimal


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    amounts = {Measure.LOSS: ((1.0, 0.0),), Measure.BYTES: ((1.0, 3.0),)}
    with pytest.raises(LeptonError, match="budget of bytes"):
        Problem(("a",), (("x", "y"),), amounts, Measure.LOSS, {Measure.BYTES: value})
    with pytest.raises(LeptonError, match="loss of a"):
        Problem(("a",), (("x", "y"),), {Measure.LOSS: ((value, 0.0),)}, Measure.LOSS)


def test_gaps_in_a_problem_are_refused() -> None:
    with pytest.raises(LeptonError, match="has no choice"):
        Problem(("a",), ((),), {Measure.LOSS: ((),)}, Measure.LOSS)
    with pytest.raises(LeptonError, match="no energy of the choices"):
        Problem(("a",), (("x",),), {Measure.LOSS: ((0.0,),)}, Measure.ENERGY)
    with pytest.raises(LeptonError, match="one number a choice"):
        Problem(("a",), (("x",),), {Measure.LOSS: ((0.0, 1.0),)}, Measure.LOSS)
