"""The flow: the same bytes in every process, verbs of the facade, data, and writing that never leaves half of anything."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse import flow
from lepton_dse.errors import InvalidDataError, InvalidPlanError, LeptonError
from lepton_dse.files import data_folder, inside, read_text, write_bytes, write_folder, write_text
from lepton_dse.reference.metrics.top1 import top1

MODEL = data_folder("models") / "digits_cnn.onnx"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


SCRIPT = """
import sys
from pathlib import Path
import lepton_dse as ld
folder = Path(sys.argv[1])
graph = ld.load(sys.argv[2])
for target, emitter in (("amd-zynq-7020", "verilog"), ("unit-cpu", "cpp")):
    planned = ld.plan(graph, target, format="w4a8", seed=3)
    planned.save(folder / f"{target}.json")
    ld.emit(planned, folder / target, emitter=emitter)
"""


def test_other_processes_write_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / f"deeper{seed}" / "out"
        folder.mkdir(parents=True)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", SCRIPT, str(folder), str(MODEL)], check=True, env=environment)
        found.append(contents(folder))
    assert found[0] == found[1]
    assert {"amd-zynq-7020.json", "amd-zynq-7020/lepton_top.v", "unit-cpu/model.cpp"} <= set(found[0])
    # Nothing of where or when it was made is in it.
    assert not [name for name, data in found[0].items() if str(tmp_path).encode() in data]


@pytest.fixture(scope="module")
def planned() -> ld.PlannedModel:
    return ld.plan(ld.load(MODEL), "amd-zynq-7020")


def test_a_saved_plan_needs_nothing_else(planned: ld.PlannedModel, tmp_path: Path) -> None:
    planned.save(tmp_path / "plan.json")
    again = ld.read_plan(tmp_path / "plan.json")
    assert again.plan == planned.plan
    assert again.lowered.digest == planned.lowered.digest
    ld.emit(planned, tmp_path / "one")
    ld.emit(again, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    ld.emit(again, tmp_path / "two")  # over an earlier one
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_predictions_are_frozen_into_the_plan(planned: ld.PlannedModel) -> None:
    assert planned.predicted is planned.plan.predicted
    assert planned.predicted.feasible
    assert planned.plan.calibration is not None
    assert planned.plan.calibration.source == "noise"
    other = ld.plan(ld.load(MODEL), "amd-zynq-7020", seed=1)
    assert other.plan.bundle_digest != planned.plan.bundle_digest


def test_an_infeasible_plan_is_a_value_that_is_not_emitted(tmp_path: Path) -> None:
    refused = ld.plan(ld.load(MODEL), "amd-zynq-7020", format="float32")
    assert not refused.predicted.feasible
    assert refused.predicted.violations[0].levers
    with pytest.raises(InvalidPlanError, match="does not fit"):
        ld.emit(refused, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"format": "int1"},
        {"minimize": "beauty"},
        {"method": "guess"},
        {"seed": -1},
        {"overrides": {"nothing": "int4"}},
        {"overrides": {"conv2d0": "x"}},
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(LeptonError):
        ld.plan(ld.load(MODEL), "unit-cpu", **arguments)  # type: ignore[arg-type]


def test_emitters_serve_their_families() -> None:
    assert [emitter.name for emitter in flow.emitters_for("fpga")] == ["verilog", "cpp", "onnx", "hls"]
    assert [emitter.name for emitter in flow.emitters_for("cpu")] == ["cpp", "onnx"]
    assert flow.emitters_for("nothing") == ()


def vectors(folder: Path) -> int:
    """How many samples an artefact holds."""
    return len(np.fromfile(folder / "vectors" / "input.bin", "<f4")) // 64


def test_large_networks_are_tested_on_fewer_samples(
    planned: ld.PlannedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, each = planned.bundle.samples, planned.lowered.macs
    assert vectors(flow.emit(planned, tmp_path / "all", emitter="cpp")) == len(held) > 5
    monkeypatch.setattr("lepton_dse.flow.artefacts._PRODUCTS", 6 * each - 1)
    assert vectors(flow.emit(planned, tmp_path / "five", emitter="cpp")) == 5
    monkeypatch.setattr("lepton_dse.flow.artefacts._PRODUCTS", each // 2)
    assert vectors(flow.emit(planned, tmp_path / "one", emitter="cpp")) == 1
    given = flow.emit(planned, tmp_path / "given", emitter="cpp", data=ld.Dataset(held[:7]))
    assert vectors(given) == 7


def test_accuracy_needs_labels_and_fitting_samples(planned: ld.PlannedModel) -> None:
    x = np.zeros((4, 1, 8, 8), np.float32)
    labels = np.zeros(4, np.int64)
    assert 0 <= ld.accuracy(planned, ld.Dataset(x, labels)).value <= 1
    with pytest.raises(InvalidDataError, match="labels"):
        ld.accuracy(planned, ld.Dataset(x))
    with pytest.raises(InvalidDataError, match="shape"):
        ld.accuracy(planned, ld.Dataset(x[:, :, :4], labels))


# --- facade -----------------------------------------------------------------------------------------------------------


def test_verbs_stay_verbs_whatever_is_imported_first() -> None:
    for first in ("", "import lepton_dse.plan, lepton_dse.emit, lepton_dse.verify\n", "from lepton_dse.plan import Plan\n"):
        code = (
            f"{first}import lepton_dse as ld\nimport lepton_dse.plan\nimport lepton_dse.emit.artefact\n"
            "import lepton_dse.verify.cpp\n"
            "assert all(callable(getattr(ld, name)) for name in ('plan', 'emit', 'verify', 'cost', 'accuracy', 'load'))\n"
            "assert ld.plan.__module__ == 'lepton_dse.flow.planning', ld.plan\n"
            "from lepton_dse.plan import Plan\nassert ld.Plan is Plan\n"
            "from lepton_dse import plan\nassert plan is ld.plan\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, lepton_dse\nassert not {'numpy', 'pydantic', 'numba', 'onnx', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_facade_names_what_exists() -> None:
    for name in ld.__all__:
        assert getattr(ld, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        ld.nothing  # noqa: B018


# --- data -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_top1_counts_hits_within_its_interval(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = (np.asarray(column, np.int64) for column in zip(*pairs, strict=True))
    scores = np.eye(4, dtype=np.float32)[predicted]
    found = top1(scores, labels)
    assert found.value == np.mean(predicted == labels)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1 + 1e-12
    assert found.count == len(pairs)
    assert top1(predicted, labels) == top1(predicted[:, None], labels) == found
    # Wilson's interval holds the proportions p with |p_hat - p| <= z sqrt(p (1 - p) / n): its ends are where that is equal.
    for end in (found.low, found.high):
        assert abs(found.value - end) == pytest.approx(
            1.959963984540054 * np.sqrt(max(end * (1 - end), 0) / found.count), abs=1e-6
        )


def test_data_reads_back(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((5, 2, 3)), np.arange(5)
    np.savez(tmp_path / "data.npz", x=x, y=y.astype(np.uint8))
    found = ld.Dataset.read(tmp_path / "data.npz")
    assert found.y is not None
    assert (found.x.dtype, found.y.dtype) == (np.float32, np.int64)
    assert np.array_equal(found.x, x.astype(np.float32))
    assert np.array_equal(found.y, y)
    assert len(found.take(2)) == 2
    assert found.take(2).y.tolist() == [0, 1]  # type: ignore[union-attr]


def test_damaged_archives_are_one_kind_of_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "whole.npz", x=rng.random((3, 4)), y=np.arange(3))
    whole = (tmp_path / "whole.npz").read_bytes()
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / "bad.npz").write_bytes(data)
        with suppress(InvalidDataError):  # some damage does no harm; nothing else is raised
            ld.Dataset.read(tmp_path / "bad.npz")


# --- files ------------------------------------------------------------------------------------------------------------

OLD = {"manifest.json": b'{"made_by": "lepton_dse 0"}', "a.txt": b"old", "sub/b.txt": b"old"}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", OLD)
    write_folder(tmp_path / "out", {"manifest.json": b'{"made_by": "lepton_dse 1"}', "c.txt": b"new"})
    assert set(contents(tmp_path / "out")) == {"manifest.json", "c.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("step", ["write_bytes", "rename", "replace", "mkdtemp"])
def test_a_failing_write_leaves_the_old_folder_whole(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "out", OLD)
    calls = []

    def failing(*arguments: object, **_: object) -> None:
        calls.append(arguments)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        places = {"write_bytes": Path, "rename": os, "replace": os, "mkdtemp": __import__("tempfile")}
        patch.setattr(places[step], step, failing)
        with pytest.raises(LeptonError, match="No space left"):
            write_folder(tmp_path / "out", {"a.txt": b"new", "manifest.json": b"{}"})
    assert calls
    assert contents(tmp_path / "out") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failing_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "plan.json", "old")

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(LeptonError, match="No space left"):
            write_text(tmp_path / "plan.json", "new")
    assert contents(tmp_path) == {"plan.json": b"old"}


@pytest.mark.parametrize("name", ["../out.txt", "/etc/passwd", "a/../../b"])
def test_names_stay_below_their_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match="leaves its folder"):
        inside(tmp_path, name)
    with pytest.raises(LeptonError, match="leaves its folder"):
        write_folder(tmp_path / "out", {name: b""})
    assert list(tmp_path.iterdir()) == []


def test_a_link_out_of_a_folder_is_followed_and_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    with pytest.raises(LeptonError, match="leaves its folder"):
        inside(tmp_path / "in", "link/secret")


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    write_bytes(tmp_path / "binary", b"\xff\xfe")
    write_text(tmp_path / "long", "x" * 100)
    for path, words in (
        (tmp_path / "none", "no such file"),
        (tmp_path, "no such file"),
        (tmp_path / "binary", "UTF-8"),
        (tmp_path / "long", "larger"),
    ):
        with pytest.raises(LeptonError, match=words):
            read_text(path, limit_bytes=50)


def test_tiles_of_a_model_from_the_facade() -> None:
    graph = ld.load(MODEL)
    levels = (ld.Level("registers", 16, 1e9, 0.1), ld.Level("buffer", 4096, 32, 1.0), ld.Level("memory", 1e9, 8, 50.0))
    told: list[str] = []
    found = flow.tile(graph, ld.Hierarchy(8, 8, levels, 1.0), minimize="energy", progress=told.append)
    assert found.optimal
    assert told == [name for name, _ in found.layers]
    small = ld.with_numbers(ld.load_target("google-tpu-v5e"), {"array_rows": 8, "array_columns": 8})
    assert isinstance(ld.tile(graph, small, minimize="latency"), ld.NetworkTiles)


@pytest.mark.parametrize(
    ("machine", "options", "message"),
    [
        ("google-tpu-v5e", {"minimize": "area"}, "cannot minimise"),
        ("amd-zynq-7020", {}, "systolic"),
        ("google-tpu-v5e", {"format": "float64"}, "arithmetic"),
    ],
)
def test_tiles_for_what_has_none_are_refused(machine: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(LeptonError, match=message):
        ld.tile(ld.load(MODEL), machine, **options)  # type: ignore[arg-type]
