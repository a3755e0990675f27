"""What an answer depends on, as a digest: where two keys are equal, so are the price or the accuracy behind them.

========  =========================================================================================================
price     numbers of the hardware model, those of the sweep put in; the batch; formats; the network with channels cut
          and zeros put in: its structure, its shapes, and which constants are zero, but no other value
planned   where an FPGA's design is planned: numbers of the hardware model, batch, the variant, the float network
          with its weights, the calibration samples, and the seed
shared    where a cluster's devices share the network: as planned, the numbers those of the cluster and of its device; and
          the mesh and the stages
accuracy  the float network with its weights, the variant, the metric, the samples that it is measured on and their
          labels, the calibration samples, and the seed
========  =========================================================================================================

The formulas are no part of a key: they belong to the software, which studies compare as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from lepton_dse.data import Dataset
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.serialize import structure
from lepton_dse.study.machine import Machine, Pool, with_choices
from lepton_dse.study.settings import Settings
from lepton_dse.study.space import Candidate, Hardware, Variant
from lepton_dse.study.work import shaped
from lepton_dse.targets import FpgaTarget

__all__ = ["Keys", "Shapes", "data_digest"]

_Shape = tuple[float | str, float]


class Shapes:
    """What prices read of a network, for each share of channels and zeros.

    Parameters
    ----------
    graph : Graph
        In float.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._known: dict[_Shape, str] = {}

    def digest(self, shape: _Shape) -> str:
        """SHA-256 over structure, shapes and the places of zeros.

        Raises
        ------
        LeptonError
            If the network cannot be pruned like that.
        """
        if shape not in self._known:
            self._known[shape] = _network_digest(shaped(self.graph, Variant("", *shape)))
        return self._known[shape]


class Keys:
    """Keys of the answers of one study.

    Parameters
    ----------
    settings : Settings
    shapes : Shapes
        Of its network.
    data : Dataset, optional
        The samples that it uses, in its order.
    machines : mapping of str to Machine
        By the names that its space has.
    """

    def __init__(self, settings: Settings, shapes: Shapes, data: Dataset | None, machines: Mapping[str, Machine]) -> None:
        self._settings, self._shapes, self._data, self._machines = settings, shapes, data, machines
        self._hardware: dict[Hardware, tuple[str, str]] = {}
        self._samples: dict[int, str] = {}

    def price(self, candidate: Candidate) -> str:
        """The key of a candidate's price.

        Raises
        ------
        LeptonError
            If the network or the hardware cannot be made.
        """
        hardware, kind = self._machine(candidate.hardware)
        variant, settings = candidate.variant, self._settings
        if kind == "price":
            return _digest(kind, hardware, candidate.batch, variant.format, self._shapes.digest(variant.shape))
        network = [self._shapes.graph.digest, asdict(variant), self._first(settings.calibration), settings.seed]
        shared = [candidate.hardware.mesh, candidate.hardware.stages] if kind == "shared" else []
        return _digest(kind, hardware, candidate.batch, *network, *shared)

    def accuracy(self, variant: Variant, samples: int) -> str:
        """The key of a variant's accuracy on the first samples."""
        settings = self._settings
        calibration, measured = self._first(settings.calibration), self._first(samples)
        network = (self._shapes.graph.digest, asdict(variant))
        return _digest("accuracy", *network, settings.metric, samples, measured, calibration, settings.seed)

    def _machine(self, hardware: Hardware) -> tuple[str, str]:
        """Digest of a hardware model or a cluster, and the kind of key that its prices have."""
        if hardware not in self._hardware:
            machine = with_choices(self._machines[hardware.target], hardware)
            planned = isinstance(machine, FpgaTarget) and self._settings.fpga == "plan"
            kind = "shared" if isinstance(machine, Pool) else "planned" if planned else "price"
            self._hardware[hardware] = machine.digest, kind
        return self._hardware[hardware]

    def _first(self, count: int) -> str:
        """Digest of the first samples; empty where there is no data."""
        if self._data is None:
            return ""
        if count not in self._samples:
            self._samples[count] = data_digest(self._data.take(count))
        return self._samples[count]


def data_digest(data: Dataset) -> str:
    """SHA-256 over samples and labels."""
    hasher = hashlib.sha256(repr((data.x.shape, data.y is None)).encode())
    hasher.update(np.ascontiguousarray(data.x, "<f4").data)
    if data.y is not None:
        hasher.update(np.ascontiguousarray(data.y, "<i8").data)
    return hasher.hexdigest()


def _network_digest(graph: Graph) -> str:
    parts = {name: value for name, value in structure(graph).items() if name != "name"}
    hasher = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, value in sorted(graph.constants.items()):
        hasher.update(f"{name}:{value.shape}".encode())
        hasher.update(np.packbits(np.asarray(value) == 0).data)
    return hasher.hexdigest()


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
