"""Whole allocations: quantised, executed on samples, priced, and held against their budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.lower import lower_bundle
from lepton_dse.plan import CostReport
from lepton_dse.reference import engine, fast
from lepton_dse.reference.metrics.protocol import MetricLike
from lepton_dse.search.allocate.channels import Widths
from lepton_dse.search.allocate.choice import Pruned
from lepton_dse.search.allocate.problem import Measure
from lepton_dse.search.allocate.score import Scored, Scorer, scoring_graph
from lepton_dse.search.allocate.solve import Solution
from lepton_dse.search.allocate.space import Space
from lepton_dse.search.sensitivity import Sensitivities
from lepton_dse.sim.mixed import mixed_cost
from lepton_dse.targets import AnyTarget

__all__ = ["Budgets", "Round", "Trials"]


@dataclass(frozen=True)
class Budgets:
    """The most that an allocation may come to; None where it does not matter.

    Parameters
    ----------
    loss_points : float, optional
        Of the metric, lost against the float network, in points, as measured: of top-1 accuracy (without labels: of agreement
        with the float network) where no metric is chosen.
    divergence : float, optional
        From the float network's scores, in nats (of networks that are no classifiers: relative squared error), as measured.
    latency_s, energy_j : float, optional
        Of one pass over the batch.
    bytes : float, optional
        Of the weights of all layers.
    bits : float, optional
        Of a weight, on average over all layers.
    """

    loss_points: float | None = None
    divergence: float | None = None
    latency_s: float | None = None
    energy_j: float | None = None
    bytes: float | None = None
    bits: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and (isinstance(value, bool) or not (math.isfinite(value) and value >= 0)):
                raise LeptonError(f"a budget of {value}", where=entry.name, fix="use a finite number of at least 0")
        if self.loss_points is not None and self.divergence is not None:
            raise LeptonError("two budgets of one loss", where="loss_points, divergence", fix="give one of them")

    @property
    def costs(self) -> dict[Measure, float]:
        """The budgets that need no samples."""
        named = {
            Measure.LATENCY: self.latency_s,
            Measure.ENERGY: self.energy_j,
            Measure.BYTES: self.bytes,
            Measure.BITS: self.bits,
        }
        return {measure: value for measure, value in named.items() if value is not None}


@dataclass(frozen=True)
class Round:
    """One answer, as the search saw it and as it was measured."""

    chosen: tuple[int, ...]
    limit: float | None
    """What the divergences were allowed to come to."""
    predicted: float
    """What they add up to, the quantised network's own included."""
    measured: Scored
    cost: CostReport
    solution: Solution
    fits: bool
    """Whether every budget is kept, as measured."""


@dataclass
class Trials:
    """Whole allocations, each quantised, executed and priced once; :attr:`rounds` holds them in the order of measurement."""

    graph: Graph
    recipe: Recipe
    calibration: Dataset
    judged: Dataset
    target: AnyTarget
    batch: int
    found: Sensitivities
    space: Space
    widths: Widths | None
    lost: Mapping[tuple[int, int], Scored]
    budgets: Budgets
    progress: Callable[[str], None]
    metric: MetricLike | None = None
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scorer = Scorer(scoring_graph(self.graph), self.judged, self.metric)
        self._known: dict[tuple[int, ...], tuple[Scored, CostReport]] = {}

    def quantized(self, chosen: Sequence[int]) -> tuple[Graph, Recipe, Bundle]:
        """The float graph of an allocation, with its widths and zeros, its recipe and its bundle."""
        graph = self.graph if self.widths is None else self.widths.graph(self.space.widths(chosen))
        pruned, overrides, constants = Pruned(graph), dict(self.recipe.overrides), {}
        for layer, choice in self.space.picks(chosen):
            overrides.update(dict.fromkeys(layer.ops, choice.precision))
            weights = pruned.weights(layer, choice)
            if choice.ratio and weights is not None:
                constants[layer.weights] = weights
        graph = graph.with_constants(constants) if constants else graph
        recipe = replace(self.recipe, overrides=overrides)
        return graph, recipe, quantize(graph, recipe, self.calibration)[0]

    def measure(self, solution: Solution, limit: float | None) -> Round:
        """An answer of the search, executed and priced."""
        chosen = solution.chosen
        if chosen not in self._known:
            self.progress(f"measuring allocation {len(self._known) + 1}")
            graph, recipe, whole = self.quantized(chosen)
            ends = scoring_graph(graph)
            bundle = whole if ends is graph else quantize(ends, recipe, self.calibration)[0]
            outputs = engine.run(lower_bundle(bundle), self.judged.x, evaluate=fast.evaluate)
            cost = mixed_cost(whole, self.target, batch=self.batch, default=self.recipe.precision)
            self._known[chosen] = self._scorer.score(outputs[bundle.graph.outputs[0]]), cost
        measured, cost = self._known[chosen]
        held = {Measure.LATENCY: cost.latency_s, Measure.ENERGY: cost.energy_j}
        totals = {**solution.totals, **{measure: value for measure, value in held.items() if value is not None}}
        kept = all(totals[measure] <= budget for measure, budget in self.budgets.costs.items())
        fits = kept and self.loss(measured) <= self.most()
        entry = Round(chosen, limit, solution.totals[Measure.LOSS], measured, cost, solution, fits)
        if all(known.chosen != chosen for known in self.rounds):
            self.rounds.append(entry)
        return entry

    def loss(self, measured: Scored) -> float:
        """A measurement as the budget counts it."""
        return (measured.loss if self.budgets.loss_points is not None else measured.divergence).value

    def most(self) -> float:
        """The loss's budget."""
        given = self.budgets.loss_points if self.budgets.loss_points is not None else self.budgets.divergence
        return math.inf if given is None else given

    def first_limit(self) -> float:
        """What choices may add to the divergence, to begin with."""
        base = self.found.baseline
        if self.budgets.loss_points is None:
            return max(self.most() - base.divergence.value, 0.0)
        entries = [*self.found.entries.values(), *self.lost.values()]
        added = math.fsum(max(entry.divergence.value - base.divergence.value, 0.0) for entry in entries)
        lost = math.fsum(max(entry.loss.value - base.loss.value, 0.0) for entry in entries)
        room = max(self.most() - max(base.loss.value, 0.0), 0.0)
        return added if lost == 0 else room * added / lost
