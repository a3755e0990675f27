"""Which channels go: the lowest scores of every group, or of the whole network, under what grouped convolutions demand.

A convolution in G groups must lose equally many channels in each. Where that ties the choice, with x_u = 1 for a unit that goes,
a_bu its channels in block b, c_g the most that group g may lose and scores brought to one range in each group, it is the integer
program

    most   sum of x_u          then, with as many of each group,      least  sum of score_u x_u
    with   sum_u (a_bu - a_0u) x_u = 0 for all b,      sum over u in g of x_u <= c_g
"""

from __future__ import annotations

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from lepton_dse.compress.prune.dependencies import ChannelGroup, Dependencies
from lepton_dse.compress.prune.scores.protocol import WeightScores
from lepton_dse.compress.prune.scoring import ALREADY
from lepton_dse.compress.prune.settings import LEAST_KEPT, Scope, Settings, share_of
from lepton_dse.compress.prune.sites import output_axis, sites
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.milp import milp

__all__ = ["choose", "tied", "unit_scores"]

_NODES = 10_000  # most branches of one integer program

Values = NDArray[np.float64]
Matrix = NDArray[np.float64]


def unit_scores(graph: Graph, found: Dependencies, scores: WeightScores) -> Values:
    """Mean score of the weights that produce each unit, shape (units,); units whose weights are all zero come first."""
    count = int(found.unit.max()) + 1
    total, weights, alive = np.zeros(count), np.zeros(count), np.zeros(count)
    for site in sites(graph):
        units = found.units(site.name, output_axis(site.op))
        rows = site.rows(scores(site.name))
        total += np.bincount(units, np.maximum(rows, 0.0).sum(axis=1), count)
        alive += np.bincount(units, (rows != ALREADY).sum(axis=1), count)
        weights += np.bincount(units, np.full(len(rows), rows.shape[1]), count)
    return np.where(alive == 0, ALREADY, total / np.maximum(weights, 1))


def choose(found: Dependencies, scores: Values, settings: Settings) -> NDArray[np.bool_]:
    """The units that go.

    Parameters
    ----------
    found : Dependencies
    scores : ndarray of float64, shape (units,)
    settings : Settings

    Returns
    -------
    ndarray of bool, shape (units,)
    """
    free = [group for group in found.groups if not group.reason]
    limits = _limits(free, scores, settings)
    together = tied(found, free)
    removed = np.zeros(len(scores), np.bool_)
    for members, rows in together:
        units = np.concatenate([free[place].units for place in members])
        owner = np.repeat(np.arange(len(members)), [len(free[place].units) for place in members])
        caps = np.array([limits[place] for place in members])
        removed[units[_balanced(scores[units], owner, caps, rows)]] = True
    settled = {place for members, _ in together for place in members}
    for place, group in enumerate(free):
        if place not in settled:
            order = np.argsort(scores[group.units], kind="stable")
            removed[group.units[order[: limits[place]]]] = True
    return removed


def _limits(free: list[ChannelGroup], scores: Values, settings: Settings) -> list[int]:
    """How many units each group may lose."""
    sizes = [len(group.units) for group in free]
    if settings.scope is Scope.LAYER:
        return [share_of(settings.ratio, size) for size in sizes]
    if not free:
        return []
    kept = min(LEAST_KEPT, 1 - settings.ratio)
    numbers, ranks, places = [], [], []
    for place, group in enumerate(free):
        own = np.sort(scores[group.units])[: share_of(1 - kept, len(group.units))]
        mean = float(np.maximum(scores[group.units], 0.0).mean())
        ranks.append(np.where(own == ALREADY, ALREADY, own / mean if mean > 0 else own))
        numbers.append(np.arange(len(own)))
        places.append(np.full(len(own), place))
    order = np.lexsort((np.concatenate(numbers), np.concatenate(places), np.concatenate(ranks)))
    picked = np.concatenate(places)[order[: share_of(settings.ratio, sum(sizes))]]
    return [int(count) for count in np.bincount(picked, minlength=len(free))]


def tied(found: Dependencies, free: list[ChannelGroup]) -> list[tuple[list[int], Matrix]]:
    """Groups that balances tie together, each set with the rows of its equations over all units of its groups in turn."""
    column = np.full(int(found.unit.max(initial=-1)) + 1, -1, np.intp)
    owner = np.concatenate([np.zeros(0, np.intp), *(np.full(len(group.units), place) for place, group in enumerate(free))])
    column[np.concatenate([np.zeros(0, np.intp), *(group.units for group in free)])] = np.arange(len(owner))
    ties, equations = nx.Graph(), []
    for blocks in found.balances:
        counts = np.zeros((len(blocks), len(owner)))
        inside = column[blocks] >= 0
        np.add.at(counts, (np.nonzero(inside)[0], column[blocks][inside]), 1.0)
        difference = counts[1:] - counts[0]
        touched = np.unique(owner[difference.any(axis=0)]).tolist()
        if touched:
            equations.append((touched[0], difference))
            nx.add_path(ties, touched)
            ties.add_node(touched[0])
    found_sets = []
    for component in nx.connected_components(ties):
        members = sorted(component)
        columns = np.concatenate([np.flatnonzero(owner == place) for place in members])
        rows = np.concatenate([difference[:, columns] for first, difference in equations if first in component])
        found_sets.append((members, rows))
    return found_sets


def _balanced(scores: Values, owner: NDArray[np.intp], caps: NDArray[np.intp], rows: Matrix) -> NDArray[np.bool_]:
    """The integer program above; `rows` are its equations, `owner` the group of each unit."""
    groups = (owner == np.arange(len(caps))[:, None]).astype(np.float64)
    equal = optimize.LinearConstraint(np.unique(rows, axis=0), 0.0, 0.0)
    within = optimize.LinearConstraint(groups, 0.0, caps)
    most = _solve(-np.ones(len(scores)), [equal, within])
    if not most.any():
        return most
    fixed = optimize.LinearConstraint(groups, groups @ most, groups @ most)
    costs = np.concatenate([_scaled(scores[owner == place]) for place in range(len(caps))])
    return _solve(costs, [equal, fixed]) if costs.any() else most


def _scaled(scores: Values) -> Values:
    """Scores of a group from 1 to 2, and 0 for what is zero already."""
    alive = scores[scores != ALREADY]
    low, spread = float(alive.min(initial=np.inf)), float(np.ptp(alive)) if len(alive) else 0.0
    return np.where(scores == ALREADY, 0.0, 1.0 + (scores - low) / spread if spread > 0 else 1.0)


def _solve(costs: Values, constraints: list[optimize.LinearConstraint]) -> NDArray[np.bool_]:
    """The best choice found within a number of steps, so that the answer does not depend on the machine."""
    answer = milp(
        costs,
        constraints=constraints,
        integrality=np.ones(len(costs)),
        bounds=optimize.Bounds(0, 1),
        options={"mip_rel_gap": 0.0, "node_limit": _NODES},
    )
    if answer.x is None:
        raise LeptonError("no choice of channels found that balances the grouped convolutions", fix="use another ratio or kind")
    return np.asarray(np.rint(answer.x), np.bool_)
