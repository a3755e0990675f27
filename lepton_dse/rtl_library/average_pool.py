"""Declares ``rtl/average_pool.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import counter_bits, distributed_memory, weighted
from lepton_dse.rtl_library.declaration import (
    Depth,
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
from lepton_dse.rtl_library.paths import LEVEL, added, banked, elastic, loaded, logic
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["AVERAGE_POOL", "AveragePool"]


@dataclass(frozen=True)
class AveragePool(Parameters):
    """Signed sum of each lane over the taps of a window, from a start value.

    Parameters
    ----------
    element : int
        Bits of an element.
    lanes : int
        Elements of a word.
    folds : int
        Words of a tap.
    taps : int
        Taps of a window.
    sum_width : int
        Bits of a sum; it must hold every possible one.
    init : int
        What each sum starts from.
    """

    element: Annotated[int, Range(2, 64)]
    lanes: Annotated[int, Range(1, 4096)]
    folds: Annotated[int, Range(1, 65536)]
    taps: Annotated[int, Range(1, 65536)]
    sum_width: Annotated[int, Range(2, 64)]
    init: Annotated[int, Range(-(1 << 31), (1 << 31) - 1)]

    def check(self) -> None:
        """Require that no sum can overflow."""
        least = self.init - (self.taps << (self.element - 1))
        greatest = self.init + self.taps * ((1 << (self.element - 1)) - 1)
        limit = 1 << (self.sum_width - 1)
        if self.sum_width < self.element or least < -limit or max(greatest, self.init) >= limit:
            raise LeptonError(
                f"{self.sum_width} bits do not hold sums from {least} to {greatest}",
                where="AveragePool",
                fix="widen sum_width",
            )


def _ports(p: AveragePool) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.lanes * p.element, p.lanes * p.sum_width))


def _timing(p: AveragePool) -> ModuleTiming:
    step = np.arange(p.taps * p.folds)
    return single("average_pool", step >= 0, step >= (p.taps - 1) * p.folds, Channel.pipe(1))


def _pace(p: AveragePool) -> Pace:
    return Pace(p.taps * p.folds, p.folds, p.taps * p.folds)


def _resources(p: AveragePool, family: Family) -> Resources:
    word = p.lanes * p.sum_width
    fold, tap = counter_bits(p.folds), counter_bits(p.taps)
    kept = 0 if p.folds == 1 else distributed_memory(word, p.folds, 2, family)
    terms = ((word, 1.97, 1.24), (p.lanes, 0.0, 2.0), (fold + tap, 2.0, 3.7), (1, 2.6, 12.3))
    # The sum so far lies in a register or, with the fold's address kept once more, in a memory.
    return Resources(lut=kept + weighted(family, *terms), ff=word + 1 + fold + tap + (word if p.folds == 1 else fold))


def _paths(p: AveragePool, family: Family) -> tuple[Path, ...]:
    kept = banked(p.folds, family) if p.folds > 1 else Depth()
    summed = added(p.sum_width, family)
    count = counter_bits(p.folds) + counter_bits(p.taps)
    start = logic(counter_bits(p.taps), family) + loaded(p.lanes * p.sum_width)
    return (
        *elastic(1 + counter_bits(p.taps), p.lanes * p.sum_width, family),
        Path(End.INPUT, End.REGISTER, summed),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.REGISTER, End.REGISTER, kept + LEVEL + summed),
        Path(End.REGISTER, End.REGISTER, (start if p.taps > 1 else Depth()) + summed),
        Path(End.REGISTER, End.REGISTER, logic(count, family) + LEVEL + loaded(count)),
    )


AVERAGE_POOL = ModuleDeclaration("average_pool", AveragePool, _ports, _resources, _timing, _pace, _paths)
