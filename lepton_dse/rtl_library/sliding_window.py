"""Declares ``rtl/sliding_window.v``."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Annotated

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import block_memory, counter_bits, distributed_memory, weighted
from lepton_dse.rtl_library.declaration import (
    Depth,
    End,
    Family,
    MemoryStyle,
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
from lepton_dse.rtl_library.paths import LEVEL, added, banked, compared, loaded, logic
from lepton_dse.rtl_library.timing import Channel, Edge, IntArray, ModuleTiming, Process

__all__ = ["SLIDING_WINDOW", "SlidingWindow", "WindowShape"]


@dataclass(frozen=True)
class WindowShape(Parameters):
    """The geometry of a window that slides over an image.

    Parameters
    ----------
    folds : int
        Words of a pixel.
    rows, cols : int
        The image.
    kh, kw : int
        The window.
    sh, sw, dh, dw : int
        Strides and dilations.
    pt, pl : int
        Rows of padding above and columns to the left; those below and to the right follow from the output's size.
    oh, ow : int
        The output.
    """

    folds: Annotated[int, Range(1, 65536)]
    rows: Annotated[int, Range(1, 65536)]
    cols: Annotated[int, Range(1, 65536)]
    kh: Annotated[int, Range(1, 4096)]
    kw: Annotated[int, Range(1, 4096)]
    sh: Annotated[int, Range(1, 4096)]
    sw: Annotated[int, Range(1, 4096)]
    dh: Annotated[int, Range(1, 4096)]
    dw: Annotated[int, Range(1, 4096)]
    pt: Annotated[int, Range(0, 4096)]
    pl: Annotated[int, Range(0, 4096)]
    oh: Annotated[int, Range(1, 65536)]
    ow: Annotated[int, Range(1, 65536)]

    def check(self) -> None:
        """Require a geometry that the counters of the module follow."""
        if self.rows < (self.oh - 1) * self.sh:
            raise LeptonError(
                f"the last of {self.oh} output rows starts {(self.oh - 1) * self.sh - self.rows} rows below the image",
                where="sliding_window",
                fix=f"keep (oh - 1) * sh at most {self.rows}, or pad above instead of below",
            )
        taps = self._tap_rows()
        columns = np.arange(self.ow)[:, None] * self.sw - self.pl + np.arange(self.kw)[None, :] * self.dw
        if not np.all(np.any((taps >= 0) & (taps < self.rows), axis=1)):
            raise LeptonError(
                "an output row sees only padding", where="sliding_window", fix="pad by less than the window's height"
            )
        if not np.any((columns >= 0) & (columns < self.cols)):
            raise LeptonError("every column of the window is padding", where="sliding_window", fix="pad by less than its width")

    def _tap_rows(self) -> IntArray:
        rows: IntArray = np.arange(self.oh, dtype=np.int64)[:, None] * self.sh - self.pt
        return rows + np.arange(self.kh, dtype=np.int64)[None, :] * self.dh

    @property
    def minimum_buffer(self) -> int:
        """Words below which the module would wait for ever.

        From the window's top row to the last word that one of its taps reads::

            (kh_last * dh * cols + x_last + 1) * folds

        where kh_last is the lowest window row and x_last the rightmost image column ever read.
        """
        taps = self._tap_rows()
        seen = np.any((taps >= 0) & (taps < self.rows), axis=0)
        lowest = int(np.flatnonzero(seen)[-1])
        columns = np.arange(self.ow)[:, None] * self.sw - self.pl + np.arange(self.kw)[None, :] * self.dw
        rightmost = int(np.max(columns[(columns >= 0) & (columns < self.cols)]))
        return (lowest * self.dh * self.cols + rightmost + 1) * self.folds

    @property
    def recommended_buffer(self) -> int:
        """Words that let the writer fill the next window's rows while this one's are read.

        The rows of the window and ``sh`` rows of slack.
        """
        return ((self.kh - 1) * self.dh + 1 + self.sh) * self.cols * self.folds


@dataclass(frozen=True)
class SlidingWindow(WindowShape):
    """A sliding window with its words and its ring buffer.

    Parameters
    ----------
    element : int
        Bits of an element.
    lanes : int
        Elements of a word.
    pad : int
        The padding element, signed.
    buffer : int
        Words of the ring buffer, at least :attr:`minimum_buffer`.
    style : MemoryStyle
        What the ring buffer is made of.
    """

    element: Annotated[int, Range(1, 64)]
    lanes: Annotated[int, Range(1, 4096)]
    pad: Annotated[int, Range(-(1 << 31), (1 << 31) - 1)]
    buffer: Annotated[int, Range(1, 1 << 24)]
    style: MemoryStyle

    def check(self) -> None:
        """Require a buffer in which the window finds its words."""
        super().check()
        if self.buffer < self.minimum_buffer:
            raise LeptonError(
                f"a buffer of {self.buffer} words never holds a whole window",
                where="sliding_window",
                fix=f"give it at least {self.minimum_buffer}, better {self.recommended_buffer}",
            )


def _ports(p: SlidingWindow) -> tuple[Port, ...]:
    return (*clock_ports(), *stream_ports(p.lanes * p.element, p.lanes * p.element))


def _timing(p: SlidingWindow) -> ModuleTiming:
    row = p.cols * p.folds
    frame = p.rows * row

    # Reader: step (oh, ow, kh, kw, fold) needs the word at (y, x, fold) unless that is padding.
    oh, ow, kh, kw, fold = np.ix_(*(np.arange(n, dtype=np.int64) for n in (p.oh, p.ow, p.kh, p.kw, p.folds)))
    y = oh * p.sh - p.pt + kh * p.dh
    x = ow * p.sw - p.pl + kw * p.dw
    inside = (y >= 0) & (y < p.rows) & (x >= 0) & (x < p.cols)
    need = np.where(inside, (y * p.cols + x) * p.folds + fold, np.int64(-1)).reshape(-1)

    # Writer: word w overwrites word w - buffer, so the window's top row must have moved beyond that one. Output row r
    # of frame f starts at word f * frame + (r * sh - pt) * row; it is entered by the last step of the row before.
    earlier = p.buffer // frame + 2
    frames = np.arange(-earlier, 2, dtype=np.int64)[:, None]
    starts = (frames * frame + (np.arange(p.oh, dtype=np.int64)[None, :] * p.sh - p.pt) * row).reshape(-1)
    word = np.arange(frame, dtype=np.int64)
    entered = np.searchsorted(starts, word - p.buffer + 1) - earlier * p.oh
    release = entered * (p.ow * p.kh * p.kw * p.folds) - 1

    taken = np.ones(frame, dtype=np.bool_)
    read = np.ones(len(need), dtype=np.bool_)
    return ModuleTiming(
        (
            Process("sliding_window.writer", taken, ~taken),
            Process("sliding_window.reader", ~read, read),
        ),
        (Edge(0, 1, need, 1, release, 1),),
        0,
        1,
        Channel.pipe(1),
    )


def _pace(p: SlidingWindow) -> Pace:
    written, read = p.rows * p.cols * p.folds, p.oh * p.ow * p.kh * p.kw * p.folds
    return Pace(written, read, max(written, read))


def _span(p: SlidingWindow) -> int:
    """The largest of the positions and leads that the module counts."""
    row, tail = p.cols * p.folds, p.rows - (p.oh - 1) * p.sh
    right = (p.ow - 1) * p.sw - p.pl + (p.kw - 1) * p.dw
    return max(p.buffer, max(p.sh, tail) * row, (p.kh - 1) * p.dh * row + (right + 1) * p.folds, p.pl * p.folds)


def _base_bits(p: SlidingWindow) -> int:
    """Bits of a row's address that move: by whole rows only, so the lowest bits that all its steps lack are constant."""
    row, tail = p.cols * p.folds, p.rows - (p.oh - 1) * p.sh
    steps = gcd(p.buffer, p.sh * row % p.buffer, tail * row % p.buffer, p.pt * row % p.buffer)
    return max(0, bits(p.buffer) - ((steps & -steps).bit_length() - 1))


def _padded(p: SlidingWindow) -> tuple[bool, bool]:
    """Whether taps leave the image across, and down."""
    bottom = (p.oh - 1) * p.sh - p.pt + (p.kh - 1) * p.dh
    right = (p.ow - 1) * p.sw - p.pl + (p.kw - 1) * p.dw
    return p.pl > 0 or right >= p.cols, p.pt > 0 or bottom >= p.rows


def _resources(p: SlidingWindow, family: Family) -> Resources:
    bottom = (p.oh - 1) * p.sh - p.pt + (p.kh - 1) * p.dh
    right = (p.ow - 1) * p.sw - p.pl + (p.kw - 1) * p.dw
    address = bits(p.buffer)
    position = bits(_span(p) + 1) + 1
    # Coordinates are followed only along an axis that has padding.
    across, down = _padded(p)
    coordinates = (bits(max(right, p.cols) + p.pl + 1) + 1) * across + (bits(max(bottom, p.rows) + p.pt + 1) + 1) * down
    counters = sum(map(counter_bits, (p.folds, p.kw, p.kh, p.ow, p.oh)))
    base = _base_bits(p)
    word = p.lanes * p.element
    padded = across or down
    in_block = p.style is MemoryStyle.BLOCK
    lut = 0 if in_block else distributed_memory(word, p.buffer, 2, family)
    lut += weighted(
        family,
        (base, 3.64, 4.4),
        (counters, 3.0, 13.9),
        (coordinates, 2.07, 3.6),
        (word if padded else 0, 1.05, 0.7),
        (1, 16.5, 0.0),
    )
    ff = address + base + 2 * position + counters + coordinates + 1 + padded + (0 if in_block else word)
    return Resources(lut=lut, ff=ff, bram18=block_memory(word, p.buffer, family) if in_block else 0)


def _paths(p: SlidingWindow, family: Family) -> tuple[Path, ...]:
    address, position = bits(p.buffer), bits(_span(p) + 1) + 1
    across, down = _padded(p)
    counters = sum(map(counter_bits, (p.folds, p.kw, p.kh, p.ow, p.oh)))
    word = p.lanes * p.element
    in_block = p.style is MemoryStyle.BLOCK
    # A step is taken when its word is there or is padding; then every counter and coordinate moves, some by a choice of amounts.
    there = compared(position, family) + logic(4, family)
    moves = LEVEL + LEVEL + loaded(counters + position + address)
    # A word that comes in while the window moves on changes the lead by one of several amounts.
    led = LEVEL + LEVEL + added(position, family)
    # The ring's address: a sum, whether it is beyond the end, and what is left then; the lowest bits of a row's start are fixed.
    moving = max(1, _base_bits(p) - 1)
    beyond = added(moving, family)
    wrapped = added(address, family) + beyond + Depth(outs=beyond.chains) + (Depth() if family.amd else beyond)
    read = Depth(blocks=1) if in_block else Depth()
    blank = LEVEL + loaded(word) if across or down else Depth()
    return (
        Path(End.REGISTER, End.READY_OUT, compared(position, family) + LEVEL),
        Path(End.INPUT, End.REGISTER, led),
        Path(End.READY_IN, End.REGISTER, LEVEL + moves),
        Path(End.REGISTER, End.OUTPUT, blank),
        Path(End.REGISTER, End.OUTPUT, read + (LEVEL if across or down else Depth())),
        Path(End.REGISTER, End.REGISTER, there + moves),
        Path(End.REGISTER, End.REGISTER, compared(position, family) + led + (Depth() if family.amd else LEVEL)),
        Path(End.REGISTER, End.REGISTER, wrapped if in_block else wrapped + banked(p.buffer, family)),
    )


SLIDING_WINDOW = ModuleDeclaration("sliding_window", SlidingWindow, _ports, _resources, _timing, _pace, _paths)
