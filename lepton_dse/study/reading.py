"""A finished study, read from its folder: nothing is computed again but which candidates are on the front."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from pydantic import ValidationError
from safetensors import SafetensorError

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import Evidence
from lepton_dse.study.executing import Here, Runner
from lepton_dse.study.run import Found, Row, Run
from lepton_dse.study.settings import Settings
from lepton_dse.study.state import StoredFolder, stored_inputs
from lepton_dse.study.work import Inputs, Task, read_inputs

__all__ = ["Finished", "Standing", "read_finished"]


@dataclass(frozen=True)
class Standing:
    """How one candidate came out.

    Parameters
    ----------
    index : int
        In the space.
    row : Row
        Its figures; those of accuracy on as many samples as it was measured on.
    why : str
        What is against it; empty where it is feasible.
    failed : bool
        Whether it could not be evaluated.
    front : bool
        Whether it is on the front.
    """

    index: int
    row: Row
    why: str
    failed: bool
    front: bool


@dataclass(frozen=True)
class Finished:
    """A finished study.

    Parameters
    ----------
    graph : Graph
        The float network.
    settings : Settings
    found : Found
    candidates : tuple of Standing
        All that were evaluated, by index.
    samples : int
        How many the front was measured on; 0 where accuracy takes no part.
    """

    graph: Graph
    settings: Settings
    found: Found
    candidates: tuple[Standing, ...]
    samples: int


def read_finished(folder: str | Path) -> Finished:
    """Read a finished study; its folder is not changed.

    Raises
    ------
    LeptonError
        If the folder holds no study, or one that is damaged or not finished.
    """
    folder = Path(folder)
    state = StoredFolder(folder)
    try:
        settings = Settings.model_validate(state.asked["settings"])
        digest = state.asked["model_digest"]
    except (ValidationError, KeyError, TypeError) as error:
        raise LeptonError("the study's record is damaged", where=str(folder / "study.json"), fix="run the study again") from error
    graph, samples = _inputs(folder, digest)
    try:
        with _Nothing(state) as runner:
            return _Replay(settings, state, runner, samples).finished(graph)
    except (OptunaError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise LeptonError("the study's record is damaged", where=str(folder), fix="run the study again") from error


class _Nothing(Runner):
    """Has nothing to run where the study is finished."""

    def __init__(self, state: StoredFolder) -> None:
        super().__init__(Here)
        self._state = state

    def run(self, tasks: Sequence[Task[Any]]) -> Iterator[tuple[int, Any]]:
        """Refuse tasks: what they would find is not there."""
        if tasks:
            self._state.refuse()
        return iter(())


class _Replay(Run):
    """A run that finds everything in the folder."""

    def __init__(self, settings: Settings, state: StoredFolder, runner: Runner, samples: int) -> None:
        unused = Inputs("", settings.fpga, settings.metric, settings.calibration, settings.seed)
        super().__init__(settings, state, runner, unused, samples, lambda step: None, threading.Event())

    def finished(self, graph: Graph) -> Finished:
        found = self.result()
        if found.enumerated and found.evaluated < self.space.size:
            raise ValueError("candidates are missing")
        standings = []
        for index in sorted(self._records):
            record, (why, _) = self._records[index], self._judged(self._records[index])
            standing = Standing(index, self._row(index), why, record.priced.failed, index in self._front)
            if not _sound(standing):
                raise ValueError(f"candidate {index} holds what no study records")
            standings.append(standing)
        return Finished(graph, self.settings, found, tuple(standings), self._all if self.settings.measures else 0)


def _sound(standing: Standing) -> bool:
    """Whether what was read has the types that it was written with."""
    row = standing.row
    intervals = [entry for entry in (row.accuracy, row.loss) if entry is not None]
    numbers = [0.0 if row.band_pct is None else row.band_pct, *(part for entry in intervals for part in astuple(entry))]
    words = isinstance(standing.why, str) and isinstance(standing.failed, bool) and row.evidence in ("", *Evidence)
    return words and all(isinstance(number, int | float) for number in numbers)


def _inputs(folder: Path, digest: str) -> tuple[Graph, int]:
    where, fix = str(folder / "inputs"), "run the study again"
    kept = stored_inputs(folder)
    try:
        graph, samples = read_inputs(kept)
    except (SafetensorError, OSError) as error:
        raise LeptonError("the study's data are damaged", where=where, fix=fix) from error
    if graph.digest != digest:
        raise LeptonError("the model is not that of the study", where=where, fix=fix)
    return graph, samples
