"""Allocations from end to end: what is chosen is measured, keeps its budgets, and is as good as it can be."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset
from lepton_dse.demo.digits import load_digits_split
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.allocate.correct import search
from lepton_dse.search.allocate.driver import Allocation, Budgets, allocate
from lepton_dse.search.allocate.problem import Measure, Problem
from lepton_dse.search.allocate.solve import Solution
from lepton_dse.sim.mixed import mixed_cost
from lepton_dse.targets import load_target

MODEL = Path(__file__).parents[2] / "studies" / "models" / "digits_cnn.onnx"
CPU = load_target("raspberry-pi-5")
FPGA = load_target("amd-zynq-7020")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("sklearn")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield ld.load(MODEL), load_digits_split()[0]
    patch.undo()


def consistent(found: Allocation, graph: Graph, data: Dataset) -> None:
    """What an allocation says of itself is what the ordinary flow finds of its bundle."""
    assert found.bundle is not None
    assert found.measured is not None
    assert found.cost is not None
    again = quantize(found.graph, found.recipe, data.take(256))[0]
    assert again.digest == found.bundle.digest
    assert ld.accuracy(found.bundle, data) == found.measured.correct
    lost = 100 * (ld.accuracy(graph, data).value - found.measured.correct.value)
    assert found.measured.loss.value == pytest.approx(lost)
    assert found.cost == mixed_cost(found.bundle, CPU, default=Precision.parse("int8"))
    stored = sum(
        graph.tensors[entry.layer.weights].elements * found.bundle.scales[entry.layer.weights].format.bits / 8
        for entry in found.table
    )
    assert found.totals[Measure.BYTES] == stored == sum(entry.bytes for entry in found.table)
    assert found.predicted == pytest.approx(
        found.sensitivities.baseline.divergence.value + sum(entry.added for entry in found.table)
    )


def test_four_and_eight_bits_are_smaller_at_less_than_half_a_point(digits: tuple[Graph, Dataset]) -> None:
    graph, data = digits
    found = allocate(graph, CPU, data, ["int8", "w4a8"], budgets=Budgets(loss_points=0.5), minimize="bytes")
    consistent(found, graph, data)
    assert found.measured is not None
    assert found.measured.loss.value <= 0.5
    weights = sum(graph.tensors[entry.layer.weights].elements for entry in found.table)
    assert found.totals[Measure.BYTES] * 1.5 <= weights
    assert found.result.optimal
    assert found.rounds[-1].fits
    again = allocate(graph, CPU, data, ["int8", "w4a8"], budgets=Budgets(loss_points=0.5), minimize="bytes")
    assert again.sensitivities.measured == 0
    assert again.bundle is not None
    assert found.bundle is not None
    assert again.bundle.digest == found.bundle.digest
    assert (again.table, again.rounds, again.result, again.totals) == (found.table, found.rounds, found.result, found.totals)


def test_an_answer_that_breaks_its_budget_as_measured_is_corrected(digits: tuple[Graph, Dataset]) -> None:
    graph, data = digits
    choices = ["int8", "w6a8", "w5a8", "w4a8", "w3a8", "w2a8"]
    found = allocate(graph, CPU, data, choices, budgets=Budgets(loss_points=0.5), minimize="bytes")
    consistent(found, graph, data)
    assert found.measured is not None
    assert found.measured.loss.value <= 0.5
    assert any(not entry.fits for entry in found.rounds)
    fitting = [entry.solution.totals[Measure.BYTES] for entry in found.rounds if entry.fits]
    assert found.totals[Measure.BYTES] == min(fitting)


def test_loss_under_bits_and_time_under_divergence(digits: tuple[Graph, Dataset]) -> None:
    graph, data = digits
    narrow = allocate(graph, CPU, data, ["int8", "w6a8", "w4a8", "w3a8"], budgets=Budgets(bits=5), minimize="loss")
    consistent(narrow, graph, data)
    assert narrow.totals[Measure.BITS] <= 5
    assert len(narrow.rounds) == 1
    fast = allocate(graph, FPGA, data, ["int8", "w4a8", "w4a4"], budgets=Budgets(divergence=0.02), minimize="latency")
    assert fast.measured is not None
    assert fast.cost is not None
    assert fast.measured.divergence.value <= 0.02
    wide = mixed_cost(quantize(graph, Recipe(Precision.parse("int8")), data.take(256))[0], FPGA)
    assert fast.cost.latency_s < wide.latency_s
    within = Budgets(divergence=0.02, latency_s=wide.latency_s * 0.8)
    held = allocate(graph, FPGA, data, ["int8", "w4a8", "w4a4"], budgets=within, minimize="loss")
    assert held.cost is not None
    assert held.cost.latency_s <= wide.latency_s * 0.8


def test_zeros_that_are_not_faster_are_not_chosen(digits: tuple[Graph, Dataset]) -> None:
    graph, data = digits
    choices = ["int8", "int8+0.5"]
    found = allocate(graph, CPU, data, choices, budgets=Budgets(loss_points=5), minimize="latency")
    assert {str(entry.choice) for entry in found.table} == {"int8"}
    assert found.graph is not None
    stored = allocate(graph, CPU, data, choices, budgets=Budgets(loss_points=5), minimize="bytes")
    assert {str(entry.choice) for entry in stored.table} == {"int8"}  # weights are written with their zeros


def test_what_cannot_be_kept_is_named(digits: tuple[Graph, Dataset]) -> None:
    graph, data = digits
    small = allocate(graph, CPU, data, ["int8", "w4a8"], budgets=Budgets(bytes=100), minimize="loss")
    assert small.bundle is None
    assert small.rounds == ()
    assert [(entry.what, entry.bound, entry.unit) for entry in small.violations] == [("bytes", 100, "B")]
    lossy = allocate(graph, CPU, data, ["w2a8"], budgets=Budgets(loss_points=0.5), minimize="bytes")
    assert lossy.bundle is None
    assert lossy.violations[0].demand == lossy.rounds[0].measured.loss.value > 0.5
    assert lossy.violations[0].unit == "points"
    exact = allocate(graph, CPU, data, ["w4a8"], budgets=Budgets(divergence=1e-6), minimize="bytes")
    assert exact.violations[0].demand == exact.rounds[0].measured.divergence.value > 1e-6
    assert exact.violations[0].unit == "nat"


def test_a_prediction_that_is_too_dark_rules_nothing_out() -> None:
    amounts = {Measure.LOSS: ((2.0, 1.0),), Measure.BYTES: ((1.0, 2.0),)}
    problem = Problem(("a",), (("4", "8"),), amounts, Measure.BYTES, {}, {Measure.LOSS: 0.0})
    trials = Imagined(budget=1.0, start=0.01, power=1.0, factor=0.4)
    assert search(trials, problem, 4) == ()  # type: ignore[arg-type]
    assert [entry.chosen for entry in trials.rounds] == [(1,), (0,)]


def test_wrong_input_is_refused_in_one_line(digits: tuple[Graph, Dataset]) -> None:
    graph, data = digits
    few = data.take(20)

    def tried(**options: Any) -> None:
        given = {"choices": ["int8"], "data": few, "target": CPU, "budgets": Budgets(), **options}
        allocate(graph, given.pop("target"), given.pop("data"), given.pop("choices"), **given)

    with pytest.raises(LeptonError, match="cannot minimise 'size'"):
        tried(minimize="size")
    with pytest.raises(LeptonError, match="nowhere: no operation with weights"):
        tried(ops=["nowhere"])
    with pytest.raises(LeptonError, match="no choices"):
        tried(choices=[])
    with pytest.raises(LeptonError, match="samples of shape"):
        tried(measure_on=Dataset(few.x[:, :, :4], few.y))
    with pytest.raises(LeptonError, match="no energy of unit-fpga"):
        tried(target=load_target("unit-fpga"), minimize="energy")
    with pytest.raises(LeptonError, match="has no choice"):
        tried(choices=["float32"])
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(LeptonError, match="loss_points: a budget of"):
            Budgets(loss_points=value)
    with pytest.raises(LeptonError, match="two budgets of one loss"):
        Budgets(loss_points=1, divergence=1)


@dataclass
class Imagined:
    """Trials of networks whose true loss is any rising function of the predicted one."""

    budget: float
    start: float
    power: float
    factor: float
    rounds: list[Any] = field(default_factory=list)
    budgets: Budgets = field(default_factory=lambda: Budgets(loss_points=1.0))

    def most(self) -> float:
        return self.budget

    def first_limit(self) -> float:
        return self.start

    def loss(self, measured: float) -> float:
        return measured

    def measure(self, solution: Solution, limit: float | None) -> Any:
        predicted = solution.totals[Measure.LOSS]
        true = self.factor * predicted**self.power
        cost = SimpleNamespace(latency_s=0.0, energy_j=None)
        entry = SimpleNamespace(chosen=solution.chosen, predicted=predicted, measured=true, cost=cost, solution=solution)
        if all(known.chosen != entry.chosen for known in self.rounds):
            self.rounds.append(entry)
        return entry


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(0.5, 2), st.floats(0.1, 10))
def test_corrections_end_at_the_best_answer_where_true_and_predicted_losses_rise_together(
    seed: int, start: float, power: float, factor: float
) -> None:
    rng = np.random.default_rng(seed)
    loss = np.sort(rng.uniform(0, 1, (4, 3)))[:, ::-1]
    stored = np.sort(rng.integers(1, 40, (4, 3)))
    amounts = {Measure.LOSS: tuple(map(tuple, loss.tolist())), Measure.BYTES: tuple(map(tuple, stored.astype(float).tolist()))}
    problem = Problem(tuple("abcd"), (("2", "4", "8"),) * 4, amounts, Measure.BYTES, {}, {Measure.LOSS: 0.0})
    every = [tuple(int(digit) for digit in np.base_repr(index, 3).zfill(4)) for index in range(81)]
    budget = float(factor * rng.uniform(0.2, 3) ** power)
    fitting = [chosen for chosen in every if factor * problem.total(Measure.LOSS, chosen) ** power <= budget]
    trials = Imagined(budget, start, power, factor)
    violations = search(trials, problem, 60)  # type: ignore[arg-type]
    kept = [entry for entry in trials.rounds if entry.measured <= budget]
    assert violations == ()
    assert bool(kept) == bool(fitting)
    if fitting:
        best = min(problem.total(Measure.BYTES, chosen) for chosen in fitting)
        assert min(entry.solution.totals[Measure.BYTES] for entry in kept) == best
