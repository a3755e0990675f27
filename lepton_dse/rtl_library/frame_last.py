"""Declares ``rtl/frame_last.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.rtl_library.components import weighted
from lepton_dse.rtl_library.declaration import (
    Direction,
    End,
    Family,
    ModuleDeclaration,
    Parameters,
    Path,
    Port,
    Range,
    Resources,
    bits,
    clock_ports,
    stream_ports,
)
from lepton_dse.rtl_library.paths import LEVEL, added, loaded, logic

__all__ = ["FRAME_LAST", "FrameLast"]


@dataclass(frozen=True)
class FrameLast(Parameters):
    """A mark on the last beat of every frame.

    Parameters
    ----------
    width : int
        Bits of a beat.
    beats : int
        Beats of a frame.
    """

    width: Annotated[int, Range(1, 65536)]
    beats: Annotated[int, Range(1, 1 << 24)]


def _ports(p: FrameLast) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.width, p.width), Port("m_last", Direction.OUTPUT, 1))


def _resources(p: FrameLast, family: Family) -> Resources:
    if p.beats == 1:
        return Resources()
    # A counter with its reset and the comparison with the last beat; ecp5 builds wide ones from LUTs of 4 inputs.
    width = bits(p.beats)
    wide = width > 4
    return Resources(lut=weighted(family, (width, 1.5, 2.7 if wide else 1.0), (1, -0.5, 0.0 if wide else 2.0)), ff=width)


# It passes beats through without a register, so it is no stage of its own in the timed event graph.
def _paths(p: FrameLast, family: Family) -> tuple[Path, ...]:
    count = bits(p.beats)
    return (
        Path(End.INPUT, End.OUTPUT),
        Path(End.READY_IN, End.READY_OUT),
        Path(End.INPUT, End.REGISTER, LEVEL + loaded(count)),
        Path(End.READY_IN, End.REGISTER, LEVEL + loaded(count)),
        Path(End.REGISTER, End.OUTPUT, logic(count, family)),
        Path(End.REGISTER, End.REGISTER, added(count, family) + LEVEL),
    )


FRAME_LAST = ModuleDeclaration("frame_last", FrameLast, _ports, _resources, None, None, _paths)
