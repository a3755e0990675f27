"""The folder of a study: what it refuses, and that an edit shows."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.study import Step, Study

Make = Callable[..., Study]
COST = {"minimize": ["latency_s", "energy_j"], "data": None}


def test_a_folder_with_a_study_is_not_overwritten(study: Make) -> None:
    study("one", **COST).run(workers=0)
    with pytest.raises(LeptonError, match="holds a study already; go on with it by --resume"):
        study("one", **COST).run(workers=0)


def test_a_folder_with_something_else_is_refused(study: Make, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "letter.txt").write_text("dear all")
    for resume in (False, True):
        with pytest.raises(LeptonError, match="exists and holds no study"):
            study("one", **COST).run(workers=0, resume=resume)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["letter.txt"]


def test_any_reader_of_optuna_journals_sees_what_was_asked(study: Make) -> None:
    one = study("one", **COST).run(workers=0)
    read = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(one.folder / "journal.log"))))
    assert read.metric_names == COST["minimize"]
    # Of equal candidates a front keeps one.
    front = {tuple(map(row.figures.get, COST["minimize"])) for row in one.front}
    assert {tuple(trial.values) for trial in read.best_trials} == front
    assert {str(row.candidate) for row in one.front} <= {trial.user_attrs["name"] for trial in read.best_trials}


def test_resuming_nothing_begins(study: Make) -> None:
    assert study(**COST).run(workers=0, resume=True).front


def test_another_study_is_not_resumed(study: Make, data: Dataset) -> None:
    study("one").run(workers=0)
    for change, named in (
        ({"data": replace(data, x=data.x + 1)}, "data"),
        ({"seed": 1}, "data, seed"),
        ({"axes": {"formats": ["int8"]}}, "space"),
        ({"axes": {"targets": ["nvidia-t4"]}}, "space, targets"),
        ({"minimize": ["latency_s"], "data": None}, "data, minimize"),
    ):
        with pytest.raises(LeptonError, match=f"cannot go on: {named} changed since the study began"):
            study("one", **change).run(workers=0, resume=True)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("study.json", "{", "["),
        ("study.json", '"settings"', '"sittings"'),
        ("journal.log", '"op_code"', "op_code"),
        ("journal.log", '"index":0,', '"index":48,'),
        ("journal.log", '"index":0,', '"index":"first",'),
        ("journal.log", '"latency_s":', '"latency_s":"slow","was":'),
        ("journal.log", '"failed":false', '"fell":false'),
    ],
)
def test_damaged_records_are_refused(study: Make, name: str, old: str, new: str) -> None:
    one = study(**COST).run(workers=0)
    path = one.folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LeptonError, match=r"the journal is damaged|no study's record"):
        one.run(workers=0, resume=True)


def test_a_damaged_variant_is_named(study: Make) -> None:
    one = study().run(workers=0)
    path = next((one.folder / "variants").iterdir())
    path.write_text("{}")
    with pytest.raises(LeptonError, match=f"{path.name}: is no measured accuracy"):
        one.run(workers=0, resume=True)


def test_one_folder_has_one_driver(study: Make) -> None:
    said = []

    def meddle(step: Step) -> None:
        with pytest.raises(LeptonError, match="another process runs this study"):
            study("one", **COST).run(workers=0, resume=True)
        said.append(step)

    study("one", **COST).run(workers=0, progress=meddle)
    assert said


def test_processes_forked_from_a_driver_do_not_keep_its_folder(study: Make) -> None:
    forked = []

    def fork(step: Step) -> None:
        if not forked:
            forked.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True))
            forked[0].start()

    whole = study("one", **COST).run(workers=0, progress=fork)
    try:
        assert forked[0].is_alive()
        assert study("one", **COST).run(workers=0, resume=True).found == whole.found
    finally:
        forked[0].kill()
        forked[0].join()


def test_a_folder_of_another_process_is_refused(study: Make) -> None:
    one = study("one", **COST).run(workers=0)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(one.folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(LeptonError, match="another process runs this study"):
            one.run(workers=0, resume=True)
    assert one.run(workers=0, resume=True).found == one.found


def test_a_study_goes_on_in_a_process_whose_parallel_kernels_have_run(study: Make, tmp_path: Path) -> None:
    script = """
import sys
import lepton_dse as ld
from lepton_dse.jit import kernel, parallel_kernel, prange

@parallel_kernel
def total(count):
    found = 0
    for number in prange(count):
        found += number
    return found

@kernel
def later(count):
    return count + 1

assert total(10) == 45
study = ld.Study(sys.argv[1], ld.Space(targets=["google-tpu-v1"]), folder=sys.argv[2], minimize=["latency_s"])
study.run(workers=0, progress=lambda step: later(1))
"""
    one = study("one", **COST)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"}
    model = data_folder("models") / "digits_cnn.onnx"
    (tmp_path / "drive.py").write_text(script)
    command = [sys.executable, str(tmp_path / "drive.py"), str(model), str(one.folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
