"""A streaming design as a picture: its stages, what leads where, and how many cycles each is busy for a frame."""

from __future__ import annotations

from xml.sax.saxutils import escape

from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.plan import Plan
from lepton_dse.report.clock import clock_words
from lepton_dse.report.text import count, share
from lepton_dse.schedule.stream import StreamGraph, stream_graph
from lepton_dse.schedule.stream.layers import INPUT

__all__ = ["dataflow_svg"]

_BOX, _GAP, _LEFT, _TOP, _BAR, _LANE = 132, 34, 24, 96, 130, 20
_LEAST_WIDTH = 860  # of the summary
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2933; }
.title { font-size: 16px; font-weight: 600; }
.small { font-size: 11px; fill: #52606d; }
.strong { font-weight: 600; }
.frame { fill: #ffffff; stroke: #9aa5b1; }
.track { fill: #e4e7eb; }
.busy { fill: #2f6db5; }
.slowest { fill: #c2410c; }
.wire { stroke: #52606d; stroke-width: 1.5; fill: none; }
.ground { fill: #f8fafb; }"""


def dataflow_svg(plan: Plan, lowered: LoweredGraph) -> str:
    """SVG of a streaming plan: a box a stage with its folding, its cycles a frame as a bar, and the FIFOs between them.

    Parameters
    ----------
    plan : Plan
    lowered : LoweredGraph
        What the plan is of: its streams say what leads where.

    Raises
    ------
    LeptonError
        If the plan is not a streaming plan.
    """
    cycles = plan.predicted.cycles
    if cycles is None or not plan.predicted.ops:
        raise LeptonError("the plan has no stages to draw", where=plan.target, fix="plan for an fpga target")
    streams = stream_graph(lowered)
    if not isinstance(streams, StreamGraph) or [layer.name for layer in streams.layers] != [op.name for op in plan.predicted.ops]:
        raise LeptonError("the graph is not the one that the plan was made with", where=plan.target, fix="plan again")
    ops = plan.predicted.ops
    bypasses = _bypasses(streams)
    busiest = max(op.latency_s for op in ops)
    width = max(_LEAST_WIDTH, 2 * _LEFT + len(ops) * _BOX + (len(ops) - 1) * _GAP)
    bottom = _TOP + _BAR + 124
    height = bottom + 24 + _LANE * len({lane for _, _, _, lane in bypasses})
    out = Writer("  ")
    out.line(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    )
    title = f"{plan.model} on {plan.target}, {plan.precision}"
    out.line(f"<title>{escape(title)}</title>")
    out.line(f"<style>{_STYLE}</style>")
    out.line(f'<rect class="ground" width="{width}" height="{height}"/>')
    _text(out, _LEFT, 32, title, "title")
    pace = f"latency {count(cycles.latency)} cycles, one result every {count(cycles.interval)} cycles"
    summary = f"{pace}, at {clock_words(cycles)}"
    _text(out, _LEFT, 54, summary)
    _text(out, _LEFT, 74, "bars: cycles a frame in which the stage's busiest process takes a step", "small")
    for index, op in enumerate(ops):
        x = _LEFT + index * (_BOX + _GAP)
        slowest = op.latency_s == busiest
        filled = max(2.0, _BAR * op.latency_s / busiest)
        out.line(f'<rect class="frame" x="{x}" y="{_TOP}" width="{_BOX}" height="{_BAR + 124}" rx="6"/>')
        out.line(f'<rect class="track" x="{x + 46}" y="{_TOP + 12}" width="40" height="{_BAR}"/>')
        kind = "slowest" if slowest else "busy"
        out.line(f'<rect class="{kind}" x="{x + 46}" y="{_TOP + 12 + _BAR - filled:.1f}" width="40" height="{filled:.1f}"/>')
        base = _TOP + _BAR + 34
        _text(out, x + 10, base, _short(op.name), "strong")
        _text(out, x + 10, base + 18, op.kind, "small")
        _text(out, x + 10, base + 38, f"{count(round(op.latency_s * cycles.clock_hz))} cycles")
        _text(out, x + 10, base + 56, f"busy {share(op.utilization)}", "small")
        folding = (
            f"PE {op.mapping.factor('pe')}, SIMD {op.mapping.factor('simd')}" if op.macs else f"lanes {op.mapping.factor('simd')}"
        )
        _text(out, x + 10, base + 74, folding, "small")
        if index + 1 < len(ops) and index in streams.sources[index + 1]:
            y = _TOP + _BAR // 2
            start, end = x + _BOX, x + _BOX + _GAP
            out.line(f'<path class="wire" d="M{start} {y} H{end} M{end - 7} {y - 5} L{end} {y} L{end - 7} {y + 5}"/>')
            _text(out, start + 5, y - 8, _depth(plan, streams, index + 1, streams.sources[index + 1].index(index)), "small")
    for source, sink, operand, lane in bypasses:
        start = _LEFT + source * (_BOX + _GAP) + 2 * _BOX // 3
        end, y = _LEFT + sink * (_BOX + _GAP) + _BOX // 4 + 12 * operand, bottom + 18 + _LANE * lane
        path = f"M{start} {bottom} V{y} H{end} V{bottom} M{end - 5} {bottom + 7} L{end} {bottom} L{end + 5} {bottom + 7}"
        out.line(f'<path class="wire" d="{path}"/>')
        _text(out, start + 8, y - 4, _depth(plan, streams, sink, operand), "small")
    out.line("</svg>")
    return out.text()


def _bypasses(streams: StreamGraph) -> list[tuple[int, int, int, int]]:
    """Streams that do not lead to the next stage: source, sink, operand, and a lane in which none overlaps another."""
    found: list[tuple[int, int, int, int]] = []
    for sink, sources in enumerate(streams.sources):
        for operand, source in enumerate(sources):
            if source != INPUT and (source, operand) != (sink - 1, sources.index(source)):
                taken = {lane for begin, end, _, lane in found if begin <= sink and source <= end}
                lane = next(number for number in range(len(found) + 1) if number not in taken)
                found.append((source, sink, operand, lane))
    return found


def _depth(plan: Plan, streams: StreamGraph, sink: int, operand: int) -> str:
    """Words of the FIFO behind a stage, and of that in front of the operand where it has one of its own."""
    source = plan.op(streams.layers[streams.sources[sink][operand]].name).fifo_depth or 2
    feeds = plan.op(streams.layers[sink].name).feed_depths
    return f"x{source}" + (f" x{feeds[operand]}" if feeds and feeds[operand] else "")


def _text(out: Writer, x: float, y: float, text: str, kind: str = "") -> None:
    name = f' class="{kind}"' if kind else ""
    out.line(f'<text{name} x="{x:g}" y="{y:g}">{escape(text)}</text>')


def _short(text: str) -> str:
    return text if len(text) <= 17 else f"{text[:16]}…"
