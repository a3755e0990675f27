"""Two axes of a picture that is written as SVG: where values stand, round values along them, and the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lepton_dse.emit.writer import Writer

__all__ = ["Axis", "grid", "legal"]

_LOGARITHMIC = 20.0
"""Ratio of the greatest value to the least from which an axis is logarithmic by itself."""
_NARROW = 0.6
"""Decades of a logarithmic axis below which round values stand at even steps."""
_ROOM = 0.06


@dataclass(frozen=True)
class Axis:
    """One side: its values are placed between two ends in pixels.

    Parameters
    ----------
    low, high : float
        Of its range, as powers of ten where it is logarithmic.
    logarithmic : bool
    start, end : float
        Pixels.
    """

    low: float
    high: float
    logarithmic: bool
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, *, logarithmic: bool | None = None) -> Axis:
        """An axis that holds all values, a little wider at both ends.

        Parameters
        ----------
        values : sequence of float
            Above 0 on a logarithmic axis.
        start, end : float
        logarithmic : bool, optional
            Where nothing is said, if the values are above 0 and far apart.
        """
        low, high = min(values), max(values)
        if logarithmic is None:
            logarithmic = low > 0 and high / low >= _LOGARITHMIC
        if logarithmic:
            low, high = math.log10(low), math.log10(high)
        room = _ROOM * (high - low) or (0.1 if logarithmic else _ROOM * abs(high)) or 1.0
        return cls(low - room, high + room, logarithmic, start, end)

    def place(self, value: float) -> float:
        """Where a value stands, in pixels."""
        at = math.log10(value) if self.logarithmic else value
        return self.start + (self.end - self.start) * (at - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values inside it."""
        span = self.high - self.low
        if not self.logarithmic:
            return _evenly(self.low, self.high)
        if span < _NARROW:
            return _evenly(10.0**self.low, 10.0**self.high)
        ends = max(math.ceil(self.low), -307), min(math.floor(self.high), 307)
        powers = range(ends[0] - 1, ends[1] + 1, max(1, (ends[1] - ends[0]) // 8))
        factors = (1, 1.5, 2, 3, 5, 7) if span <= 1.2 else (1, 2, 5) if span < 2.6 else (1,)
        found = [factor * 10.0**power for power in powers for factor in factors]
        return [value for value in found if self.low <= math.log10(value) <= self.high]


def _evenly(low: float, high: float) -> list[float]:
    """Three to eight multiples of 1, 2 or 5 times a power of ten."""
    span = high - low
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= 7)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def grid(out: Writer, across: Axis, up: Axis, titles: tuple[str, str], words: Sequence[Callable[[float], str]]) -> None:
    """Lines at round values, their labels and the titles; the style's classes are ``grid`` and ``small``.

    Parameters
    ----------
    out : Writer
    across, up : Axis
        The second runs from the bottom to the top.
    titles : (str, str)
    words : two callables
        A value of each axis as text.
    """
    left, right, top, bottom = across.start, across.end, up.end, up.start
    out.line(f'<path class="grid" d="M{left} {top} V{bottom} H{right}" fill="none"/>')
    for tick in across.ticks():
        x = across.place(tick)
        out.line(f'<path class="grid" d="M{x:.1f} {top} V{bottom}"/>')
        out.line(f'<text class="small" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{legal(words[0](tick))}</text>')
    for tick in up.ticks():
        y = up.place(tick)
        out.line(f'<path class="grid" d="M{left} {y:.1f} H{right}"/>')
        out.line(f'<text class="small" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{legal(words[1](tick))}</text>')
    out.line(f'<text x="{(left + right) / 2}" y="{bottom + 46}" text-anchor="middle">{legal(titles[0])}</text>')
    place = f"translate(20 {(top + bottom) / 2}) rotate(-90)"
    out.line(f'<text transform="{place}" text-anchor="middle">{legal(titles[1])}</text>')


def legal(text: str) -> str:
    """Text that XML can hold."""
    printable = "".join(mark if mark.isprintable() else "?" for mark in text)
    return escape(printable.encode(errors="replace").decode())
