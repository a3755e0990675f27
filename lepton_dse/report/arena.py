"""An arena over time as a picture: which block holds which bytes while which operation runs."""

from __future__ import annotations

from lepton_dse.emit.writer import Writer
from lepton_dse.ir.graph import Graph
from lepton_dse.memory.mapping import MemoryMap
from lepton_dse.report.axes import Axis, legal
from lepton_dse.report.text import scaled

__all__ = ["arena_svg"]

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 84, 24, 84, 60, 520
_LEAST, _STEP, _WIDEST = 640, 22, 1_400
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
    """SVG of a memory map: time runs in operations to the right, bytes upwards, a rectangle a block, the bound as a line.

    Parameters
    ----------
    graph : Graph
    mapped : MemoryMap
        Of that graph.
    """
    steps = len(graph.ops) + 1
    width = _LEFT + _RIGHT + min(_WIDEST, max(_LEAST, _STEP * steps))
    across = Axis(0.0, float(steps), False, _LEFT, width - _RIGHT)
    up = Axis(0.0, 1.02 * max(mapped.peak, 1), False, _HEIGHT - _BOTTOM, _TOP)
    out = Writer("  ")
    size = f'viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}"'
    out.line(f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">')
    title = f"{graph.name}: an arena of {scaled(mapped.peak, 'B')}"
    out.line(f"<title>{legal(title)}</title>")
    out.line(f"<style>{_STYLE}</style>")
    out.line(f'<rect class="ground" width="{width}" height="{_HEIGHT}"/>')
    out.line(f'<text class="title" x="{_LEFT}" y="32">{legal(title)}</text>')
    said = "which is the least there is" if mapped.peak == mapped.bound else f"at least {scaled(mapped.bound, 'B')} (dashed)"
    whole = scaled(sum(place.bytes for place in mapped.places.values()), "B")
    out.line(f'<text class="small" x="{_LEFT}" y="54">{legal(f"{said}; all tensors side by side {whole}")}</text>')
    for tick in up.ticks():
        y = up.place(tick)
        out.line(f'<path class="grid" d="M{_LEFT} {y:.1f} H{width - _RIGHT}"/>')
        out.line(f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{legal(scaled(tick, "B"))}</text>')
    _blocks(out, mapped, across, up)
    bound = up.place(mapped.bound)
    out.line(f'<path class="bound" d="M{_LEFT} {bound:.1f} H{width - _RIGHT}"/>')
    for tick in across.ticks():
        out.line(
            f'<text class="small" x="{across.place(tick):.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>'
        )
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
