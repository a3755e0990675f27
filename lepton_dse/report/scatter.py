"""Candidates as points on two logarithmic axes, the best of them joined: a picture for documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.report.axes import Axis, grid, legal

__all__ = ["Point", "scatter_svg"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 460, 84, 170, 56, 60
_LETTER = 6.2  # pixels a letter is wide, about
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


def scatter_svg(
    title: str, x_title: str, y_title: str, points: Sequence[Point], front: Sequence[Point], *, joined: bool = True
) -> str:
    """SVG of points and of the front through the best of them, which are labelled.

    Parameters
    ----------
    title, x_title, y_title : str
    points : sequence of Point
    front : sequence of Point
        Those that are labelled.
    joined : bool
        Whether a line goes through the labelled ones.

    Raises
    ------
    LeptonError
        If there is no point, or one has a figure that is not above 0.
    """
    if not points or any(not (point.x > 0 and point.y > 0) for point in points):
        raise LeptonError("points on logarithmic axes need figures above 0", fix="give at least one such point")
    across = Axis.over([point.x for point in points], _LEFT, _WIDTH - _RIGHT, logarithmic=True)
    up = Axis.over([point.y for point in points], _HEIGHT - _BOTTOM, _TOP, logarithmic=True)
    out = Writer("  ")
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    out.line(f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">')
    out.line(f"<title>{legal(title)}</title>")
    out.line(f"<style>{_STYLE}</style>")
    out.line(f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>')
    out.line(f'<text class="title" x="{_LEFT}" y="30">{legal(title)}</text>')
    grid(out, across, up, (x_title, y_title), [_number] * 2)
    ordered = sorted(front, key=lambda point: (point.x, point.y))
    if joined and len(ordered) > 1:
        steps = " L".join(f"{across.place(point.x):.1f} {up.place(point.y):.1f}" for point in ordered)
        out.line(f'<path class="front" d="M{steps}"/>')
    groups = list(dict.fromkeys(point.group for point in points))
    for point in points:
        colour = _COLOURS[groups.index(point.group) % len(_COLOURS)]
        place = f'cx="{across.place(point.x):.1f}" cy="{up.place(point.y):.1f}" r="5" fill="{colour}"'
        out.line(f"<circle {place}><title>{legal(point.label)}</title></circle>")
    dots = [(across.place(point.x), up.place(point.y)) for point in points]
    named = [(point.label, across.place(point.x), up.place(point.y)) for point in ordered]
    for (label, _, _), (x, y) in zip(named, _label_places(named, dots), strict=True):
        out.line(f'<text class="small" x="{x:.1f}" y="{y:.1f}">{legal(label)}</text>')
    for index, group in enumerate(groups if groups != [""] else []):
        y = _TOP + 16 + 20 * index
        out.line(f'<circle cx="{_WIDTH - _RIGHT + 24}" cy="{y - 4}" r="5" fill="{_COLOURS[index % len(_COLOURS)]}"/>')
        out.line(f'<text class="small" x="{_WIDTH - _RIGHT + 36}" y="{y}">{legal(group)}</text>')
    out.line("</svg>")
    return out.text()


def _number(value: float) -> str:
    return f"{value:,.12g}" if 1e-4 <= value < 1e6 else f"{value:.3g}"


def _label_places(named: Sequence[tuple[str, float, float]], dots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where each label's text starts: beside its point, off other labels and points where there is room.

    Parameters
    ----------
    named : sequence of (str, float, float)
        A label, and where its point is, in pixels.
    dots : sequence of (float, float)
        Where all points are.
    """
    taken: list[tuple[float, float, float, float]] = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    found = []
    for label, x, y in named:
        wide = _LETTER * len(label)
        tries = [(start, y + rise) for rise in (-9, 17, 4, -21, 29) for start in (x + 9, x - 9 - wide)]
        boxes = [(start, base - 10, start + wide, base + 3) for start, base in tries if start >= _LEFT]
        best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(best)
        found.append((best[0], best[3] - 3))
    return found


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Area that two boxes (left, top, right, bottom) share."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return wide * high if wide > 0 and high > 0 else 0.0
