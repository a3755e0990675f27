"""Collectives among the devices of a cluster, wherever these stand: inside a node, across nodes, or on a torus.

Symbols
-------
=========  ==========================================================================================================
n, d       devices of a group, and how far apart neighbours in it are numbered
q          devices of the group in one node: ``max(1, min(n, node / d))``
v, s       bytes that a device sends and steps (:mod:`lepton_dse.parallel.collectives`)
B, e       bytes a second of a device's port to the network, one direction, and the share that large messages reach
t_0, t_h   fixed time, and latency of a step
=========  ==========================================================================================================

**Inside a node** as :mod:`lepton_dse.sim.collectives` says of the device's own links.

**Across nodes** all ports of the devices of a node that belong to the group work side by side, as many rings as there are
of them, and a step inside a node is not slower than one across: ``t = t_0 + s t_h + v / (q e B)`` with v and s of n devices and
of n / q nodes; where several devices of a node take part, not below the time inside the node. An all-to-all uses one port
each: ``v / (e B)``, for the bytes that leave the node. The library takes the better of rings and trees.

**On a torus** a group takes whole axes as long as they fit, from the innermost; a ring along an axis has two directions, except
where the axis is cut, and a collective is split over all rings of the group. An all-to-all crosses a quarter of a ring on
average, so that each of its directed links carries an eighth of what its L devices send: ``t = t_0 + t_h L / 4 + v L / (8 e B)``;
in a cut one half of them send half of it across the middle, ``v L / (4 e B)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.errors import LeptonError
from lepton_dse.parallel.collectives import Algorithm, Collective, steps, volume
from lepton_dse.sim.collectives import Links, collective_time, links_of
from lepton_dse.targets import Cluster, GpuTarget, load_target

__all__ = ["Fabric", "Group", "exchange_time", "fabric_of"]


@dataclass(frozen=True)
class Group:
    """Devices of one axis of a mesh.

    Parameters
    ----------
    devices : int
    stride : int
        Difference of the numbers of neighbours.
    """

    devices: int
    stride: int = 1


@dataclass(frozen=True)
class Fabric:
    """A cluster's network and the links inside its nodes, as numbers.

    Parameters
    ----------
    cluster : Cluster
    links : Links or None
        None where a node has no links of its own.
    """

    cluster: Cluster
    links: Links | None


def fabric_of(cluster: Cluster) -> Fabric:
    """The fabric of a cluster.

    Raises
    ------
    LeptonError
        If its nodes have several devices, and their hardware model names no links.
    """
    device = load_target(cluster.device)
    if cluster.node_size == 1 or not isinstance(device, GpuTarget):
        return Fabric(cluster, None)
    return Fabric(cluster, links_of(device))


def exchange_time(kind: Collective, message_bytes: float, group: Group, fabric: Fabric) -> float:
    """Seconds of a collective among a group of a cluster's devices; 0 on one device.

    Parameters
    ----------
    kind : Collective
    message_bytes : float
    group : Group
    fabric : Fabric

    Raises
    ------
    LeptonError
        If the message is negative, or the cluster has fewer devices.
    """
    cluster = fabric.cluster
    if message_bytes < 0:
        raise LeptonError(f"a collective of {message_bytes:g} bytes", fix="use 0 bytes or more")
    if group.devices * group.stride > cluster.size:
        what = f"{group.devices} devices {group.stride} apart of {cluster.size}"
        raise LeptonError(what, where=cluster.name, fix="use fewer devices, or a larger cluster")
    if group.devices == 1:
        return 0.0
    if cluster.torus:
        return _on_torus(kind, message_bytes, group, cluster)
    inside = max(1, min(group.devices, cluster.node_size // group.stride))
    if fabric.links is not None and inside == group.devices:
        return collective_time(kind, message_bytes, inside, fabric.links)
    return _across(kind, message_bytes, group, inside, fabric)


def _across(kind: Collective, size: float, group: Group, inside: int, fabric: Fabric) -> float:
    network = fabric.cluster.network
    rate = network.share.value * network.byte_per_s.value
    nodes = -(-group.devices // inside)
    if kind in (Collective.ALL_TO_ALL, Collective.POINT_TO_POINT):
        leaving = size * (group.devices - inside) / group.devices if kind is Collective.ALL_TO_ALL else size
        return network.start_s.value + network.hop_s.value + leaving / rate
    times = [
        network.start_s.value
        + steps(kind, nodes, algorithm) * network.hop_s.value
        + volume(kind, size, group.devices, algorithm) / (inside * rate)
        for algorithm in Algorithm
    ]
    within = 0.0 if fabric.links is None or inside == 1 else collective_time(kind, size, inside, fabric.links)
    return max(min(times), within)


def _on_torus(kind: Collective, size: float, group: Group, cluster: Cluster) -> float:
    network = cluster.network
    rate = network.share.value * network.byte_per_s.value
    lengths, wraps = _axes(group, cluster.torus)
    if kind is Collective.POINT_TO_POINT:
        return network.start_s.value + network.hop_s.value + size / rate
    if kind is Collective.ALL_TO_ALL:
        longest = max(lengths)
        hops = sum(lengths) / 4
        return network.start_s.value + hops * network.hop_s.value + size * longest / (8 if all(wraps) else 4) / rate
    directions = sum(2 if wrap else 1 for wrap in wraps)
    hops = sum(length / 2 if wrap else length - 1 for length, wrap in zip(lengths, wraps, strict=True))
    hops *= 2 if kind is Collective.ALL_REDUCE else 1
    return network.start_s.value + hops * network.hop_s.value + volume(kind, size, group.devices) / (directions * rate)


def _axes(group: Group, axes: tuple[int, ...]) -> tuple[list[int], list[bool]]:
    """Lengths of the rings that a group lies along, and whether each is closed."""
    lengths, wraps = [], []
    skipped, left = group.stride, group.devices
    for axis in axes:
        free = axis
        if skipped > 1:
            used = min(skipped, axis)
            skipped = -(-skipped // axis)
            free = max(1, axis // used)
        if left > 1 and free > 1:
            taken = min(left, free)
            lengths.append(taken)
            wraps.append(taken == axis)
            left = -(-left // taken)
    return lengths or [group.devices], wraps or [False]
