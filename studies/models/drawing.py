"""Pictures that only these studies draw: lines over a share, and bars of several groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_dse.emit.writer import Writer
from lepton_dse.report.axes import Axis, grid, legal
from lepton_dse.report.text import scaled

__all__ = ["COLOURS", "STYLE", "bars_svg", "closed", "lines_svg", "opened"]

COLOURS = ("#2f6db5", "#c2410c", "#2e7d32", "#7b3fa0", "#8a6d00", "#0f766e")
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2933; }
.title { font-size: 16px; font-weight: 600; }
.small { font-size: 11px; fill: #52606d; }
.inside { font-size: 10px; fill: #ffffff; }
.grid { stroke: #e4e7eb; }
.even { stroke: #52606d; stroke-dasharray: 5 4; }
.ground { fill: #f8fafb; }"""


def opened(title: str, width: int, height: int, left: int) -> Writer:
    """The picture's frame with its title."""
    out = Writer("  ")
    out.line(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
    )
    out.line(f"<title>{legal(title)}</title>")
    out.line(f"<style>{STYLE}</style>")
    out.line(f'<rect class="ground" width="{width}" height="{height}"/>')
    out.line(f'<text class="title" x="{left}" y="30">{legal(title)}</text>')
    return out


def closed(out: Writer) -> str:
    """Its text."""
    out.line("</svg>")
    return out.text()


def lines_svg(
    title: str,
    x_title: str,
    y_title: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    level: float | None = None,
    *,
    logarithmic: tuple[bool, bool] = (False, False),
    dashed: Mapping[str, str] | None = None,
) -> str:
    """Lines through points, named at their ends.

    Parameters
    ----------
    title, x_title, y_title : str
    lines : mapping of str to sequence of (float, float)
    level : float, optional
        Where a dashed line lies from side to side.
    logarithmic : (bool, bool)
        Either axis; an even one that goes up starts at 0.
    dashed : mapping of str to str, optional
        Lines that are dashed, and the ones whose colours they have.
    """
    width, height, left, right, top, bottom = 820, 460, 84, 210, 56, 60
    dashed = dashed or {}
    every = [point for points in lines.values() for point in points]
    across = Axis.over([x for x, _ in every], left, width - right, logarithmic=logarithmic[0])
    ground = ([] if logarithmic[1] else [0.0]) + ([] if level is None else [level])
    up = Axis.over([*ground, *(y for _, y in every)], height - bottom, top, logarithmic=logarithmic[1])
    out = opened(title, width, height, left)
    grid(out, across, up, (x_title, y_title), [_number] * 2)
    if level is not None:
        out.line(f'<path class="even" d="M{left} {up.place(level):.1f} H{width - right}"/>')
    ends: list[float] = []
    ordered = sorted(lines.items(), key=lambda entry: entry[1][-1][1])
    drawn = [name for name, _ in ordered if name not in dashed]
    for name, points in ordered:
        colour = COLOURS[drawn.index(dashed.get(name, name)) % len(COLOURS)]
        steps = " L".join(f"{across.place(x):.1f} {up.place(y):.1f}" for x, y in points)
        if len(points) > 1:
            broken = ' stroke-dasharray="6 4"' if name in dashed else ""
            out.line(f'<path d="M{steps}" stroke="{colour}" stroke-width="2" fill="none"{broken}/>')
        for x, y in points:
            out.line(f'<circle cx="{across.place(x):.1f}" cy="{up.place(y):.1f}" r="4" fill="{colour}"/>')
        end = up.place(points[-1][1])
        place = min(end, ends[-1] - 15) if ends else end  # names stand above one another, however close the lines end
        ends.append(place)
        leader = f"M{across.place(points[-1][0]) + 6:.1f} {end:.1f} L{width - right + 6} {place:.1f}"
        out.line(f'<path d="{leader}" stroke="{colour}" stroke-opacity="0.5"/>')
        out.line(f'<text class="small" x="{width - right + 10}" y="{place + 4:.1f}">{legal(name)}</text>')
    return closed(out)


def bars_svg(title: str, groups: Mapping[str, Mapping[str, float]], inner: Mapping[str, Mapping[str, float]]) -> str:
    """Bars to the right, one a member of each group, a dark part of each being another figure.

    Parameters
    ----------
    title : str
    groups, inner : mapping of str to mapping of str to float
        Group to member to length; the second is what is dark.
    """
    members = list(dict.fromkeys(member for group in groups.values() for member in group))
    width, left, right, top, bar = 960, 190, 40, 62, 15
    step = bar * len(groups) + 14
    height = top + step * len(members) + 78
    longest = max(length for group in groups.values() for length in group.values())
    across = Axis(0.0, 1.08 * longest, False, left, width - right)
    out = opened(title, width, height, 24)
    for tick in across.ticks():
        x = across.place(tick)
        out.line(f'<path class="grid" d="M{x:.1f} {top - 8} V{height - 66}"/>')
        out.line(f'<text class="small" x="{x:.1f}" y="{height - 50}" text-anchor="middle">{legal(scaled(tick, "B"))}</text>')
    for row, member in enumerate(members):
        y = top + step * row
        out.line(f'<text x="{left - 10}" y="{y + step / 2:.1f}" text-anchor="end">{legal(member)}</text>')
        for index, (group, lengths) in enumerate(groups.items()):
            if member not in lengths:
                continue
            colour, at = COLOURS[index % len(COLOURS)], y + bar * index
            for length, opacity in ((lengths[member], 0.45), (min(inner[group][member], lengths[member]), 1.0)):
                end = across.place(length)
                out.line(
                    f'<rect x="{left}" y="{at}" width="{max(end - left, 1):.1f}" height="{bar - 3}" fill="{colour}" '
                    f'fill-opacity="{opacity}"/>'
                )
            end = across.place(lengths[member]) + 5
            out.line(f'<text class="small" x="{end:.1f}" y="{at + 10}">{scaled(lengths[member], "B")}</text>')
    for index, group in enumerate(groups):
        x = left + 130 * index
        out.line(f'<rect x="{x}" y="{height - 32}" width="12" height="12" fill="{COLOURS[index % len(COLOURS)]}"/>')
        out.line(f'<text class="small" x="{x + 18}" y="{height - 22}">{legal(group)}</text>')
    return closed(out)


def _number(value: float) -> str:
    return f"{value:g}"
