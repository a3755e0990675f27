"""What a TPU's hardware model says."""

from __future__ import annotations

from typing import Literal

from lepton_dse.targets.schema import Processor, Quantity, Rate

__all__ = ["TpuTarget"]


class TpuTarget(Processor):
    """A TPU: systolic arrays over an on-chip vector memory and high-bandwidth memory."""

    family: Literal["tpu"]
    array_rows: Quantity
    array_columns: Quantity
    array_count: Quantity
    """Systolic arrays on one chip."""
    clock_hz: Rate
    link_byte_per_s: Quantity | None = None
    """One interconnect link, one direction."""
    link_count: Quantity | None = None
