"""Declares ``rtl/stream_concat.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

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
    stream_input,
    stream_output,
)
from lepton_dse.rtl_library.paths import LEVEL, added, elastic, loaded, logic
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, Process

__all__ = ["STREAM_CONCAT", "StreamConcat"]


@dataclass(frozen=True)
class StreamConcat(Parameters):
    """Two streams one behind another, again and again.

    Parameters
    ----------
    width : int
        Bits of a word.
    a_words, b_words : int
        Words of the first and of the second before it is the other's turn.
    """

    width: Annotated[int, Range(1, 65536)]
    a_words: Annotated[int, Range(1, 65536)]
    b_words: Annotated[int, Range(1, 65536)]


def _ports(p: StreamConcat) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_input("a", p.width), *stream_input("b", p.width), *stream_output(p.width))


def _timing(p: StreamConcat) -> ModuleTiming:
    of_a = np.arange(p.a_words + p.b_words) < p.a_words
    return ModuleTiming((Process("stream_concat", of_a, of_a | True),), (), 0, 0, Channel.pipe(1), (~of_a,))


def _pace(p: StreamConcat) -> Pace:
    return Pace(p.a_words, p.a_words + p.b_words, p.a_words + p.b_words, (p.b_words,))


def _resources(p: StreamConcat, family: Family) -> Resources:
    count = counter_bits(max(p.a_words, p.b_words))
    lut = weighted(family, (p.width, 1.0, 1.0), (count, 1.5, 4.5), (1, 4.0, 6.0))
    return Resources(lut=lut, ff=p.width + 2 + count)


def _paths(p: StreamConcat, family: Family) -> tuple[Path, ...]:
    count = bits(max(p.a_words, p.b_words))
    return (
        *elastic(2, p.width, family),
        Path(End.INPUT, End.REGISTER, logic(4, family) + LEVEL + loaded(count)),
        Path(End.READY_IN, End.REGISTER, LEVEL + LEVEL + loaded(count)),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.REGISTER, End.REGISTER, added(count, family) + LEVEL),
        Path(End.REGISTER, End.REGISTER, logic(count + 1, family) + LEVEL),
    )


STREAM_CONCAT = ModuleDeclaration("stream_concat", StreamConcat, _ports, _resources, _timing, _pace, _paths)
