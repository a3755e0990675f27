"""How much of the front does a search see? This package's two ways beside flat ones, on the same space and budget.

Flat: Optuna's NSGA-II and its random sampler over one parameter an axis, one trial a candidate, each with its cost and its
accuracy. Here: the space evaluated whole, or, as if it were too large for that, sampled in batches. The hypervolume is a share of
that of the exact front, over latency and energy in decades and points of accuracy; evaluations are distinct candidates, and
variants those of the network whose accuracy had to be measured, the dear part.

    python studies/bench/sampling.py [--model lenet-5 | digits] [--samples 256] [--seeds 5] [--workers N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

import lepton_dse as ld
from lepton_dse.report.tables import plain_table
from lepton_dse.study import read_finished
from lepton_dse.study.front import hypervolume
from lepton_dse.study.objectives import MEASURED
from lepton_dse.study.sampling import Axes
from lepton_dse.study.space import Variant
from lepton_dse.study.work import Measured, MeasureTask, Priced

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from measured import digits, lenet5

OBJECTIVES = ("latency_s", "energy_j", "loss_points")
BUDGETS = (125, 250, 500, 1000)
ENOUGH = (0.95, 0.99)
_REPEATS = 3
SPACE = ld.Space(
    targets=[
        *("raspberry-pi-5", "aws-graviton3", "intel-xeon-8480", "nvidia-jetson-orin-nano", "nvidia-t4", "nvidia-a100-sxm-80gb"),
        {
            "target": "google-tpu-v1",
            "numbers": {"array_rows": [64, 128, 256], "levels[weight_memory].bandwidth_byte_per_s": [3.4e10, 6.8e10]},
        },
        "google-tpu-v5e",
    ],
    formats=["float32", "float16", "int8", "w4a8"],
    sparsities=[0, 0.25, 0.5, 0.75],
    channels=[0, 0.125, 0.25, 0.375, 0.5],
    batches=[1, 4, 16, 64],
)

Points = NDArray[np.float64]


class Known:
    """Every candidate of the space, evaluated: what the searches look up, and what they are held against."""

    def __init__(self, folder: Path) -> None:
        study = read_finished(folder)
        self.points: dict[int, Points] = {}
        self.priced: dict[int, Priced] = {}
        self.measured: dict[Variant, Measured] = {}
        for entry in study.candidates:
            row = entry.row
            figures = {name: value for name, value in row.figures.items() if name not in MEASURED}
            self.priced[entry.index] = Priced(figures, row.evidence, row.band_pct, entry.why, entry.failed)
            if row.accuracy is not None:
                self.measured[row.candidate.variant] = Measured(row.accuracy, row.loss)
            if not entry.why:
                latency, energy, loss = (float(entry.row.figures[name] or 0.0) for name in OBJECTIVES)
                self.points[entry.index] = np.array([np.log10(latency), np.log10(energy), loss])
        every = np.array(list(self.points.values()))
        self._best, self._worst = every.min(axis=0), every.max(axis=0)
        self.front = sum(entry.front for entry in study.candidates)
        self._whole = self._volume(every)

    def share(self, indices: Sequence[int]) -> float:
        """Of the exact front's hypervolume, what these candidates dominate."""
        found = [self.points[index] for index in indices if index in self.points]
        return self._volume(np.array(found)) / self._whole if found else 0.0

    def needed(self, order: Sequence[int], share: float) -> int | None:
        """The least number of candidates, in the order of evaluation, that dominate a share."""
        if self.share(order) < share:
            return None
        low, high = 1, len(order)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.share(order[:middle]) >= share else (middle + 1, high)
        return low

    def _volume(self, points: Points) -> float:
        return hypervolume((points - self._best) / (self._worst - self._best), np.full(len(OBJECTIVES), 1.01))


def flat(known: Known, sampler: BaseSampler, budget: int) -> list[int]:
    """Distinct candidates in the order in which a flat search evaluates them; what is infeasible counts as the worst.

    A search that repeats itself ends after `_REPEATS` trials a candidate of the budget: its time grows with their square.
    """
    axes, order = Axes(SPACE), dict[int, None]()
    study = optuna.create_study(directions=["minimize"] * len(OBJECTIVES), sampler=sampler)
    for _ in range(_REPEATS * budget):
        trial = study.ask(axes.distributions)
        index = axes.index(trial.params)
        order[index] = None
        study.tell(trial, list(known.points.get(index, np.full(len(OBJECTIVES), 1e3))))
        if len(order) == budget:
            break
    return list(order)


class Looked(Executor):
    """Answers a study's tasks by what is known."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self.measured = 0

    def submit(self, fn: Any, /, task: Any, *rest: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        if isinstance(task, MeasureTask):
            self.measured += 1
            future.set_result(self._known.measured[task.variant])
        else:
            future.set_result(tuple(self._known.priced[SPACE.index(candidate)] for candidate in task.candidates))
        return future


def in_batches(known: Known, graph: ld.Graph, data: ld.Dataset, sampler: str, seed: int, budget: int) -> tuple[list[int], int]:
    """Candidates in the order in which a study that samples evaluates them, and how many variants it measures."""
    looked = Looked(known)
    with tempfile.TemporaryDirectory() as folder:
        limits = {"enumerate_up_to": 0, "trials": budget, "patience": 1_000, "seed": seed, "sampler": sampler}
        ld.Study(
            graph, SPACE, folder=f"{folder}/study", data=data, samples=len(data), screen=len(data), minimize=OBJECTIVES, **limits
        ).run(looked)
        journal = JournalStorage(JournalFileBackend(f"{folder}/study/journal.log"))
        trials = optuna.load_study(study_name="study", storage=journal).get_trials(deepcopy=False)
    return [trial.user_attrs["index"] for trial in trials], looked.measured


def variants(order: Sequence[int]) -> int:
    """Variants of the network among candidates."""
    return len({SPACE.candidate(index).variant for index in order})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["lenet-5", "digits"], default="lenet-5")
    parser.add_argument("--samples", type=int, default=256, help="that accuracy is measured on")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    graph, data = (digits if asked.model == "digits" else lenet5)(asked.samples)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        study = ld.Study(
            graph, SPACE, folder=f"{folder}/study", data=data, samples=len(data), screen=len(data), minimize=OBJECTIVES
        )
        study.run(workers=asked.workers)
        taken = time.perf_counter() - begun
        known = Known(Path(folder) / "study")
    whole = f"all {SPACE.size:,} candidates and {variants(range(SPACE.size))} variants in {taken:.1f} s"
    columns = [*(f"hypervolume after {budget}" for budget in BUDGETS), *(f"candidates to {share:.0%}" for share in ENOUGH)]
    table = plain_table(f"{graph.name}: {whole}; {known.front} on the front", "search", *columns, "variants measured")
    for name in ("here, NSGA-II", "flat, NSGA-II", "here, random", "flat, random"):
        shares, needed, measured = [], [], []
        for seed in range(asked.seeds):
            if name.startswith("here"):
                sampler = "nsga2" if "NSGA" in name else "random"
                order, count = in_batches(known, graph, data, sampler, seed, BUDGETS[-1])
            else:
                order = flat(known, NSGAIISampler(seed=seed) if "NSGA" in name else RandomSampler(seed=seed), BUDGETS[-1])
                count = variants(order)
            shares.append([known.share(order[:budget]) for budget in BUDGETS])
            needed.append([known.needed(order, share) for share in ENOUGH])
            measured.append(count)
            print(f"{name}, seed {seed}: {len(order)} candidates, {shares[-1][-1]:.4f}", file=sys.stderr)
        cells = [f"{mean:.4f}" for mean in np.mean(shares, axis=0)]
        for column in zip(*needed, strict=True):
            reached = [entry for entry in column if entry is not None]
            cells.append(f"{np.mean(reached):.0f} ({len(reached)} of {len(column)} seeds)" if reached else "-")
        table.add_row(name, *cells, f"{np.mean(measured):.0f}")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
