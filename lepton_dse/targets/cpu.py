"""What a CPU's hardware model says."""

from __future__ import annotations

from typing import Literal

from lepton_dse.targets.schema import Processor, Quantity, Rate

__all__ = ["CpuTarget"]


class CpuTarget(Processor):
    """A CPU socket: cores with SIMD units over a cache hierarchy."""

    family: Literal["cpu"]
    core_count: Quantity
    clock_hz: Rate
    """All cores busy."""
    simd_bits: Quantity
    fma_ports: Quantity
    line_bytes: Quantity
