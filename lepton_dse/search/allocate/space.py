"""What an allocation chooses among: rows of choices, what each costs, and which widths it needs of the layers around it.

A row is a layer, whose choices are formats and zeros; a group of coupled channels, whose choices are its widths; or another
operation whose shapes depend on widths. Where widths are chosen, a choice of a layer stands once for each combination of widths
of the groups that meet in it, those of its inputs and of its outputs, and costs what it costs in a network in which these groups
have these widths: products of widths are priced, not added up. That choices of several rows must have one width in mind is the
agreement of :class:`lepton_dse.search.allocate.problem.Problem`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from lepton_dse.compress.quantize import Recipe
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import OpCost
from lepton_dse.search.allocate.channels import Widths, covering
from lepton_dse.search.allocate.choice import Choice, Layer, Pruned, layers_of
from lepton_dse.search.allocate.problem import Measure, Problem, Settings
from lepton_dse.search.allocate.score import Scored
from lepton_dse.search.sensitivity import Sensitivities
from lepton_dse.sim.mixed import Prices
from lepton_dse.targets import AnyTarget

__all__ = ["Costs", "Space", "space_of"]


@dataclass(frozen=True)
class _Option:
    """One choice of one row: its name, what it sets, and what it costs."""

    name: str
    settings: Settings
    amounts: Mapping[Measure, float]
    choice: Choice | None = None


@dataclass(frozen=True)
class Space:
    """The rows of an allocation's problem.

    Parameters
    ----------
    layers : tuple of Layer
        The first rows, in this order.
    offers : tuple of tuple of Choice
        Of each layer, a choice for each of its options.
    problem : Problem
    groups : int
        Groups of channels that are chosen for; 0 where none are.
    """

    layers: tuple[Layer, ...]
    offers: tuple[tuple[Choice, ...], ...]
    problem: Problem
    groups: int

    def picks(self, chosen: Sequence[int]) -> list[tuple[Layer, Choice]]:
        """Each layer with its choice."""
        return [(layer, offer[index]) for layer, offer, index in zip(self.layers, self.offers, chosen, strict=False)]

    def widths(self, chosen: Sequence[int]) -> tuple[int, ...]:
        """The width of each group."""
        rows = zip(self.problem.settings, chosen, strict=bool(self.problem.settings))
        made = dict(pair for settings, index in rows for pair in settings[index])
        return tuple(made.get(group, 0) for group in range(self.groups))


class Costs:
    """Prices of a network's operations at any widths and with any zeros, each network priced once for each pair of formats.

    Parameters
    ----------
    graph : Graph
        Float graph.
    target : AnyTarget
    recipe : Recipe
        Its formats stand in where the target has no figure.
    batch : int
    widths : Widths or None
    """

    def __init__(self, graph: Graph, target: AnyTarget, recipe: Recipe, batch: int, widths: Widths | None) -> None:
        self._graph, self._target, self._recipe, self._batch = graph, target, recipe, batch
        self._widths = widths
        self._pruned: dict[tuple[int, ...], Pruned] = {}
        self._prices: dict[tuple[tuple[int, ...], float, tuple[int, int] | None], Prices] = {}

    def graph(self, widths: tuple[int, ...]) -> Graph:
        """The float network at some widths."""
        return self._graph if self._widths is None else self._widths.graph(widths)

    def prunes(self, widths: tuple[int, ...], layer: Layer, choice: Choice) -> bool:
        """Whether a layer can have a choice's zeros at these widths."""
        try:
            return self._zeros(widths).weights(layer, choice) is not None
        except LeptonError:
            return False

    def op(self, name: str, widths: tuple[int, ...], choice: Choice | None = None) -> OpCost:
        """Cost of one operation; in the recipe's formats and dense where no choice is given."""
        choice = choice or Choice(self._recipe.precision)
        key = (widths, choice.ratio, choice.pattern)
        if key not in self._prices:
            graph = self._zeros(widths).graph(choice) if choice.ratio else self.graph(widths)
            self._prices[key] = Prices(graph, self._target, self._recipe.precision, batch=self._batch)
        return self._prices[key].op(name, choice.precision)

    def _zeros(self, widths: tuple[int, ...]) -> Pruned:
        if widths not in self._pruned:
            self._pruned[widths] = Pruned(self.graph(widths))
        return self._pruned[widths]


def space_of(
    graph: Graph,
    found: Sensitivities,
    costs: Costs,
    recipe: Recipe,
    minimize: Measure,
    budgets: Mapping[Measure, float],
    widths: Widths | None,
    lost: Mapping[tuple[int, int], Scored],
) -> Space:
    """The rows and the numbers of all choices; operations that are no layers are priced in the recipe's formats.

    Parameters
    ----------
    graph : Graph
        Float graph.
    found : Sensitivities
    costs : Costs
    recipe : Recipe
    minimize : Measure
    budgets : mapping of Measure to float
        Of all costs, not of the loss.
    widths : Widths or None
        Groups of channels to choose for.
    lost : mapping of (group, width) to Scored
        What each group's width alone does to the baseline.
    """
    rows = _Rows(graph, found, costs, recipe, widths)
    layers = [rows.layer(layer) for layer in found.layers]
    groups = [] if widths is None else [rows.group(place, found, lost) for place in range(len(widths.groups))]
    inside = {name for layer in found.layers for name in layer.ops}
    outside = [rows.other(op.name) for op in graph.ops if op.name not in inside]
    moving = [(name, options) for name, options in outside if options[0].settings]
    others = [options[0].amounts for _, options in outside if not options[0].settings]
    table = [*zip((layer.name for layer in found.layers), layers, strict=True), *groups, *moving]
    measures = [measure for measure in Measure if measure is not Measure.ENERGY or rows.energy]
    fixed = {measure: math.fsum(amounts[measure] for amounts in others) for measure in measures}
    fixed[Measure.LOSS] = found.baseline.divergence.value
    problem = Problem(
        tuple(name for name, _ in table),
        tuple(tuple(option.name for option in options) for _, options in table),
        {measure: tuple(tuple(option.amounts[measure] for option in options) for _, options in table) for measure in measures},
        minimize,
        budgets,
        fixed,
        "nat" if found.metric == "kl" else "of the output's power",
        () if widths is None else tuple(tuple(option.settings for option in options) for _, options in table),
    )
    offers = tuple(tuple(option.choice for option in options if option.choice is not None) for options in layers)
    return Space(found.layers, offers, problem, 0 if widths is None else len(widths.groups))


class _Rows:
    """Rows of a space, each with all of its options."""

    def __init__(self, graph: Graph, found: Sensitivities, costs: Costs, recipe: Recipe, widths: Widths | None) -> None:
        self._graph, self._found, self._costs, self._recipe, self._widths = graph, found, costs, recipe, widths
        every = layers_of(graph)
        self._weights = sum(layer.elements for layer in every)
        chosen = {layer.name for layer in found.layers}
        self._rest = {layer.name: layer for layer in every if layer.name not in chosen}
        full = () if widths is None else widths.full
        self.energy = all(costs.op(op.name, full).energy_j is not None for op in graph.ops)
        self._meeting = {layer.name: self._places(layer.ops) for layer in found.layers}
        self._meeting.update({op.name: self._places((op.name,)) for op in graph.ops if op.name not in self._meeting})
        needs = [(places, combined) for places in self._meeting.values() for combined in self._combined(places)]
        self._whole = covering(needs, len(full))

    def layer(self, layer: Layer) -> list[_Option]:
        """A layer: its choices at each combination of widths that meet in it, full widths first."""
        options = []
        offers = [choice for choice in self._found.choices if (layer.name, choice) in self._found.entries]
        for settings, whole in self._widths_of(layer.name):
            for choice in offers:
                if settings and not self._costs.prunes(whole, layer, choice):
                    continue  # the pattern does not divide what is left
                costs = [self._costs.op(name, whole, choice) for name in layer.ops]
                elements = self._costs.graph(whole).tensors[layer.weights].elements
                bits = choice.precision.weights.bits * elements
                amounts = self._amounts(costs, self._found.added(layer.name, choice), bits)
                options.append(_Option(self._named(str(choice), settings), settings, amounts, choice))
        return options

    def group(self, place: int, found: Sensitivities, lost: Mapping[tuple[int, int], Scored]) -> tuple[str, list[_Option]]:
        """A group of channels: what each of its widths loses."""
        assert self._widths is not None
        group, base = self._widths.groups[place], found.baseline.divergence.value
        options = []
        for width, ratio in enumerate(group.ratios):
            added = max(lost[place, width].divergence.value - base, 0.0) if width else 0.0
            options.append(_Option(f"-{100 * ratio:g}%", ((place, width),), self._amounts([], added, 0)))
        return f"channels of {group.name}", options

    def other(self, name: str) -> tuple[str, list[_Option]]:
        """An operation that is no layer, or a layer that is not chosen for, at each combination of widths."""
        options = []
        for settings, whole in self._widths_of(name):
            layer, bits = self._rest.get(name), 0
            if layer is not None:
                elements = self._costs.graph(whole).tensors[layer.weights].elements
                bits = self._recipe.of(self._graph.op(name)).weights.bits * elements
            amounts = self._amounts([self._costs.op(name, whole)], 0.0, bits)
            options.append(_Option(self._named("", settings), settings, amounts))
        return name, options

    def _amounts(self, costs: Sequence[OpCost], loss: float, bits: int) -> dict[Measure, float]:
        amounts = {
            Measure.LOSS: loss,
            Measure.LATENCY: math.fsum(cost.latency_s for cost in costs),
            Measure.BYTES: bits / 8,
            Measure.BITS: bits / self._weights,
        }
        if self.energy:
            amounts[Measure.ENERGY] = math.fsum(cost.energy_j or 0.0 for cost in costs)
        return amounts

    def _places(self, names: Sequence[str]) -> tuple[int, ...]:
        return () if self._widths is None else tuple(sorted({place for name in names for place in self._widths.touching[name]}))

    def _combined(self, places: tuple[int, ...]) -> list[tuple[int, ...]]:
        if self._widths is None:
            return [()]
        return list(product(*(range(len(self._widths.groups[place].ratios)) for place in places)))

    def _widths_of(self, name: str) -> list[tuple[Settings, tuple[int, ...]]]:
        """Each combination of widths that meet in a row, and a network that has it."""
        places = self._meeting[name]
        return [(tuple(zip(places, combined, strict=True)), self._whole[places, combined]) for combined in self._combined(places)]

    def _named(self, text: str, settings: Settings) -> str:
        assert self._widths is not None or not settings
        shrunk = [(self._widths.groups[place], width) for place, width in settings if width and self._widths is not None]
        beside = [f"{group.name} -{100 * group.ratios[width]:g}%" for group, width in shrunk]
        return ", ".join(filter(None, (text, *beside)))
