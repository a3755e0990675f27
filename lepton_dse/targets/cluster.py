"""What the description of a cluster says: which devices, how many share a node, and the network between nodes."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import ValidationError, model_validator

from lepton_dse.errors import InvalidTargetError, LeptonError
from lepton_dse.files import data_folder, user_folder
from lepton_dse.plan import explain_validation
from lepton_dse.targets.reading import document_of, path_of
from lepton_dse.targets.schema import Frozen, Quantity, Rate, Source, check_sources

__all__ = ["CLUSTERS", "Cluster", "Network", "Topology", "cluster_names", "load_cluster"]

CLUSTERS = "cluster"
"""Folder under hwmodels/."""


class Topology(StrEnum):
    """How devices, or nodes, are joined."""

    SWITCH = "switch"
    """One switch: any pair at the full rate of both."""
    FAT_TREE = "fat_tree"
    """Levels of switches with as much bandwidth upwards as downwards."""
    RING = "ring"
    """Each to its two neighbours."""
    TORUS = "torus"
    """A ring along each of several axes."""


class Network(Frozen):
    """Links from one node to others; of a torus, from one device to its neighbours."""

    topology: Topology
    byte_per_s: Rate
    """Of one device, one direction; of a torus or ring, of one link."""
    start_s: Quantity
    """Fixed time of a collective or of a message."""
    hop_s: Quantity
    """Latency of one step between neighbours."""
    share: Rate
    """Share of `byte_per_s` that large messages reach."""
    axes: tuple[Rate, ...] = ()
    """Devices along each axis of a torus."""

    @model_validator(mode="after")
    def _consistent(self) -> Network:
        if self.share.value > 1:
            raise ValueError("share: a share above 1")
        if (self.topology is Topology.TORUS) != bool(self.axes):
            raise ValueError("axes: given exactly where the topology is a torus")
        return self


class Cluster(Frozen):
    """Devices of one kind in nodes of one size."""

    schema_version: Literal[1] = 1
    family: Literal["cluster"]
    name: str
    title: str
    device: str
    """Name of the hardware model of each."""
    devices: Rate
    """How many there are at most."""
    node_devices: Rate
    """How many share a node, joined by the links of their own hardware model; 1 in a torus, whose links are the network."""
    kernel_slowdown: Rate
    """How much longer kernels and collectives of a model take than the same ones alone."""
    network: Network
    sources: dict[str, Source]

    @model_validator(mode="after")
    def _consistent(self) -> Cluster:
        check_sources(self, self.sources)
        for quantity in (self.devices, self.node_devices, *self.network.axes):
            if quantity.value != int(quantity.value):
                raise ValueError(f"devices: {quantity.value:g} is no whole number")
        if self.size % self.node_size:
            raise ValueError(f"devices: {self.size} are no whole number of nodes of {self.node_size}")
        if self.torus and math.prod(self.torus) != self.size:
            raise ValueError(f"network.axes: {'x'.join(map(str, self.torus))} is not {self.size} devices")
        return self

    @property
    def size(self) -> int:
        """Devices of the whole cluster."""
        return int(self.devices.value)

    @property
    def node_size(self) -> int:
        """Devices of a node."""
        return int(self.node_devices.value)

    @property
    def torus(self) -> tuple[int, ...]:
        """Devices along each axis of a torus; () where it is none."""
        return tuple(int(axis.value) for axis in self.network.axes)


def _files() -> dict[str, Path]:
    folders = (data_folder("hwmodels") / CLUSTERS, user_folder() / "hwmodels" / CLUSTERS)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def cluster_names() -> tuple[str, ...]:
    """Names of all clusters, sorted."""
    return tuple(sorted(_files()))


def load_cluster(name: str | Path) -> Cluster:
    """A cluster by name, or from a ``.toml`` file.

    Raises
    ------
    InvalidTargetError
        If there is no such cluster, or the file does not fit the schema; the message names the field.
    """
    known = cluster_names()
    path = path_of(name, _files(), kind="cluster", known=known, listed=f"known: {', '.join(known)}")
    document = document_of(path, path.stem)
    try:
        return Cluster.model_validate(document)
    except (ValidationError, LeptonError) as error:
        raise InvalidTargetError(
            explain_validation(error), where=str(path), fix="see the shipped files under hwmodels/cluster/"
        ) from error
