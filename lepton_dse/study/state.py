"""The folder of a study: what was asked, what was found, and enough to go on after any interruption.

===================  ================================================================================================
study.json           settings, digests of model, data and hardware models, and versions of what computes
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
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from lepton_dse.errors import LeptonError
from lepton_dse.files import read_text, write_bytes, write_text
from lepton_dse.study.objectives import Objective
from lepton_dse.study.space import Variant
from lepton_dse.study.work import Measured, Priced

__all__ = [
    "Record",
    "StoredFolder",
    "StudyFolder",
    "read_record",
    "stored_inputs",
    "stored_measured",
    "stored_records",
    "trial_of",
]

_SCHEMA = 1
_ASKED, _JOURNAL, _LOCK, _TOML = "study.json", "journal.log", ".lock", "STUDY.toml"
_HELD: set[Path] = set()
"""Locks that this process holds."""
_NAME = "study"
_BATCHES = "batches"
_REUSED = "reused"
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
    reused : bool
        Whether the price is that of an earlier study.
    """

    index: int
    batch: int
    priced: Priced
    reused: bool = False

    @property
    def attributes(self) -> dict[str, Any]:
        """As the journal holds it; that a price was reused is said only where it was."""
        found = {"index": self.index, "batch": self.batch, **asdict(self.priced)}
        return {**found, _REUSED: True} if self.reused else found


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

    shared = False
    """Whether the study is kept elsewhere too."""

    def __init__(self, folder: Path, asked: Mapping[str, Any], toml: str, *, resume: bool) -> None:
        self.folder = folder
        asked = {"schema_version": _SCHEMA, **asked}
        try:
            _claim(folder, asked, resume=resume)
            self._lock = ExitStack()
            self._lock.enter_context(_locked(folder))
        except OSError as error:
            raise LeptonError(f"cannot be used: {error.strerror}", where=str(folder), fix="choose another folder") from error
        try:
            write_text(folder / _ASKED, json.dumps(asked, indent=1, sort_keys=True) + "\n")
            if toml:
                write_text(folder / _TOML, toml)
            _drop_torn_batch(folder / _JOURNAL)
            self._backend = _Buffered(folder / _JOURNAL)
            self._read_variants()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> StudyFolder:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lock.close()

    def open_journal(self, objectives: Sequence[Objective], size: int) -> tuple[list[Record], int]:
        """What was recorded, and in how many batches.

        Parameters
        ----------
        objectives : sequence of Objective
        size : int
            Candidates of the space.
        """
        directions = [StudyDirection.MAXIMIZE if each.maximize else StudyDirection.MINIMIZE for each in objectives]
        with _quiet(self.folder / _JOURNAL):
            storage = JournalStorage(self._backend)
            self._study = optuna.create_study(storage=storage, study_name=_NAME, directions=directions, load_if_exists=True)
            records = [_record(trial.user_attrs, size) for trial in self._study.get_trials(deepcopy=False)]
            if not records:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    self._study.set_metric_names([each.figure for each in objectives])
        return records, int(self._study.user_attrs.get(_BATCHES, 0))

    def share(self, records: Sequence[tuple[Record, str, Sequence[float | None]]], batch: int) -> None:
        """See that a batch is recorded wherever else the study is kept; of a study that is kept here alone, nothing to do."""

    def add_batch(self, records: Sequence[tuple[Record, str, Sequence[float | None]]], batches: int) -> None:
        """Record one batch: each candidate with its name and its objectives' values; all of them reach the disk, or none."""
        for entry in records:
            self._study.add_trial(trial_of(*entry))
        self._study.set_user_attr(_BATCHES, batches)
        self._backend.flush()

    def measured(self, variant: Variant, samples: int) -> Measured | None:
        """What is known of a variant's accuracy on so many samples."""
        return self._variants.get((variant, samples))

    @property
    def reused(self) -> int:
        """Accuracies that are those of an earlier study."""
        return len(self._reused)

    def add_measured(self, variant: Variant, samples: int, found: Measured, *, reused: bool = False) -> None:
        """Record a variant's accuracy, and whether it is that of an earlier study."""
        self._variants[variant, samples] = found
        document = {"schema_version": _SCHEMA, "variant": asdict(variant), "samples": samples, **asdict(found)}
        if reused:
            self._reused.add((variant, samples))
            document[_REUSED] = True
        path = self.folder / "variants" / f"{variant.digest[:24]}-{samples}.json"
        write_text(path, json.dumps(document, indent=1, sort_keys=True) + "\n")

    def _read_variants(self) -> None:
        found = [(place, measured, reused) for place, measured, reused in map(_read_measured, _variant_files(self.folder))]
        self._variants = {place: measured for place, measured, _ in found}
        self._reused = {place for place, _, reused in found if reused}


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
        self.asked = read_record(folder)
        journal = folder / _JOURNAL
        if not journal.is_file() or _whole(data := journal.read_bytes()) < len(data):
            self.refuse()
        self._backend = _Buffered(journal)
        self._read_variants()

    def add_batch(self, records: Sequence[tuple[Record, str, Sequence[float | None]]], batches: int) -> None:
        """Refuse: what is to be added was not done."""
        self.refuse()

    def add_measured(self, variant: Variant, samples: int, found: Measured, *, reused: bool = False) -> None:
        """Refuse: what is to be added was not done."""
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say that the study is not finished."""
        fix = "go on with it: lepton study STUDY.toml -o DIR --resume"
        raise LeptonError("the study is not finished", where=str(self.folder), fix=fix)


def read_record(folder: Path) -> dict[str, Any]:
    """What the study of a folder was asked: settings, digests, and what computed it.

    Raises
    ------
    LeptonError
        If the folder holds no study, or its record is damaged.
    """
    path = folder / _ASKED
    if not path.is_file():
        raise LeptonError("holds no study", where=str(folder), fix="make one by: lepton study STUDY.toml -o DIR")
    try:
        asked = json.loads(read_text(path))
        if not isinstance(asked, dict):
            raise ValueError("no table")
    except (ValueError, RecursionError) as error:
        raise LeptonError("is no study's record", where=str(path), fix="choose another folder") from error
    return asked


def stored_inputs(folder: Path) -> Path:
    """The folder of a study's model, data and hardware models.

    Raises
    ------
    LeptonError
        If it is missing.
    """
    kept = sorted((folder / "inputs").glob("*/"))
    if len(kept) != 1:
        raise LeptonError("the study's model is missing", where=str(folder / "inputs"), fix="run the study again")
    return kept[0]


def stored_records(folder: Path, size: int) -> list[Record]:
    """What the journal of a study holds in whole batches, whether it is finished or not; its space has `size` candidates.

    Raises
    ------
    LeptonError
        If the journal is damaged.
    """
    path = folder / _JOURNAL
    data = path.read_bytes() if path.is_file() else b""
    data = data[: _whole(data)]
    if not data:
        return []
    with _quiet(path):
        storage = JournalStorage(_Entries([json.loads(line) for line in data.splitlines()]))
        trials = optuna.load_study(storage=storage, study_name=_NAME).get_trials(deepcopy=False)
        return [_record(trial.user_attrs, size) for trial in trials]


def stored_measured(folder: Path) -> dict[tuple[Variant, int], Measured]:
    """The accuracies that a study has measured, by variant and number of samples."""
    return {place: measured for place, measured, _ in map(_read_measured, _variant_files(folder))}


@contextmanager
def _quiet(journal: Path) -> Iterator[None]:
    """Optuna says nothing meanwhile, and what is wrong with a journal is one line."""
    before, collects = optuna.logging.get_verbosity(), gc.isenabled()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    gc.disable()  # a long journal becomes very many objects, none of them garbage, which would be looked at over and over
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeptonError("the journal is damaged", where=str(journal), fix="start again in another folder") from error
    finally:
        optuna.logging.set_verbosity(before)
        if collects:
            gc.enable()


class _Entries(BaseJournalBackend):
    """A journal that is read and no more."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._entries = entries

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Entries from a number on."""
        return iter(self._entries[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Nothing is added."""


def trial_of(record: Record, name: str, values: Sequence[float | None]) -> FrozenTrial:
    """A candidate as Optuna keeps it, complete where it is feasible by itself and all objectives are known."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    complete = len(known) == len(values) and not record.priced.why
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.FAIL,
        values=known if complete else None,
        user_attrs={"name": name, **record.attributes},
    )


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
        self._path = path
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
        size = self._path.stat().st_size
        try:
            self._file.append_logs(self._waiting)
        except OSError as error:
            os.truncate(self._path, size)  # which needs no room
            fix = "make room, and go on with --resume"
            raise LeptonError(f"cannot be written: {error.strerror}", where=str(self._path), fix=fix) from error
        self._stored += len(self._waiting)
        self._waiting = []


def _claim(folder: Path, asked: Mapping[str, Any], *, resume: bool) -> None:
    """Refuse a folder that holds something else."""
    path = folder / _ASKED
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or not all(_begun(entry.name) for entry in folder.iterdir())):
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


def _begun(name: str) -> bool:
    """Whether a file is one that a study leaves which ended before its record was written."""
    return name == _LOCK or name.startswith((f".{_LOCK}.", f".{_ASKED}."))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a folder to this process until the end, by whatever ends the process too.

    The lock is the process's own: workers that were forked from it and outlive it by a moment do not hold it. Two drivers of
    one process share its locks, so these are told apart here.
    """
    path = (folder / _LOCK).resolve()
    taken = LeptonError("another process runs this study", where=str(folder), fix="wait for it, or stop it")
    if path in _HELD:
        raise taken
    if not path.is_file():
        write_bytes(path, b"")
    try:
        opened = path.open("r+b")
    except OSError as error:
        raise LeptonError(f"cannot be written: {error.strerror}", where=str(path)) from error
    with opened as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise taken from error
        _HELD.add(path)
        try:
            yield
        finally:
            _HELD.discard(path)


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
    return Record(attributes["index"], attributes["batch"], priced, bool(attributes.get(_REUSED, False)))


def _variant_files(folder: Path) -> list[Path]:
    return sorted((folder / "variants").glob("*.json"))


def _read_measured(path: Path) -> tuple[tuple[Variant, int], Measured, bool]:
    try:
        document = json.loads(read_text(path))
        place = Variant(**document["variant"]), document["samples"]
        return place, Measured.read(document), bool(document.get(_REUSED, False))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LeptonError("is no measured accuracy", where=str(path), fix="delete the file and go on with --resume") from error
