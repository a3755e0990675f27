"""What a CPU's hardware model says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lepton_dse.targets.schema import MemoryLevel, Processor, Quantity, Rate

__all__ = ["CpuLevel", "CpuTarget"]


class CpuLevel(MemoryLevel):
    """A cache or main memory; capacity and bandwidth are those of all instances together.

    One instance serves `shared_by` cores, so a core of a private cache has ``capacity_bytes / core_count`` of it.
    """

    shared_by: Quantity | None = None
    """Cores that share one instance; 1 for a private cache, None for main memory, which all share."""
    ways: Quantity | None = None
    """Associativity; None for main memory."""
    line_bytes: Quantity | None = None
    """Bytes of a line; None for main memory."""
    core_byte_per_s: Rate | None = None
    """Most that one core draws from it; None where a core gets an equal share."""


class CpuTarget(Processor):
    """A CPU socket: cores with SIMD units over a cache hierarchy that ends in main memory."""

    family: Literal["cpu"]
    levels: Annotated[tuple[CpuLevel, ...], Field(min_length=2)]
    core_count: Rate
    clock_hz: Rate
    """All cores busy."""
    simd_bits: Quantity
    fma_ports: Rate
    """Fused multiply-adds of `simd_bits` that a core starts a cycle."""
    fma_cycles: Rate
    """Cycles from an accumulator to the next addition to it."""
    load_ports: Rate
    """Loads of `simd_bits` that a core starts a cycle."""
    reorder_window: Quantity
    """Instructions in flight: how far a core looks ahead of the oldest that waits."""
    registers: Quantity
    """Architectural vector registers."""
    fill_cycles: Quantity | None = None
    """Cycles from one line that is brought into a set of the first cache to the next into the same set; None where unknown."""
    load_window: Quantity | None = None
    """Loads in flight: how far a core's loads look ahead of the oldest that waits; None where unknown."""

    @model_validator(mode="after")
    def _ordered(self) -> CpuTarget:
        """In place of the general rule: caches grow by instance, since all private caches together may exceed a shared one."""
        names = [level.name for level in self.levels]
        if len(set(names)) != len(names):
            raise ValueError("levels: two levels share a name")
        for inner, outer in zip(self.levels, self.levels[1:], strict=False):
            if self.instance_bytes(inner) > self.instance_bytes(outer):
                raise ValueError(f"levels: '{inner.name}' is larger than '{outer.name}', levels go from inner to outer")
            if inner.bandwidth_byte_per_s.value < outer.bandwidth_byte_per_s.value:
                raise ValueError(f"levels: '{inner.name}' is slower than '{outer.name}', levels go from inner to outer")
        return self

    @model_validator(mode="after")
    def _is_a_processor(self) -> CpuTarget:
        for name in ("core_count", "simd_bits", "registers"):
            if getattr(self, name).value < 1:
                raise ValueError(f"{name}: {getattr(self, name).value:g}, at least 1 is needed")
        for level in self.levels[:-1]:
            for field in ("shared_by", "ways", "line_bytes"):
                quantity = getattr(level, field)
                if quantity is None:
                    raise ValueError(f"levels: '{level.name}' is a cache, it needs {field}")
                if quantity.value < 1:
                    raise ValueError(f"levels: '{level.name}' has {field} {quantity.value:g}, at least 1 is needed")
            if self.instance_bytes(level) < _one_set(level):
                raise ValueError(f"levels: '{level.name}' holds {self.instance_bytes(level):g} bytes, less than one set")
        memory = self.levels[-1]
        if memory.shared_by is not None or memory.ways is not None or memory.line_bytes is not None:
            raise ValueError(f"levels: '{memory.name}' is main memory, it has no ways, no lines and no cores of its own")
        return self

    def sharers(self, level: CpuLevel) -> float:
        """Cores that share one instance of a level, all of them for main memory."""
        cores = self.core_count.value
        return cores if level.shared_by is None else min(cores, level.shared_by.value)

    def instance_bytes(self, level: CpuLevel) -> float:
        """Bytes of one instance of a level."""
        return level.capacity_bytes.value * self.sharers(level) / self.core_count.value


def _one_set(level: CpuLevel) -> float:
    return (level.ways.value if level.ways else 0.0) * (level.line_bytes.value if level.line_bytes else 0.0)
