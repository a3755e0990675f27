"""Candidates as points on two logarithmic axes, the best of them joined: a picture for documents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError

__all__ = ["Point", "scatter_svg"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 460, 84, 170, 56, 56
_COLOURS = ("#2f6db5", "#c2410c", "#2e7d32", "#7b3fa0", "#8a6d00", "#0f766e")
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2933; }
.title { font-size: 16px; font-weight: 600; }
.small { font-size: 11px; fill: #52606d; }
.grid { stroke: #e4e7eb; }
.front { stroke: #52606d; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
.ground { fill: #f8fafb; }"""


@dataclass(frozen=True)
class Point:
    """A candidate: what it is called, its two figures, and which group it is drawn with."""

    label: str
    x: float
    y: float
    group: str = ""


def scatter_svg(title: str, x_title: str, y_title: str, points: Sequence[Point], front: Sequence[Point]) -> str:
    """SVG of points and of the front through the best of them, which are labelled.

    Raises
    ------
    LeptonError
        If there is no point, or one has a figure that is not above 0.
    """
    if not points or any(not (point.x > 0 and point.y > 0) for point in points):
        raise LeptonError("points on logarithmic axes need figures above 0", fix="give at least one such point")
    x_range, y_range = _range([point.x for point in points]), _range([point.y for point in points])

    def across(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * _share(value, x_range)

    def up(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * _share(value, y_range)

    out = Writer("  ")
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    out.line(f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">')
    out.line(f"<title>{escape(title)}</title>")
    out.line(f"<style>{_STYLE}</style>")
    out.line(f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>')
    out.line(f'<text class="title" x="{_LEFT}" y="30">{escape(title)}</text>')
    for tick in _ticks(x_range):
        out.line(f'<path class="grid" d="M{across(tick):.1f} {_TOP} V{_HEIGHT - _BOTTOM}"/>')
        out.line(
            f'<text class="small" x="{across(tick):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:.3g}</text>'
        )
    for tick in _ticks(y_range):
        out.line(f'<path class="grid" d="M{_LEFT} {up(tick):.1f} H{_WIDTH - _RIGHT}"/>')
        out.line(f'<text class="small" x="{_LEFT - 8}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    out.line(f'<text x="{middle}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(x_title)}</text>')
    height = (_TOP + _HEIGHT - _BOTTOM) / 2
    out.line(f'<text transform="translate(20 {height}) rotate(-90)" text-anchor="middle">{escape(y_title)}</text>')
    ordered = sorted(front, key=lambda point: (point.x, point.y))
    if len(ordered) > 1:
        steps = " L".join(f"{across(point.x):.1f} {up(point.y):.1f}" for point in ordered)
        out.line(f'<path class="front" d="M{steps}"/>')
    groups = list(dict.fromkeys(point.group for point in points))
    for point in points:
        colour = _COLOURS[groups.index(point.group) % len(_COLOURS)]
        place = f'cx="{across(point.x):.1f}" cy="{up(point.y):.1f}" r="5" fill="{colour}"'
        out.line(f"<circle {place}><title>{escape(point.label)}</title></circle>")
    for index, point in enumerate(ordered):
        # Above and below in turn, so that close neighbours do not cover one another.
        y = up(point.y) + (-9 if index % 2 == 0 else 17)
        out.line(f'<text class="small" x="{across(point.x) + 8:.1f}" y="{y:.1f}">{escape(point.label)}</text>')
    for index, group in enumerate(groups):
        y = _TOP + 16 + 20 * index
        out.line(f'<circle cx="{_WIDTH - _RIGHT + 24}" cy="{y - 4}" r="5" fill="{_COLOURS[index % len(_COLOURS)]}"/>')
        out.line(f'<text class="small" x="{_WIDTH - _RIGHT + 36}" y="{y}">{escape(group)}</text>')
    out.line("</svg>")
    return out.text()


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The values' range in powers of ten, a tenth of a decade wider at both ends."""
    return math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1


def _share(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return (math.log10(value) - low) / (high - low)


def _ticks(ends: tuple[float, float]) -> Iterator[float]:
    """Round numbers inside a range: 1, 2 and 5 times the powers of ten, and more of them where the range is narrow."""
    factors = (1, 2, 5) if ends[1] - ends[0] > 1 else (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9)
    for power in range(math.floor(ends[0]), math.ceil(ends[1]) + 1):
        for factor in factors:
            if ends[0] <= math.log10(factor) + power <= ends[1]:
                yield factor * 10.0**power
