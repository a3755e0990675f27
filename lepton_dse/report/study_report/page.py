"""The page: what was asked, the answer, the picture, the front as a table, and how it was found."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files as package_files

from plotly.offline import get_plotlyjs

from lepton_dse.report.study_report.details import Details
from lepton_dse.report.study_report.evidence import evidence_html
from lepton_dse.report.study_report.facts import Facts, grouped_reasons
from lepton_dse.report.study_report.figures import FIGURE_WORDS, bound_words, figure_text, interval_text, known_by
from lepton_dse.report.study_report.markup import cell, head, listed, row, section, select, some, wrapped
from lepton_dse.report.study_report.points import CHOICES, axes_of, chosen, drawn, points_json
from lepton_dse.report.study_report.sections import growth_html, plans_html
from lepton_dse.report.text import count
from lepton_dse.study import Finished, Standing
from lepton_dse.study.objectives import Objective

__all__ = ["study_html"]

_SCRIPTS = ("common.js", "page.js", "plans.js", "charts.js")
_LONG = 240
"""Letters of a reason beyond which its rest is folded away."""
_REASONS = 25
"""Kinds of reasons that are listed."""


def study_html(study: Finished, details: Details | None = None) -> str:
    """One HTML document about a finished study; the same study gives the same text.

    All that came from files is escaped. The document's own policy names its scripts by their digests, so that no other one runs,
    and refuses every connection.

    Parameters
    ----------
    study : Finished
    details : Details, optional
        What stands behind its figures, as :func:`~lepton_dse.report.study_report.details.details_of` finds it in the folder; the
        page has no plans, rooflines, observations or growth without.
    """
    facts = Facts(study)
    folder = package_files("lepton_dse.report.study_report")
    style = (folder / "page.css").read_text("utf-8")
    code = "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    library = get_plotlyjs().replace("\r\n", "\n")
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in (library, code))
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
    title = escape(f"Study of {study.graph.name}")
    scripts = []
    if facts.front:
        scripts = [
            f'<script type="application/json" id="data">{points_json(facts, details)}</script>',
            f"<script>{library}</script>",
            f"<script>{code}</script>",
        ]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{title}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{title}</h1>",
        *_question(study),
        *_answer(facts),
        *(_picture(facts) + _front(facts) if facts.front else []),
        *(plans_html(details) if details and facts.front else []),
        *(evidence_html(facts, details.holdings, details.suites, details.screened) if details and facts.front else []),
        *_search(facts, growth_html(details) if details and facts.front else []),
        *_glossary(study),
        "</main>",
        *scripts,
        "</body>",
        "</html>",
        "",
    ]
    return "\n".join(lines).encode(errors="replace").decode()  # a name may hold half of a surrogate pair, which no file can


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _question(study: Finished) -> list[str]:
    settings, graph = study.settings, study.graph
    space = settings.space
    wanted = listed(FIGURE_WORDS[name].best for name in settings.minimize)
    kept = listed(bound_words(bound) for bound in settings.constraints)
    asked = f"Which hardware, and which compression of the network, gives {wanted}" + (f", with {kept}?" if kept else "?")
    hardware = sum(sweep.size for sweep in space.targets)
    axes = [
        some(hardware, "choice of hardware", "choices of hardware")
        if space.meshed
        else some(hardware, "hardware model", "hardware models"),
        some(len(space.formats), "number format", "number formats"),
        some(len(space.sparsities), "share of zero weights", "shares of zero weights"),
        some(len(space.channels), "share of channels cut", "shares of channels cut"),
        some(len(space.batches), "batch size", "batch sizes"),
    ]
    network = (
        f"The network is {graph.name}: {some(len(graph.ops), 'operation', 'operations')}, {count(graph.parameters)} parameters, "
        f"{count(graph.macs)} multiply-accumulates a sample. "
        f"To choose from: {listed(axes)}; together {some(space.size, 'candidate', 'candidates')}."
    )
    return section("question", "The question", [f'<p class="asked">{escape(asked)}</p>', f"<p>{escape(network)}</p>"])


def _answer(facts: Facts) -> list[str]:
    if not facts.front:
        text = "None of the candidates that were evaluated is feasible. Why, and for how many, is listed below."
        return section("answer", "The answer", [f"<p>{text}</p>"])
    rows = []
    for objective in facts.objectives:
        best, equal = facts.best(objective)
        name = objective.figure
        others = f" ({count(equal)} of the front are as good)" if equal > 1 else ""
        value = figure_text(name, best.row.figures.get(name))
        cells = [f'<a href="#candidate={best.index}">{escape(str(best.row.candidate))}</a>{others}', value]
        cells.append(escape(known_by(name, best.row).partition(":")[0]))
        rows.append(row(FIGURE_WORDS[name].best.removeprefix("the "), cells))
    table = ["<table>", head(["objective", "best candidate", "figure", "evidence"]), "<tbody>", *rows, "</tbody>", "</table>"]
    size = f"The front has {some(len(facts.front), 'member', 'members')}: no candidate that was evaluated beats any of them."
    sentences = [size, *_tradeoffs(facts), _latencies(facts)]
    return section("answer", "The answer", [*wrapped(table), f"<p>{escape(' '.join(sentences))}</p>"])


def _tradeoffs(facts: Facts) -> list[str]:
    """What is given up between the best of the first objective and the best of each other."""
    first, *others = facts.objectives
    start, _ = facts.best(first)
    found = []
    for other in others:
        end, _ = facts.best(other)
        ends = f"From {FIGURE_WORDS[first.figure].best} to {FIGURE_WORDS[other.figure].best}"
        if end is start or other.value(end.row.figures) == other.value(start.row.figures):
            found.append(f"The candidate with {FIGURE_WORDS[first.figure].best} has {FIGURE_WORDS[other.figure].best} too.")
        else:
            found.append(f"{ends}, {_change(first, start, end)} and {_change(other, start, end)}.")
    return found


def _change(objective: Objective, start: Standing, end: Standing) -> str:
    words = FIGURE_WORDS[objective.figure]
    before, after = (entry.row.figures[objective.figure] for entry in (start, end))
    assert before is not None
    assert after is not None
    ends = f"from {words.write(before)} to {words.write(after)}"
    if words.additive or min(before, after) <= 0 or before == after:
        return f"{words.name} {'goes' if before != after else 'stays'} {ends}"
    ratio = max(before, after) / min(before, after)
    times = f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"
    return f"{words.name} {'rises' if after > before else 'falls'} {times} times, {ends}"


def _latencies(facts: Facts) -> str:
    graded = [entry.row.evidence for entry in facts.front]
    counts = [f"{count(graded.count(grade))} {grade}" for grade in dict.fromkeys(graded)]
    return f"Latencies of the front: {listed(counts)}."


def _picture(facts: Facts) -> list[str]:
    shown, names = drawn(facts), axes_of(facts)
    targets = dict.fromkeys(entry.row.candidate.hardware.target for entry in shown)
    options = [f'<option value="{place}">{escape(name)}</option>' for place, name in enumerate(targets)]
    controls = [select("target", "Target", ['<option value="">all targets</option>', *options])]
    if len(names) > 2:
        for place, (axis, label) in enumerate((("x", "Across"), ("y", "Up"))):
            entries = [
                f'<option value="{number}"{" selected" if number == place else ""}>{escape(FIGURE_WORDS[name].name)}</option>'
                for number, name in enumerate(names)
            ]
            controls.append(select(axis, label, entries))
    note = "Large points are the front, small ones are feasible and beaten. A point, or a row of the table, shows its figures."
    if len(shown) < len(facts.feasible):
        note += f" Drawn are {count(len(shown))} of {count(len(facts.feasible))}, evenly spread, with all of the front."
    lines = [
        f'<div class="controls">{"".join(controls)}</div>',
        f'<p class="note">{escape(note)}</p>',
        "<noscript><p>Pictures and the plans op by op need a browser with scripts.</p></noscript>",
        '<div class="split">',
        '<div id="plot" role="group" aria-label="Feasible candidates; a table of the front follows"></div>',
        '<div id="candidate" role="region" aria-label="Chosen candidate">',
        '<h3 id="candidate-name" aria-live="polite">No candidate is chosen</h3>',
        '<div id="candidate-figures"></div>',
        "</div>",
        "</div>",
    ]
    return section("picture", "All feasible candidates", lines)


def _front(facts: Facts) -> list[str]:
    asked = [*(entry.figure for entry in facts.objectives), *(entry.figure for entry in facts.constraints)]
    measured = any(entry.row.accuracy is not None for entry in facts.front)
    names = list(dict.fromkeys((*asked, "latency_s", *(["accuracy"] if measured else []))))
    headings = [*CHOICES, *(FIGURE_WORDS[name].name for name in names), "evidence of latency"]
    head = "".join(f'<th scope="col"><button type="button">{escape(heading)}</button></th>' for heading in headings)
    rows = [_member(entry, names) for entry in facts.front]
    note = "A heading sorts the table; a second time turns it around. Enter on a row chooses its candidate."
    table = ['<table id="front">', f"<thead><tr>{head}</tr></thead>", "<tbody>", *rows, "</tbody>", "</table>"]
    return section("members", "The front", [f'<p class="note">{note}</p>', *wrapped(table)])


def _member(entry: Standing, names: Sequence[str]) -> str:
    found = entry.row
    variant, batch = found.candidate.variant, found.candidate.batch
    zeros = 1 - variant.pattern[0] / variant.pattern[1] if variant.pattern else float(variant.sparsity)
    keys = (None, None, zeros, variant.channels, batch)
    cells = [cell(text, key) for text, key in zip(chosen(found.candidate), keys, strict=True)]
    intervals = {"accuracy": found.accuracy, "loss_points": found.loss}
    for name in names:
        value = found.figures.get(name)
        detail = interval_text(name, intervals.get(name))
        text = escape(figure_text(name, value)) + (f"<small>{escape(detail)}</small>" if detail else "")
        cells.append(f'<td class="number" data-value="{"" if value is None else repr(value)}">{text}</td>')
    band = "" if found.band_pct is None else f", {found.band_pct:.1f}%"
    cells.append(cell(f"{found.evidence}{band}", None))
    return f'<tr tabindex="0" data-index="{entry.index}">{"".join(cells)}</tr>'


def _search(facts: Facts, growth: Sequence[str]) -> list[str]:
    study, found = facts.study, facts.study.found
    size = study.settings.space.size
    way = (
        f"All {count(size)} candidates were evaluated, so the front is exact in the costs."
        if found.enumerated
        else f"{count(found.evaluated)} of {count(size)} candidates were evaluated, drawn by {study.settings.sampler} with seed "
        f"{study.settings.seed}: better ones may exist."
    )
    lines = [f"<p>{escape(way)}</p>"]
    figures = [("feasible", len(facts.feasible)), ("infeasible", found.infeasible), ("failed", found.failed)]
    figures.append(("on the front", len(facts.front)))
    if study.samples:
        metric = study.settings.metric
        accuracy = (
            f"Accuracy is {metric}. Variants of the network were screened on {count(min(study.settings.screen, study.samples))} "
            f"samples; {count(found.measured)} of them, those of the front among them, were measured on {count(study.samples)}."
        )
        lines.append(f"<p>{escape(accuracy)}</p>")
    rows = [row(name, [count(number)]) for name, number in figures]
    rows.append(row("hypervolume of the front", [f"{found.hypervolume:.4f}"]))
    lines += wrapped(["<table>", head(["candidates", "number"]), "<tbody>", *rows, "</tbody>", "</table>"])
    lines.append(
        '<p class="note">The hypervolume is the share that the front dominates of the box between the best and the worst '
        "feasible figures: 1 is the most.</p>"
    )
    lines += growth
    out = [entry for entry in study.candidates if entry.why]
    for heading, failed in (("Why candidates are infeasible", False), ("Why candidates failed", True)):
        lines += _reasons(heading, [entry for entry in out if entry.failed == failed])
    return section("search", "How the search went", lines)


def _reasons(heading: str, entries: Sequence[Standing]) -> list[str]:
    if not entries:
        return []
    groups = grouped_reasons(entries)
    rows = [_reason(group.example, count(group.targets), group.candidates) for group in groups[:_REASONS]]
    if groups[_REASONS:]:
        rows.append(_reason("other reasons", "", sum(group.candidates for group in groups[_REASONS:])))
    note = '<p class="note">Reasons that differ in numbers and targets alone are one row, which shows the first of them.</p>'
    table = ["<table>", head(["reason", "targets", "candidates"]), "<tbody>", *rows, "</tbody>", "</table>"]
    return [f"<h3>{heading}</h3>", note, *wrapped(table)]


def _reason(why: str, targets: str, candidates: int) -> str:
    text = escape(why)
    if len(why) > _LONG:
        text = f"<details><summary>{escape(why[:_LONG])}…</summary>…{escape(why[_LONG:])}</details>"
    return f'<tr><td>{text}</td><td class="number">{targets}</td><td class="number">{count(candidates)}</td></tr>'


def _glossary(study: Finished) -> list[str]:
    terms = [
        ("front", "The candidates of which no other is at least as good in all objectives and better in one."),
        ("batch", "Samples that pass through the network together. Latency and energy are those of the whole batch."),
        ("zeros", "Share of every layer's weights that is zero; 2:4 means that two of every four are kept."),
        ("executed", "Observed by running it, or predicted by a model that what runs equals."),
        ("banded", "Predicted by a model whose mean error on a named validation suite is given."),
        ("unchecked", "Predicted by a model that nothing has confirmed here."),
    ]
    if study.settings.space.meshed:
        terms.append(
            (
                "mesh",
                "Devices of a cluster that share the network, as a grid of named axes: x=2,y=4 is two by four. Stages of a "
                "pipeline have a mesh each. Latency and throughput are those of all devices together, peak memory that of "
                "one, bytes exchanged those of the messages between them.",
            )
        )
    if study.samples:
        terms.append(
            ("points lost", "Accuracy of the float network less that of the compressed one, on the same samples, times 100.")
        )
    entries = [f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in terms]
    return section("words", "What the words mean", ["<dl>", *entries, "</dl>"])
