"""What a TPU's hardware model says."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lepton_dse.targets.schema import Processor, Quantity, Rate

__all__ = ["TpuTarget"]


class TpuTarget(Processor):
    """A TPU: systolic arrays over an on-chip vector memory and high-bandwidth memory.

    The first level is the memory that feeds the arrays, the last is main memory.
    """

    family: Literal["tpu"]
    array_rows: Quantity
    array_columns: Quantity
    array_count: Quantity
    """Systolic arrays on one chip."""
    clock_hz: Rate
    vector_op_per_s: Rate | None = None
    """Elementwise operations a second, all vector units together."""
    accumulator_rows: Rate | None = None
    """Rows of results that one array can add up before its weights must change; None where that is no limit."""
    activations_on_chip: bool = False
    """Whether activations stay in the first level from layer to layer, so that main memory holds nothing but weights."""
    weight_tile_s: Quantity | None = None
    """Least time between two tiles of weights that an array takes from main memory, whatever part of a tile is in use."""
    link_byte_per_s: Quantity | None = None
    """One interconnect link, one direction."""
    link_count: Quantity | None = None

    @model_validator(mode="after")
    def _has_arrays_and_levels(self) -> TpuTarget:
        for name in ("array_rows", "array_columns", "array_count", "accumulator_rows"):
            quantity = getattr(self, name)
            if quantity is not None and quantity.value < 1:
                raise ValueError(f"{name}: {quantity.value:g}, at least 1 is needed")
        if len(self.levels) < 2:
            raise ValueError("levels: a TPU needs the memory that feeds its arrays and a main memory")
        return self
