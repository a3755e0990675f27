"""The command that says why a study's candidate is what it is: what binds, what others trade, and what the next lever gives."""

from __future__ import annotations

from pathlib import Path

from lepton_dse.cli.console import out
from lepton_dse.errors import LeptonError
from lepton_dse.report.sharding import sharding_table
from lepton_dse.report.study_report.facts import Facts
from lepton_dse.report.study_report.figures import FIGURE_WORDS, bound_words, figure_text, known_by
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, share
from lepton_dse.study import Standing, read_finished
from lepton_dse.study.detail import Detail
from lepton_dse.study.levers import Lever, levers
from lepton_dse.study.objectives import Objective

__all__ = ["explain_study"]


def explain_study(folder: Path, index: int | None, output: Path | None) -> bool:
    """Print why a candidate is as it is, the front's best in the first objective by default; false where it is not feasible.

    How devices share its operations is shown where they do, and its plan is written where `output` says.
    """
    facts = Facts(read_finished(folder))
    entry = _chosen(facts, folder, index)
    if output is not None and entry.why:
        raise LeptonError(f"candidate {entry.index} has no plan: {entry.why}", where=str(folder), fix="choose a feasible one")
    shared = bool(entry.row.candidate.hardware.mesh) and not entry.why
    planned = Detail(folder, facts.study).planned(entry) if output is not None or shared else None
    _explain(facts, entry)
    if planned is not None and planned.plan.sharding is not None:
        out().print(sharding_table(planned.lowered, planned.plan.sharding))
    if planned is not None and output is not None:
        planned.save(output)
        out().print(f"wrote {output}", soft_wrap=True)
    return not entry.why


def _explain(facts: Facts, entry: Standing) -> None:
    """Print what is known of a candidate, and what the next lever would give."""
    console, candidate, figures = out(), entry.row.candidate, entry.row.figures
    console.print(f"Candidate {entry.index}: {candidate}")
    for name, value in figures.items():
        if value is not None and name in facts.figures:
            console.print(f"  {FIGURE_WORDS[name].name} {figure_text(name, value)}, {known_by(name, entry.row)}")
    console.print(_why(facts, entry))
    for bound in facts.constraints:
        kept_out = facts.keeps_out(bound, entry) if not entry.why else 0
        broken = bound.broken(figures)
        told = f"broken: {broken}" if broken else f"binds: it keeps out {count(kept_out)} that dominate this one"
        console.print(f"Constraint: {bound_words(bound)}; {told if broken or kept_out else 'does not bind'}")
    if entry.front and len(facts.front) > 1:
        console.print("The front's other ends:")
        for objective in facts.objectives:
            best, _ = facts.best(objective)
            if best is not entry:
                console.print(f"  {FIGURE_WORDS[objective.figure].best}: candidate {best.index}, {best.row.candidate}")
    found = levers(facts.study, entry.index)
    if not found:
        console.print("No other single choice is better in any objective.")
        return
    names = [objective.figure for objective in facts.objectives]
    table = plain_table("Next lever: one other choice each", "lever", *(FIGURE_WORDS[name].name for name in names), "and then")
    for lever in found:
        table.add_row(
            f"{lever.axis}: {lever.choice}", *(_change(name, entry, lever.standing) for name in names), _then(facts, lever)
        )
    console.print(table)


def _chosen(facts: Facts, folder: Path, index: int | None) -> Standing:
    if index is None:
        if not facts.front:
            raise LeptonError(
                "nothing is feasible", where=str(folder), fix="name a candidate by --candidate, or relax a constraint"
            )
        return facts.best(facts.objectives[0])[0]
    for entry in facts.study.candidates:
        if entry.index == index:
            return entry
    fix = f"'lepton report {folder}' shows the candidates; there are {count(len(facts.study.candidates))}"
    raise LeptonError(f"candidate {index} was not evaluated", where=str(folder), fix=fix)


def _why(facts: Facts, entry: Standing) -> str:
    """Whether it is on the front, and what keeps it off."""
    if entry.why:
        return f"It is out: {entry.why}"
    if not entry.front:
        better = facts.beaten_by(entry)
        return "It is not on the front" + (
            "" if better is None else f": candidate {better.index}, {better.row.candidate}, is nowhere worse"
        )
    of = f"{count(len(facts.feasible))} feasible of {count(len(facts.study.candidates))} evaluated"
    best = [FIGURE_WORDS[objective.figure].best for objective in facts.objectives if _is_best(facts, objective, entry)]
    told = f" It has {' and '.join(best)} of them." if best else ""
    return f"It is on the front: of {of} none is better in one objective and nowhere worse.{told}"


def _is_best(facts: Facts, objective: Objective, entry: Standing) -> bool:
    best, _ = facts.best(objective)
    return objective.value(best.row.figures) == objective.value(entry.row.figures)


def _change(name: str, here: Standing, other: Standing) -> str:
    """A figure of the other, and what that is beside this one."""
    before, after = here.row.figures.get(name), other.row.figures.get(name)
    text = figure_text(name, after)
    if before is None or after is None or before == after:
        return text
    if FIGURE_WORDS[name].additive or not before:
        return f"{text} ({after - before:+.3g})"
    ratio = after / before
    return (
        f"{text} ({ratio:.3g} times)" if not 0.5 < ratio < 2 else f"{text} ({'+' if ratio > 1 else '-'}{share(abs(ratio - 1))})"
    )


def _then(facts: Facts, lever: Lever) -> str:
    entry = lever.standing
    if entry.why:
        return f"out: {entry.why}"
    if entry.front:
        return f"on the front, candidate {entry.index}"
    better = facts.beaten_by(entry)
    return "not on the front" if better is None else f"beaten by candidate {better.index}"
