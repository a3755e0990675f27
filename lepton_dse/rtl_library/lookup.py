"""Declares ``rtl/lookup.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.rtl_library.components import weighted
from lepton_dse.rtl_library.declaration import (
    Direction,
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
from lepton_dse.rtl_library.paths import LEVEL, elastic, loaded
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["LOOKUP", "TABLE_BITS", "Lookup"]

TABLE_BITS = 12
"""Widest element that a table is addressed with."""


@dataclass(frozen=True)
class Lookup(Parameters):
    """An entry of a table for each element.

    Parameters
    ----------
    in_width : int
        Bits of an element, which address a memory of ``2 ** in_width`` entries beside each lane.
    out_width : int
        Bits of an entry.
    lanes : int
        Elements of a word.
    """

    in_width: Annotated[int, Range(1, TABLE_BITS)]
    out_width: Annotated[int, Range(1, 64)]
    lanes: Annotated[int, Range(1, 4096)]


def _ports(p: Lookup) -> tuple[Port, ...]:
    return (
        *clock_ports(),
        *stream_ports(p.lanes * p.in_width, p.lanes * p.out_width),
        Port("t_en", Direction.OUTPUT, 1),
        Port("t_addr", Direction.OUTPUT, p.lanes * p.in_width),
        Port("t_data", Direction.INPUT, p.lanes * p.out_width),
    )


def _timing(p: Lookup) -> ModuleTiming:
    return single("lookup", [True], [True], Channel.pipe(1))


def _pace(p: Lookup) -> Pace:
    return Pace(1, 1, 1)


def _resources(p: Lookup, family: Family) -> Resources:
    return Resources(lut=weighted(family, (1, 2.0, 2.0)), ff=1)


def _paths(p: Lookup, family: Family) -> tuple[Path, ...]:
    enable = LEVEL + loaded(p.lanes)
    return (
        *elastic(1, 1, family),
        Path(End.INPUT, End.REGISTER),
        Path(End.INPUT, End.ADDRESS, enable),
        Path(End.READY_IN, End.ADDRESS, enable),
        Path(End.REGISTER, End.ADDRESS, enable),
        Path(End.WORD, End.OUTPUT),
        Path(End.REGISTER, End.OUTPUT),
    )


LOOKUP = ModuleDeclaration("lookup", Lookup, _ports, _resources, _timing, _pace, _paths)
