"""Prices of the work of one device: each kernel by the model of its family, each exchange by that of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lepton_dse.numerics.formats import Precision
from lepton_dse.schedule.transformer import Attention, Axis, Exchange, MatrixProduct, Streaming, Work
from lepton_dse.schedule.transformer.work import BYTES
from lepton_dse.search.kernels import Kernels, kernels_of
from lepton_dse.sim.network import Fabric, Group, exchange_time, fabric_of
from lepton_dse.targets import Cluster, GpuTarget, TpuTarget, load_target

__all__ = ["Pricer", "pricer_of"]

_BITS = 8.0 * BYTES


@dataclass
class Pricer:
    """Prices of work on one device of a cluster, each looked up once.

    Parameters
    ----------
    cluster : Cluster
    device : GpuTarget or TpuTarget
    kernels : Kernels
    fabric : Fabric
    """

    cluster: Cluster
    device: GpuTarget | TpuTarget
    kernels: Kernels
    fabric: Fabric
    known: dict[Work, float] = field(default_factory=dict)

    @property
    def capacity(self) -> float:
        """Bytes of a device's main memory."""
        return self.device.levels[-1].capacity_bytes.value

    def seconds(self, works: Iterable[Work], groups: Mapping[Axis, Group]) -> float:
        """All of it, one after another."""
        total = 0.0
        for work in works:
            if isinstance(work, Exchange):
                total += exchange_time(work.kind, work.size, groups[work.axis], self.fabric)
                continue
            nameless = work._replace(name="")
            if nameless not in self.known:
                self.known[nameless] = self._kernel(nameless)
            total += self.known[nameless]
        return total

    def _kernel(self, work: MatrixProduct | Streaming | Attention) -> float:
        if isinstance(work, MatrixProduct):
            return self.kernels.product(work.m, work.n, work.k, work.products, (_BITS, _BITS, _BITS))
        if isinstance(work, Streaming):
            return self.kernels.streaming(work.moved, work.elements, work.special)
        return self.kernels.attention(work.heads, work.queries, work.keys, work.width, _BITS, work.passes)


def pricer_of(cluster: Cluster, precision: str = "bfloat16") -> Pricer:
    """Prices for the devices of a cluster.

    Raises
    ------
    LeptonError
        If its device is neither GPU nor TPU, or does not compute in the format.
    """
    kernels = kernels_of(load_target(cluster.device), Precision.parse(precision))
    return Pricer(cluster, kernels.target, kernels, fabric_of(cluster))
