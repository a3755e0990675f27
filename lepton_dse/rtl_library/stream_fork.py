"""Declares ``rtl/stream_fork.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.rtl_library.components import weighted
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
    stream_input,
    stream_output,
)
from lepton_dse.rtl_library.paths import LEVEL, elastic, logic
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["STREAM_FORK", "StreamFork"]


@dataclass(frozen=True)
class StreamFork(Parameters):
    """An elastic register whose beat several consumers take, each when it likes.

    Parameters
    ----------
    width : int
        Bits of a word.
    copies : int
        Consumers.
    """

    width: Annotated[int, Range(1, 65536)]
    copies: Annotated[int, Range(2, 64)]


def _ports(p: StreamFork) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_input("s", p.width), *stream_output(p.width, p.copies))


def _timing(p: StreamFork) -> ModuleTiming:
    return single("stream_fork", [True], [True], Channel.pipe(1))


def _pace(p: StreamFork) -> Pace:
    return Pace(1, 1, 1)


def _resources(p: StreamFork, family: Family) -> Resources:
    return Resources(lut=weighted(family, (p.copies, 2.0, 2.0), (1, 1.5, 5.5)), ff=p.width + 1 + p.copies)


def _paths(p: StreamFork, family: Family) -> tuple[Path, ...]:
    # All consumers' ready and what each has taken decide together.
    through = logic(2 * p.copies + 1, family)
    return (
        *elastic(2 * p.copies, p.width, family, through=through),
        Path(End.INPUT, End.REGISTER),
        Path(End.REGISTER, End.OUTPUT, LEVEL),
    )


STREAM_FORK = ModuleDeclaration("stream_fork", StreamFork, _ports, _resources, _timing, _pace, _paths)
