"""The folder of a study: what was asked, what was found, and enough to go on after any interruption.

===================  ================================================================================================
study.json           settings, and digests of model, data and hardware models
STUDY.toml           the file that was run, where there was one
journal.log          one line a candidate, as an Optuna journal; a batch is in it whole or not at all
variants/*.json      accuracy of each variant of the network, by the variant's digest
inputs/<digest>/     model, data and hardware models, as workers read them
===================  ================================================================================================

Only the process that drives the study writes, and a lock keeps a second one out.
"""

from __future__ import annotations

import fcntl
import gc
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection

from lepton_dse.data import Interval
from lepton_dse.errors import LeptonError
from lepton_dse.files import read_text, write_bytes, write_text
from lepton_dse.study.space import Variant
from lepton_dse.study.work import Measured, Priced

__all__ = ["Record", "StoredFolder", "StudyFolder"]

_SCHEMA = 1
_ASKED, _JOURNAL, _LOCK, _TOML = "study.json", "journal.log", ".lock", "STUDY.toml"
_NAME = "study"
_BATCHES = "batches"
_GROWS = {"trials", "patience", "least_gain"}
"""Settings that say when to end; a study may go on with others."""


@dataclass(frozen=True)
class Record:
    """A candidate that was priced.

    Parameters
    ----------
    index : int
        In the space.
    batch : int
        In which it was evaluated, from 0.
    priced : Priced
    """

    index: int
    batch: int
    priced: Priced


class StudyFolder:
    """A study's folder, open for writing; a context manager.

    Parameters
    ----------
    folder : Path
    asked : mapping
        Settings under ``settings``, and digests.
    toml : str
        Text of the study's file; empty where there is none.
    resume : bool
        Whether to go on with what the folder holds.

    Raises
    ------
    LeptonError
        If the folder holds a study and `resume` is false, holds another study, is damaged, or is in use.
    """

    def __init__(self, folder: Path, asked: Mapping[str, Any], toml: str, *, resume: bool) -> None:
        self.folder = folder
        asked = {"schema_version": _SCHEMA, **asked}
        _claim(folder, asked, resume=resume)
        self._lock = _locked(folder)
        try:
            write_text(folder / _ASKED, json.dumps(asked, indent=1, sort_keys=True) + "\n")
            if toml:
                write_text(folder / _TOML, toml)
            _drop_torn_batch(folder / _JOURNAL)
            self._backend = _Buffered(folder / _JOURNAL)
            self._variants = dict(map(_read_measured, sorted((folder / "variants").glob("*.json"))))
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> StudyFolder:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lock.close()

    def open_journal(self, maximize: Sequence[bool], size: int) -> tuple[list[Record], int]:
        """What was recorded, and in how many batches.

        Parameters
        ----------
        maximize : sequence of bool
            Of each objective.
        size : int
            Candidates of the space.
        """
        directions = [StudyDirection.MAXIMIZE if greater else StudyDirection.MINIMIZE for greater in maximize]
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        collects = gc.isenabled()
        gc.disable()  # a long journal becomes very many objects, none of them garbage, which would be looked at over and over
        try:
            storage = JournalStorage(self._backend)
            self._study = optuna.create_study(storage=storage, study_name=_NAME, directions=directions, load_if_exists=True)
            trials = self._study.get_trials(deepcopy=False)
            records = [_record(trial.user_attrs, size) for trial in trials]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            where = str(self.folder / _JOURNAL)
            raise LeptonError("the journal is damaged", where=where, fix="start again in another folder") from error
        finally:
            optuna.logging.set_verbosity(before)
            if collects:
                gc.enable()
        return records, int(self._study.user_attrs.get(_BATCHES, 0))

    def add_batch(self, records: Sequence[tuple[Record, str, Sequence[float | None]]], batches: int) -> None:
        """Record one batch: each candidate with its name and its objectives' values; all of them reach the disk, or none."""
        for record, name, values in records:
            known = [value for value in values if value is not None and math.isfinite(value)]
            complete = len(known) == len(values) and not record.priced.why
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.FAIL,
                    values=known if complete else None,
                    user_attrs={"name": name, "index": record.index, "batch": record.batch, **asdict(record.priced)},
                )
            )
        self._study.set_user_attr(_BATCHES, batches)
        self._backend.flush()

    def measured(self, variant: Variant, samples: int) -> Measured | None:
        """What is known of a variant's accuracy on so many samples."""
        return self._variants.get((variant, samples))

    def add_measured(self, variant: Variant, samples: int, found: Measured) -> None:
        """Record a variant's accuracy."""
        self._variants[variant, samples] = found
        document = {"schema_version": _SCHEMA, "variant": asdict(variant), "samples": samples, **asdict(found)}
        path = self.folder / "variants" / f"{variant.digest[:24]}-{samples}.json"
        write_text(path, json.dumps(document, indent=1, sort_keys=True) + "\n")


class StoredFolder(StudyFolder):
    """A study's folder, open for reading: nothing in it changes, and nothing is locked.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    LeptonError
        If the folder holds no study, or is damaged; and by whatever would add to it, which only an unfinished study does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / _ASKED).is_file():
            raise LeptonError("holds no study", where=str(folder), fix="make one by: lepton study STUDY.toml -o DIR")
        try:
            self.asked: dict[str, Any] = json.loads(read_text(folder / _ASKED))
        except (ValueError, RecursionError) as error:
            raise LeptonError("is no study's record", where=str(folder / _ASKED), fix="choose another folder") from error
        journal = folder / _JOURNAL
        if not journal.is_file() or _whole(data := journal.read_bytes()) < len(data):
            self.refuse()
        self._backend = _Buffered(journal)
        self._variants = dict(map(_read_measured, sorted((folder / "variants").glob("*.json"))))

    def add_batch(self, records: Sequence[tuple[Record, str, Sequence[float | None]]], batches: int) -> None:
        """Refuse: what is to be added was not done."""
        self.refuse()

    def add_measured(self, variant: Variant, samples: int, found: Measured) -> None:
        """Refuse: what is to be added was not done."""
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say that the study is not finished."""
        fix = "go on with it: lepton study STUDY.toml -o DIR --resume"
        raise LeptonError("the study is not finished", where=str(self.folder), fix=fix)


class _NoLock(JournalFileOpenLock):
    """The study's own lock is held for as long as the folder is open."""

    def acquire(self) -> bool:
        """Nothing to wait for."""
        return True

    def release(self) -> None:
        """Nothing to hand back."""


class _Buffered(BaseJournalBackend):
    """A journal file that is written a batch at a time: one write and one wait for the disk instead of one a line."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path), _NoLock(str(path)))
        with path.open("rb") as lines:
            self._stored = sum(1 for _ in lines)
        self._waiting: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Entries from a number on, those that wait included."""
        if log_number_from < self._stored:
            yield from self._file.read_logs(log_number_from)
        yield from self._waiting[max(0, log_number_from - self._stored) :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Keep entries for the next flush."""
        self._waiting += logs

    def flush(self) -> None:
        """Write what waits."""
        self._file.append_logs(self._waiting)
        self._stored += len(self._waiting)
        self._waiting = []


def _claim(folder: Path, asked: Mapping[str, Any], *, resume: bool) -> None:
    """Refuse a folder that holds something else."""
    path = folder / _ASKED
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LeptonError("exists and holds no study", where=str(folder), fix="choose an empty folder")
        return
    if not resume:
        raise LeptonError("holds a study already", where=str(folder), fix="go on with it by --resume, or choose another folder")
    try:
        before = json.loads(read_text(path))
        differs = _differences(before, asked)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise LeptonError("is no study's record", where=str(path), fix="choose another folder") from error
    if differs:
        fix = "undo the change, or choose another folder"
        raise LeptonError(f"cannot go on: {', '.join(differs)} changed since the study began", where=str(folder), fix=fix)


def _locked(folder: Path) -> BinaryIO:
    """A file that is locked until it is closed, by whatever ends the process too."""
    path = folder / _LOCK
    if not path.is_file():
        write_bytes(path, b"")
    handle = path.open("rb")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise LeptonError("another process runs this study", where=str(folder), fix="wait for it, or stop it") from error
    return handle


def _differences(before: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Names of what is not as it was, settings one by one."""
    old, new = (json.loads(json.dumps(entry)) for entry in (before, asked))
    flat = [{**entry.pop("settings"), **entry} for entry in (old, new)]
    names = sorted((set(flat[0]) | set(flat[1])) - _GROWS)
    return [name.replace("_digest", "") for name in names if flat[0].get(name) != flat[1].get(name)]


def _drop_torn_batch(path: Path) -> None:
    """Cut off what stands after the last whole batch: a process that was killed leaves the beginning of another."""
    if not path.is_file():
        write_bytes(path, b"")
    data = path.read_bytes()
    end = _whole(data)
    if end < len(data):
        write_bytes(path, data[:end])


def _whole(journal: bytes) -> int:
    """Where the last whole batch ends."""
    end = journal.rfind(f'"{_BATCHES}":'.encode())
    return journal.find(b"\n", end) + 1 if end >= 0 else 0


def _record(attributes: Mapping[str, Any], size: int) -> Record:
    priced = Priced(**{name: attributes[name] for name in ("figures", "evidence", "band_pct", "why", "failed")})
    if not 0 <= attributes["index"] < size or not all(value is None or math.isfinite(value) for value in priced.figures.values()):
        raise ValueError("no candidate of this space")
    return Record(attributes["index"], attributes["batch"], priced)


def _read_measured(path: Path) -> tuple[tuple[Variant, int], Measured]:
    try:
        document = json.loads(read_text(path))
        both = (document["accuracy"], document["loss"])
        accuracy, loss = (None if entry is None else Interval(**entry) for entry in both)
        return (Variant(**document["variant"]), document["samples"]), Measured(accuracy, loss, document["why"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LeptonError("is no measured accuracy", where=str(path), fix="delete the file and go on with --resume") from error
