"""What every hardware model says. Data only: no formula and no cost lives here; one file a family stands beside this one.

A hwmodel is a TOML file. Every number is a table ``{ value = 132, source = "h100-datasheet" }`` and every source is
described once in ``[sources.h100-datasheet]`` with its kind, title and place. Names carry SI units.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from lepton_dse.numerics.formats import NumberFormat, Precision

__all__ = [
    "Band",
    "BaseTarget",
    "Frozen",
    "MemoryLevel",
    "Peak",
    "Processor",
    "Quantity",
    "Rate",
    "Source",
    "SourceKind",
    "check_sources",
]


class SourceKind(StrEnum):
    """Where a number comes from. ``unverified`` shows wherever the number is used."""

    DATASHEET = "datasheet"
    PAPER = "paper"
    MEASURED = "measured"
    UNVERIFIED = "unverified"
    DEFINITION = "definition"
    """Chosen, not found: the unit device, in which every cost is 1."""


class Frozen(BaseModel):
    """Base of all parts of a hardware model: frozen, and no unknown field is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Frozen):
    """A source of numbers."""

    kind: SourceKind
    title: str
    place: str
    """Page, table, section or URL; for measurements, how."""


class Quantity(Frozen):
    """A number with its source; the unit is in the field's name."""

    value: Annotated[FiniteFloat, Field(ge=0)]
    source: str
    """Name of an entry of ``sources``."""


class Rate(Quantity):
    """A number that time is divided by or that divides it: never 0."""

    value: Annotated[FiniteFloat, Field(gt=0)]


class Peak(Frozen):
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


class MemoryLevel(Frozen):
    """One level of memory, whole-device figures: all instances together."""

    name: str
    capacity_bytes: Quantity
    bandwidth_byte_per_s: Rate
    energy_j_per_byte: Quantity | None = None


class Band(Frozen):
    """How far predictions for this device were from published or executed figures, for some formats."""

    suite: str
    """Name of the validation suite, as ``lepton validate`` lists it."""
    formats: tuple[str, ...] = Field(min_length=1)
    mape_pct: Quantity
    """Mean absolute error in percent of the figures held out from any fit."""

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for text in formats:
            Precision.parse(text)
        return formats


class BaseTarget(Frozen):
    """What all families share."""

    schema_version: Literal[1] = 1
    name: str
    title: str
    sources: dict[str, Source]
    power_w: Quantity | None = None
    """Thermal design power of the device or board."""
    energy_j_per_mac: dict[str, Quantity] = Field(default_factory=dict)
    """By format."""
    bands: tuple[Band, ...] = ()
    """Validation suites that hold the predictions for this device."""

    @model_validator(mode="after")
    def _sources_exist(self) -> BaseTarget:
        check_sources(self, self.sources)
        return self

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Every number with its path, for listings and sweeps."""
        yield from _quantities(self, "")

    def band(self, precision: Precision) -> Band | None:
        """The first band whose formats name `precision`; None where no suite covers it."""
        return next((band for band in self.bands if str(precision) in band.formats), None)

    @property
    def unverified(self) -> tuple[str, ...]:
        """Paths of the numbers that no source confirms."""
        return tuple(path for path, quantity in self.quantities() if self.sources[quantity.source].kind is SourceKind.UNVERIFIED)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of all fields; not cached, since pydantic's copies would carry a stale one along."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


class Processor(BaseTarget):
    """Families that run kernels from memory: peaks, levels from inner to outer, launch overhead."""

    peaks: tuple[Peak, ...] = Field(min_length=1)
    levels: tuple[MemoryLevel, ...] = Field(min_length=1)
    """From the level nearest to the arithmetic to main memory."""
    launch_s: Quantity
    """Time to start one kernel or program step from an idle device."""

    @model_validator(mode="after")
    def _ordered(self) -> Processor:
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


def check_sources(described: BaseModel, sources: Mapping[str, Source]) -> None:
    """Every number names a source that is described.

    Raises
    ------
    ValueError
        If one does not.
    """
    for path, quantity in _quantities(described, ""):
        if quantity.source not in sources:
            raise ValueError(f"{path}: no source '{quantity.source}' is described under [sources]")


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
            label = next((getattr(value, key) for key in ("name", "format", "suite") if hasattr(value, key)), index)
            yield from _quantities(value, f"{path}[{label}]")


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
