"""Studies that are killed again and again, that find no room, or that may not write: nothing that was there is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.study import Step, Study, read_finished, run

pytestmark = pytest.mark.slow
Make = Callable[..., Study]
SAMPLED = {"enumerate_up_to": 0, "population": 8, "trials": 30}
KILLS = 20


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_CHUNK", 8)
    monkeypatch.setattr(run, "_TASK", 2)


def forked(workers: int) -> Executor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))


def driven(study: Study) -> None:
    """Run a study with two workers, all of them in a group of their own."""
    os.setsid()
    study.run(partial(forked, 2), resume=True)


def records(folder: Path) -> list[dict[str, Any]]:
    """What whole batches of a journal say, in order."""
    path = folder / "journal.log"
    text = path.read_bytes() if path.is_file() else b""
    end = text.rfind(b'"batches":')
    entries = [json.loads(line) for line in text[: text.find(b"\n", end)].splitlines()] if end >= 0 else []
    return [entry["user_attrs"] for entry in entries if "figures" in entry.get("user_attrs", {})]


@pytest.mark.parametrize("options", [{}, SAMPLED], ids=["enumerated", "sampled"])
def test_a_study_that_is_killed_again_and_again_ends_as_if_nothing_had_been(study: Make, options: dict[str, Any]) -> None:
    start = time.perf_counter()
    whole = study("whole", **options).run(partial(forked, 2))
    took = time.perf_counter() - start
    rng, killed, times = np.random.default_rng(7), 0, 1
    kept: list[dict[str, Any]] = []
    while killed < KILLS:
        one = study(f"killed{times}", **options)
        process = multiprocessing.get_context("fork").Process(target=driven, args=(one,))
        process.start()
        process.join(timeout=0.05 + float(rng.uniform(0, took / 4)))
        ended = not process.is_alive()
        if not ended:
            os.killpg(process.pid, signal.SIGKILL) if os.getpgid(process.pid or 0) == process.pid else process.kill()
            process.join()
            while group(process.pid or 0):  # a forked worker that is still dying holds the folder's lock
                time.sleep(0.005)
            killed += 1
        now = records(one.folder)
        assert now[: len(kept)] == kept
        kept = now
        if ended:
            assert process.exitcode == 0
            compare(one, whole)
            times, kept = times + 1, []  # there is nothing left to kill; once more from the beginning
    compare(one, whole)


def compare(one: Study, whole: Study) -> None:
    """A killed study goes on to what an undisturbed one found, with each candidate once."""
    last = one.run(workers=0, resume=True).found
    assert last is not None
    assert last == whole.found == read_finished(one.folder).found
    found = records(one.folder)
    assert found == records(whole.folder)
    assert len({entry["index"] for entry in found}) == len(found) == last.evaluated
    names = [sorted(path.name for path in (place.folder / "variants").glob("*.json")) for place in (one, whole)]
    assert names[0] == names[1]


def test_workers_end_with_a_killed_driver(study: Make, tmp_path: Path) -> None:
    script = """
import sys
import lepton_dse as ld
if __name__ == "__main__":
    rows = list(range(1, 4001))
    space = ld.Space(targets=[{"target": "google-tpu-v1", "numbers": {"array_rows": rows}}])
    ld.Study(sys.argv[1], space, folder=sys.argv[2], minimize=["latency_s"]).run(workers=2)
"""
    (tmp_path / "drive.py").write_text(script)
    model, folder = data_folder("models") / "digits_cnn.onnx", tmp_path / "one"
    started = subprocess.Popen([sys.executable, tmp_path / "drive.py", model, folder], start_new_session=True)
    try:
        while not records(folder):
            assert started.poll() is None
            time.sleep(0.05)
        assert len(group(started.pid)) > 2
        started.kill()
        started.wait()
        deadline = time.monotonic() + 60
        while group(started.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert group(started.pid) == []
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


def group(leader: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, member = (place / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(member) == leader and state != "Z":
                found.append(int(place.name))
    return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own; skips where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False, capture_output=True)
    if made.returncode:
        pytest.skip(f"no disk can be mounted: {made.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.parametrize("when", ["pricing", "accuracy on 20", "accuracy of the front"])
def test_a_full_disk_is_one_line_and_loses_nothing(study: Make, disk: Path, when: str) -> None:
    wanted = study("whole").run(workers=0)
    steps = 0

    def use_up(step: Step) -> None:
        nonlocal steps
        steps += step.stage.startswith(when)
        if steps == (5 if when == "pricing" else 2):
            fill(disk)

    one = study("disk/one")
    with pytest.raises(LeptonError, match="cannot be written: No space left on device") as refused:
        one.run(workers=0, progress=use_up)
    assert str(one.folder) in str(refused.value)
    kept = records(one.folder)
    whole = (one.folder / "journal.log").read_bytes()
    assert kept == records(wanted.folder)[: len(kept)]
    assert whole == b"" or whole.endswith(b"\n")
    for path in (one.folder / "variants").glob("*.json"):
        assert json.loads(path.read_text()) == json.loads((wanted.folder / "variants" / path.name).read_text())
    with pytest.raises(LeptonError, match="cannot be written: No space left on device"):
        one.run(workers=0, resume=True)
    assert records(one.folder) == kept
    (disk / "filler").unlink()
    assert one.run(workers=0, resume=True).found == wanted.found
    assert records(one.folder) == records(wanted.folder)


def test_a_disk_that_is_full_from_the_start_is_one_line(study: Make, disk: Path) -> None:
    fill(disk)
    with pytest.raises(LeptonError, match="cannot be written: No space left on device"):
        study("disk/one").run(workers=0)
    (disk / "filler").unlink()
    assert study("disk/one").run(workers=0, resume=True).front


@pytest.mark.parametrize("left", [".lock", "..lock.abc123", ".study.json.abc123"])
def test_a_study_that_was_killed_before_its_record_was_written_begins_anew(study: Make, left: str) -> None:
    one = study("one", minimize=["latency_s", "energy_j"], data=None)
    one.folder.mkdir()
    (one.folder / left).write_bytes(b"")
    assert one.run(workers=0).front


def test_a_folder_that_may_not_be_written_is_one_line(study: Make, disk: Path) -> None:
    def stop(step: Step) -> None:
        if step.done > 16:
            raise KeyboardInterrupt

    wanted = study("disk/done").run(workers=0)
    with pytest.raises(KeyboardInterrupt):
        study("disk/begun").run(workers=0, progress=stop)
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for folder in ("disk/new", "disk/begun", "disk/done"):
        with pytest.raises(LeptonError, match="cannot be written: Read-only file system"):
            study(folder).run(workers=0, resume=True)
    assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before
    assert read_finished(disk / "done").found == wanted.found
    assert study("elsewhere").run(workers=0, reuse=disk / "begun").found == wanted.found


def test_a_journal_that_was_cut_anywhere_is_mended_or_refused(study: Make) -> None:
    one = study(minimize=["latency_s", "energy_j"], data=None)
    wanted = one.run(workers=0).found
    path = one.folder / "journal.log"
    text, all_of_them = path.read_bytes(), records(one.folder)
    for end in np.random.default_rng(3).integers(0, len(text), 8):
        path.write_bytes(text[:end] + b"\0" * int(end % 3))  # a crash of the machine may leave zeros
        assert one.run(workers=0, resume=True).found == wanted
        assert records(one.folder) == all_of_them
