"""How well the figures of a study are known: observations beside predictions, and accuracy on few samples and on all.

Nothing is measured for a page. Suites whose observed figures are part of the package are run, since that is arithmetic; of the
others the page has the mean error that the hardware model states, and the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from lepton_dse.data import Interval
from lepton_dse.plan import Evidence
from lepton_dse.report.study_report.facts import Facts
from lepton_dse.report.study_report.figures import interval_text
from lepton_dse.report.study_report.markup import head, listed, section, wrapped
from lepton_dse.study.detail import Detail
from lepton_dse.targets import AnyTarget, FpgaTarget
from lepton_dse.validate.protocol import Context, SuiteResult
from lepton_dse.validate.runner import run_suites

__all__ = ["Holding", "Screened", "evidence_html", "holdings_of", "observed_json", "screened_of", "stored_suites"]

_STORED = ("tpu-v1", "energy-tpu-v1")
"""Suites of single targets whose observed figures are shipped."""
_PUBLISHED_POWER = {"google-tpu-v1": "energy-tpu-v1"}
_VARIANTS = 100
"""Variants of which both accuracies are shown."""


@dataclass(frozen=True)
class Holding:
    """What holds one kind of figure of one target.

    Parameters
    ----------
    target, figure : str
    formats : str
        Of the study, that it speaks of.
    grade : Evidence
    suite : str
        The validation suite; empty where there is none.
    error_pct : float, optional
        Mean error of that suite, where it is stored.
    told : str
        Where what was observed comes from, or why nothing was.
    """

    target: str
    figure: str
    formats: str
    grade: Evidence
    suite: str
    error_pct: float | None
    told: str


@dataclass(frozen=True)
class Screened:
    """A variant's accuracy on the first samples and on all: name and both intervals."""

    name: str
    few: Interval
    every: Interval


def holdings_of(facts: Facts, detail: Detail) -> tuple[Holding, ...]:
    """For every target with a feasible candidate, what its latency and its energy are held against."""
    settings = facts.study.settings
    shared = {sweep.target for sweep in settings.space.targets if sweep.meshes}
    used: dict[str, bool] = {}
    for entry in facts.feasible:
        name = entry.row.candidate.hardware.target
        used[name] = used.get(name, False) or entry.row.figures.get("energy_j") is not None
    return tuple(
        holding
        for name, target in detail.targets.items()
        if name in used
        for holding in (
            *_timed(name, target, settings.space.formats, planned=settings.fpga == "plan", shared=name in shared),
            _energy(name, target, known=used[name]),
        )
    )


def _timed(name: str, target: AnyTarget, formats: tuple[str, ...], *, planned: bool, shared: bool) -> list[Holding]:
    found: list[Holding] = []
    if shared:
        return [_nothing(name, "latency", listed(formats), "no devices that share a network like that were observed")]
    if isinstance(target, FpgaTarget) and planned:
        cycles = "emitted designs, run in an RTL simulator, take exactly the cycles that are predicted"
        found.append(Holding(name, "latency", "integers", Evidence.EXECUTED, "fpga-cycles", None, cycles))
        synthesis = "emitted designs, synthesised by Yosys, differ in their numbers of LUTs, flip-flops, DSPs and block RAMs"
        found.append(Holding(name, "resources", "integers", Evidence.UNCHECKED, "fpga-resources", None, synthesis))
        return found
    left = list(formats)
    for band in target.bands:
        covered = [entry for entry in formats if entry in band.formats]
        left = [entry for entry in left if entry not in covered]
        source = target.sources[band.mape_pct.source]
        if covered:
            told = f"{source.title} ({source.place})"
            found.append(Holding(name, "latency", listed(covered), Evidence.BANDED, band.suite, band.mape_pct.value, told))
    if left:
        found.append(_nothing(name, "latency", listed(left), "no device was observed in these formats"))
    return found


def _energy(name: str, target: AnyTarget, *, known: bool) -> Holding:
    power = _PUBLISHED_POWER.get(target.name)
    if not known:
        return _nothing(name, "energy", "all", "no energy is predicted")
    if power is None:
        return _nothing(name, "energy", "all", "a sum of published figures of parts; no device was observed")
    return Holding(name, "energy", "all", Evidence.UNCHECKED, power, None, "published power; nothing was fitted to it")


def _nothing(target: str, figure: str, formats: str, told: str) -> Holding:
    return Holding(target, figure, formats, Evidence.UNCHECKED, "", None, told)


def stored_suites(holdings: tuple[Holding, ...], progress: Callable[[str], None]) -> tuple[SuiteResult, ...]:
    """The suites among them whose observed figures are part of the package, as they come out now."""
    names = [name for name in dict.fromkeys(entry.suite for entry in holdings) if name in _STORED]
    return tuple(run_suites(names, Context(progress=progress))) if names else ()


def screened_of(facts: Facts, detail: Detail) -> tuple[Screened, ...]:
    """Variants that were measured on the first samples and on all of them, those of the front first."""
    study = facts.study
    few = min(study.settings.screen, study.samples)
    if few == study.samples:
        return ()
    entries = (*facts.front, *study.candidates)
    found = []
    for variant in dict.fromkeys(entry.row.candidate.variant for entry in entries):
        both = [detail.measured(variant, samples) for samples in (few, study.samples)]
        known = [None if entry is None else entry.accuracy for entry in both]
        if known[0] is not None and known[1] is not None:
            found.append(Screened(str(variant), known[0], known[1]))
    return tuple(found[:_VARIANTS])


def observed_json(results: tuple[SuiteResult, ...], screened: tuple[Screened, ...]) -> dict[str, Any]:
    """Both pictures' points, as data for the page's script."""
    return {
        "suites": [
            {
                "name": result.name,
                "metric": result.metric,
                "rows": [[entry.case, entry.predicted, entry.reference, entry.error_pct, entry.scored] for entry in result.rows],
            }
            for result in results
        ],
        "screened": [
            [entry.name, *((part.value, part.low, part.high) for part in (entry.few, entry.every))] for entry in screened
        ],
    }


def evidence_html(
    facts: Facts, holdings: tuple[Holding, ...], results: tuple[SuiteResult, ...], screened: tuple[Screened, ...]
) -> list[str]:
    """The section: the table of what holds the figures, and what the pictures beside it show."""
    by_name = {result.name: result for result in results}
    lines = [
        "<p>What stands behind the predictions for each device with a feasible candidate. Executed figures equal what an emitted "
        "design does; banded ones were compared with observations, and their mean error is given; unchecked ones have no error "
        "that they are held to, and may be far off.</p>"
    ]
    alike: dict[tuple[Holding, ...], list[str]] = {}
    for target in dict.fromkeys(entry.target for entry in holdings):
        same = tuple(replace(entry, target="") for entry in holdings if entry.target == target)
        alike.setdefault(same, []).append(target)
    rows = [line for same, targets in alike.items() for line in _rows(targets, same, by_name)]
    headings = ["device", "figure", "formats", "evidence", "mean error", "what it was compared with"]
    lines += wrapped(['<table id="holdings">', head(headings), "<tbody>", *rows, "</tbody>", "</table>"])
    if any(result.rows for result in results):
        told = (
            "Each point is one case that was both predicted and observed. On the line the two are equal; above it the prediction "
            "is too high. Hollow points rest on assumptions and stand outside the mean error."
        )
        lines += [f'<p class="note">{told}</p>', '<div id="observed" role="group" aria-label="Predicted and observed"></div>']
    elif not any(entry.grade is Evidence.BANDED for entry in holdings):
        lines.append("<p>No observation of any device of this study is part of the package, so there is nothing to draw.</p>")
    else:
        told = "The observations are not part of the package, so there is nothing to draw here"
        lines.append(f"<p>{told}; <code>lepton validate</code> with a suite's name compares them one by one.</p>")
    return section("evidence", "How well the figures are known", [*lines, *_accuracies(facts, screened)])


def _rows(targets: Sequence[str], entries: Sequence[Holding], results: Mapping[str, SuiteResult]) -> list[str]:
    """All that holds the figures of targets of which the same is to be said."""
    name = f'<th scope="rowgroup" rowspan="{len(entries)}">{"<br>".join(map(escape, targets))}</th>'
    return [f"<tr>{'' if number else name}{_cells(entry, results.get(entry.suite))}</tr>" for number, entry in enumerate(entries)]


def _cells(entry: Holding, result: SuiteResult | None) -> str:
    error = entry.error_pct if result is None or result.mape_pct is None else result.mape_pct
    told = f"<small>{escape(entry.told)}</small>"
    if entry.suite and result is None:
        told += f"<small>what was observed is not stored here; lepton validate {escape(entry.suite)} compares it</small>"
    elif result is not None:
        told += f"<small>{escape(result.source)}</small>"
    shown = "-" if error is None else f"{error:.1f}%"
    texts = (entry.figure, entry.formats, str(entry.grade), shown)
    return "".join(f"<td>{escape(text)}</td>" for text in texts) + f"<td>{escape(entry.suite or 'nothing')}{told}</td>"


def _accuracies(facts: Facts, screened: tuple[Screened, ...]) -> list[str]:
    study = facts.study
    if not study.samples:
        return []
    if not screened:
        few = min(study.settings.screen, study.samples)
        once = "Accuracy was measured once, on all samples."
        return ["<h3>Accuracy</h3>", f"<p>{once if few == study.samples else 'No variant was measured on all samples.'}</p>"]
    rows = [
        f'<tr><th scope="row">{escape(entry.name)}</th>'
        + "".join(
            f'<td class="number">{part.value:.4f}<small>{escape(interval_text("accuracy", part))}</small></td>'
            for part in (entry.few, entry.every)
        )
        + f'<td class="number">{entry.every.value - entry.few.value:+.4f}</td></tr>'
        for entry in screened
    ]
    told = (
        "Variants of the network were first measured on few samples, to save time, and those that could be on the front on all. "
        "The two figures of a variant should lie within each other's interval."
    )
    headings = ["variant", "on few samples", "on all samples", "change"]
    return [
        "<h3>Accuracy on few samples, and on all</h3>",
        f"<p>{told}</p>",
        '<div id="screened" class="chart" role="group" aria-label="Accuracy on few samples and on all"></div>',
        *wrapped(["<table>", head(headings), "<tbody>", *rows, "</tbody>", "</table>"]),
    ]
