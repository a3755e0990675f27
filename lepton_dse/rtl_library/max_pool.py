"""Declares ``rtl/max_pool.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

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
from lepton_dse.rtl_library.paths import LEVEL, banked, elastic, greatest, loaded, logic
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["MAX_POOL", "MaxPool"]


@dataclass(frozen=True)
class MaxPool(Parameters):
    """Greatest signed element of each lane over the taps of a window.

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
    """

    element: Annotated[int, Range(2, 64)]
    lanes: Annotated[int, Range(1, 4096)]
    folds: Annotated[int, Range(1, 65536)]
    taps: Annotated[int, Range(1, 65536)]


def _ports(p: MaxPool) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.lanes * p.element, p.lanes * p.element))


def _timing(p: MaxPool) -> ModuleTiming:
    step = np.arange(p.taps * p.folds)
    return single("max_pool", step >= 0, step >= (p.taps - 1) * p.folds, Channel.pipe(1))


def _pace(p: MaxPool) -> Pace:
    return Pace(p.taps * p.folds, p.folds, p.taps * p.folds)


def _resources(p: MaxPool, family: Family) -> Resources:
    word = p.lanes * p.element
    fold, tap = counter_bits(p.folds), counter_bits(p.taps)
    kept = 0 if p.folds == 1 else distributed_memory(word, p.folds, 2, family)
    terms = ((word, 1.65, 1.24), (p.lanes, 0.65, 8.4), (fold + tap, 2.3, 3.7), (1, 1.7, 4.2))
    # The greatest so far lies in a register or, with the fold's address kept once more, in a memory.
    return Resources(lut=kept + weighted(family, *terms), ff=word + 1 + fold + tap + (word if p.folds == 1 else fold))


def _paths(p: MaxPool, family: Family) -> tuple[Path, ...]:
    kept = banked(p.folds, family) if p.folds > 1 else Depth()
    chosen = greatest(p.element, family)
    count = counter_bits(p.folds) + counter_bits(p.taps)
    return (
        *elastic(1 + counter_bits(p.taps), p.lanes * p.element, family),
        Path(End.INPUT, End.REGISTER, chosen),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.REGISTER, End.REGISTER, kept + chosen),
        Path(End.REGISTER, End.REGISTER, logic(count, family) + LEVEL + loaded(count)),
    )


MAX_POOL = ModuleDeclaration("max_pool", MaxPool, _ports, _resources, _timing, _pace, _paths)
