"""The front of a study as a picture that stands still: an SVG written here, or a PNG of it. No browser takes part."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial

from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.report.axes import Axis, grid, legal
from lepton_dse.report.study_report.facts import Facts
from lepton_dse.report.study_report.figures import FIGURE_WORDS, figure_text
from lepton_dse.report.study_report.points import axes_of, drawn
from lepton_dse.report.text import count
from lepton_dse.study import Finished, Standing
from lepton_dse.study.objectives import Objective

__all__ = ["front_png", "front_svg"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 960, 470, 96, 230, 64, 62
_LINE, _KEYS, _TARGETS, _TITLE, _NAME, _NEAR = 19, 16, 18, 84, 27, 16
_COLOURS = ("#2f7fd0", "#d9641e", "#2e9d4f", "#a05bc4", "#b08d00", "#12968a", "#d6457a", "#7a8794")
_STYLE = """\
text { font: 13px system-ui, "DejaVu Sans", sans-serif; fill: #1f2933; }
.title { font-size: 18px; font-weight: 600; }
.small { font-size: 12px; fill: #52606d; }
.tag { font-size: 11px; font-weight: 600; }
.grid { stroke: #dfe4e9; }
.front { stroke: #52606d; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
.beaten { opacity: 0.35; }
.ground { fill: #ffffff; }"""


def front_svg(study: Finished) -> str:
    """SVG of a study's feasible candidates in its first two objectives, members of the front large, numbered and named.

    Parameters
    ----------
    study : Finished

    Returns
    -------
    str
        The same study gives the same text; names stay text.

    Raises
    ------
    LeptonError
        If no candidate is feasible, or a figure of all of them is not known.
    """
    facts = Facts(study)
    if not facts.front:
        raise LeptonError("no candidate is feasible, so there is no front to draw", fix="loosen the study's constraints")
    names = axes_of(facts)[:2]
    points = [(entry, at) for entry in drawn(facts) if (at := _known(entry, names)) is not None]
    if not points:
        raise LeptonError(f"no candidate has both {names[0]} and {names[1]}", fix="choose other objectives")
    columns = list(zip(*(at for _, at in points), strict=True))
    across = Axis.over(columns[0], _LEFT, _WIDTH - _RIGHT)
    up = Axis.over(columns[1], _HEIGHT - _BOTTOM, _TOP)
    members = [(entry, at) for entry, at in points if entry.front]
    keys = members[:_KEYS]
    height = _HEIGHT + _LINE * (len(keys) + (len(members) > _KEYS)) + 34
    out = Writer("  ")
    out.line(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">'
    )
    title = f"{study.graph.name}: {count(len(facts.front))} of {count(len(facts.feasible))} feasible candidates are on the front"
    out.line(f"<title>{legal(title)}</title>")
    out.line(f"<style>{_STYLE}</style>")
    out.line(f'<rect class="ground" width="{_WIDTH}" height="{height}"/>')
    out.line(f'<text class="title" x="24" y="34">{legal(_short(title, _TITLE))}</text>')
    titles = _title(names[0]), _title(names[1])
    grid(out, across, up, titles, [partial(figure_text, name) for name in names])
    _marks(out, facts, points, across, up)
    _legend(out, [entry for entry, _ in points])
    _named(out, facts, keys, len(members))
    out.line("</svg>")
    return out.text()


def front_png(svg: str) -> bytes:
    """PNG of an SVG, twice its size.

    Raises
    ------
    MissingToolError
        If the package resvg-py is not installed.
    """
    try:
        resvg = importlib.import_module("resvg_py")
    except ImportError as error:
        raise MissingToolError("a PNG needs the package resvg-py", fix="pip install resvg-py, or write an SVG") from error
    return bytes(resvg.svg_to_bytes(svg_string=svg, zoom=2, sans_serif_family="DejaVu Sans"))


def _known(entry: Standing, names: Sequence[str]) -> tuple[float, float] | None:
    first, second = (entry.row.figures.get(name) for name in names)
    return None if first is None or second is None else (first, second)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _title(figure: str) -> str:
    """What an axis shows, and which way is better."""
    return f"{FIGURE_WORDS[figure].name}, {'greater' if Objective(figure).maximize else 'less'} is better"


def _marks(out: Writer, facts: Facts, points: Sequence[tuple[Standing, tuple[float, float]]], across: Axis, up: Axis) -> None:
    targets = _targets([entry for entry, _ in points])
    placed = [(entry, across.place(at[0]), up.place(at[1])) for entry, at in points]
    for entry, x, y in placed:
        if not entry.front:
            out.line(_mark(x, y, 3, targets.index(entry.row.candidate.hardware.target), entry, "beaten"))
    members = [place for place in placed if place[0].front]
    if len(facts.objectives) == 2 and len(members) > 1:
        steps = " L".join(f"{x:.1f} {y:.1f}" for _, x, y in sorted(members, key=lambda place: place[1:]))
        out.line(f'<path class="front" d="M{steps}"/>')
    tags: list[tuple[float, float, list[str]]] = []
    for number, (entry, x, y) in enumerate(members, 1):
        out.line(_mark(x, y, 6, targets.index(entry.row.candidate.hardware.target), entry, "member"))
        near = next((tag for tag in tags if abs(tag[0] - x) < _NEAR and abs(tag[1] - y) < _NEAR), None)
        if near is not None and number <= _KEYS:
            near[2].append(str(number))
        elif number <= _KEYS:
            tags.append((x, y, [str(number)]))
    for x, y, numbers in tags:
        out.line(f'<text class="tag" x="{x + 9:.1f}" y="{y - 7:.1f}">{", ".join(numbers)}</text>')


def _targets(entries: Sequence[Standing]) -> list[str]:
    return list(dict.fromkeys(entry.row.candidate.hardware.target for entry in entries))


def _mark(x: float, y: float, size: int, number: int, entry: Standing | None, kind: str) -> str:
    """A circle, or a square where the colours have come round."""
    colour = _COLOURS[number % len(_COLOURS)]
    told = "" if entry is None else f"<title>{legal(str(entry.row.candidate))}</title>"
    if number // len(_COLOURS) % 2 == 0:
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}">{told}</circle>'
    box = f'x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size}" height="{2 * size}"'
    return f'<rect class="{kind}" {box} fill="{colour}">{told}</rect>'


def _legend(out: Writer, entries: Sequence[Standing]) -> None:
    targets = _targets(entries)
    x = _WIDTH - _RIGHT + 26
    for number, name in enumerate(targets[:_TARGETS]):
        y = _TOP + 10 + _LINE * number
        out.line(_mark(x, y - 4, 5, number, None, "key"))
        out.line(f'<text class="small" x="{x + 12}" y="{y}">{legal(_short(name, _NAME))}</text>')
    if len(targets) > _TARGETS:
        more = f"and {count(len(targets) - _TARGETS)} more"
        out.line(f'<text class="small" x="{x + 12}" y="{_TOP + 10 + _LINE * _TARGETS}">{more}</text>')


def _named(out: Writer, facts: Facts, keys: Sequence[tuple[Standing, tuple[float, float]]], total: int) -> None:
    """The members by their numbers, with their objectives."""
    names = [entry.figure for entry in facts.objectives]
    y = _HEIGHT + 14
    for number, (entry, _) in enumerate(keys, 1):
        figures = ", ".join(f"{FIGURE_WORDS[name].name} {figure_text(name, entry.row.figures.get(name))}" for name in names)
        out.line(f'<text class="tag" x="24" y="{y}">{number}</text>')
        out.line(f'<text class="small" x="48" y="{y}">{legal(_short(f"{entry.row.candidate}: {figures}", 138))}</text>')
        y += _LINE
    if total > len(keys):
        out.line(f'<text class="small" x="48" y="{y}">and {count(total - len(keys))} more members of the front</text>')
