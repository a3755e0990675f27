"""The pieces of a streaming design: module instances, the memories beside them, and how much of a layer is computed at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from lepton_dse import rtl_library as rtl
from lepton_dse.plan import Mapping, OpPlan, Unroll

__all__ = ["Folding", "Instance", "Memory", "MemoryPort"]


class MemoryPort(Enum):
    """The port through which a module reads a memory; the value is the prefix of the port's signals."""

    WEIGHTS = "w"
    BIAS = "b"
    MULTIPLIERS = "p"
    TABLE = "t"


@dataclass(frozen=True, eq=False)
class Memory:
    """A read-only memory beside an instance.

    Parameters
    ----------
    port : MemoryPort
    depth, fields : int
        Words, and fields of a word.
    field_bits : int
        Width of a field, two's complement.
    image : callable
        Makes the words; a search that only counts calls it for weights of a single word, which synthesis folds.
    copies : int
        Memories with this image, side by side: each has its own part of the port's address and data.
    """

    port: MemoryPort
    depth: int
    fields: int
    field_bits: int
    image: Callable[[], NDArray[np.int64]]
    copies: int = 1

    @property
    def values(self) -> NDArray[np.int64]:
        """Words, shape (depth, fields); field 0 is in the least significant bits."""
        return self.image().reshape(self.depth, self.fields)

    @property
    def width(self) -> int:
        """Bits of a word."""
        return self.fields * self.field_bits


@dataclass(frozen=True, eq=False)
class Instance:
    """One RTL module in place.

    Parameters
    ----------
    name : str
        Unique in the design, a Verilog identifier.
    module : ModuleDeclaration
    parameters : Parameters
    memories : tuple of Memory
    """

    name: str
    module: rtl.ModuleDeclaration[rtl.Parameters]
    parameters: rtl.Parameters
    memories: tuple[Memory, ...] = ()

    def resources(self, family: rtl.Family) -> rtl.Resources:
        """Estimated primitives of the module and its memories."""
        total = self.module.resources(self.parameters, family)
        match self.parameters:
            case rtl.MatrixVectorUnit(nf=1, sf=1, pe=rows, simd=columns) if total.dsp == 0:
                (weights,) = (memory.values for memory in self.memories if memory.port is MemoryPort.WEIGHTS)
                total = rtl.constant_matrix(self.parameters, weights.reshape(rows, columns), family)
        for memory in self.memories:
            one = rtl.rom_resources(memory.width, memory.depth, family)
            total = sum((one for _ in range(memory.copies)), total)
        return total


@dataclass(frozen=True)
class Folding:
    """How much of a stage is computed at once, and what stands around it.

    Parameters
    ----------
    pe : int
        Output channels at once (matrix stages).
    simd : int
        Input channels at once.
    fifo_depth : int
        Words of the FIFO behind the stage.
    buffer_rows : int or None
        Input rows that the sliding window holds beyond the least; None for one stride of slack.
    multiplier : Multiplier
        What products are made of.
    feed_depths : tuple of int
        For each operand the words of a FIFO in front of the stage, 0 for none; empty for none at all. A stream that several
        stages take needs one where they take it at different times.
    """

    pe: int
    simd: int
    fifo_depth: int = 2
    buffer_rows: int | None = None
    multiplier: rtl.Multiplier = rtl.Multiplier.DSP
    feed_depths: tuple[int, ...] = ()

    def feed_depth(self, operand: int) -> int:
        """Words of the FIFO in front of an operand."""
        return self.feed_depths[operand] if self.feed_depths else 0

    @property
    def mapping(self) -> Mapping:
        """The folding as spatial unrolling."""
        spatial = (Unroll(loop="m", factor=self.pe, axis="pe"), Unroll(loop="c", factor=self.simd, axis="simd"))
        return Mapping(spatial=spatial)

    def to_plan(self, op: str, precision: str) -> OpPlan:
        """The folding as decisions for an operation."""
        return OpPlan(
            op=op,
            precision=precision,
            mapping=self.mapping,
            fifo_depth=self.fifo_depth,
            buffer_rows=self.buffer_rows,
            multiplier=self.multiplier.value,
            feed_depths=self.feed_depths,
        )

    @classmethod
    def from_plan(cls, entry: OpPlan) -> Folding:
        """The folding of an operation's decisions."""
        return cls(
            entry.mapping.factor("pe"),
            entry.mapping.factor("simd"),
            entry.fifo_depth or 2,
            entry.buffer_rows,
            rtl.Multiplier(entry.multiplier or "dsp"),
            entry.feed_depths,
        )
