"""The least sum of tables over discrete variables, exactly: one variable after another is eliminated.

A table adds a cost for each combination of its variables. Eliminating a variable adds all tables that have it, takes the least
over its values for each combination of the others, and keeps which value that was (U. Bertele, F. Brioschi, "Nonserial Dynamic
Programming", 1972). Along a chain of variables this is dynamic programming. The variable whose joined table is smallest goes
first; work grows with the largest of these tables, and in proportion to the number of variables.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "least_sum"]


@dataclass(frozen=True)
class Table:
    """Costs by the values of some variables, one axis each; infinite where these do not go together."""

    variables: tuple[int, ...]
    costs: NDArray[np.float64]


def least_sum(sizes: Sequence[int], tables: Sequence[Table], limit: int) -> tuple[list[int], float] | None:
    """A value for each variable, and the least sum; None where a table would have more than `limit` entries.

    Parameters
    ----------
    sizes : sequence of int
        How many values each variable has.
    tables : sequence of Table
    limit : int
    """
    holding: list[set[int]] = [set() for _ in sizes]
    known = dict(enumerate(tables))
    for number, table in known.items():
        for variable in table.variables:
            holding[variable].add(number)
    scope = [_scope(variable, holding, known) for variable in range(len(sizes))]
    waiting = [(math.prod(sizes[other] for other in scope[variable]), variable) for variable in range(len(sizes))]
    heapq.heapify(waiting)
    taken: list[tuple[int, tuple[int, ...], NDArray[np.intp]]] = []
    done: set[int] = set()
    constant = 0.0
    while waiting:
        size, variable = heapq.heappop(waiting)
        if variable in done or size != math.prod(sizes[other] for other in scope[variable]):
            continue
        if size > limit:
            return None
        done.add(variable)
        others = tuple(sorted(scope[variable] - {variable}))
        joined = np.zeros([sizes[other] for other in (*others, variable)])
        for number in holding[variable]:
            joined += _spread(known.pop(number), (*others, variable))
            for other in others:
                holding[other].discard(number)
        taken.append((variable, others, np.argmin(joined, axis=-1)))
        least = joined.min(axis=-1)
        if not others:
            constant += float(least)
            continue
        number = len(tables) + len(taken)
        known[number] = Table(others, least)
        for other in others:
            holding[other].add(number)
        for other in others:
            scope[other] = _scope(other, holding, known)
            heapq.heappush(waiting, (math.prod(sizes[entry] for entry in scope[other]), other))
    values = [0] * len(sizes)
    for variable, others, best in reversed(taken):
        values[variable] = int(best[tuple(values[other] for other in others)])
    return values, constant


def _scope(variable: int, holding: Sequence[set[int]], known: dict[int, Table]) -> set[int]:
    """The variables of all tables that have one, itself among them."""
    return {variable}.union(*(known[number].variables for number in holding[variable]))


def _spread(table: Table, variables: tuple[int, ...]) -> NDArray[np.float64]:
    """A table with an axis for each of more variables."""
    order = sorted(range(len(table.variables)), key=lambda axis: variables.index(table.variables[axis]))
    present = set(table.variables)
    shape = [table.costs.shape[table.variables.index(variable)] if variable in present else 1 for variable in variables]
    return table.costs.transpose(order).reshape(shape)
