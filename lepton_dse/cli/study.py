"""The command that searches hardware and compression together."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from lepton_dse.cli.console import Rate, out, print_json
from lepton_dse.data import Interval
from lepton_dse.errors import LeptonError
from lepton_dse.report.study_report.figures import FIGURE_WORDS, figure_text
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, seconds, share
from lepton_dse.study import Found, Row, Step, Study, schema
from lepton_dse.study.cluster import dask_executor, workers_of
from lepton_dse.study.objectives import FIGURES

__all__ = ["StudyArguments", "print_schema", "study"]

_SCHEMA = 1
_INTERRUPTED = 130


def print_schema() -> None:
    """Print the JSON schema of a study's file."""
    print_json(schema())


@dataclass(frozen=True)
class StudyArguments:
    """What the command line asks for."""

    path: Path | None
    folder: Path | None
    workers: int | None
    resume: bool
    reuse: Path | None
    dask: str | None
    storage: str | None
    study_name: str | None


def study(request: StudyArguments, *, as_json: bool) -> int:
    """Run a study and print its front; the exit code."""
    path, folder = request.path, request.folder
    if path is None or folder is None:
        raise LeptonError("no study" if path is None else "no folder", fix="lepton study STUDY.toml -o DIR")
    asked = Study.read(path, folder)
    if request.dask is not None and request.workers is not None:
        raise LeptonError("both --workers and --dask", fix="give one of them: a cluster has workers of its own")
    with nullcontext() if request.dask is None else dask_executor(request.dask) as executor, _bar() as bar:
        asked.run(
            executor,
            workers=request.workers if executor is None else workers_of(executor),
            resume=request.resume,
            reuse=request.reuse,
            storage=request.storage,
            study_name=request.study_name,
            progress=bar.step,
        )
    found = asked.found
    assert found is not None
    if found.interrupted:
        again = " ".join(["lepton study", str(path), "-o", str(folder), *_again(request), "--resume"])
        print(f"lepton: stopped after {count(found.evaluated)} candidates; go on with: {again}", file=sys.stderr)
        return _INTERRUPTED
    if as_json:
        print_json(_document(asked, found))
    else:
        _show(asked, found, bar.elapsed)
    return 0 if found.front else 1


def _again(request: StudyArguments) -> list[str]:
    """Options that going on takes too."""
    storage = None if request.storage is None else "URL"  # which may hold a password
    named = {"--reuse": request.reuse, "--dask": request.dask, "--storage": storage, "--study-name": request.study_name}
    return [part for name, value in named.items() if value is not None for part in (name, str(value))]


@dataclass
class _Bar:
    """One line a stage: what is done, how fast, the time left, and the size of the front."""

    progress: Progress
    tasks: dict[str, Any] = field(default_factory=dict)

    def step(self, step: Step) -> None:
        """Show how far the study is."""
        if step.stage not in self.tasks:
            self.tasks[step.stage] = self.progress.add_task(step.stage, total=step.total, front=step.front)
        task = self.tasks[step.stage]
        self.progress.update(task, completed=step.done, total=step.total, front=step.front)
        self.progress.update(self.tasks[""], front=step.front)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.progress.tasks[0].elapsed or 0.0


@contextmanager
def _bar() -> Iterator[_Bar]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("front {task.fields[front]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Bar(progress, {"": progress.add_task("study", total=None, front=0)})


def _show(asked: Study, found: Found, elapsed: float) -> None:
    console = out()
    if found.front:
        console.print(_table(asked, found.front))
    else:
        console.print("nothing is feasible:")
    for name, why in found.reasons if not found.front else ():
        console.print(f"  {name}: {why}")
    console.print(_how(asked, found, elapsed))


def _table(asked: Study, rows: tuple[Row, ...]) -> Table:
    settings = asked.settings
    wanted = [*settings.minimize, *(entry.figure for entry in settings.constraints)]
    figures = [name for name in dict.fromkeys(("latency_s", *wanted)) if name != "accuracy"]
    measured = any(row.accuracy is not None for row in rows)
    meshed = settings.space.meshed
    choices = ["target", *(["mesh"] if meshed else []), "format", "zeros", "cut", "batch"]
    table = plain_table(
        f"{asked.graph.name}: Pareto front of {', '.join(settings.minimize)}",
        *choices,
        *(FIGURE_WORDS[name].name for name in figures),
        *(["accuracy, 95% interval"] if measured else []),
        "evidence of latency",
    )
    for row in rows:
        variant = row.candidate.variant
        zeros = variant.sparsity if isinstance(variant.sparsity, str) else share(variant.sparsity)
        hardware = row.candidate.hardware
        table.add_row(
            str(replace(hardware, mesh="", stages=1)),
            *([hardware.sharing or "-"] if meshed else []),
            variant.format,
            zeros,
            share(variant.channels),
            str(row.candidate.batch),
            *(figure_text(name, row.figures.get(name)) for name in figures),
            *([_interval(row.accuracy)] if measured else []),
            row.evidence if row.band_pct is None else f"{row.evidence}, {row.band_pct:.1f}%",
        )
    return table


def _interval(found: Interval | None) -> str:
    if found is None:
        return "-"
    return f"{found.value:.4f}, {found.low:.4f} to {found.high:.4f} ({count(found.count)})"


def _how(asked: Study, found: Found, elapsed: float) -> str:
    space = asked.settings.space.size
    way = (
        f"all {count(space)} candidates evaluated, so that the front is exact in the costs"
        if found.enumerated
        else f"{count(found.evaluated)} of {count(space)} candidates sampled by {asked.settings.sampler}"
    )
    out_of = f"{count(found.infeasible)} infeasible, {count(found.failed)} failed"
    accuracy = f"; {count(found.measured)} variants measured on all samples" if asked.settings.measures else ""
    if found.reused_prices or found.reused_accuracies:
        accuracy += f"; reused {count(found.reused_prices)} prices and {count(found.reused_accuracies)} accuracies"
    return f"{way}, {out_of}{accuracy}; hypervolume {found.hypervolume:.4f}; {seconds(elapsed)}"


def _document(asked: Study, found: Found) -> dict[str, Any]:
    space = asked.settings.space
    return {
        "schema_version": _SCHEMA,
        "model": asked.graph.name,
        "space": {"size": space.size, **space.model_dump(mode="json")},
        "enumerated": found.enumerated,
        "evaluated": found.evaluated,
        "infeasible": found.infeasible,
        "failed": found.failed,
        "hypervolume": found.hypervolume,
        "reused": {"prices": found.reused_prices, "accuracies": found.reused_accuracies},
        "front": [_row(row) for row in found.front],
    }


def _row(row: Row) -> dict[str, Any]:
    variant = row.candidate.variant
    return {
        "target": row.candidate.hardware.target,
        "numbers": dict(row.candidate.hardware.numbers),
        "mesh": row.candidate.hardware.mesh or None,
        "stages": row.candidate.hardware.stages,
        "format": variant.format,
        "sparsity": variant.sparsity,
        "channels": variant.channels,
        "batch": row.candidate.batch,
        **{name: row.figures.get(name) for name in FIGURES},
        "accuracy_interval": _ends(row.accuracy),
        "loss_interval": _ends(row.loss),
        "evidence": row.evidence,
        "band_pct": row.band_pct,
    }


def _ends(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {"low": found.low, "high": found.high, "samples": found.count}
