"""The candidates of a study as data for the page's script: where each is drawn, and what is told of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lepton_dse.data import Interval
from lepton_dse.report.study_report.details import Details
from lepton_dse.report.study_report.facts import Facts
from lepton_dse.report.study_report.figures import FIGURE_WORDS, bound_words, figure_text, interval_text, known_by
from lepton_dse.report.text import count, share
from lepton_dse.study import Candidate, Standing
from lepton_dse.study.objectives import Constraint, Objective

__all__ = ["CHOICES", "FIELDS", "axes_of", "chosen", "drawn", "points_json"]

CHOICES = ("hardware", "format", "zeros", "channels cut", "batch")
FIELDS = ("index", "front", "target", "chosen", "at", "figures", "bounds", "better")
_TEXTS = [FIELDS.index(name) for name in ("chosen", "figures", "bounds")]
_DRAWN = 5_000
"""Points that a browser shows without delay."""
_COMPANIONS = ("latency_s", "weight_bytes")
"""Second axes for a study with one objective."""


def chosen(candidate: Candidate) -> tuple[str, ...]:
    """What a candidate chose, in the order of :data:`CHOICES`."""
    variant = candidate.variant
    zeros = variant.sparsity if isinstance(variant.sparsity, str) else share(variant.sparsity)
    return str(candidate.hardware), variant.format, zeros, share(variant.channels), count(candidate.batch)


def axes_of(facts: Facts) -> tuple[str, ...]:
    """Figures that may be axes: the objectives, two figures at the least."""
    names = [entry.figure for entry in facts.objectives]
    companions = [entry.figure for entry in facts.constraints] + list(_COMPANIONS)
    return tuple(names if len(names) > 1 else list(dict.fromkeys(names + companions))[:2])


def drawn(facts: Facts) -> tuple[Standing, ...]:
    """The feasible candidates that are drawn: all of the front, and of many others as many, evenly spread, as a browser bears."""
    others = [entry for entry in facts.feasible if not entry.front]
    step = max(1, -(-len(others) // _DRAWN))
    return (*facts.front, *others[::step])


def points_json(facts: Facts, details: Details | None = None) -> str:
    """One JSON document that may stand inside a script element: nothing in it can end that.

    Each point is a list, of what `fields` names; a text is its place among `texts`, the most frequent first: most texts are those
    of many points.
    """
    axes, entries = axes_of(facts), drawn(facts)
    figures = [name for name in facts.figures if any(entry.row.figures.get(name) is not None for entry in entries)]
    targets = list(dict.fromkeys(entry.row.candidate.hardware.target for entry in entries))
    points = [_point(facts, entry, axes, figures, targets) for entry in entries]
    frequent = Counter(text for point in points for place in _TEXTS for text in point[place])
    texts = {text: number for number, (text, _) in enumerate(frequent.most_common())}
    for point in points:
        for place in _TEXTS:
            point[place] = [texts[text] for text in point[place]]
    document = {
        "axes": [_axis(name) for name in axes],
        "line": len(facts.objectives) == 2,
        "targets": targets,
        "choices": CHOICES,
        "figures": [FIGURE_WORDS[name].name for name in figures],
        "bounds": [[bound_words(bound), figures.index(bound.figure)] for bound in facts.constraints],
        "fields": FIELDS,
        "texts": list(texts),
        "points": points,
        "details": None if details is None else details.document(),
    }
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _axis(name: str) -> dict[str, Any]:
    words = FIGURE_WORDS[name]
    return {"name": words.name, "unit": words.unit, "greater": Objective(name).maximize}


def _point(facts: Facts, entry: Standing, axes: Sequence[str], figures: Sequence[str], targets: list[str]) -> list[Any]:
    """What :data:`FIELDS` names; each figure as three texts, each constraint too, figures of beaten candidates rounded."""
    found = entry.row
    intervals: dict[str, Interval | None] = {"accuracy": found.accuracy, "loss_points": found.loss}
    told: list[str] = []
    for name in figures:
        told += figure_text(name, found.figures.get(name)), interval_text(name, intervals.get(name)), known_by(name, found)
    better = facts.beaten_by(entry)
    return [
        entry.index,
        int(entry.front),
        targets.index(found.candidate.hardware.target),
        chosen(found.candidate),
        [_drawn_at(found.figures.get(name), entry) for name in axes],
        told,
        [text for bound in facts.constraints for text in _bound(facts, bound, entry)],
        None if better is None else better.index,
    ]


def _drawn_at(value: float | None, entry: Standing) -> float | None:
    return value if value is None or entry.front else float(f"{value:.5g}")


def _bound(facts: Facts, bound: Constraint, entry: Standing) -> tuple[str, str]:
    """A constraint as a candidate keeps it: what is to spare, and whether it binds."""
    value = entry.row.figures.get(bound.figure)
    spare = "-"
    if value is not None:
        left = bound.bound - value if bound.at_most else value - bound.bound
        in_words = FIGURE_WORDS[bound.figure]
        spare = in_words.write(left) if in_words.additive or not bound.bound else share(left / abs(bound.bound))
    out = facts.keeps_out(bound, entry)
    return spare, f"binds: it keeps out {count(out)} that dominate this one" if out else "does not bind"
