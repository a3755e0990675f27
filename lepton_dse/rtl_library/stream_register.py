"""Declares ``rtl/stream_register.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.rtl_library.declaration import (
    End,
    Family,
    ModuleDeclaration,
    Pace,
    Parameters,
    Path,
    Port,
    Range,
    Resources,
    clock_ports,
    stream_ports,
)
from lepton_dse.rtl_library.paths import elastic
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["STREAM_REGISTER", "StreamRegister"]


@dataclass(frozen=True)
class StreamRegister(Parameters):
    """One elastic register.

    Parameters
    ----------
    width : int
        Bits of a word.
    """

    width: Annotated[int, Range(1, 65536)]


def _ports(p: StreamRegister) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.width, p.width))


def _timing(p: StreamRegister) -> ModuleTiming:
    return single("stream_register", [True], [True], Channel.pipe(1))


def _pace(p: StreamRegister) -> Pace:
    return Pace(1, 1, 1)


def _resources(p: StreamRegister, family: Family) -> Resources:
    return Resources(lut=1, ff=p.width + 1)


def _paths(p: StreamRegister, family: Family) -> tuple[Path, ...]:
    return (*elastic(1, p.width, family), Path(End.INPUT, End.REGISTER), Path(End.REGISTER, End.OUTPUT))


STREAM_REGISTER = ModuleDeclaration("stream_register", StreamRegister, _ports, _resources, _timing, _pace, _paths)
