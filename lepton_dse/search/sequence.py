"""Operations one after another, equal ones priced once, and the certificate of having taken the best of a list for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.plan import OpCost, SearchResult, Violation
from lepton_dse.sim.report import absorbed_ops

__all__ = ["Priced", "Sequence", "price_each"]


@dataclass(frozen=True)
class Priced:
    """One operation: its cost, how many candidates were looked at, a bound of its time from below, and what does not fit."""

    cost: OpCost
    evaluated: int
    least_s: float
    violation: Violation | None = None


@dataclass(frozen=True)
class Sequence:
    """All operations of a graph in order.

    Parameters
    ----------
    ops : tuple of OpCost
    evaluated : int
        Candidates looked at, of equal operations once.
    bound_s : float
        What the sum of their times cannot be below.
    violations : tuple of Violation
        Of distinct operations.
    """

    ops: tuple[OpCost, ...]
    evaluated: int
    bound_s: float
    violations: tuple[Violation, ...]

    def certificate(self, space: str) -> SearchResult:
        """The search for the least latency over a declared space."""
        latency = sum(cost.latency_s for cost in self.ops)
        gap = max(0.0, (latency - self.bound_s) / latency) if latency > 0 else 0.0
        return SearchResult(
            objective="latency",
            space=space,
            evaluated=self.evaluated,
            best=latency,
            lower_bound=min(self.bound_s, latency),
            gap=gap,
            optimal=gap == 0.0,
        )


def price_each(graph: Graph, price: Callable[[Op, bool], Priced]) -> Sequence:
    """Price every operation of a graph.

    Parameters
    ----------
    graph : Graph
        With its batch applied.
    price : callable
        Of an operation, and whether the one before it absorbs it. Called once for operations that cost the same.
    """
    absorbed = absorbed_ops(graph)
    seen: dict[Any, Priced] = {}
    ops, evaluated, bound, violations = [], 0, 0.0, []
    for op in graph.ops:
        key = _signature(graph, op, op.name in absorbed)
        if key not in seen:
            found = seen[key] = price(op, op.name in absorbed)
            evaluated += found.evaluated
            violations += [] if found.violation is None else [found.violation]
        ops.append(seen[key].cost.model_copy(update={"name": op.name}))
        bound += seen[key].least_s
    return Sequence(tuple(ops), evaluated, bound, tuple(violations))


def _signature(graph: Graph, op: Op, absorbed: bool) -> Any:
    """Equal for operations that cost the same."""
    tensors = [graph.tensors[name] for name in (*op.inputs, op.output)]
    known = tuple((tensor.shape, tensor.format, tensor.name in graph.constants) for tensor in tensors)
    return op.attributes, known, tuple(op.inputs.index(name) for name in op.inputs), absorbed
