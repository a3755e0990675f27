"""Several drivers of one study in a database: nothing is computed or recorded twice, and all find the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import optuna
import pytest

from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.study import Found, Step, Study, database, read_finished, run, sharing, work
from lepton_dse.study.database import Database

sys.path.insert(0, str(Path(__file__).parent))
from postgres import PASSWORD, QUOTED, server

Make = Callable[..., Study]
SAMPLED = {"enumerate_up_to": 0, "population": 4, "trials": 14}
COST = {"minimize": ["latency_s", "energy_j"], "data": None}
NUMBERS = count()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture
def name() -> str:
    """Of a study that no other test has."""
    return f"study {next(NUMBERS)}"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Counter[str]]:
    """What was computed in all processes that are forked from here, and how often; small batches."""
    price, measure, path = work._price, work._measure, tmp_path / "computed.txt"

    def note(text: str) -> None:
        with path.open("a") as lines:
            lines.write(text + "\n")

    def priced(inputs: work.Inputs, candidate: Any) -> Any:
        note(str(candidate))
        return price(inputs, candidate)

    def measured(inputs: work.Inputs, variant: Any, samples: int) -> Any:
        note(f"{variant} {samples}")
        return measure(inputs, variant, samples)

    monkeypatch.setattr(work, "_price", priced)
    monkeypatch.setattr(work, "_measure", measured)
    monkeypatch.setattr(run, "_CHUNK", 16)
    monkeypatch.setattr(run, "_TASK", 2)
    monkeypatch.setattr(sharing, "_POLL_S", 0.02)

    def read() -> Counter[str]:
        lines = Counter(path.read_text().splitlines()) if path.exists() else Counter()
        path.unlink(missing_ok=True)
        return lines

    return read


def driver(study: Study, **options: Any) -> Any:
    """A process that drives a study."""
    process = multiprocessing.get_context("fork").Process(target=partial(study.run, workers=0, **options))
    process.start()
    return process


def trials(url: str, name: str) -> list[int]:
    """Candidates that the database's Optuna study holds, by index."""
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    found = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
    storage.engine.dispose()
    assert all(trial.state.is_finished() for trial in found)
    return [trial.user_attrs["index"] for trial in found]


def lines(folder: Path) -> list[str]:
    text = (folder / "journal.log").read_text().splitlines()
    return [line.split('"user_attrs":')[1] for line in text if '"figures"' in line]


@pytest.mark.parametrize("options", [{}, SAMPLED, COST], ids=["enumerated", "sampled", "costs"])
def test_drivers_share_a_study(
    study: Make, url: str, name: str, counted: Callable[[], Counter[str]], options: dict[str, Any]
) -> None:
    alone = study("alone", **options).run(workers=0)
    wanted, wants = alone.found, counted()
    assert set(wants.values()) == {1}
    drivers = [driver(study(f"driver{number}", **options), storage=url, study_name=name) for number in range(3)]
    for process in drivers:
        process.join()
        assert process.exitcode == 0
    assert counted() == wants
    for number in range(3):
        folder = alone.folder.parent / f"driver{number}"
        assert read_finished(folder).found == wanted
        assert lines(folder) == lines(alone.folder)
    assert sorted(trials(url, name)) == sorted(entry.index for entry in read_finished(alone.folder).candidates)


@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["enumerated", "sampled"])
def test_what_a_killed_driver_had_claimed_is_taken_over(
    study: Make,
    url: str,
    name: str,
    counted: Callable[[], Counter[str]],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(database, "STALE_S", 1.0)
    alone = study("alone", **options).run(workers=0)
    wants = counted()
    steps: list[Step] = []

    def die(step: Step) -> None:
        steps.append(step)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    killed = driver(study("killed", **options), storage=url, study_name=name, progress=die)
    others = driver(study("other", **options), storage=url, study_name=name)
    for process in (killed, others):
        process.join()
    assert (killed.exitcode, others.exitcode) == (-signal.SIGKILL, 0)
    computed = counted()
    assert set(computed) == set(wants)
    again = study("killed", **options).run(workers=0, storage=url, study_name=name, resume=True)
    assert again.found == alone.found == read_finished(alone.folder.parent / "other").found
    assert not counted()  # all of it was known
    assert sorted(trials(url, name)) == sorted(entry.index for entry in read_finished(alone.folder).candidates)


def test_a_late_driver_computes_nothing(study: Make, url: str, name: str, counted: Callable[[], Counter[str]]) -> None:
    first = study().run(workers=0, storage=url, study_name=name)
    counted()
    assert study().run(workers=0, storage=url, study_name=name).found == first.found
    assert not counted()


def test_a_study_that_was_begun_without_a_database_is_put_there(study: Make, url: str, name: str) -> None:
    first = study("one").run(workers=0)
    assert study("one").run(workers=0, storage=url, study_name=name, resume=True).found == first.found
    assert sorted(trials(url, name)) == list(range(48))


def test_a_killed_candidate_is_recorded_for_all(
    study: Make, url: str, name: str, counted: Callable[[], Counter[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    price = work._price

    def fails(inputs: work.Inputs, candidate: Any) -> Any:
        if candidate.hardware.target == "nvidia-t4":
            raise ZeroDivisionError("by nothing")
        return price(inputs, candidate)

    monkeypatch.setattr(work, "_price", fails)
    one, other = (study(**COST).run(workers=0, storage=url, study_name=name).found for _ in range(2))
    assert one is not None
    assert (one, one.failed) == (other, 12)


def test_other_settings_are_refused(study: Make, url: str, name: str) -> None:
    found: Found | None = study(**COST).run(workers=0, storage=url, study_name=name).found
    assert found is not None
    for change, named in (({"seed": 1}, "seed"), ({"axes": {"formats": ["int8"]}}, "space"), ({"trials": 7}, "trials")):
        one = study(**COST, **change)
        with pytest.raises(LeptonError, match=f"holds another study called '{name}': {named} differ") as refused:
            one.run(workers=0, storage=url, study_name=name)
        assert not one.folder.exists()
        assert QUOTED not in str(refused.value)


def test_a_study_of_another_program_is_refused(study: Make, url: str, name: str) -> None:
    study(**COST).run(workers=0, storage=url, study_name=f"{name} first")
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    optuna.create_study(study_name=name, storage=storage)
    storage.engine.dispose()
    with pytest.raises(LeptonError, match=f"holds another study called '{name}'"):
        study(**COST).run(workers=0, storage=url, study_name=name)


def test_a_task_is_claimed_once_and_the_first_answer_stays(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"task {number}" for number in range(40)]

    def claims(one: Database) -> list[str]:
        return [key for start in range(0, 40, 5) for key in one.claim(keys[start : start + 5])]

    def joined() -> Database:
        return Database(url, name, {"settings": {}}, [("latency_s", False)])

    with joined() as first, joined() as second, ThreadPoolExecutor(2) as threads:
        both = list(threads.map(claims, (first, second)))
        assert sorted(both[0] + both[1]) == sorted(keys)
        assert first.look(keys).free == second.look(keys).free == ()
        mine, theirs = (next(iter(entry), None) for entry in both)
        if mine is not None:
            assert first.answer(mine, "one") == "one"
            assert second.answer(mine, "two") == "one"
            assert second.look([mine]).answers == {mine: "one"}
        monkeypatch.setattr(database, "STALE_S", 0.0)
        open_keys = [key for key in keys if key != mine]
        assert set(first.look(open_keys).free) == set(open_keys)
        assert first.claim(open_keys) == open_keys
        assert theirs is None or first.answer(theirs, "taken over") == second.answer(theirs, "late") == "taken over"
    monkeypatch.undo()
    with joined() as third:  # what the others had not done is free at once, since they ended in order
        left = [key for key in keys if key not in (mine, theirs)]
        assert list(third.look(left).free) == left


def test_a_driver_that_lives_keeps_what_it_claimed(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "STALE_S", 0.8)
    asked = (url, name, {"settings": {}}, [("latency_s", False)])
    with Database(*asked) as first, Database(*asked) as second:
        assert first.claim(["long"]) == ["long"]
        time.sleep(2.0)
        assert second.look(["long"]).free == ()
        assert second.claim(["long"]) == []


def test_a_batch_is_recorded_once_or_not_at_all(url: str, name: str) -> None:
    def batch(*indices: int) -> list[Any]:
        return [optuna.trial.create_trial(value=1.0, user_attrs={"index": index}) for index in indices]

    asked = (url, name, {"settings": {}}, [("latency_s", False)])
    with Database(*asked) as first, Database(*asked) as second, ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda one: one.record(0, batch(*range(9))), (first, second)))
        assert sorted(trials(url, name)) == list(range(9))
        wrong = batch(9)[0]
        wrong.user_attrs["index"] = object()  # which no JSON holds
        with pytest.raises((LeptonError, TypeError)):
            first.record(1, [*batch(8), wrong])
        assert sorted(trials(url, name)) == list(range(9))
        second.record(1, batch(9))
        assert sorted(trials(url, name)) == list(range(10))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: "nonsense", "no database's URL"),
        (lambda url: "postgresql://u:hidden@h:port/d", "no database's URL"),
        (lambda url: "sqlite:///study.db", "cannot be shared by sqlite, only by PostgreSQL"),
        (lambda url: url.replace(QUOTED, "hidden"), "password authentication failed"),
        (lambda url: url.replace("/postgres", "/nothing"), 'database "nothing" does not exist'),
        (lambda url: "postgresql://u:hidden@127.0.0.1:1/d", "the database cannot be used: connection"),
        (lambda url: "postgresql+nothing://u:hidden@h/d", "the database cannot be used: "),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(study: Make, url: str, change: Callable[[str], str], said: str) -> None:
    one = study(**COST)
    with pytest.raises(LeptonError, match=said) as refused:
        one.run(workers=0, storage=change(url))
    assert "\n" not in str(refused.value)
    assert not any(secret in str(refused.value) for secret in ("hidden", QUOTED, PASSWORD))
    assert not one.folder.exists()


def test_a_missing_package_is_named(study: Make, url: str) -> None:
    with pytest.raises(MissingToolError, match=r"package is not installed: pg8000; pip install 'lepton_dse\[database\]'"):
        study(**COST).run(workers=0, storage=url.replace("postgresql:", "postgresql+pg8000:"))


def test_a_damaged_answer_is_refused(study: Make, url: str, name: str) -> None:
    import sqlalchemy

    study(**COST).run(workers=0, storage=url, study_name=name)
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE lepton_work SET answer = '[{}]' WHERE study = :name"), {"name": name})
    engine.dispose()
    with pytest.raises(LeptonError, match="the database holds a damaged answer"):
        study(**COST).run(workers=0, storage=url, study_name=name)


def test_an_earlier_study_is_not_reused_by_a_shared_one(study: Make, url: str, tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="cannot be reused by one that is shared"):
        study(**COST).run(workers=0, storage=url, reuse=tmp_path)


def test_a_database_that_goes_away_is_one_line(study: Make, url: str) -> None:
    one = study(**COST)
    with ExitStack() as stack:
        own = stack.enter_context(server())
        with pytest.raises(LeptonError, match="the database cannot be used"):
            one.run(workers=0, storage=own, progress=lambda step: stack.close())
    assert one.run(workers=0, storage=url, resume=True).found == study(**COST).run(workers=0).found
