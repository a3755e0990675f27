"""Declares ``rtl/argmax.v``."""

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
    bits,
    clock_ports,
    stream_ports,
)
from lepton_dse.rtl_library.paths import LEVEL, added, elastic, greatest, loaded, repeated
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["ARGMAX", "Argmax"]


@dataclass(frozen=True)
class Argmax(Parameters):
    """Index of the greatest signed element of a vector, the first of equals.

    Parameters
    ----------
    element : int
        Bits of an element.
    lanes : int
        Elements of a word.
    folds : int
        Words of a vector.
    index_width : int
        Bits of the index.
    """

    element: Annotated[int, Range(1, 64)]
    lanes: Annotated[int, Range(1, 4096)]
    folds: Annotated[int, Range(1, 65536)]
    index_width: Annotated[int, Range(1, 32)]

    def check(self) -> None:
        """Require that the index holds every position."""
        if self.index_width < bits(self.lanes * self.folds):
            raise LeptonError(
                f"{self.index_width} bits do not index {self.lanes * self.folds} elements",
                where="Argmax",
                fix=f"give index_width at least {bits(self.lanes * self.folds)}",
            )


def _ports(p: Argmax) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.lanes * p.element, p.index_width))


def _timing(p: Argmax) -> ModuleTiming:
    fold = np.arange(p.folds)
    return single("argmax", fold >= 0, fold == p.folds - 1, Channel.pipe(1))


def _pace(p: Argmax) -> Pace:
    return Pace(p.folds, 1, p.folds)


def _resources(p: Argmax, family: Family) -> Resources:
    # A knock-out of the lanes compares and moves an element and its index; the winner meets the best so far.
    duels, final = p.lanes - 1, int(p.folds > 1)
    lut = weighted(
        family,
        (duels * p.element, 1.85, 6.1),
        (duels * p.index_width, 0.1, 4.6),
        (final * p.element, 0.7, 5.4),
        (final * p.index_width, 2.5, 1.0),
        (1, 12.3, 0.0),
    )
    # The index of a word's first lane is a multiple of the lanes: its lowest bits are constant.
    constant = (p.lanes & -p.lanes).bit_length() - 1
    best = p.element + p.index_width + counter_bits(p.folds) + p.index_width - constant
    return Resources(lut=lut, ff=p.index_width + 1 + final * best)


def _paths(p: Argmax, family: Family) -> tuple[Path, ...]:
    rounds = (p.lanes - 1).bit_length()
    # A round compares two and passes the greater on, with its index.
    one = greatest(p.element, family)
    best = greatest(p.element, family) + loaded(p.index_width) if p.folds > 1 else LEVEL
    count = counter_bits(p.folds)
    return (
        *elastic(1 + count, p.index_width, family),
        Path(End.INPUT, End.REGISTER, repeated(one, rounds) + best),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.REGISTER, End.REGISTER, best),
        Path(End.REGISTER, End.REGISTER, added(p.index_width, family) + LEVEL),
    )


ARGMAX = ModuleDeclaration("argmax", Argmax, _ports, _resources, _timing, _pace, _paths)
