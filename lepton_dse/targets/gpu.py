"""What a GPU's hardware model says."""

from __future__ import annotations

from typing import Literal

from lepton_dse.targets.schema import Processor, Quantity, Rate

__all__ = ["GpuTarget"]


class GpuTarget(Processor):
    """A GPU: streaming multiprocessors over a cache and high-bandwidth memory."""

    family: Literal["gpu"]
    sm_count: Quantity
    clock_hz: Rate
    shared_bytes_per_sm: Quantity
    register_bytes_per_sm: Quantity
    max_threads_per_sm: Quantity
    link_byte_per_s: Quantity | None = None
    """Interconnect to other devices, one direction."""
