"""Widths that groups of coupled channels may take: each group is one decision for all layers that must shrink together.

Groups are those of :mod:`lepton_dse.compress.prune.dependencies`. Groups that grouped convolutions balance against one another
are one decision, and so are all that meet in one operation where more than two do (a concatenation of many): the cost of an
operation then depends on two widths at most, and every pair of them can be priced on the shrunk network itself. Of a group that
shrinks, the channels leave that pruning the whole network by the same ratio would remove, by magnitude.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune.channels import cut
from lepton_dse.compress.prune.dependencies import dependencies
from lepton_dse.compress.prune.scores.protocol import Score
from lepton_dse.compress.prune.scoring import ranked_scores
from lepton_dse.compress.prune.selection import choose, tied, unit_scores
from lepton_dse.compress.prune.settings import Kind, Scope, Settings
from lepton_dse.compress.prune.sites import contractions, output_axis, refusal
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.registry import Group, load

__all__ = ["Coupled", "Need", "Widths", "covering"]

_SCORE = "magnitude"
_MOST = 2  # groups that may meet in one operation
Need = tuple[tuple[int, ...], tuple[int, ...]]
"""Groups that meet in an operation, and the width of each."""


@dataclass(frozen=True)
class Coupled:
    """Channels that are one decision.

    Parameters
    ----------
    name : str
        The first operation whose result they are.
    ops : tuple of str
        All of them.
    ratios : tuple of float
        Shares of the channels that may leave, 0 first; those that remove what another one removes are left out.
    """

    name: str
    ops: tuple[str, ...]
    ratios: tuple[float, ...]


class Widths:
    """The groups of a network and the networks that are left when some of them shrink.

    Parameters
    ----------
    graph : Graph
        Float graph.
    ratios : sequence of float
        Shares of the channels of a group that may leave.

    Raises
    ------
    LeptonError
        If a ratio is not between 0 and 1, stands twice, or no channel can leave.
    """

    def __init__(self, graph: Graph, ratios: Sequence[float]) -> None:
        if len(set(ratios)) < len(ratios) or any(isinstance(ratio, bool) or not 0 < ratio < 1 for ratio in ratios):
            given = ", ".join(f"{ratio:g}" for ratio in ratios)
            raise LeptonError(f"shares of channels {given}", where="channels", fix="use shares between 0 and 1, each once")
        self._graph = graph
        self._found = dependencies(graph)
        masks = [self._removed(ratio) for ratio in sorted(ratios)]
        owner = self._owners()
        self.touching = self._touching(owner)
        groups, masked = [], []
        for number in range(int(owner.max(initial=-1)) + 1):
            kept: dict[bytes, tuple[float, NDArray[np.bool_]]] = {}
            for ratio, mask in zip((0.0, *sorted(ratios)), (np.zeros_like(owner, np.bool_), *masks), strict=True):
                own = mask & (owner == number)
                kept.setdefault(own.tobytes(), (ratio, own))
            ops = tuple(op.name for op in contractions(graph) if not refusal(graph, op) and number in self._made(op, owner))
            groups.append(Coupled(ops[0], ops, tuple(ratio for ratio, _ in kept.values())))
            masked.append(tuple(own for _, own in kept.values()))
        self.groups = tuple(groups)
        self._masks = tuple(masked)
        self._known: dict[tuple[int, ...], Graph] = {}
        if not any(len(group.ratios) > 1 for group in groups):
            raise LeptonError("no channel can leave", where=graph.name, fix="use greater shares, or leave channels alone")

    @property
    def full(self) -> tuple[int, ...]:
        """No group shrinks."""
        return (0,) * len(self.groups)

    def graph(self, widths: Sequence[int]) -> Graph:
        """The float network in which group g has lost share ``ratios[widths[g]]``."""
        key = tuple(widths)
        if key not in self._known:
            removed = np.logical_or.reduce([masks[width] for masks, width in zip(self._masks, key, strict=True)])
            self._known[key] = cut(self._graph, self._found, removed) if removed.any() else self._graph
        return self._known[key]

    def _removed(self, ratio: float) -> NDArray[np.bool_]:
        score: Score = load(Group.SCORES, _SCORE)
        settings = Settings.of(ratio, kind=Kind.CHANNELS, score=_SCORE, scope=Scope.LAYER)
        scores = unit_scores(self._graph, self._found, ranked_scores(self._graph, _SCORE, score(self._graph, None)))
        return choose(self._found, scores, settings)

    def _owners(self) -> NDArray[np.intp]:
        """The decision that each unit belongs to, in order of computation; -1 for units that stay."""
        free = [group for group in self._found.groups if not group.reason]
        owner = np.full(int(self._found.unit.max(initial=-1)) + 1, -1, np.intp)
        for place, group in enumerate(free):
            owner[group.units] = place
        together = nx.Graph()
        together.add_nodes_from(range(len(free)))
        for members, _ in tied(self._found, free):
            nx.add_path(together, members)
        touching = self._touching(owner)
        while True:  # a merger may bring two groups of another operation together, never more
            merged = {place: min(part) for part in nx.connected_components(together) for place in part}
            meeting = [{merged[place] for place in places} for places in touching.values()]
            crowded = [sorted(places) for places in meeting if len(places) > _MOST]
            if not crowded:
                break
            for places in crowded:
                nx.add_path(together, places)
        produced = [place for op in contractions(self._graph) if not refusal(self._graph, op) for place in self._made(op, owner)]
        first = dict.fromkeys(merged[place] for place in produced)
        rank = {place: number for number, place in enumerate(first)}
        return np.array([-1 if place < 0 else rank[merged[int(place)]] for place in owner], np.intp)

    def _touching(self, owner: NDArray[np.intp]) -> dict[str, tuple[int, ...]]:
        """The decisions that an operation's shapes depend on."""
        found = {}
        for op in self._graph.ops:
            names = dict.fromkeys((*op.inputs, op.output))
            axes = [(name, axis) for name in names for axis in range(len(self._graph.tensors[name].shape))]
            places = np.unique(np.concatenate([np.full(1, -1), *(owner[self._found.units(*axis)] for axis in axes)]))
            found[op.name] = tuple(int(place) for place in places if place >= 0)
        return found

    def _made(self, op: Op, owner: NDArray[np.intp]) -> list[int]:
        """The decisions on channels that an operation's weights produce."""
        places = owner[self._found.units(op.inputs[1], output_axis(op))]
        return [int(place) for place in np.unique(places) if place >= 0]


def covering(needs: Iterable[Need], groups: int) -> dict[Need, tuple[int, ...]]:
    """For every need one choice of all widths that has it, few different ones in all.

    Needs that agree where they meet are met together, in the order given.
    """
    left, found = dict.fromkeys(needs), {}
    while left:
        chosen: dict[int, int] = {}
        met = []
        for places, widths in left:
            if all(chosen.get(place, width) == width for place, width in zip(places, widths, strict=True)):
                chosen.update(zip(places, widths, strict=True))
                met.append((places, widths))
        whole = tuple(chosen.get(place, 0) for place in range(groups))
        for need in met:
            found[need] = whole
            del left[need]
    return found
