"""The cheapest strategies of all operations together, and the proof that they are.

Each operation takes one of its choices, each input one of its layouts. A tensor has a home, the layout that its producer leaves
it in; a consumer that wants another pays for the exchange, and consumers that want the same one share it. The least sum comes
from dynamic programming over layouts (:mod:`lepton_dse.search.sharded.layouts`), exactly, and is the answer if its weights fit
the memory, which couples all operations. If they do not, or if too many layouts depend on one another at once, the sum is a
mixed-integer program, whose bound proves it. With x for choices, z for how much of consumer c goes from home h to layout w, and y
for whether that exchange is made::

    minimise  sum x seconds + sum y exchange
    sum of an operation's x = 1
    sum_w z[c, h, w] = sum of the producer's x with home h        sum_h z[c, h, w] = sum of the consumer's x that want w
    y[t, h, w] >= z[c, h, w]   for every consumer c of tensor t   sum x weight_bytes <= memory

z and y need not be integers: where x are, so are they (the flow form of L. Zheng et al., "Alpa", OSDI 2022, section 4.2, with
exchanges shared). A small graph's optimum equals exhaustive search over the same choices.

The certificate is of this sum. On a mesh of several axes an exchange may take several steps, and two that begin alike are priced
apart here while the program makes their first step once: what it then takes is less, and another choice could take less still.
On one axis every exchange is one step, and the sum is the program's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, sparse

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.milp import milp
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.plan import SearchResult, Violation
from lepton_dse.schedule.sharded import ShardedProgram, Strategies, sharded_program
from lepton_dse.search.sharded.choices import Choice, graph_choices, input_layouts
from lepton_dse.search.sharded.layouts import cheapest_layouts
from lepton_dse.search.sharded.pricing import StepPrices, exchange_seconds

__all__ = ["ShardedPlan", "plan_sharding"]

_SPACE = "for each axis of the mesh one loop of each operation, or none; sums closed whole or cut; inputs in any layout"


@dataclass(frozen=True)
class ShardedPlan:
    """The strategies found, the steps that they become, and their price.

    Parameters
    ----------
    strategies : Strategies
    program : ShardedProgram
    seconds : float
        Of all steps, one after another.
    weight_bytes : int
        Of the constants that one device holds.
    violations : tuple of Violation
        Empty where the weights fit.
    search : SearchResult
    """

    strategies: Strategies
    program: ShardedProgram
    seconds: float
    weight_bytes: int
    violations: tuple[Violation, ...]
    search: SearchResult


def plan_sharding(graph: Graph, mesh: Mesh, prices: StepPrices, *, time_limit_s: float = 120.0) -> ShardedPlan:
    """The cheapest strategies of a graph on a mesh.

    Parameters
    ----------
    graph : Graph
    mesh : Mesh
    prices : StepPrices
    time_limit_s : float
        After which the best so far is taken, with its gap.

    Raises
    ------
    LeptonError
        If the cluster has fewer devices than the mesh, or nothing is found in time.
    """
    if mesh.devices > prices.cluster.size:
        what = f"a mesh of {mesh.devices} devices on a cluster of {prices.cluster.size}"
        raise LeptonError(what, where=prices.cluster.name, fix="use a smaller mesh or a larger cluster")
    choices = graph_choices(graph, mesh, prices)
    arriving = {name: input_layouts(graph.tensors[name].shape, mesh) for name in graph.inputs}
    capacity = prices.device.levels[-1].capacity_bytes.value
    picked, bound, fits = _solved(graph, mesh, prices, choices, arriving, capacity, time_limit_s)
    strategies = Strategies(
        {name: arriving[name][picked["input", name]] for name in graph.inputs},
        {name: entries[picked["op", name]].strategy for name, entries in choices.items()},
    )
    built = sharded_program(graph, mesh, strategies)
    seconds = prices.program(built)
    weights = sum(entries[picked["op", name]].weight_bytes for name, entries in choices.items())
    violations = () if fits else (_too_large(weights, capacity),)
    gap = max(0.0, (seconds - bound) / seconds) if seconds > 0 else 0.0
    evaluated = sum(map(len, choices.values())) + sum(map(len, arriving.values()))
    search = SearchResult(
        objective="seconds of all steps",
        space=_SPACE,
        evaluated=evaluated,
        best=seconds,
        lower_bound=min(bound, seconds),
        gap=gap if gap > 1e-9 else 0.0,
        optimal=gap <= 1e-9,
    )
    return ShardedPlan(strategies, built, seconds, weights, violations, search)


def _solved(
    graph: Graph,
    mesh: Mesh,
    prices: StepPrices,
    choices: Mapping[str, list[Choice]],
    arriving: Mapping[str, list[Layout]],
    capacity: float,
    time_limit_s: float,
) -> tuple[dict[tuple[str, str], int], float, bool]:
    """What each picks, the bound from below, and whether the weights fit."""
    free = cheapest_layouts(graph, mesh, prices, choices, arriving)
    if free is not None:
        picked, least = free
        if sum(entries[picked["op", name]].weight_bytes for name, entries in choices.items()) <= capacity:
            return picked, least, True
    return _Program(graph, mesh, prices, choices, arriving).solve(capacity, time_limit_s)


def _too_large(weights: int, capacity: float) -> Violation:
    levers = ("a larger mesh", "a device with more memory", "narrower weights")
    return Violation(what="weights of a device", demand=float(weights), bound=capacity, unit="bytes", levers=levers)


class _Program:
    """The mixed-integer program, row by row."""

    def __init__(
        self,
        graph: Graph,
        mesh: Mesh,
        prices: StepPrices,
        choices: Mapping[str, list[Choice]],
        arriving: Mapping[str, list[Layout]],
    ) -> None:
        self.objective: list[float] = []
        self.integral: list[int] = []
        self.rows: list[tuple[dict[int, float], float, float]] = []
        self.x: dict[tuple[str, str], list[int]] = {}
        self.weights: dict[int, float] = {}
        for name, layouts in arriving.items():
            self._pick(("input", name), [0.0] * len(layouts))
        for name, entries in choices.items():
            self._pick(("op", name), [entry.seconds for entry in entries])
            for variable, entry in zip(self.x["op", name], entries, strict=True):
                self.weights[variable] = float(entry.weight_bytes)
        homes: dict[str, list[tuple[Layout, int]]] = {
            name: list(zip(layouts, self.x["input", name], strict=True)) for name, layouts in arriving.items()
        }
        for op in graph.ops:
            entries = choices[op.name]
            homes[op.output] = [
                (entry.strategy.home, variable) for entry, variable in zip(entries, self.x["op", op.name], strict=True)
            ]
        for tensor, producer in homes.items():
            self._exchanges(graph, tensor, producer, choices, mesh, prices)

    def _variable(self, cost: float, *, integral: bool) -> int:
        self.objective.append(cost)
        self.integral.append(int(integral))
        return len(self.objective) - 1

    def _pick(self, key: tuple[str, str], costs: list[float]) -> None:
        self.x[key] = [self._variable(cost, integral=True) for cost in costs]
        self.rows.append((dict.fromkeys(self.x[key], 1.0), 1.0, 1.0))

    def _exchanges(
        self,
        graph: Graph,
        tensor: str,
        producer: list[tuple[Layout, int]],
        choices: Mapping[str, list[Choice]],
        mesh: Mesh,
        prices: StepPrices,
    ) -> None:
        by_home: dict[Layout, list[int]] = {}
        for layout, variable in producer:
            by_home.setdefault(layout, []).append(variable)
        made: dict[tuple[Layout, Layout], int] = {}
        for op in graph.consumers(tensor):
            for position in sorted({index for index, name in enumerate(op.inputs) if name == tensor}):
                by_wanted: dict[Layout, list[int]] = {}
                for entry, variable in zip(choices[op.name], self.x["op", op.name], strict=True):
                    by_wanted.setdefault(entry.wanted[position], []).append(variable)
                self._flow(graph, tensor, by_home, by_wanted, made, mesh, prices)

    def _flow(
        self,
        graph: Graph,
        tensor: str,
        by_home: Mapping[Layout, list[int]],
        by_wanted: Mapping[Layout, list[int]],
        made: dict[tuple[Layout, Layout], int],
        mesh: Mesh,
        prices: StepPrices,
    ) -> None:
        out: dict[Layout, dict[int, float]] = {home: dict.fromkeys(variables, -1.0) for home, variables in by_home.items()}
        into: dict[Layout, dict[int, float]] = {wanted: dict.fromkeys(variables, -1.0) for wanted, variables in by_wanted.items()}
        for home in by_home:
            for wanted in by_wanted:
                share = self._variable(0.0, integral=False)
                out[home][share] = into[wanted][share] = 1.0
                if home == wanted:
                    continue
                if (home, wanted) not in made:
                    cost = exchange_seconds(graph, tensor, home, wanted, mesh, prices)
                    made[home, wanted] = self._variable(cost, integral=False)
                self.rows.append(({made[home, wanted]: 1.0, share: -1.0}, 0.0, np.inf))
        for balance in (*out.values(), *into.values()):
            self.rows.append((balance, 0.0, 0.0))

    def solve(self, capacity: float, time_limit_s: float) -> tuple[dict[tuple[str, str], int], float, bool]:
        """What each picks, the bound from below, and whether the weights fit."""
        held = (self.weights, 0.0, capacity)
        result = self._solved([*self.rows, held] if self.weights else self.rows, time_limit_s)
        fits = result.x is not None
        if not fits:
            result = self._solved(self.rows, time_limit_s)
        if result.x is None:
            raise LeptonError(f"no strategies found: {result.message}", where="sharding", fix="use a smaller mesh or more time")
        picked = {key: int(np.argmax(result.x[variables])) for key, variables in self.x.items()}
        return picked, float(result.mip_dual_bound) * self._unit(), fits

    def _unit(self) -> float:
        """Seconds of one unit of the objective: small, since the solver stops within 1e-6 units of the optimum."""
        return max(max(self.objective, default=0.0), 1e-12) * 1e-6

    def _solved(self, rows: list[tuple[dict[int, float], float, float]], time_limit_s: float) -> Any:
        entries = [(row, column, value) for row, (terms, _, _) in enumerate(rows) for column, value in terms.items()]
        at_row, at_column, values = (np.array(part) for part in zip(*entries, strict=True))
        matrix = sparse.csr_array((values, (at_row, at_column)), shape=(len(rows), len(self.objective)))
        constraint = optimize.LinearConstraint(matrix, [row[1] for row in rows], [row[2] for row in rows])
        return milp(
            np.array(self.objective) / self._unit(),
            constraints=constraint,
            integrality=np.array(self.integral),
            bounds=optimize.Bounds(0.0, 1.0),
            options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
        )
