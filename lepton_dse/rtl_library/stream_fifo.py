"""Declares ``rtl/stream_fifo.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.rtl_library.components import block_memory, counter_bits, distributed_memory, weighted
from lepton_dse.rtl_library.declaration import (
    Depth,
    End,
    Family,
    MemoryStyle,
    ModuleDeclaration,
    Pace,
    Parameters,
    Path,
    Port,
    Range,
    Resources,
    bits,
    clock_ports,
    stream_ports,
)
from lepton_dse.rtl_library.paths import LEVEL, added, banked, loaded, logic
from lepton_dse.rtl_library.timing import Channel, Edge, ModuleTiming, Process, single

__all__ = ["STREAM_FIFO", "StreamFifo"]


@dataclass(frozen=True)
class StreamFifo(Parameters):
    """A FIFO with registered ready and valid.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words that it holds; any number.
    style : MemoryStyle
        What holds them. Block memory has an output register, which holds one word more.
    """

    width: Annotated[int, Range(1, 65536)]
    depth: Annotated[int, Range(1, 65536)]
    style: MemoryStyle = MemoryStyle.DISTRIBUTED

    @property
    def in_block(self) -> bool:
        """Whether it has block memory; a single word is a register whatever the style."""
        return self.style is MemoryStyle.BLOCK and self.depth > 1


def _ports(p: StreamFifo) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.width, p.width))


def _timing(p: StreamFifo) -> ModuleTiming:
    if not p.in_block:
        return single("stream_fifo", [True], [True], Channel.fifo(p.depth))
    yes, no = np.ones(1, np.bool_), np.zeros(1, np.bool_)
    return ModuleTiming(
        (Process("stream_fifo.writer", yes, no), Process("stream_fifo.reader", no, yes)),
        (Edge(0, 1, np.zeros(1, np.int64), 1, np.full(1, -p.depth, np.int64), 1),),
        0,
        1,
        Channel.pipe(1),
    )


def _pace(p: StreamFifo) -> Pace:
    return Pace(1, 1, 1)


def _resources(p: StreamFifo, family: Family) -> Resources:
    count, address = bits(p.depth + 1), counter_bits(p.depth)
    if p.depth == 1:
        return Resources(lut=3, ff=p.width + count)
    if p.in_block:
        control = weighted(family, (address, 2.4, 3.0), (1, 19.0, 45.0))
        return Resources(lut=control, ff=count + 2 * address + 1, bram18=block_memory(p.width, p.depth, family))
    memory = distributed_memory(p.width, p.depth, 2, family)
    # The read address is kept twice: once to count, once as the memory's own.
    return Resources(
        lut=memory + weighted(family, (address, 4.36, 8.64), (count, 0.62, 0.43), (1, 2.3, 0.0)), ff=count + 3 * address
    )


def _paths(p: StreamFifo, family: Family) -> tuple[Path, ...]:
    count = bits(p.depth + 1)
    room, counted = logic(count, family), added(count, family) if p.depth > 1 else Depth()
    if p.depth == 1:
        read, written = Depth(), p.width
    elif p.in_block:
        read, written = Depth(blocks=1), 2 * block_memory(p.width, p.depth, family)
    else:
        # Each block of the memory has a write port of its own: 16 words by 4 bits on ecp5.
        read, written = banked(p.depth, family), -(-p.depth // (64 if family.amd else 16)) * -(-p.width // 4)
    output = room if p.depth == 1 else read
    paths = [
        Path(End.REGISTER, End.READY_OUT, room),
        Path(End.REGISTER, End.OUTPUT, output),
        Path(End.INPUT, End.REGISTER, LEVEL + loaded(written)),
        Path(End.INPUT, End.REGISTER, LEVEL + counted),
        Path(End.READY_IN, End.REGISTER, logic(count + 1, family) + loaded(count)),
        Path(End.REGISTER, End.REGISTER, room + LEVEL + loaded(written)),
        Path(End.REGISTER, End.REGISTER, room + counted),
    ]
    if p.depth > 1 and not p.in_block:
        paths.append(Path(End.REGISTER, End.OUTPUT, room))
    return tuple(paths)


STREAM_FIFO = ModuleDeclaration("stream_fifo", StreamFifo, _ports, _resources, _timing, _pace, _paths)
