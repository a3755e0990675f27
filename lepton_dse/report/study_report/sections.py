"""Sections that the page's script fills: a member's plan, its roofline, the device, and how the front grew."""

from __future__ import annotations

from html import escape

from lepton_dse.report.study_report.details import Details
from lepton_dse.report.study_report.markup import section, select, some
from lepton_dse.report.text import count, share

__all__ = ["growth_html", "plans_html"]


def plans_html(details: Details) -> list[str]:
    """One member of the front at a time: what is computed how, what the device has left, and how near to its limits it works."""
    members = details.members
    options = [f'<option value="{entry.entry.index}">{escape(str(entry.entry.row.candidate))}</option>' for entry in members]
    total = len(details.study.found.front)
    few = ""
    if len(members) < total:
        shown = f"Plans of {count(len(members))} of the {count(total)} members are on this page"
        few = f" {shown}: the best of each objective, and others evenly spread."
    told = (
        "What a member of the front does with each operation: in which formats, how it is spread over the device, how "
        f"long it takes, and what keeps it from being faster. A member that is chosen elsewhere on this page is shown here.{few}"
    )
    plan = [
        f"<p>{escape(told)}</p>",
        f'<div class="controls">{select("plan", "Member", options)}</div>',
        '<p id="plan-absent" hidden>The chosen candidate has no plan on this page; below is that of the member named above.</p>',
        '<p id="plan-note"></p>',
        '<div id="plan" class="wide" tabindex="0" role="region" aria-label="Operations of the member"></div>',
        '<p id="plan-proof" class="note"></p>',
    ]
    use = [
        "<p>How much of the device this member takes. A bar that is full leaves no room.</p>",
        '<div id="use" class="wide"></div>',
    ]
    told = (
        "Each point is an operation. The further to the right, the more it computes for each byte that it moves; the higher, the "
        "more it computes a second. Slanted lines are what each memory delivers, level lines what the arithmetic of a format can "
        "do: no operation lies above that of its own format. Near a slanted line an operation waits for memory, near a level one "
        "it computes as fast as the device can, and far below both it waits for something else, such as its start."
    )
    roofline = [
        f"<p>{told}</p>",
        f'<div class="controls">{select("level", "Bytes counted at", [])}</div>',
        '<p id="roofline-note" class="note"></p>',
        '<div id="roofline" class="chart tall" role="group" aria-label="Roofline of the member"></div>',
    ]
    return [
        *section("plan", "A member, operation by operation", plan),
        *section("use", "What it takes of the device", use),
        *section("roofline", "How near each operation comes to the device's limits", roofline),
    ]


def growth_html(details: Details) -> list[str]:
    """The front against the candidates evaluated, and how many choices of mappings are proven."""
    told = (
        "How the front grew while candidates were evaluated, in their order. Where the curve is level, looking at more "
        "candidates brought nothing."
    )
    return [
        "<h3>How the front grew</h3>",
        f"<p>{told}</p>",
        '<div id="growth" class="chart" role="group" aria-label="Hypervolume and size of the front"></div>',
        *_proofs(details),
    ]


def _proofs(details: Details) -> list[str]:
    searches = [member.found.report.search for member in details.members]
    known = [search for search in searches if search is not None]
    if not known:
        return []
    proven = sum(search.optimal for search in known)
    worst = max(search.gap for search in known)
    text = (
        "Inside each candidate, a second search chose how operations are mapped. Of "
        f"{some(len(known), 'member', 'members')} with such a search, {count(proven)} {'is' if proven == 1 else 'are'} proven "
        "to be the best of what was searched"
    )
    text += "." if proven == len(known) else f"; of the others at most {share(worst)} could still be gained."
    return [f"<p>{escape(text)}</p>"]
