"""What an FPGA's hardware model says."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from lepton_dse.targets.schema import BaseTarget, Frozen, Quantity, Rate

__all__ = ["FabricEnergy", "FabricTiming", "FpgaTarget", "UsableShare"]


class UsableShare(Frozen):
    """Usable part of each FPGA resource, 0 to 1."""

    lut: Quantity
    ff: Quantity
    dsp: Quantity
    bram18: Quantity

    @model_validator(mode="after")
    def _shares(self) -> UsableShare:
        for name in type(self).model_fields:
            if getattr(self, name).value > 1:
                raise ValueError(f"{name}: a share above 1")
        return self


class FabricEnergy(Frozen):
    """Joules of what a design does in the fabric; what grows with the widths of operands is given for one width."""

    multiply_j: Quantity
    """A product of 8 by 8 bits."""
    add_j: Quantity
    """A sum of 32 bits."""
    memory_j_per_byte: Quantity
    """An access to a block RAM."""


class FabricTiming(Frozen):
    """Seconds of what a path between two registers runs through, its share of the routing included."""

    register_s: Rate
    """Clock to output, setup, and the wire of a path with nothing between."""
    level_s: Quantity
    """A look-up table."""
    chain_s: Quantity
    """Into a carry chain and out of it."""
    carry_s: Quantity
    """A bit along it."""
    out_s: Quantity
    """A carry that leaves its chain for other logic."""
    lookup_s: Quantity
    """A read of a memory made of look-up tables."""
    block_s: Quantity
    """A read of a block memory, beyond a register's clock to output."""
    product_s: Quantity
    """A hard multiplier."""
    load_s: Quantity
    """Every doubling of the cells that a net drives."""
    faster: Rate
    """Least ratio of a placed design's longest path to the predicted one."""
    slower: Rate
    """Greatest ratio of a placed design's longest path to the predicted one."""

    @model_validator(mode="after")
    def _ordered(self) -> FabricTiming:
        if self.faster.value > self.slower.value:
            raise ValueError(f"faster: {self.faster.value:g} is above slower, {self.slower.value:g}")
        return self


class FpgaTarget(BaseTarget):
    """An FPGA: fabric resources, what one block holds, and the clock that designs are planned for."""

    family: Literal["fpga"]
    fabric: Literal["xc7", "ecp5", "xcup", "versal", "ice40"]
    """Synthesis family whose mapping rules hold. Streaming designs are planned for those that the RTL library has formulas of."""
    clock_hz: Rate
    """Clock that predicted seconds assume."""
    lut: Quantity
    ff: Quantity
    dsp: Quantity
    bram18: Quantity
    """Block RAMs of 18 Kibit."""
    usable_share: UsableShare
    """Share of each resource that a design may fill before routing or timing fails."""
    energy: FabricEnergy | None = None
    """Without it no energy is predicted."""
    timing: FabricTiming | None = None
    """Without it no band is given for the clock that a design reaches."""
    memory_byte_per_s: Quantity | None = None
    """External memory; the streaming designs do not use it."""

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without timing the form, and so the digest, is that of models from before there was any."""
        document: dict[str, Any] = handler(self)
        if self.timing is None:
            document.pop("timing", None)
        return document

    def resources(self) -> dict[str, float]:
        """Usable amounts by resource name."""
        share = self.usable_share
        pairs = {
            "LUT": (self.lut, share.lut),
            "FF": (self.ff, share.ff),
            "DSP": (self.dsp, share.dsp),
            "BRAM18": (self.bram18, share.bram18),
        }
        return {name: float(int(amount.value * part.value)) for name, (amount, part) in pairs.items()}
