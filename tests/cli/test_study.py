"""``lepton study``: what it prints, its exit codes, and what a wrong file is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "study"))
from postgres import need, server

GOOD = """\
model = "model.onnx"
data = "data.npz"
minimize = ["latency_s", "loss_points"]
screen = 8
calibration = 4

[space]
targets = ["raspberry-pi-5", { target = "google-tpu-v1", numbers = { array_rows = [64, 128] } }]
formats = ["float16", "int8"]
"""
COST = GOOD.replace('"loss_points"', '"energy_j"').replace('data = "data.npz"\n', "")
ROW = {
    "target",
    "numbers",
    "mesh",
    "stages",
    "devices",
    "exchanged_bytes",
    "format",
    "sparsity",
    "channels",
    "batch",
    "latency_s",
    "throughput_per_s",
    "energy_j",
    "peak_bytes",
}
ROW |= {"weight_bytes", "lut", "ff", "dsp", "bram18", "accuracy", "loss_points", "accuracy_interval", "loss_interval"}
ROW |= {"evidence", "band_pct"}


@pytest.fixture
def file(work: Path) -> Path:
    path = work / "STUDY.toml"
    path.write_text(GOOD)
    return path


def test_json_has_stable_keys(lepton: Any, file: Path) -> None:
    result = lepton("study", file, "-o", file.parent / "out", "--workers", 0, "--json")
    document = result.document
    assert result.code == 0
    keys = {
        "schema_version",
        "model",
        "space",
        "enumerated",
        "evaluated",
        "infeasible",
        "failed",
        "hypervolume",
        "reused",
        "front",
    }
    assert set(document) == keys
    assert document["space"]["size"] == document["evaluated"] == 6
    swept = {"target": "google-tpu-v1", "numbers": {"array_rows": [64, 128]}, "meshes": [], "stages": [1]}
    assert document["space"]["targets"][1] == swept
    assert all(set(row) == ROW for row in document["front"])
    assert all(row["accuracy_interval"]["samples"] == 12 for row in document["front"])
    latencies = [row["latency_s"] for row in document["front"]]
    assert latencies == sorted(latencies)


def test_table_says_how_the_front_was_found(lepton: Any, file: Path) -> None:
    out = file.parent / "out"
    first = lepton("study", file, "-o", out, "--workers", 0)
    assert (first.code, first.err) == (0, "")
    assert "Pareto front of latency_s, loss_points" in first.out
    assert "all 6 candidates evaluated" in first.out
    assert "hypervolume" in first.out
    assert (out / "STUDY.toml").read_text() == GOOD
    again = lepton("study", file, "-o", out, "--workers", 0, "--resume")
    assert again.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    assert "holds a study already" in lepton("study", file, "-o", out).complaint


def test_a_sampled_study_says_so(lepton: Any, file: Path) -> None:
    file.write_text("enumerate_up_to = 0\ntrials = 3\npopulation = 2\n" + COST)
    result = lepton("study", file, "-o", file.parent / "out", "--workers", 0)
    assert "3 of 6 candidates sampled by nsga2" in result.out


def test_nothing_feasible_is_exit_1(lepton: Any, file: Path) -> None:
    file.write_text('subject_to = ["latency_s <= 1e-15"]\n' + COST)
    result = lepton("study", file, "-o", file.parent / "out", "--workers", 0)
    assert (result.code, result.err) == (1, "")
    assert "nothing is feasible" in result.out
    assert "asked is latency_s <= 1e-15" in result.out
    result = lepton("study", file, "-o", file.parent / "out", "--workers", 0, "--resume", "--json")
    assert (result.code, result.document["front"]) == (1, [])


def test_all_stands_for_every_shipped_target(lepton: Any, file: Path) -> None:
    from lepton_dse.targets import target_names

    targets = '["raspberry-pi-5", { target = "google-tpu-v1", numbers = { array_rows = [64, 128] } }]'
    file.write_text(COST.replace(targets, '["all"]'))
    document = lepton("study", file, "-o", file.parent / "out", "--workers", 0, "--json").document
    assert [entry["target"] for entry in document["space"]["targets"]] == list(target_names(unit=False))


def test_a_target_may_be_a_file_below_the_study(lepton: Any, file: Path) -> None:
    from lepton_dse.files import data_folder

    (file.parent / "hw").mkdir()
    (file.parent / "hw" / "mine.toml").write_text((data_folder("hwmodels") / "cpu" / "raspberry-pi-5.toml").read_text())
    file.write_text(COST.replace("raspberry-pi-5", "hw/mine.toml"))
    document = lepton("study", file, "-o", file.parent / "out", "--workers", 0, "--json").document
    assert "hw/mine.toml" in {row["target"] for row in document["front"]}


def test_schema_is_that_of_the_file(lepton: Any) -> None:
    document = lepton("study", "--schema").document
    assert set(document["required"]) == {"model", "space"}
    assert document["additionalProperties"] is False
    assert document["properties"]["trials"]["default"] == 2000
    assert all(entry["description"] for entry in document["properties"].values())
    assert set(document["$defs"]["Space"]["properties"]) == {"targets", "formats", "sparsities", "channels", "batches"}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("screen = 8", "scren = 8", 4, "scren: Extra inputs are not permitted"),
        ("formats = [", "format = [", 9, "space.format: Extra inputs are not permitted"),
        ("screen = 8", 'screen = "many"', 4, "screen: Input should be a valid integer"),
        ('["float16", "int8"]', '["float16", "int99"]', 9, "outside 2 to 16 bits"),
        ('["float16", "int8"]', '"int8"', 9, "space.formats: Input should be a valid tuple"),
        ('"loss_points"', '"speed"', 3, "no figure 'speed'"),
        ('"model.onnx"', '"none.onnx"', 1, "no such file: none.onnx"),
        ('"data.npz"', '"none.npz"', 2, "no such file: none.npz"),
        ('"model.onnx"', '"../model.onnx"', 1, "the path '../model.onnx' leaves its folder"),
        ('"model.onnx"', r'"a\u0000b"', 1, "model: String should match pattern"),
        ('"raspberry-pi-5"', r'"\u0000.toml"', 8, "String should match pattern"),
        ('"data.npz"', '"/etc/passwd"', 2, "the path '/etc/passwd' leaves its folder"),
        ('"raspberry-pi-5"', '"../mine.toml"', 8, "the path '../mine.toml' leaves its folder"),
        ('"raspberry-pi-5"', '"mine.toml"', 8, "no such file: mine.toml"),
        ('"raspberry-pi-5"', '"raspberry-pi-6"', 8, "no target called 'raspberry-pi-6'; did you mean raspberry-pi-5"),
        ("array_rows", "array_height", 8, "no number 'array_height'"),
        ("[64, 128]", "[]", 8, "numbers.array_rows"),
        ('["raspberry-pi-5"', '["raspberry-pi-5", "raspberry-pi-5"', 8, "raspberry-pi-5 is given twice"),
        ("screen = 8", 'subject_to = ["latency_s < 1"]', 4, "'latency_s < 1' is no constraint"),
        ("screen = 8", 'metric = "best"', 4, "no metric 'best'"),
        ("screen = 8", "screen = ", 4, "not valid TOML"),
    ],
)
def test_wrong_files_are_named_with_line_and_key(lepton: Any, file: Path, old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    file.write_text(GOOD.replace(old, new, 1))
    complaint = lepton("study", file, "-o", file.parent / "out").complaint
    assert str(file) in complaint
    assert f"line {line}" in complaint
    assert said in complaint
    assert not (file.parent / "out").exists()


@pytest.mark.parametrize("key", ["model", "space"])
def test_a_missing_key_is_named(lepton: Any, file: Path, key: str) -> None:
    text = GOOD.replace('model = "model.onnx"\n', "") if key == "model" else GOOD.partition("[space]")[0]
    file.write_text(text)
    assert f"{file}: {key}: Field required" in lepton("study", file, "-o", file.parent / "out").complaint


def test_missing_data_and_arguments(lepton: Any, file: Path) -> None:
    file.write_text(GOOD.replace('data = "data.npz"\n', ""))
    assert "'loss_points' needs labelled data" in lepton("study", file, "-o", file.parent / "out").complaint
    assert "no study" in lepton("study").complaint
    assert "no folder" in lepton("study", file).complaint
    assert "no such file" in lepton("study", file.parent / "none.toml", "-o", file.parent / "out").complaint
    file.write_text(COST)
    assert "-1 workers" in lepton("study", file, "-o", file.parent / "out", "--workers=-1").complaint


def test_an_earlier_study_is_reused(lepton: Any, file: Path) -> None:
    assert lepton("study", file, "-o", file.parent / "old", "--workers", 0).code == 0
    file.write_text(GOOD.replace("[64, 128]", "[64, 256]"))
    options = ("--workers", 0, "--reuse", file.parent / "old")
    cold = lepton("study", file, "-o", file.parent / "cold", "--workers", 0, "--json").document
    document = lepton("study", file, "-o", file.parent / "new", *options, "--json").document
    assert (cold.pop("reused"), document.pop("reused")["prices"]) == ({"prices": 0, "accuracies": 0}, 4)
    assert document == cold
    shown = lepton("study", file, "-o", file.parent / "shown", *options).out
    assert "; reused 4 prices and " in shown
    own = lepton("study", file, "-o", file.parent / "old", "--reuse", file.parent / "old")
    assert "is the study's own folder" in own.complaint
    assert "holds no study" in lepton("study", file, "-o", file.parent / "out", "--reuse", file.parent / "none").complaint


def test_clusters_and_databases_that_cannot_be_used(lepton: Any, file: Path) -> None:
    need("distributed")
    need("psycopg")
    ask = partial(lepton, "study", file, "-o", file.parent / "out")
    assert "both --workers and --dask" in ask("--dask", "tcp://127.0.0.1:1", "--workers", 1).complaint
    assert "no Dask scheduler answers" in ask("--dask", "nowhere").complaint
    assert "no database's URL" in ask("--storage", "postgresql://me:secret@host:port/db").complaint
    complaint = ask("--storage", "postgresql://me:secret@127.0.0.1:1/db").complaint
    assert "postgresql+psycopg://me:***@127.0.0.1:1/db: the database cannot be used" in complaint
    assert "secret" not in complaint
    assert not (file.parent / "out").exists()


def test_a_shared_study_is_reported(lepton: Any, file: Path) -> None:
    with server() as url:
        first, second = (
            lepton("study", file, "-o", file.parent / name, "--workers", 0, "--storage", url, "--json") for name in ("a", "b")
        )
        assert (first.code, first.document, first.err) == (0, second.document, "")
        file.write_text(GOOD.replace('["float16", "int8"]', '["int8"]'))
        refused = lepton("study", file, "-o", file.parent / "c", "--storage", url).complaint
        assert "holds another study called" in refused
        assert "space differ" in refused
        assert lepton("study", file, "-o", file.parent / "c", "--storage", url, "--study-name", "other", "--workers", 0).code == 0
    assert lepton("report", file.parent / "b").code == 0


@pytest.mark.slow
def test_an_interrupt_says_how_to_go_on(file: Path) -> None:
    """A new process, as a terminal would interrupt it: the signal reaches workers too."""
    many = ", ".join(str(rows) for rows in range(1, 1001))
    file.write_text(COST.replace("[64, 128]", f"[{many}]"))
    out = file.parent / "out"
    # What started these tests may ignore interrupts, which the new process would inherit.
    code = "import signal; signal.signal(2, signal.default_int_handler); from lepton_dse.cli import main; main()"
    command = [sys.executable, "-c", code, "study", str(file), "-o", str(out), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    journal = out / "journal.log"
    while process.poll() is None and not (journal.is_file() and journal.stat().st_size):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    printed, complaint = process.communicate()
    assert (process.returncode, printed) == (130, "")
    assert complaint.startswith("lepton: stopped after ")
    assert complaint.endswith(f"go on with: lepton study {file} -o {out} --resume\n")
    done = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["evaluated"] == 2002
