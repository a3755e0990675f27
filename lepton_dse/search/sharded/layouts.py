"""The cheapest strategies without regard to memory, by dynamic programming over the layouts of tensors.

The sum is that of :mod:`lepton_dse.search.sharded.planner`. Its variables are here the home of each tensor and the layout in
which each operand is wanted: an operation is a table of its cheapest choice by these, a tensor a table of the exchanges that
they cause, those alike counted once. Layers of a transformer meet in one tensor, so that the time is that of a layer times their
number. A tensor that very many operations read, such as a mask, has a variable for each exchange instead, whether it is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir.graph import Graph
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.search.sharded.choices import Choice
from lepton_dse.search.sharded.elimination import Table, least_sum
from lepton_dse.search.sharded.pricing import StepPrices, exchange_seconds

__all__ = ["cheapest_layouts"]

_LIMIT = 1 << 22  # entries of a table
_MADE = 2  # an exchange is made, or is not


def cheapest_layouts(
    graph: Graph, mesh: Mesh, prices: StepPrices, choices: Mapping[str, list[Choice]], arriving: Mapping[str, list[Layout]]
) -> tuple[dict[tuple[str, str], int], float] | None:
    """What each operation and input picks, and the least sum; None where too many layouts depend on one another at once.

    Parameters
    ----------
    graph : Graph
    mesh : Mesh
    prices : StepPrices
    choices : mapping of str to list of Choice
        By operation.
    arriving : mapping of str to list of Layout
        By input.
    """
    domains: list[list[Layout]] = []

    def variable(layouts: Sequence[Layout]) -> int:
        domains.append(list(dict.fromkeys(layouts)))
        return len(domains) - 1

    homes = {name: variable(layouts) for name, layouts in arriving.items()}
    wanted: dict[str, list[int]] = {}
    tables: list[Table] = []
    picks: dict[str, tuple[tuple[int, ...], dict[tuple[int, ...], int]]] = {}
    for op in graph.ops:
        entries = choices[op.name]
        moving = [position for position, name in enumerate(op.inputs) if name in homes]
        variables = []
        for position in moving:
            variables.append(variable([entry.wanted[position] for entry in entries]))
            wanted.setdefault(op.inputs[position], []).append(variables[-1])
        homes[op.output] = variable([entry.strategy.home for entry in entries])
        variables.append(homes[op.output])
        costs = np.full([len(domains[entry]) for entry in variables], np.inf)
        best: dict[tuple[int, ...], int] = {}
        for number, entry in enumerate(entries):
            layouts = [*(entry.wanted[position] for position in moving), entry.strategy.home]
            place = tuple(domains[name].index(layout) for name, layout in zip(variables, layouts, strict=True))
            if entry.seconds < costs[place]:
                costs[place], best[place] = entry.seconds, number
        tables.append(Table(tuple(variables), costs))
        picks[op.name] = tuple(variables), best
    sizes = [len(layouts) for layouts in domains]
    known: dict[object, NDArray[np.float64]] = {}
    for tensor, consumers in wanted.items():
        variables = [homes[tensor], *consumers]
        layouts = list(dict.fromkeys(layout for entry in consumers for layout in domains[entry]))
        places = [np.array([layouts.index(layout) for layout in domains[entry]]) for entry in consumers]
        whole, home = graph.tensors[tensor], domains[homes[tensor]]
        key = (whole.shape, whole.format, tuple(home), tuple(layouts))
        if key not in known:
            seconds = [[exchange_seconds(graph, tensor, left, layout, mesh, prices) for layout in layouts] for left in home]
            known[key] = np.array(seconds)
        if math.prod(len(domains[entry]) for entry in variables) <= _LIMIT:
            tables.append(Table(tuple(variables), _exchanged(known[key], places)))
            continue
        for number in range(len(layouts)):
            made = len(sizes)
            sizes.append(_MADE)
            tables.append(Table((homes[tensor], made), known[key][:, number, None] * np.array([0.0, 1.0])))
            tables += [Table((entry, made), _needs(place == number)) for entry, place in zip(consumers, places, strict=True)]
    found = least_sum(sizes, tables, _LIMIT)
    if found is None:
        return None
    values, least = found
    picked = {("input", name): layouts.index(domains[homes[name]][values[homes[name]]]) for name, layouts in arriving.items()}
    for name, (variables_of, best) in picks.items():
        picked["op", name] = best[tuple(values[entry] for entry in variables_of)]
    return picked, least


def _exchanged(price: NDArray[np.float64], places: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    """Seconds of all exchanges of a tensor by its home and by what each consumer wants; consumers that want the same share it."""
    rank = len(places)

    def along(axis: int) -> NDArray[np.intp]:
        return places[axis].reshape([-1 if other == axis else 1 for other in range(rank)])

    total = np.zeros((len(price), *(len(place) for place in places)))
    for axis in range(rank):
        first = np.ones([1] * rank, bool)
        for earlier in range(axis):
            first = first & (along(axis) != along(earlier))
        total += price[:, along(axis)] * first
    return total


def _needs(wants: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A table that forbids to want an exchange that is not made."""
    return np.stack([np.where(wants, np.inf, 0.0), np.zeros(len(wants))], axis=1)
