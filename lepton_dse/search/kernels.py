"""Seconds of single kernels on a device by their extents, whatever graph or schedule they come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tpu import chip_of, search_product, vector_rate
from lepton_dse.sim.gpu.gemm import Constants, Machine, Product, cheapest
from lepton_dse.sim.gpu.machine import constants_of, machine_of
from lepton_dse.sim.gpu.streaming import attention_time, streaming_time
from lepton_dse.sim.gpu.tiles import SPLITS, generation, tiles
from lepton_dse.sim.product import matrix_product
from lepton_dse.sim.tpu import Chip
from lepton_dse.targets import AnyTarget, GpuTarget, TpuTarget

__all__ = ["GpuKernels", "Kernels", "TpuKernels", "kernels_of"]


class Kernels(Protocol):
    """What a family of devices knows of kernels, in one pair of formats."""

    @property
    def memory_s(self) -> float:
        """Seconds a byte of main memory, at the rate that kernels reach."""

    def product(self, m: float, n: float, k: float, count: float, bits: tuple[float, float, float]) -> float:
        """`count` products of (m, k) by (k, n), elements of both operands and of the result in `bits`."""

    def streaming(self, moved: float, elements: float, special: float) -> float:
        """A kernel that moves bytes, makes elements and evaluates special functions."""

    def attention(self, heads: float, queries: float, keys: float, width: float, bits: float, passes: float) -> float:
        """Attention that keeps scores on chip, `passes` times the products of a forward pass."""


@cache
def _candidates(capability: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return tiles(generation(capability)), np.array(SPLITS, np.float64)


@dataclass(frozen=True)
class GpuKernels:
    """Kernels of a GPU: the cheapest of the declared tiles (:mod:`lepton_dse.sim.gpu.gemm`), and streaming ones."""

    target: GpuTarget
    machine: Machine
    constants: Constants

    @property
    def memory_s(self) -> float:
        """See :class:`Kernels`."""
        return 1.0 / (self.constants.memory_share * self.machine.memory_byte_per_s)

    def product(self, m: float, n: float, k: float, count: float, bits: tuple[float, float, float]) -> float:
        """See :class:`Kernels`."""
        a, b, c = bits
        problem = Product(m, n, k, count, a, b, c, count * m * k * a / 8, count * k * n * b / 8, count * m * n * c / 8, 0.0)
        return float(cheapest(problem, *_candidates(self.target.compute_capability.value), self.machine, self.constants).time)

    def streaming(self, moved: float, elements: float, special: float) -> float:
        """See :class:`Kernels`."""
        return float(streaming_time(elements, special, moved, elements, self.machine, self.constants)[0])

    def attention(self, heads: float, queries: float, keys: float, width: float, bits: float, passes: float) -> float:
        """See :class:`Kernels`."""
        return passes * float(attention_time(heads, queries, keys, width, bits, self.machine, self.constants)[0])


@dataclass(frozen=True)
class TpuKernels:
    """Operations of a TPU: the arrays by the best tiling (:mod:`lepton_dse.search.tpu`), the rest on the vector unit."""

    target: TpuTarget
    chip: Chip

    @property
    def memory_s(self) -> float:
        """See :class:`Kernels`."""
        return self.chip.outer_s

    def product(self, m: float, n: float, k: float, count: float, bits: tuple[float, float, float]) -> float:
        """See :class:`Kernels`."""
        return self.target.launch_s.value + self._product(m, n, k, count, bits)

    def streaming(self, moved: float, elements: float, special: float) -> float:
        """See :class:`Kernels`."""
        return self.target.launch_s.value + max(moved * self.chip.outer_s, (elements + special) / vector_rate(self.target))

    def attention(self, heads: float, queries: float, keys: float, width: float, bits: float, passes: float) -> float:
        """See :class:`Kernels`."""
        scores = self._product(queries, keys, width, heads, (bits, bits, bits))
        values = self._product(queries, width, keys, heads, (bits, bits, bits))
        exponentials = heads * queries * keys / vector_rate(self.target)
        return self.target.launch_s.value + passes * max(scores + values, exponentials)

    def _product(self, m: float, n: float, k: float, count: float, bits: tuple[float, float, float]) -> float:
        extents = (max(1, round(m)), max(1, round(n)), max(1, round(k)))
        x, w, y = (int(width) for width in bits)
        problem = matrix_product(*extents, x_bits=x, w_bits=w, y_bits=y, groups=max(1, round(count)))
        return search_product(problem, self.chip).price.total_s


def kernels_of(device: AnyTarget, precision: Precision) -> GpuKernels | TpuKernels:
    """Kernels of a device in a pair of formats.

    Raises
    ------
    LeptonError
        If it is neither GPU nor TPU, or does not compute in them.
    """
    if isinstance(device, GpuTarget):
        machine = machine_of(device, precision)
        if machine is not None:
            return GpuKernels(device, machine, constants_of(device.constants(precision)))
    elif isinstance(device, TpuTarget):
        if device.peak(precision) is not None:
            return TpuKernels(device, chip_of(device, precision))
    else:
        raise LeptonError(f"{device.name} is neither GPU nor TPU", fix="choose a cluster of either")
    raise LeptonError(f"{device.name} has no {precision} arithmetic", fix="choose a format that it has")
