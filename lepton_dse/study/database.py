"""A PostgreSQL database that several drivers of one study share: each computes a part, and all of them find the same.

Every driver takes the same way through the study, since that depends on answers alone. What differs is who computes an answer:

===============  ====================================================================================================
lepton_studies   what each study was asked; a driver whose settings or inputs differ is refused
lepton_work      a row a task: who claimed it, when that driver was last heard of, and the answer once there is one
lepton_batches   batches whose candidates are recorded
===============  ====================================================================================================

A task is claimed by inserting its row, which one driver alone can do. A driver says every few seconds that it lives; what one
claimed that was not heard of for :data:`STALE_S` seconds is claimed by another. Where two have an answer, the first one stays.

Candidates become trials of an Optuna study of the same name, a batch in one transaction with its row, so that none is there
twice.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import optuna
import sqlalchemy as sql
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, OptunaError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import scoped_session, sessionmaker

from lepton_dse.errors import LeptonError, MissingToolError

__all__ = ["STALE_S", "Database", "Known"]

STALE_S = 60.0
"""After so many seconds without a word from a driver, others take over what it had claimed."""
_BEATS = 4
"""How often a driver says that it lives in that time."""
_CONNECT_S = 10
_SETUP = 0x1E9704
"""Number of the lock under which tables and studies are made."""

_TABLES = sql.MetaData()
_STUDIES = sql.Table(
    "lepton_studies", _TABLES, sql.Column("name", sql.Text, primary_key=True), sql.Column("asked", sql.Text, nullable=False)
)
_WORK = sql.Table(
    "lepton_work",
    _TABLES,
    sql.Column("study", sql.Text, primary_key=True),
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("owner", sql.Text, nullable=False),
    sql.Column("heard", sql.DateTime(timezone=True), nullable=False),
    sql.Column("answer", sql.Text),
)
_BATCHES = sql.Table(
    "lepton_batches",
    _TABLES,
    sql.Column("study", sql.Text, primary_key=True),
    sql.Column("batch", sql.Integer, primary_key=True),
)


@dataclass(frozen=True)
class Known:
    """How tasks stand.

    Parameters
    ----------
    answers : mapping of str to str
        By key.
    free : tuple of str
        Keys that nobody alive has claimed.
    """

    answers: Mapping[str, str]
    free: tuple[str, ...]


class Database:
    """A study in a database, joined; a context manager.

    Parameters
    ----------
    url : str
        ``postgresql://user:password@host/database``; the password is in no message.
    name : str
        Of the study there.
    asked : mapping
        All that the study is asked; another driver's must be equal.
    objectives : sequence of (str, bool)
        Name of each, and whether it is made large.

    Raises
    ------
    LeptonError
        If the URL is wrong, the database cannot be used, or it holds another study of that name; then with what differs.
    MissingToolError
        If the database's package is not installed.
    """

    def __init__(self, url: str, name: str, asked: Mapping[str, Any], objectives: Sequence[tuple[str, bool]]) -> None:
        self._url, self._name = _url(url), name
        self._owner = f"{platform.node()} {os.getpid()} {uuid.uuid4().hex}"
        self._ended = threading.Event()
        with self._plain():
            self._engine = sql.create_engine(
                self._url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_S}, isolation_level="READ COMMITTED"
            )
            with self._engine.begin() as connection:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_SETUP)))
                _TABLES.create_all(connection)
                self._join(connection, asked, objectives)
        self._beat = threading.Thread(target=self._live, daemon=True)
        self._beat.start()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._beat.join()
        mine = (_WORK.c.study == self._name) & (_WORK.c.owner == self._owner) & _WORK.c.answer.is_(None)
        try:
            with self._engine.begin() as connection:
                connection.execute(sql.delete(_WORK).where(mine))
        except SQLAlchemyError:
            pass  # others take over what was claimed, if a little later
        self._engine.dispose()
        self._storage.engine.dispose()

    def look(self, keys: Sequence[str]) -> Known:
        """How some tasks stand."""
        stale = _WORK.c.heard < sql.func.now() - _seconds(STALE_S)
        asked = sql.select(_WORK.c.key, _WORK.c.answer, stale).where(_WORK.c.study == self._name, _WORK.c.key.in_(keys))
        with self._plain(), self._engine.connect() as connection:
            rows = {key: (answer, old) for key, answer, old in connection.execute(asked)}
        answers = {key: answer for key, (answer, _) in rows.items() if answer is not None}
        return Known(answers, tuple(key for key in keys if key not in answers and rows.get(key, (None, True))[1]))

    def claim(self, keys: Sequence[str]) -> list[str]:
        """Claim tasks; those of them that are this driver's now."""
        now = sql.func.now()
        rows = [{"study": self._name, "key": key, "owner": self._owner, "heard": now} for key in keys]
        free = _WORK.c.answer.is_(None) & (_WORK.c.heard < now - _seconds(STALE_S))
        taken = insert(_WORK).values(rows)
        taken = taken.on_conflict_do_update(
            index_elements=[_WORK.c.study, _WORK.c.key], set_={"owner": self._owner, "heard": now}, where=free
        )
        with self._plain(), self._engine.begin() as connection:
            got = set(connection.execute(taken.returning(_WORK.c.key)).scalars())
        return [key for key in keys if key in got]

    def answer(self, key: str, text: str) -> str:
        """Put down the answer of a claimed task; the one that stands there then, which may be another driver's."""
        here = (_WORK.c.study == self._name) & (_WORK.c.key == key)
        with self._plain(), self._engine.begin() as connection:
            connection.execute(sql.update(_WORK).where(here, _WORK.c.answer.is_(None)).values(answer=text))
            return str(connection.execute(sql.select(_WORK.c.answer).where(here)).scalar_one())

    def record(self, batch: int, trials: Sequence[FrozenTrial]) -> None:
        """Add a batch to the Optuna study, unless another driver did: all of it, or nothing."""
        new = insert(_BATCHES).values(study=self._name, batch=batch).on_conflict_do_nothing().returning(_BATCHES.c.batch)
        with self._plain(), self._engine.begin() as connection:
            connection.execute(sql.text(f"SET LOCAL idle_in_transaction_session_timeout = '{STALE_S:g}s'"))
            if connection.execute(new).scalar() is None:  # waits for a driver that is just at it
                return
            before = self._storage.scoped_session
            maker = sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
            self._storage.scoped_session = scoped_session(maker)
            try:
                for trial in trials:
                    self._storage.create_new_trial(self._study, trial)
            finally:
                self._storage.scoped_session = before

    def _join(self, connection: Connection, asked: Mapping[str, Any], objectives: Sequence[tuple[str, bool]]) -> None:
        """Find the study in the database, or make it."""
        found = connection.execute(sql.select(_STUDIES.c.asked).where(_STUDIES.c.name == self._name)).scalar()
        if found is not None and (differs := _differences(json.loads(found), asked)):
            fix = "undo the change, or give this study another --study-name"
            what = f"the database holds another study called '{self._name}': {', '.join(differs)} differ"
            raise LeptonError(what, where=self._where, fix=fix)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            options = {"connect_args": {"connect_timeout": _CONNECT_S}, "pool_pre_ping": True}
            self._storage = RDBStorage(self._url.render_as_string(hide_password=False), engine_kwargs=options)
            if found is not None:
                self._study = self._storage.get_study_id_from_name(self._name)
                return
            directions = [StudyDirection.MAXIMIZE if greater else StudyDirection.MINIMIZE for _, greater in objectives]
            self._study = self._storage.create_new_study(directions, self._name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study = optuna.load_study(study_name=self._name, storage=self._storage)
                study.set_metric_names([name for name, _ in objectives])
        except DuplicatedStudyError as error:
            fix = "give this one another --study-name"
            raise LeptonError(f"the database holds another study called '{self._name}'", where=self._where, fix=fix) from error
        finally:
            optuna.logging.set_verbosity(before)
        connection.execute(insert(_STUDIES).values(name=self._name, asked=json.dumps(asked)))

    def _live(self) -> None:
        """Say again and again that this driver lives."""
        mine = (_WORK.c.study == self._name) & (_WORK.c.owner == self._owner) & _WORK.c.answer.is_(None)
        while not self._ended.wait(STALE_S / _BEATS):
            try:
                with self._engine.begin() as connection:
                    connection.execute(sql.update(_WORK).where(mine).values(heard=sql.func.now()))
            except SQLAlchemyError:
                pass  # whoever works with the database next says so

    @property
    def _where(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def _plain(self) -> Iterator[None]:
        """What goes wrong with the database is one line."""
        try:
            yield
        except ImportError as error:
            fix = "pip install 'lepton_dse[database]'"
            raise MissingToolError(f"the database's package is not installed: {error.name}", fix=fix) from error
        except (SQLAlchemyError, OptunaError, ValueError, RuntimeError) as error:
            fix = "see that it runs and takes this user, then go on with --resume"
            raise LeptonError(f"the database cannot be used: {self._said(error)}", where=self._where, fix=fix) from error

    def _said(self, error: BaseException) -> str:
        """What the database says, without the password."""
        while error.__cause__ is not None:
            error = error.__cause__
        text = " ".join(str(error).split())
        secret = self._url.password
        return text.replace(str(secret), "***") if secret else text


def _url(text: str) -> URL:
    fix = "give one such as postgresql://user:password@host/database"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise LeptonError("no database's URL", where="storage", fix=fix) from error
    if url.get_backend_name() != "postgresql":
        raise LeptonError(f"a study cannot be shared by {url.get_backend_name()}, only by PostgreSQL", where="storage", fix=fix)
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _seconds(count: float) -> Any:
    return sql.cast(f"{count:g} seconds", sql.Interval)


def _differences(before: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Names of what another driver was not asked, settings one by one."""
    flat = [{**entry["settings"], **entry} for entry in (before, json.loads(json.dumps(asked)))]
    names = sorted((set(flat[0]) | set(flat[1])) - {"settings"})
    return [name.replace("_digest", "") for name in names if flat[0].get(name) != flat[1].get(name)]
