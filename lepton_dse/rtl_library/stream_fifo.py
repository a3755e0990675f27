"""Declares ``rtl/stream_fifo.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.rtl_library.components import counter_bits, distributed_memory, weighted
from lepton_dse.rtl_library.declaration import (
    Family,
    ModuleDeclaration,
    Pace,
    Parameters,
    Port,
    Range,
    Resources,
    bits,
    clock_ports,
    stream_ports,
)
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

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
    """

    width: Annotated[int, Range(1, 65536)]
    depth: Annotated[int, Range(1, 65536)]


def _ports(p: StreamFifo) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.width, p.width))


def _timing(p: StreamFifo) -> ModuleTiming:
    return single("stream_fifo", [True], [True], Channel.fifo(p.depth))


def _pace(p: StreamFifo) -> Pace:
    return Pace(1, 1, 1)


def _resources(p: StreamFifo, family: Family) -> Resources:
    count, address = bits(p.depth + 1), counter_bits(p.depth)
    if p.depth == 1:
        return Resources(lut=3, ff=p.width + count)
    memory = distributed_memory(p.width, p.depth, 2, family)
    # The read address is kept twice: once to count, once as the memory's own.
    return Resources(
        lut=memory + weighted(family, (address, 4.36, 8.64), (count, 0.62, 0.43), (1, 2.3, 0.0)), ff=count + 3 * address
    )


STREAM_FIFO = ModuleDeclaration("stream_fifo", StreamFifo, _ports, _resources, _timing, _pace)
