"""One run of a study: candidates are priced, variants screened, the front measured, and all of it recorded as it comes.

Accuracy depends on the variant of the network alone, cost on the variant's shape, the hardware and the batch. So each candidate
is priced, and each variant is measured once for all hardware: first on a few samples, and where it is on the front on all of
them. That changes the front; what is new on it is measured too, until every member is.

A candidate that does not fit, keeps a constraint not, or cannot be evaluated is recorded with its reason and ends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Interval
from lepton_dse.study.executing import Runner
from lepton_dse.study.front import pareto_front, relative_hypervolume
from lepton_dse.study.objectives import MEASURED, Constraint, Figures
from lepton_dse.study.reuse import Reuse
from lepton_dse.study.sampling import Axes, chunks, elite, propose
from lepton_dse.study.settings import Settings
from lepton_dse.study.space import Candidate, Variant
from lepton_dse.study.state import Record, StudyFolder
from lepton_dse.study.work import Inputs, Measured, MeasureTask, PriceTask

__all__ = ["Found", "Row", "Run", "Step"]

_CHUNK = 128
"""Candidates of a batch where all are evaluated."""
_TASK = 8
"""Candidates that go to a worker at once."""
_PENALTY = 1e30
"""What an infeasible candidate's objectives are for sampling, times one and the bounds it misses."""
_MOST = 1e3
"""A constraint counts no more than this, however far it is missed."""
_REASONS = 5
"""Candidates that are out and named with their reasons."""

Points = NDArray[np.float64]
Judged = tuple[str, tuple[float, ...]]
"""Why a candidate is out, or an empty string and what is minimised."""


@dataclass(frozen=True)
class Step:
    """How far a study is.

    Parameters
    ----------
    stage : str
        What is being done.
    done, total : int
        Of the stage.
    front : int
        Candidates on the front so far.
    """

    stage: str
    done: int
    total: int
    front: int


@dataclass(frozen=True)
class Row:
    """A member of the front.

    Parameters
    ----------
    candidate : Candidate
    figures : mapping of str to float or None
        By name.
    evidence : str
        How the latency is known.
    band_pct : float, optional
        Mean error of the suite that holds it.
    accuracy, loss : Interval, optional
        As measured, on all samples, the loss in points; None where the study measures none.
    """

    candidate: Candidate
    figures: Figures
    evidence: str
    band_pct: float | None
    accuracy: Interval | None
    loss: Interval | None


@dataclass(frozen=True)
class Found:
    """What a run of a study found.

    Parameters
    ----------
    front : tuple of Row
        By the first objective, the best first.
    evaluated, infeasible, failed : int
        Candidates in all; those that break a bound or do not fit; those that could not be evaluated.
    enumerated : bool
        Whether every candidate of the space was evaluated.
    hypervolume : float
        Share that the front dominates of the box between the best and the worst feasible figures.
    measured : int
        Variants whose accuracy was measured on all samples.
    reasons : tuple of (str, str)
        A few of the candidates that are out, with what is against them.
    interrupted : bool
        Whether the run was ended early; then there is no front, and the study can be resumed.
    reused_prices, reused_accuracies : int
        Answers that are those of an earlier study; what was found is equal whether they were reused or computed.
    """

    front: tuple[Row, ...]
    evaluated: int
    infeasible: int
    failed: int
    enumerated: bool
    hypervolume: float
    measured: int
    reasons: tuple[tuple[str, str], ...]
    interrupted: bool = False
    reused_prices: int = field(default=0, compare=False)
    reused_accuracies: int = field(default=0, compare=False)


class Run:
    """What is known so far, and the steps that add to it.

    Parameters
    ----------
    settings : Settings
    state : StudyFolder
    runner : Runner
    inputs : Inputs
    samples : int
        How many the data has; 0 where there is none.
    progress : callable
        Told how far it is.
    stop : threading.Event
        Set when the run is to end after the batch that it is at.
    reuse : Reuse, optional
        Answers of an earlier study.
    """

    def __init__(
        self,
        settings: Settings,
        state: StudyFolder,
        runner: Runner,
        inputs: Inputs,
        samples: int,
        progress: Callable[[Step], None],
        stop: threading.Event,
        reuse: Reuse | None = None,
    ) -> None:
        self.settings, self.space = settings, settings.space
        self.objectives, self.constraints, self._measures = settings.objectives, settings.constraints, settings.measures
        self._state, self._runner, self._inputs, self._progress, self._stop = state, runner, inputs, progress, stop
        self._reuse = reuse
        self._all = min(settings.samples or samples, samples)
        self._screen = min(settings.screen, self._all)
        self._records: dict[int, Record] = {}
        self._front: dict[int, tuple[float, ...]] = {}
        self._variant = cache(settings.space.variant)
        self._cheap = [entry for entry in self.constraints if entry.figure not in MEASURED]
        self._dear = [entry for entry in self.constraints if entry.figure in MEASURED]
        self._final = False
        records, self._batches = state.open_journal(self.objectives, settings.space.size)
        self._recorded = [list(group) for _, group in groupby(records, lambda record: record.batch)]

    def result(self) -> Found:
        """Evaluate what is left to do, and measure the front."""
        for records in self._recorded if self._state.shared else ():
            self._state.share(self._entries(records), records[0].batch)
        if self.settings.enumerates:
            self._enumerate()
        else:
            self._sample()
        return self._summary(self._measured_front())

    def _enumerate(self) -> None:
        self._take([record for records in self._recorded for record in records])
        for batch, indices in enumerate(chunks(self.space, _CHUNK)):
            if batch < self._batches:
                continue
            if self._stop.is_set():
                return
            self._take(self._evaluate(list(indices), batch, self.space.size))

    def _sample(self) -> None:
        axes, settings = Axes(self.space), self.settings
        pool: dict[int, tuple[float, ...]] = {}
        fronts: list[Points] = []
        recorded = {records[0].batch: records for records in self._recorded}
        batch = barren = 0
        enough = min(settings.trials, self.space.size)
        while len(self._records) < enough and barren < settings.patience and not self._stop.is_set():
            if batch < self._batches:
                new = recorded.get(batch, [])
            else:
                drawn = propose(axes, settings.sampler, settings.population, (settings.seed, batch), list(pool.items()))
                fresh = [index for index in drawn if index not in self._records]
                new = self._evaluate(fresh[: enough - len(self._records)], batch, enough)
            self._take(new)
            pool |= {record.index: values for record in new if (values := self._guide(record)) is not None}
            indices = list(pool)
            kept = elite(np.array([pool[index] for index in indices]), settings.population) if pool else []
            pool = {indices[position]: pool[indices[position]] for position in kept}
            fronts.append(np.array(list(self._front.values())))
            batch, barren = batch + 1, 0 if new else barren + 1
            if self._settled(fronts):
                return

    def _settled(self, fronts: list[Points]) -> bool:
        """Whether the last batches added too little; not before there is anything."""
        if len(fronts) <= self.settings.patience or not len(fronts[-1 - self.settings.patience]):
            return False
        before, now = fronts[-1 - self.settings.patience], fronts[-1]
        both = np.concatenate((before, now))
        best, worst = both.min(axis=0), both.max(axis=0)
        worst = worst + 0.1 * (worst - best)  # so that the ends of the front count too
        grown = relative_hypervolume(now, best, worst)
        return grown - relative_hypervolume(before, best, worst) <= self.settings.least_gain * grown

    def _evaluate(self, indices: list[int], batch: int, total: int) -> list[Record]:
        """Price a batch, screen the variants in it that are new, and record it."""
        candidates = [self.space.candidate(index) for index in indices]
        known = {} if self._reuse is None else {place: self._reuse.priced(entry) for place, entry in enumerate(candidates)}
        priced = {place: found for place, found in known.items() if found is not None}
        reused = set(priced)
        parts: list[list[int]] = []
        left = (place for place in range(len(indices)) if place not in reused)
        for _, places in groupby(left, lambda place: candidates[place].variant.shape):
            members = list(places)
            parts += [members[start : start + _TASK] for start in range(0, len(members), _TASK)]
        tasks = [PriceTask(self._inputs, tuple(candidates[place] for place in part)) for part in parts]
        for position, answer in self._runner.run(tasks):
            priced |= dict(zip(parts[position], answer, strict=True))
            self._progress(Step("pricing", len(self._records) + len(priced), total, len(self._front)))
        records = [Record(index, batch, priced[place], place in reused) for place, index in enumerate(indices)]
        if self._measures:
            worth = [not record.priced.why and not _broken(self._cheap, record.priced.figures) for record in records]
            asked = [candidate.variant for candidate, wanted in zip(candidates, worth, strict=True) if wanted]
            self._measure(asked, self._screen, f"accuracy on {self._screen} samples")
        self._state.add_batch(self._entries(records), batch + 1)
        return records

    def _entries(self, records: Sequence[Record]) -> list[tuple[Record, str, list[float | None]]]:
        """Records with what they are called and what they come to."""
        entries = []
        for record in records:
            candidate = self.space.candidate(record.index)
            figures = self._figures(record, candidate.variant)
            entries.append((record, str(candidate), [figures.get(entry.figure) for entry in self.objectives]))
        return entries

    def _measure(self, variants: Iterable[Variant], samples: int, stage: str) -> None:
        """Measure the variants whose accuracy on so many samples is not known yet."""
        new = [variant for variant in dict.fromkeys(variants) if self._state.measured(variant, samples) is None]
        if self._reuse is not None:
            for variant in new:
                if (found := self._reuse.measured(variant, samples)) is not None:
                    self._state.add_measured(variant, samples, found, reused=True)
            new = [variant for variant in new if self._state.measured(variant, samples) is None]
        tasks = [MeasureTask(self._inputs, variant, samples) for variant in new]
        for done, (position, answer) in enumerate(self._runner.run(tasks), 1):
            self._state.add_measured(new[position], samples, answer)
            self._progress(Step(stage, done, len(new), len(self._front)))
            if self._final and self._stop.is_set():
                return  # what is measured is kept; a batch of the search is finished first

    def _take(self, records: Sequence[Record]) -> None:
        """Add records to what is known, and to the front where they belong to it."""
        self._records |= {record.index: record for record in records}
        for record in records:
            why, values = self._judged(record)
            if not why:
                self._front[record.index] = values
        self._front = _front(self._front)

    def _measured_front(self) -> dict[int, Judged]:
        """Find the front, once all of its members are measured on all samples; how every candidate stands."""
        self._final = True
        while True:
            judged = {index: self._judged(record) for index, record in self._records.items()}
            self._front = _front({index: values for index, (why, values) in judged.items() if not why})
            variants = dict.fromkeys(self._variant(index // self.space.each) for index in self._front)
            new = [variant for variant in variants if self._state.measured(variant, self._all) is None]
            if not self._measures or not new or self._stop.is_set():
                return judged
            self._measure(new, self._all, f"accuracy of the front on {self._all} samples")

    def _row(self, index: int) -> Row:
        record, candidate = self._records[index], self.space.candidate(index)
        measured = self._accuracy(candidate.variant)
        figures = self._figures(record, candidate.variant)
        accuracy, loss = (None, None) if measured is None else (measured.accuracy, measured.loss)
        return Row(candidate, figures, record.priced.evidence, record.priced.band_pct, accuracy, loss)

    def _summary(self, judged: dict[int, Judged]) -> Found:
        stopped = self._stop.is_set()
        feasible = np.array([values for why, values in judged.values() if not why])
        against = {index: why for index, (why, _) in judged.items() if why}
        failed = sum(record.priced.failed for record in self._records.values())
        variants = {self._variant(index // self.space.each) for index in self._records} if self._measures else set()
        front = sorted(self._front, key=lambda index: (self._front[index], index))
        points = np.array([self._front[index] for index in front])
        return Found(
            front=() if stopped else tuple(map(self._row, front)),
            evaluated=len(self._records),
            infeasible=len(against) - failed,
            failed=failed,
            enumerated=self.settings.enumerates,
            hypervolume=relative_hypervolume(points, feasible.min(axis=0), feasible.max(axis=0)) if front else 0.0,
            measured=sum(self._state.measured(variant, self._all) is not None for variant in variants),
            reasons=tuple((str(self.space.candidate(index)), why) for index, why in list(against.items())[:_REASONS]),
            interrupted=stopped,
            reused_prices=sum(record.reused for record in self._records.values()),
            reused_accuracies=self._state.reused,
        )

    def _accuracy(self, variant: Variant) -> Measured | None:
        """A variant's accuracy: on all samples once the front is being measured, where that was done; else as screened.

        The search goes by the screening alone, so that it takes the same way again after an interruption.
        """
        if not self._measures:
            return None
        found = self._state.measured(variant, self._all) if self._final else None
        return found if found is not None else self._state.measured(variant, self._screen)

    def _figures(self, record: Record, variant: Variant) -> dict[str, float | None]:
        measured = self._accuracy(variant)
        return {**record.priced.figures, **({} if measured is None else measured.figures)}

    def _judged(self, record: Record) -> Judged:
        """Why a candidate is out, or its values."""
        priced = record.priced
        why = priced.why or _broken(self._cheap, priced.figures)
        if why:
            return why, ()
        figures: Figures = priced.figures
        if self._measures:
            measured = self._accuracy(self._variant(record.index // self.space.each))
            if measured is None or measured.accuracy is None:
                return "its accuracy is not known" if measured is None else measured.why, ()
            figures = {**figures, **measured.figures}
            # No bound is broken for certain by what few samples say.
            certain = measured.accuracy.count >= self._all
            why = _broken(self._dear, figures if certain else measured.hoped)
        values = []
        for entry in self.objectives:
            value = entry.value(figures)
            if value is None:
                return why or f"{entry.figure} is not known here", ()
            values.append(value)
        return why, tuple(values)

    def _guide(self, record: Record) -> tuple[float, ...] | None:
        """What sampling goes by: values, or for candidates that are out a penalty by what they miss; None without any figure."""
        why, values = self._judged(record)
        if not why or not record.priced.figures:
            return values or None
        figures = self._figures(record, self._variant(record.index // self.space.each))
        missed = sum(min(entry.excess(figures), _MOST) for entry in self.constraints) + bool(record.priced.why)
        return (_PENALTY * (1 + missed),) * len(self.objectives)


def _broken(constraints: Sequence[Constraint], figures: Figures) -> str:
    """What the first constraint that is not kept says; an empty string where all are."""
    return next(filter(None, (entry.broken(figures) for entry in constraints)), "")


def _front(points: dict[int, tuple[float, ...]]) -> dict[int, tuple[float, ...]]:
    """Members of the front; of equal ones that with the least index, which changes the network least."""
    indices = sorted(points)
    kept = pareto_front([points[index] for index in indices])
    return {indices[position]: points[indices[position]] for position in kept}
