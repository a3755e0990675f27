"""The few pieces of HTML that every part of the page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from lepton_dse.report.text import count

__all__ = ["cell", "head", "listed", "row", "section", "select", "some", "wrapped"]


def section(name: str, heading: str, lines: Iterable[str]) -> list[str]:
    """A part of the page with its heading."""
    return [f'<section aria-labelledby="{name}-heading">', f'<h2 id="{name}-heading">{heading}</h2>', *lines, "</section>"]


def wrapped(table: Sequence[str]) -> list[str]:
    """A table that scrolls by itself where the page is too narrow for it."""
    return ['<div class="wide">', *table, "</div>"]


def head(headings: Sequence[str]) -> str:
    """The headings of a table's columns; they may hold markup."""
    return "<thead><tr>" + "".join(f'<th scope="col">{heading}</th>' for heading in headings) + "</tr></thead>"


def row(heading: str, cells: Sequence[str]) -> str:
    """A row of a table; the heading is escaped, the cells may hold markup."""
    return f'<tr><th scope="row">{escape(heading)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def cell(text: str, value: float | None) -> str:
    """A cell, to the right and sorted by its value where it has one."""
    if value is None:
        return f"<td>{escape(text)}</td>"
    return f'<td class="number" data-value="{value!r}">{escape(text)}</td>'


def select(name: str, label: str, options: Sequence[str]) -> str:
    """A choice with its label."""
    return f'<label>{label} <select id="select-{name}">{"".join(options)}</select></label>'


def some(number: int, one: str, many: str) -> str:
    """A number with what it counts: ``1 device``, ``2 devices``."""
    return f"{count(number)} {one if number == 1 else many}"


def listed(parts: Iterable[str]) -> str:
    """Parts of a sentence joined: ``a, b and c``."""
    *first, last = [*parts] or [""]
    return f"{', '.join(first)} and {last}" if first else last
