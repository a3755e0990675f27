"""Declares ``rtl/stream_fifo.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.rtl_library.declaration import (
    Family,
    ModuleDeclaration,
    Parameters,
    Port,
    Range,
    Resources,
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


def _resources(p: StreamFifo, family: Family) -> Resources:
    raise RuntimeError


STREAM_FIFO = ModuleDeclaration("stream_fifo", StreamFifo, _ports, _resources, _timing)
