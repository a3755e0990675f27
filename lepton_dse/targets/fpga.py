"""What an FPGA's hardware model says."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from lepton_dse.targets.schema import BaseTarget, Frozen, Quantity, Rate

__all__ = ["FabricEnergy", "FpgaTarget", "UsableShare"]


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
    memory_byte_per_s: Quantity | None = None
    """External memory; the streaming designs do not use it."""

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
