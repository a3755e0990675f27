"""Declares ``rtl/width_converter.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import counter_bits, weighted
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
from lepton_dse.rtl_library.paths import LEVEL, elastic, loaded, logic
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["WIDTH_CONVERTER", "WidthConverter"]


@dataclass(frozen=True)
class WidthConverter(Parameters):
    """Joins narrow words into wide ones or splits wide words into narrow ones.

    Parameters
    ----------
    element : int
        Bits of an element.
    in_lanes, out_lanes : int
        Elements of a word on either side; one divides the other.
    """

    element: Annotated[int, Range(1, 1024)]
    in_lanes: Annotated[int, Range(1, 4096)]
    out_lanes: Annotated[int, Range(1, 4096)]

    def check(self) -> None:
        """Require that one number of lanes divides the other."""
        if self.in_lanes % self.out_lanes and self.out_lanes % self.in_lanes:
            raise LeptonError(
                f"neither of {self.in_lanes} and {self.out_lanes} lanes divides the other",
                where="WidthConverter",
                fix="convert in two steps, through a common divisor or multiple",
            )


def _ports(p: WidthConverter) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.in_lanes * p.element, p.out_lanes * p.element))


def _timing(p: WidthConverter) -> ModuleTiming:
    if p.in_lanes <= p.out_lanes:
        parts = np.arange(p.out_lanes // p.in_lanes)
        return single("width_converter", parts >= 0, parts == parts[-1], Channel.pipe(1))
    parts = np.arange(p.in_lanes // p.out_lanes)
    return single("width_converter", parts == 0, parts >= 0, Channel.pipe(1))


def _pace(p: WidthConverter) -> Pace:
    ratio = max(p.in_lanes, p.out_lanes) // min(p.in_lanes, p.out_lanes)
    return Pace(ratio, 1, ratio) if p.in_lanes <= p.out_lanes else Pace(1, ratio, ratio)


def _resources(p: WidthConverter, family: Family) -> Resources:
    output = p.out_lanes * p.element
    if p.in_lanes == p.out_lanes:
        return Resources(lut=1, ff=output + 1)
    if p.in_lanes < p.out_lanes:
        part = counter_bits(p.out_lanes // p.in_lanes)
        return Resources(
            lut=weighted(family, (part, 1.0, 4.3), (1, 4.0, 0.5)), ff=part + 1 + output + (p.out_lanes - p.in_lanes) * p.element
        )
    parts = p.in_lanes // p.out_lanes
    part, held = counter_bits(parts), (p.in_lanes - p.out_lanes) * p.element
    # Each bit chooses between the new word and the rest of the old one; two parts need no shifting. Deciding whether
    # a part is the first takes an input more on ecp5 from a counter of three bits on, and with it a second LUT a bit.
    chosen = output + (held if parts > 2 else 0)
    return Resources(lut=weighted(family, (chosen, 1.0, 1.0 if parts <= 4 else 2.0), (1, 5.2, 6.0)), ff=part + 1 + output + held)


def _paths(p: WidthConverter, family: Family) -> tuple[Path, ...]:
    output, held = p.out_lanes * p.element, abs(p.in_lanes - p.out_lanes) * p.element
    ends = (Path(End.REGISTER, End.OUTPUT), Path(End.INPUT, End.REGISTER, LEVEL + loaded(held)))
    if p.in_lanes == p.out_lanes:
        return (*elastic(1, output, family), *ends)
    part = counter_bits(max(p.in_lanes, p.out_lanes) // min(p.in_lanes, p.out_lanes))
    return (*elastic(1 + part, max(output, held), family), *ends, Path(End.REGISTER, End.REGISTER, logic(part + 2, family)))


WIDTH_CONVERTER = ModuleDeclaration("width_converter", WidthConverter, _ports, _resources, _timing, _pace, _paths)
