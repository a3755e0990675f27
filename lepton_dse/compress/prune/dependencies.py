"""The channels of a network that can only be removed together.

Slots (see :mod:`lepton_dse.compress.prune.coupling`) that are joined, directly or through others, are one *unit*: a channel with
all that it is called elsewhere, such as the same channel of every convolution added into one residual stream, or the run of rows
of a weight matrix that it becomes by flattening. Units that lie along the same axes of the same tensors are a *group*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from lepton_dse.compress.prune.coupling import Coupling
from lepton_dse.compress.prune.sites import contractions, output_axis, refusal
from lepton_dse.ir.graph import Graph

__all__ = ["ChannelGroup", "Dependencies", "Member", "dependencies"]

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Member:
    """Where the channels of a group lie along one axis of one tensor.

    Parameters
    ----------
    tensor : str
        Activation, weights or bias.
    axis : int
    indices : ndarray of int, shape (channels, n)
        The n indices of each channel.
    """

    tensor: str
    axis: int
    indices: Indices


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that lie along the same axes of the same tensors.

    Parameters
    ----------
    units : ndarray of int, shape (channels,)
        Number of each channel's unit, ascending.
    members : tuple of Member
    reason : str
        Why none of them can be removed; empty if they can.
    """

    units: Indices
    members: tuple[Member, ...]
    reason: str


@dataclass(frozen=True)
class Dependencies:
    """What can be removed from a graph.

    Parameters
    ----------
    coupling : Coupling
        The slots.
    unit : ndarray of int
        Unit of each slot; units are numbered by their first slot.
    reasons : mapping of int to str
        Units that stay, and why.
    groups : tuple of ChannelGroup
        All units that weights produce.
    balances : tuple of ndarray of int, shape (blocks, n)
        Units by blocks from each of which equally many must go.
    """

    coupling: Coupling
    unit: Indices
    reasons: Mapping[int, str]
    groups: tuple[ChannelGroup, ...]
    balances: tuple[Indices, ...]

    def units(self, name: str, axis: int) -> Indices:
        """Unit of each index along an axis of a tensor."""
        return self.unit[self.coupling.slots(name, axis)]


def dependencies(graph: Graph) -> Dependencies:
    """The units and groups of a float graph."""
    coupling = Coupling(graph)
    unit = _units(coupling)
    reasons: dict[int, str] = {}
    for slots, reason in coupling.locks:
        for number in np.unique(unit[slots]).tolist():
            reasons.setdefault(number, reason)
    produced = [unit[coupling.slots(op.inputs[1], output_axis(op))] for op in contractions(graph) if not refusal(graph, op)]
    wanted = np.zeros(coupling.count, np.bool_)
    wanted[np.concatenate([np.zeros(0, np.intp), *produced])] = True
    balances = tuple(unit[blocks] for blocks in coupling.balances)
    return Dependencies(coupling, unit, reasons, _groups(coupling, unit, wanted, reasons), balances)


def _units(coupling: Coupling) -> Indices:
    """Connected components of the joined slots, numbered in the order of their first slots."""
    first = np.concatenate([np.zeros(0, np.intp), *(pair[0] for pair in coupling.joined)])
    second = np.concatenate([np.zeros(0, np.intp), *(pair[1] for pair in coupling.joined)])
    edges = sparse.coo_array((np.ones(len(first), np.int8), (first, second)), shape=(coupling.count, coupling.count))
    _, labels = sparse.csgraph.connected_components(edges, directed=False)
    _, firsts, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(firsts), np.intp)
    rank[np.argsort(firsts)] = np.arange(len(firsts))
    return rank[inverse]


def _groups(coupling: Coupling, unit: Indices, wanted: NDArray[np.bool_], reasons: Mapping[int, str]) -> tuple[ChannelGroup, ...]:
    """Wanted units by the axes that they lie along."""
    axes = list(coupling.starts)
    starts = np.array([coupling.starts[axis] for axis in axes], np.intp)
    chosen = np.flatnonzero(wanted[unit])
    order = chosen[np.lexsort((chosen, unit[chosen]))]  # by unit, and within it by slot
    if len(order) == 0:
        return ()
    axis_of = np.searchsorted(starts, order, side="right") - 1
    bounds = np.flatnonzero(np.diff(unit[order])) + 1
    alike: dict[tuple[bytes, str], list[Indices]] = {}
    for slots, along in zip(np.split(order, bounds), np.split(axis_of, bounds), strict=True):
        alike.setdefault((along.tobytes(), reasons.get(int(unit[slots[0]]), "")), []).append(slots)
    found = []
    for (encoded, reason), parts in alike.items():
        numbers, together = np.frombuffer(encoded, axis_of.dtype), np.stack(parts)
        members = tuple(
            Member(axes[number][0], axes[number][1], together[:, numbers == number] - starts[number])
            for number in np.unique(numbers).tolist()
        )
        found.append(ChannelGroup(unit[together[:, 0]], members, reason))
    return tuple(found)
