"""Allocation from a network to formats for every layer: measured one by one, chosen together, and measured together.

Sensitivities of single layers and the target's costs make a knapsack (:mod:`lepton_dse.search.allocate.solve`); what it finds is
measured as a whole and corrected (:mod:`lepton_dse.search.allocate.correct`). Of the answers that keep every budget *as measured*
the best one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport, SearchResult, Violation
from lepton_dse.reference.metrics.protocol import MetricLike
from lepton_dse.search.allocate.channels import Coupled, Widths
from lepton_dse.search.allocate.choice import Choice, Layer, parse_choices
from lepton_dse.search.allocate.correct import missed, search
from lepton_dse.search.allocate.problem import Measure, Problem
from lepton_dse.search.allocate.score import Scored
from lepton_dse.search.allocate.space import Costs, space_of
from lepton_dse.search.allocate.trials import Budgets, Round, Trials
from lepton_dse.search.sensitivity import CALIBRATION, Sensitivities, check_data, sensitivities, width_losses
from lepton_dse.sim.mixed import Prices
from lepton_dse.targets import AnyTarget

__all__ = ["Allocation", "Budgets", "LayerChoice", "Round", "WidthChoice", "allocate"]


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
class WidthChoice:
    """The width of one group of channels."""

    group: Coupled
    ratio: float
    """Share of its channels that leave."""
    alone: Scored | None
    """What that alone does; None at full width."""
    added: float
    """Divergence that it adds."""


@dataclass(frozen=True)
class Allocation:
    """Formats for every layer.

    Parameters
    ----------
    graph : Graph
        The float network, without the channels that leave and with zeros where choices ask for them.
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
    channels : tuple of WidthChoice
        Each group of coupled channels, where widths were chosen.
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
    channels: tuple[WidthChoice, ...] = ()

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
    metric: MetricLike | None = None,
    batch: int = 1,
    channels: Sequence[float] = (),
    rounds: int = 8,
    progress: Callable[[str], None] = lambda text: None,
) -> Allocation:
    """Choose formats and zeros for every layer, and widths of its channels, under budgets.

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
    metric : str, Metric or callable, optional
        What a budget of lost points is of, greater being better; see :mod:`lepton_dse.search.allocate.score`.
    batch : int
        Samples a pass, for the costs.
    channels : sequence of float
        Shares of the channels that each group of coupled channels may lose, beside none; see
        :mod:`lepton_dse.search.allocate.channels`.
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
    widths = Widths(graph, channels) if channels else None
    found = sensitivities(graph, data, choices, recipe=recipe, calibration=calibration, ops=ops, metric=metric, progress=progress)
    lost: dict[tuple[int, int], Scored] = {}
    if widths is not None:
        lost = width_losses(graph, data, widths, recipe=recipe, calibration=calibration, metric=metric, progress=progress)
    progress("choosing")
    costs = Costs(graph, target, recipe, batch, widths)
    space = space_of(graph, found, costs, recipe, Measure(minimize), budgets.costs, widths, lost)
    trials = Trials(graph, recipe, calibration, judged, target, batch, found, space, widths, lost, budgets, progress, metric)
    return _finish(trials, space.problem, search(trials, space.problem, rounds))


def _check_prices(prices: Prices, choices: Sequence[Choice], minimize: str, budgets: Budgets) -> None:
    """Price everything before anything is measured, so that what cannot be priced does not cost a measurement."""
    for choice in choices:
        prices.report(choice.precision)
    if (minimize == Measure.ENERGY or budgets.energy_j is not None) and prices.report(prices.default).energy_j is None:
        what = f"no energy of {prices.target.name} in {prices.default} is known"
        raise LeptonError(what, where="energy", fix="choose another measure or another target")


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
    graph, recipe, bundle = trials.quantized(best.chosen)

    def amount(measure: Measure, row: int) -> float:
        return problem.amounts[measure][row][best.chosen[row]]

    table = tuple(
        LayerChoice(
            layer,
            choice,
            trials.found.entries[layer.name, choice],
            trials.found.added(layer.name, choice),
            amount(Measure.LATENCY, row),
            amount(Measure.ENERGY, row) if Measure.ENERGY in problem.amounts else None,
            amount(Measure.BYTES, row),
        )
        for row, (layer, choice) in enumerate(trials.space.picks(best.chosen))
    )
    shrunk = () if trials.widths is None else zip(trials.widths.groups, trials.space.widths(best.chosen), strict=True)
    channels = tuple(
        WidthChoice(group, group.ratios[width], trials.lost.get((place, width)), amount(Measure.LOSS, len(table) + place))
        for place, (group, width) in enumerate(shrunk)
    )
    totals = {**best.solution.totals, Measure.LATENCY: best.cost.latency_s, Measure.LOSS: best.measured.divergence.value}
    if best.cost.energy_j is not None:
        totals[Measure.ENERGY] = best.cost.energy_j
    certificate = best.solution.result
    return Allocation(
        graph,
        recipe,
        bundle,
        table,
        best.predicted,
        best.measured,
        best.cost,
        totals,
        rounds,
        certificate,
        trials.found,
        (),
        channels,
    )
