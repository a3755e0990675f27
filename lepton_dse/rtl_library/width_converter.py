"""Declares ``rtl/width_converter.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.errors import LeptonError
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


def _resources(p: WidthConverter, family: Family) -> Resources:
    raise RuntimeError


WIDTH_CONVERTER = ModuleDeclaration("width_converter", WidthConverter, _ports, _resources, _timing)
