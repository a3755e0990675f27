"""Allocation from a network to formats for every layer: measured one by one, chosen together, and measured together.

Sensitivities of single layers and the target's costs make a knapsack (:mod:`lepton_dse.search.allocate.solve`); what it finds is
measured as a whole and corrected (:mod:`lepton_dse.search.allocate.correct`). Of the answers that keep every budget *as measured*
the best one wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport, SearchResult, Violation
from lepton_dse.search.allocate.choice import Choice, Layer, layers_of, parse_choices
from lepton_dse.search.allocate.correct import missed, search
from lepton_dse.search.allocate.problem import Measure, Problem
from lepton_dse.search.allocate.score import Scored
from lepton_dse.search.allocate.trials import Budgets, Round, Trials
from lepton_dse.search.sensitivity import CALIBRATION, Sensitivities, check_data, sensitivities
from lepton_dse.sim.mixed import Prices
from lepton_dse.targets import AnyTarget

__all__ = ["Allocation", "Budgets", "LayerChoice", "Round", "allocate"]

_NEAR = 1.02  # limits of the loss that are no further apart are not told apart
_STEP = 1.25


@dataclass(frozen=True)
class LayerChoice:
    """One layer's choice, with what was measured of it alone and what it is predicted to cost."""

    layer: Layer
    choice: Choice
    alone: Scored
    added: float
    """Divergence that it adds."""
    latency_s: float
    energy_j: float | None
    bytes: float


@dataclass(frozen=True)
class Allocation:
    """Formats for every layer.

    Parameters
    ----------
    graph : Graph
        The float network, with zeros where choices ask for them.
    recipe : Recipe
        Its overrides are the formats chosen; ``quantize(graph, recipe, calibration)`` gives `bundle`.
    bundle : Bundle or None
    table : tuple of LayerChoice
    predicted : float
        Divergence, if the layers' add up.
    measured : Scored or None
        The whole allocation, executed.
    cost : CostReport or None
        The whole allocation, priced.
    totals : mapping of Measure to float
        As priced, and the loss as it was measured.
    rounds : tuple of Round
    result : SearchResult
        Certificate of the last search that gave the answer: optimal if losses and costs added up.
    sensitivities : Sensitivities
    violations : tuple of Violation
        Why no allocation keeps the budgets; the fields above are then empty.
    """

    graph: Graph
    recipe: Recipe
    bundle: Bundle | None
    table: tuple[LayerChoice, ...]
    predicted: float
    measured: Scored | None
    cost: CostReport | None
    totals: Mapping[Measure, float]
    rounds: tuple[Round, ...]
    result: SearchResult
    sensitivities: Sensitivities
    violations: tuple[Violation, ...] = ()

    @property
    def overrides(self) -> dict[str, str]:
        """The format of each operation, by name."""
        return {name: str(form) for name, form in self.recipe.overrides.items()}


def allocate(
    graph: Graph,
    target: AnyTarget,
    data: Dataset,
    choices: Sequence[Choice | str],
    *,
    budgets: Budgets,
    minimize: str = "latency",
    recipe: Recipe | None = None,
    calibration: Dataset | None = None,
    measure_on: Dataset | None = None,
    ops: Sequence[str] | None = None,
    batch: int = 1,
    compact: bool = False,
    rounds: int = 8,
    progress: Callable[[str], None] = lambda text: None,
) -> Allocation:
    """Choose formats and zeros for every layer under budgets.

    Parameters
    ----------
    graph : Graph
        Float graph with one input and one output.
    target : AnyTarget
        Its cost model says what a choice gains: nothing, where the target does not compute it faster.
    data : Dataset
        The split that choices are made on: part of the training data, not the data that the result will be scored on.
    choices : sequence of Choice or str
        For every layer, in order of preference, for example ``int8``, ``w4a8``, ``int8+2:4``.
    budgets : Budgets
    minimize : {"loss", "latency", "energy", "bytes", "bits"}
    recipe : Recipe, optional
        How the network is quantised, and the formats of what is not chosen; int8 by default.
    calibration : Dataset, optional
        Samples for ranges; the first 256 of `data` by default.
    measure_on : Dataset, optional
        What whole allocations are measured on; `data` by default.
    ops : sequence of str, optional
        Operations to choose for; all that have weights by default.
    batch : int
        Samples a pass, for the costs.
    compact : bool
        Count pruned weights without their zeros; see :meth:`Choice.weight_bytes`.
    rounds : int
        Whole allocations to measure at most.
    progress : callable
        Told what is about to be done.

    Returns
    -------
    Allocation
        With violations, and nothing else, where no allocation that was measured keeps the budgets.

    Raises
    ------
    LeptonError
        For wrong arguments, or data that does not fit the network.
    """
    if minimize not in tuple(Measure):
        raise LeptonError(f"cannot minimise '{minimize}'", fix=f"choose {' or '.join(Measure)}")
    if rounds < 1 or batch < 1:
        raise LeptonError(f"{rounds} rounds and a batch of {batch}", fix="use 1 or more of each")
    recipe = recipe or Recipe(Precision.parse("int8"))
    graph = graph.with_batch(1)
    calibration = calibration if calibration is not None else data.take(CALIBRATION)
    judged = measure_on if measure_on is not None else data
    check_data(graph, judged)
    prices = Prices(graph, target, recipe.precision, batch=batch)
    _check_prices(prices, parse_choices(choices), minimize, budgets)
    found = sensitivities(graph, data, choices, recipe=recipe, calibration=calibration, ops=ops, progress=progress)
    offers = _offers(found)
    problem = _problem(graph, found, offers, prices, recipe, Measure(minimize), budgets, compact=compact)
    progress("choosing")
    trials = Trials(graph, recipe, calibration, judged, target, prices, found, offers, budgets, progress)
    return _finish(trials, problem, search(trials, problem, rounds))


def _check_prices(prices: Prices, choices: Sequence[Choice], minimize: str, budgets: Budgets) -> None:
    """Price everything before anything is measured, so that what cannot be priced does not cost a measurement."""
    for choice in choices:
        prices.report(choice.precision)
    if (minimize == Measure.ENERGY or budgets.energy_j is not None) and prices.report(prices.default).energy_j is None:
        what = f"no energy of {prices.target.name} in {prices.default} is known"
        raise LeptonError(what, where="energy", fix="choose another measure or another target")


def _offers(found: Sensitivities) -> list[list[Choice]]:
    """The choices that each layer has."""
    return [[choice for choice in found.choices if (layer.name, choice) in found.entries] for layer in found.layers]


def _problem(
    graph: Graph,
    found: Sensitivities,
    offers: Sequence[Sequence[Choice]],
    prices: Prices,
    recipe: Recipe,
    minimize: Measure,
    budgets: Budgets,
    *,
    compact: bool,
) -> Problem:
    """The numbers of all choices; operations that are no layers are priced in the recipe's formats."""
    every = layers_of(graph)
    weights = sum(layer.elements for layer in every)
    chosen = {layer.name for layer in found.layers}
    rest = [layer for layer in every if layer.name not in chosen]
    inside = {name for layer in found.layers for name in layer.ops}
    outside = [op.name for op in graph.ops if op.name not in inside]

    def rows(value: Callable[[Layer, Choice], float]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(value(layer, choice) for choice in offer) for layer, offer in zip(found.layers, offers, strict=True))

    fixed = {layer.name: recipe.of(graph.op(layer.name)).weights.bits * layer.elements for layer in rest}
    amounts = {
        Measure.LOSS: rows(lambda layer, choice: found.added(layer.name, choice)),
        Measure.LATENCY: rows(lambda layer, choice: _latency(prices, layer, choice)),
        Measure.BYTES: rows(lambda layer, choice: choice.weight_bytes(layer.elements, compact=compact)),
        Measure.BITS: rows(lambda layer, choice: choice.precision.weights.bits * layer.elements / weights),
    }
    others = {
        Measure.LOSS: found.baseline.divergence.value,
        Measure.LATENCY: math.fsum(prices.op(name, recipe.precision).latency_s for name in outside),
        Measure.BYTES: sum(fixed.values()) / 8,
        Measure.BITS: sum(fixed.values()) / weights,
    }
    energies = [prices.op(name, recipe.precision).energy_j for name in outside]
    known = [energy for energy in energies if energy is not None]
    if len(known) == len(energies) and all(prices.op(name, recipe.precision).energy_j is not None for name in inside):
        amounts[Measure.ENERGY] = rows(lambda layer, choice: _energy(prices, layer, choice) or 0.0)
        others[Measure.ENERGY] = math.fsum(known)
    names = tuple(tuple(map(str, offer)) for offer in offers)
    layers = tuple(layer.name for layer in found.layers)
    unit = "nat" if found.metric == "kl" else "of the output's power"
    return Problem(layers, names, amounts, minimize, budgets.costs, others, unit)


def _latency(prices: Prices, layer: Layer, choice: Choice) -> float:
    return math.fsum(prices.op(name, choice.precision).latency_s for name in layer.ops)


def _energy(prices: Prices, layer: Layer, choice: Choice) -> float | None:
    energies = [prices.op(name, choice.precision).energy_j for name in layer.ops]
    known = [energy for energy in energies if energy is not None]
    return math.fsum(known) if len(known) == len(energies) else None


def _finish(trials: Trials, problem: Problem, violations: tuple[Violation, ...]) -> Allocation:
    def worth(entry: Round) -> tuple[float, float]:
        actual = {Measure.LATENCY: entry.cost.latency_s, Measure.LOSS: entry.measured.divergence.value}
        if entry.cost.energy_j is not None:
            actual[Measure.ENERGY] = entry.cost.energy_j
        return actual.get(problem.minimize, entry.solution.totals[problem.minimize]), entry.measured.divergence.value

    rounds = tuple(trials.rounds)
    best = min((entry for entry in rounds if entry.fits), key=worth, default=None)
    if best is None:
        violations = violations or missed(trials, problem)
        result = SearchResult(
            objective=problem.minimize.value, space="", evaluated=len(rounds), best=0, lower_bound=0, gap=0, optimal=False
        )
        return Allocation(trials.graph, trials.recipe, None, (), 0.0, None, None, {}, rounds, result, trials.found, violations)
    graph, recipe, bundle = trials.quantized(trials.graph, best.chosen)
    table = tuple(
        LayerChoice(
            layer,
            choice,
            trials.found.entries[layer.name, choice],
            trials.found.added(layer.name, choice),
            _latency(trials.prices, layer, choice),
            _energy(trials.prices, layer, choice),
            problem.amounts[Measure.BYTES][index][best.chosen[index]],
        )
        for index, (layer, choice) in enumerate(trials.picks(best.chosen))
    )
    totals = {**best.solution.totals, Measure.LATENCY: best.cost.latency_s, Measure.LOSS: best.measured.divergence.value}
    if best.cost.energy_j is not None:
        totals[Measure.ENERGY] = best.cost.energy_j
    return Allocation(
        graph, recipe, bundle, table, best.predicted, best.measured, best.cost, totals, rounds, best.solution.result, trials.found
    )
