"""Do the same steps hold away from images: on a medical table, an automotive one, and text?

Small dense networks on tumours (569 rows, AUC), vehicles (846 rows, top-1) and e-mails (6,046, AUC), each as trained, with
weights of 8 and of 4 bits, with half of the hidden units pruned and trained again, and with bits that `ld.allocate` chooses layer
by layer for at most 0.5 points of loss. Five folds: every row scores once, and never in the fold that it was trained or chosen
on. A fifth of each fold's other rows is for choices: calibration is on training rows, the allocation on choosing rows.

    python studies/08_tables_and_text.py [--only tumours vehicles mails] [--folds 5] [--epochs 40] [-o build/tables]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import lepton_dse as ld
from lepton_dse.data import Interval
from lepton_dse.errors import MissingToolError
from lepton_dse.files import write_text
from lepton_dse.reference.metrics.proportion import Z, wilson
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table

sys.path.insert(0, str(Path(__file__).parent / "models"))
from sizes import weight_bytes
from tables import Fold, dense, folds, mails, tumours, vehicles

TARGET = "amd-zynq-7020"
CHOICES = ("int8", "w6a8", "w4a8", "w3a8", "w2a8")
POINTS = 0.5
PRUNED = 0.5


@dataclass(frozen=True)
class Task:
    """A data set, its network and what is lost by its budget."""

    read: Callable[[], ld.Dataset]
    hidden: tuple[int, ...]
    metric: str
    scaled: bool = True


TASKS = {
    "tumours": Task(tumours, (16, 8), "auc"),
    "vehicles": Task(vehicles, (48, 24), "top1"),
    "mails": Task(mails, (32, 16), "auc", scaled=False),
}


@dataclass(frozen=True)
class Found:
    """One model of one fold."""

    auc: Interval
    top1: Interval
    bytes: float
    cycles: tuple[int, int] | None
    """Latency and interval on the target; none of reals."""
    note: str = ""


def models(name: str, task: Task, part: Fold, fold: int, epochs: int) -> dict[str, tuple[ld.Graph | ld.Bundle, str]]:
    """Each model by what was done to the network, with a remark."""
    graph = dense(part.train, task.hidden, epochs=epochs, seed=fold, name=name)
    calibration = part.train.take(512)
    found: dict[str, tuple[ld.Graph | ld.Bundle, str]] = {"float32": (graph, "")}
    for form in ("int8", "w4a8"):
        found[form] = ld.quantize(graph, form, calibration, rounding="adaround"), ""
    small = ld.prune(graph, PRUNED, kind="channels", score="hessian", data=calibration)
    torch.set_num_threads(1)  # kernels that ran in between may have raised the number
    schedule = ld.Schedule(epochs=max(epochs // 2, 1), rate=2e-3, batch=32, temperature=2.0, mix=0.7, seed=fold)
    small = ld.fine_tune(small, part.train, schedule, teacher=graph)
    found[f"{PRUNED:.0%} of the units, int8"] = ld.quantize(small, "int8", calibration, rounding="adaround"), ""
    allocated = ld.allocate(graph, TARGET, part.choose, CHOICES, minimize="bytes", loss_points=POINTS, metric=task.metric)
    kept = allocated.bundle is not None
    chosen = " ".join(str(entry.choice).removesuffix("a8") for entry in allocated.table) if kept else "none fits: int8"
    found[f"allocated, {POINTS} points"] = (allocated.bundle or found["int8"][0]), chosen
    return found


def scored(model: ld.Graph | ld.Bundle, test: ld.Dataset, note: str) -> Found:
    cycles = ld.plan(model, TARGET).predicted.cycles if isinstance(model, ld.Bundle) else None
    both = None if cycles is None else (cycles.latency, cycles.interval)
    return Found(ld.accuracy(model, test, "auc"), ld.accuracy(model, test), weight_bytes(model), both, note)


def together(parts: list[Interval], *, share: bool) -> Interval:
    """Of disjoint test parts: hits are counted together; areas, whose scores come from different networks, are averaged.

    The parts' standard errors are read off their intervals' lower halves, which no bound of 1 cuts.
    """
    count = sum(part.count for part in parts)
    if share:
        return wilson(round(sum(part.value * part.count for part in parts)), count)
    value = float(np.mean([part.value for part in parts]))
    half = Z * math.sqrt(sum(((part.value - part.low) / Z) ** 2 for part in parts)) / len(parts)
    return Interval(value, max(value - half, 0.0), min(value + half, 1.0), count)


def table_of(name: str, task: Task, found: Mapping[str, list[Found]]) -> Table:
    table = plain_table(
        f"{name}: {'-'.join(map(str, task.hidden))} hidden units; the budget is of {task.metric}",
        *("model", "AUC (95%)", "top-1 (95%)", "lost", "bytes", "latency", "interval", "bits chosen in the first fold"),
    )
    exact = next(iter(found.values()))
    none = sum(row.note.startswith("none") for rows in found.values() for row in rows)
    for step, rows in found.items():
        area, top1 = together([row.auc for row in rows], share=False), together([row.top1 for row in rows], share=True)
        cells = [f"{100 * figure.value:.2f} ({100 * figure.low:.2f} to {100 * figure.high:.2f})" for figure in (area, top1)]
        figures = [[row.auc.value if task.metric == "auc" else row.top1.value for row in entries] for entries in (exact, rows)]
        cells.append(f"{100 * float(np.mean(figures[0]) - np.mean(figures[1])):.2f}")
        cells.append(f"{np.mean([row.bytes for row in rows]):,.0f}")
        cycles = [row.cycles for row in rows if row.cycles is not None]
        cells += [f"{np.mean(column):,.0f}" for column in zip(*cycles, strict=True)] or ["-", "-"]
        table.add_row(step, *cells, rows[0].note)
    if none:
        table.caption = f"in {none} of the folds no allocation kept the budget; int8 stands for it"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40, help="of the tables; the e-mails get a quarter")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/tables"))
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 170)
    console.print(f"Do the same steps hold on tables and text? Latency and interval are predicted cycles on {TARGET}.")
    points = []
    for name in asked.only:
        task = TASKS[name]
        try:
            data = task.read()
        except MissingToolError as error:
            console.print(f"{name} left out: {error}")
            continue
        found: dict[str, list[Found]] = {}
        epochs = asked.epochs if task.scaled else -(-asked.epochs // 4)
        parts = enumerate(folds(data, asked.folds, 0, scaled=task.scaled))
        for fold, part in track(parts, name, total=asked.folds, console=Console(stderr=True), disable=not sys.stderr.isatty()):
            for step, (model, note) in models(f"{name}-of-{asked.folds}", task, part, fold, epochs).items():
                found.setdefault(step, []).append(scored(model, part.test, note))
        console.print(table_of(name, task, found))
        points += [
            Point(
                step,
                float(np.mean([row.bytes for row in rows])),
                100 * (1 - float(np.mean([row.auc.value for row in rows]))),
                name,
            )
            for step, rows in found.items()
        ]
    console.print(
        f"'lost' is in points of the budget's metric, mean of {asked.folds} folds. Top-1: hits of all folds, Wilson's interval. "
        "AUC: mean of the folds', DeLong's variance. The budget was kept on the choosing rows, where one vehicle is 0.74 points."
    )
    drawn = [point for point in points if point.y > 0]
    if drawn:
        picture = asked.output / "tables_and_text.svg"
        write_text(picture, scatter_svg("Tables and text", "weights, bytes", "100 - AUC, percent", drawn, []))
        console.print(f"wrote {picture}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
