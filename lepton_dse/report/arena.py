"""An arena over time as a picture: which block holds which bytes while which operation runs."""

from __future__ import annotations

from collections.abc import Mapping

from lepton_dse.emit.writer import Writer
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import MemoryMap
from lepton_dse.report.axes import Axis, legal
from lepton_dse.report.text import scaled

__all__ = ["arena_svg", "arenas_svg"]

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 84, 24, 84, 60, 520
_LEAST, _STEP, _WIDEST = 640, 22, 1_400
_PANEL, _GAP = 330, 28  # pixels of each of several maps, and between them
_COLOURS = ("#2f6db5", "#c2410c", "#2e7d32", "#7b3fa0", "#8a6d00", "#0f766e")
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2933; }
.title { font-size: 16px; font-weight: 600; }
.small { font-size: 11px; fill: #52606d; }
.inside { font-size: 11px; fill: #ffffff; }
.grid { stroke: #e4e7eb; }
.bound { stroke: #b91c1c; stroke-width: 1.5; stroke-dasharray: 6 4; }
.block { stroke: #ffffff; }
.ground { fill: #f8fafb; }"""


def arena_svg(graph: Graph, mapped: MemoryMap) -> str:
    """SVG of a memory map: time runs in operations to the right, bytes upwards, a rectangle a tensor, the bound as a line.

    Parameters
    ----------
    graph : Graph
    mapped : MemoryMap
        Of that graph.
    """
    steps = len(graph.ops) + 1
    width = _LEFT + _RIGHT + min(_WIDEST, max(_LEAST, _STEP * steps))
    title = f"{graph.name}: an arena of {scaled(mapped.peak, 'B')}"
    whole = scaled(sum(place.bytes for place in mapped.places.values()), "B")
    out = _opened(title, f"{_proved(mapped)}; all tensors side by side {whole}", width)
    up = _upwards(out, mapped.peak, width)
    _panel(out, mapped, Axis(0.0, float(steps), False, _LEFT, width - _RIGHT), up)
    return _closed(out, width)


def arenas_svg(graph: Graph, maps: Mapping[str, MemoryMap]) -> str:
    """SVG of several memory maps of one graph beside one another, on one scale of bytes.

    Parameters
    ----------
    graph : Graph
    maps : mapping of str to MemoryMap
        What to write above each, and the map.
    """
    width = _LEFT + len(maps) * (_PANEL + _GAP) - _GAP + _RIGHT
    out = _opened(f"{graph.name}: its results in one arena", "", width)
    up = _upwards(out, max(mapped.peak for mapped in maps.values()), width)
    for index, (name, mapped) in enumerate(maps.items()):
        left = _LEFT + index * (_PANEL + _GAP)
        above = f"{name}: {scaled(mapped.peak, 'B')}"
        out.line(f'<text x="{left}" y="54">{legal(above)}</text>')
        out.line(f'<text class="small" x="{left}" y="72">{legal(_proved(mapped))}</text>')
        _panel(out, mapped, Axis(0.0, len(graph.ops) + 1.0, False, left, left + _PANEL), up)
    return _closed(out, width)


def _proved(mapped: MemoryMap) -> str:
    return "which is the least there is" if mapped.peak == mapped.bound else f"at least {scaled(mapped.bound, 'B')} (dashed)"


def _opened(title: str, below: str, width: int) -> Writer:
    out = Writer("  ")
    size = f'viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}"'
    out.line(f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">')
    out.line(f"<title>{legal(title)}</title>")
    out.line(f"<style>{_STYLE}</style>")
    out.line(f'<rect class="ground" width="{width}" height="{_HEIGHT}"/>')
    out.line(f'<text class="title" x="{_LEFT}" y="32">{legal(title)}</text>')
    if below:
        out.line(f'<text class="small" x="{_LEFT}" y="54">{legal(below)}</text>')
    return out


def _upwards(out: Writer, peak: int, width: int) -> Axis:
    """The axis of bytes, drawn across the whole picture."""
    up = Axis(0.0, 1.02 * max(peak, 1), False, _HEIGHT - _BOTTOM, _TOP)
    for tick in up.ticks():
        y = up.place(tick)
        out.line(f'<path class="grid" d="M{_LEFT} {y:.1f} H{width - _RIGHT}"/>')
        out.line(f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{legal(scaled(tick, "B"))}</text>')
    return up


def _panel(out: Writer, mapped: MemoryMap, across: Axis, up: Axis) -> None:
    """One map with its bound and its axis of operations."""
    _blocks(out, mapped, across, up)
    bound = up.place(mapped.bound)
    out.line(f'<path class="bound" d="M{across.start:g} {bound:.1f} H{across.end:g}"/>')
    for tick in across.ticks():
        place = f'x="{across.place(tick):.1f}" y="{_HEIGHT - _BOTTOM + 18}"'
        out.line(f'<text class="small" {place} text-anchor="middle">{tick:g}</text>')


def _closed(out: Writer, width: int) -> str:
    out.line(f'<text x="{width / 2}" y="{_HEIGHT - 16}" text-anchor="middle">operations, in the order in which they run</text>')
    out.line("</svg>")
    return out.text()


def _blocks(out: Writer, mapped: MemoryMap, across: Axis, up: Axis) -> None:
    """A rectangle for each tensor where it lives; those that share a block have one colour and stand side by side."""
    owners = list(dict.fromkeys(place.block for place in mapped.places.values()))
    for name, place in mapped.places.items():
        left, right = across.place(place.first), across.place(place.last + 1)
        low, high = up.place(place.offset), up.place(place.offset + place.bytes)
        colour = _COLOURS[owners.index(place.block) % len(_COLOURS)]
        shape = f'x="{left:.1f}" y="{high:.1f}" width="{right - left:.1f}" height="{low - high:.1f}"'
        told = f"{name}: {scaled(place.bytes, 'B')} at {place.offset}"
        out.line(f'<rect class="block" {shape} fill="{colour}"><title>{legal(told)}</title></rect>')
        if low - high > 14 and right - left > 7 * len(name):
            out.line(f'<text class="inside" x="{left + 4:.1f}" y="{(low + high) / 2 + 4:.1f}">{legal(name)}</text>')
