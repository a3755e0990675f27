"""What a hardware model says, per family. Data only: no formula and no cost lives here.

A hwmodel is a TOML file. Every number is a table ``{ value = 132, source = "h100-datasheet" }`` and every source is
described once in ``[sources.h100-datasheet]`` with its kind, title and place. Names carry SI units.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from lepton_dse.numerics.formats import NumberFormat, Precision

__all__ = [
    "BaseTarget",
    "CpuTarget",
    "FpgaTarget",
    "GpuTarget",
    "MemoryLevel",
    "Peak",
    "Quantity",
    "Rate",
    "Source",
    "SourceKind",
    "TpuTarget",
]


class SourceKind(StrEnum):
    """Where a number comes from. ``unverified`` shows wherever the number is used."""

    DATASHEET = "datasheet"
    PAPER = "paper"
    MEASURED = "measured"
    UNVERIFIED = "unverified"
    DEFINITION = "definition"
    """Chosen, not found: the unit device, in which every cost is 1."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """A source of numbers."""

    kind: SourceKind
    title: str
    place: str
    """Page, table, section or URL; for measurements, how."""


class Quantity(_Frozen):
    """A number with its source; the unit is in the field's name."""

    value: Annotated[FiniteFloat, Field(ge=0)]
    source: str
    """Name of an entry of ``sources``."""


class Rate(Quantity):
    """A number that time is divided by or that divides it: never 0."""

    value: Annotated[FiniteFloat, Field(gt=0)]


class Peak(_Frozen):
    """Greatest arithmetic rate for one pair of formats over the whole device."""

    format: str
    """Formats as in a plan: ``float32``, ``bfloat16``, ``int8`` ..."""
    unit: str
    """The unit that computes at this rate: ``tensor core``, ``mxu``, ``fma`` ..."""
    mac_per_s: Rate
    """Multiply-accumulates a second."""

    @field_validator("format")
    @classmethod
    def _known(cls, text: str) -> str:
        Precision.parse(text)
        return text


class MemoryLevel(_Frozen):
    """One level of memory, whole-device figures: all instances together."""

    name: str
    capacity_bytes: Quantity
    bandwidth_byte_per_s: Rate
    energy_j_per_byte: Quantity | None = None


class BaseTarget(_Frozen):
    """What all families share."""

    schema_version: Literal[1] = 1
    name: str
    title: str
    sources: dict[str, Source]
    power_w: Quantity | None = None
    """Thermal design power of the device or board."""
    energy_j_per_mac: dict[str, Quantity] = Field(default_factory=dict)
    """By format."""

    @model_validator(mode="after")
    def _sources_exist(self) -> BaseTarget:
        for path, quantity in self.quantities():
            if quantity.source not in self.sources:
                raise ValueError(f"{path}: no source '{quantity.source}' is described under [sources]")
        return self

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Every number with its path, for listings and sweeps."""
        yield from _quantities(self, "")

    @property
    def unverified(self) -> tuple[str, ...]:
        """Paths of the numbers that no source confirms."""
        return tuple(path for path, quantity in self.quantities() if self.sources[quantity.source].kind is SourceKind.UNVERIFIED)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of all fields; not cached, since pydantic's copies would carry a stale one along."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class _Processor(BaseTarget):
    """Families that run kernels from memory: peaks, levels from inner to outer, launch overhead."""

    peaks: tuple[Peak, ...] = Field(min_length=1)
    levels: tuple[MemoryLevel, ...] = Field(min_length=1)
    """From the level nearest to the arithmetic to main memory."""
    launch_s: Quantity
    """Time to start one kernel or program step from an idle device."""

    @model_validator(mode="after")
    def _ordered(self) -> _Processor:
        names = [level.name for level in self.levels]
        if len(set(names)) != len(names):
            raise ValueError("levels: two levels share a name")
        for inner, outer in zip(self.levels, self.levels[1:], strict=False):
            if inner.capacity_bytes.value > outer.capacity_bytes.value:
                raise ValueError(f"levels: '{inner.name}' is larger than '{outer.name}', levels go from inner to outer")
            if inner.bandwidth_byte_per_s.value < outer.bandwidth_byte_per_s.value:
                raise ValueError(f"levels: '{inner.name}' is slower than '{outer.name}', levels go from inner to outer")
        return self

    def peak(self, precision: Precision) -> Peak | None:
        """The fastest peak that computes `precision` exactly: the same kind of numbers, at least as wide; None if none does."""
        fitting = [peak for peak in self.peaks if _holds(Precision.parse(peak.format), precision)]
        return max(fitting, key=lambda peak: peak.mac_per_s.value, default=None)


class GpuTarget(_Processor):
    """A GPU: streaming multiprocessors over a cache and high-bandwidth memory."""

    family: Literal["gpu"]
    sm_count: Quantity
    clock_hz: Rate
    shared_bytes_per_sm: Quantity
    register_bytes_per_sm: Quantity
    max_threads_per_sm: Quantity
    link_byte_per_s: Quantity | None = None
    """Interconnect to other devices, one direction."""


class TpuTarget(_Processor):
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


class CpuTarget(_Processor):
    """A CPU socket: cores with SIMD units over a cache hierarchy."""

    family: Literal["cpu"]
    core_count: Quantity
    clock_hz: Rate
    """All cores busy."""
    simd_bits: Quantity
    fma_ports: Quantity
    line_bytes: Quantity


class UsableShare(_Frozen):
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


class FpgaTarget(BaseTarget):
    """An FPGA: fabric resources, what one block holds, and the clock that designs are planned for."""

    family: Literal["fpga"]
    fabric: Literal["xc7", "ecp5"]
    """Synthesis family whose mapping rules hold."""
    clock_hz: Rate
    """Clock that predicted seconds assume."""
    lut: Quantity
    ff: Quantity
    dsp: Quantity
    bram18: Quantity
    """Block RAMs of 18 Kibit."""
    usable_share: UsableShare
    """Share of each resource that a design may fill before routing or timing fails."""
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


Target = Annotated[GpuTarget | TpuTarget | CpuTarget | FpgaTarget, Field(discriminator="family")]


def _quantities(node: Any, path: str) -> Iterator[tuple[str, Quantity]]:
    if isinstance(node, Quantity):
        yield path, node
    elif isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from _quantities(getattr(node, name), f"{path}.{name}" if path else name)
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _quantities(value, f"{path}.{name}")
    elif isinstance(node, tuple):
        for index, value in enumerate(node):
            yield from _quantities(value, f"{path}[{getattr(value, 'name', None) or getattr(value, 'format', index)}]")


def _holds(peak: Precision, asked: Precision) -> bool:
    pairs = ((peak.weights, asked.weights), (peak.activations, asked.activations))
    if asked.weights.is_integer and asked.activations.is_float:
        # Weight-only formats are widened to the activations' format before the multiplication.
        return _wide_enough(peak.activations, asked.activations) and peak.weights.is_float
    return all(_wide_enough(have, want) for have, want in pairs)


def _wide_enough(have: NumberFormat, want: NumberFormat) -> bool:
    if have.kind is not want.kind:
        return False
    return have.bits >= want.bits and have.fraction >= want.fraction and have.exponent >= want.exponent
