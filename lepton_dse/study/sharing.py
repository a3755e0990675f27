"""One of several drivers of a study in a database: it computes what nobody else does, and takes the others' answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

from lepton_dse.errors import LeptonError
from lepton_dse.study.database import Database
from lepton_dse.study.executing import Runner
from lepton_dse.study.state import Record, StudyFolder, trial_of
from lepton_dse.study.work import Task

__all__ = ["SharedFolder", "SharedRunner"]

_POLL_S = 0.2
Answer = TypeVar("Answer")


class SharedRunner(Runner):
    """Runs the tasks that it can claim, and waits for the others' answers.

    Parameters
    ----------
    executor : Executor or callable
    database : Database
    width : int
        Tasks that are claimed at once.
    """

    def __init__(self, executor: Executor | Callable[[], Executor], database: Database, width: int) -> None:
        super().__init__(executor)
        self._database, self._width = database, width

    def run(self, tasks: Sequence[Task[Answer]]) -> Iterator[tuple[int, Answer]]:
        """Position and answer of each task, as they come from here or from elsewhere."""
        left = {task.key: position for position, task in enumerate(tasks)}
        while left:
            known = self._database.look(list(left))
            for key, text in known.answers.items():
                position = left.pop(key)
                yield position, _read(tasks[position], text)
            mine = self._database.claim(known.free[: self._width]) if known.free else []
            if not mine and left:
                threading.Event().wait(_POLL_S)
            claimed = [tasks[left[key]] for key in mine]
            for number, answer in super().run(claimed):
                key, task = mine[number], claimed[number]
                yield left.pop(key), _read(task, self._database.answer(key, task.written(answer)))


class SharedFolder(StudyFolder):
    """A study's folder beside a database: a batch is in the database before it is in the folder.

    Parameters
    ----------
    folder : Path
    asked : mapping
    toml : str
    resume : bool
    database : Database
    """

    shared = True

    def __init__(self, folder: Path, asked: Mapping[str, Any], toml: str, *, resume: bool, database: Database) -> None:
        super().__init__(folder, asked, toml, resume=resume)
        self._database = database

    def share(self, records: Sequence[tuple[Record, str, Sequence[float | None]]], batch: int) -> None:
        """See that the database holds a batch."""
        self._database.record(batch, [trial_of(*entry) for entry in records])

    def add_batch(self, records: Sequence[tuple[Record, str, Sequence[float | None]]], batches: int) -> None:
        """Record one batch in both."""
        self.share(records, batches - 1)
        super().add_batch(records, batches)


def _read(task: Task[Answer], text: str) -> Answer:
    try:
        return task.read(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeptonError("the database holds a damaged answer", fix="give the study another --study-name") from error
