"""Data, options and hardware models that are wrong: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_dse.files import data_folder

X = np.zeros((4, 1, 5, 5), np.float32)
CPU = (data_folder("hwmodels") / "cpu" / "amd-epyc-9654.toml").read_text()
FPGA = (data_folder("hwmodels") / "fpga" / "amd-zynq-7020.toml").read_text()


class Burglar:
    """What a pickle runs when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


def objects(folder: Path) -> np.ndarray:
    found = np.empty(1, object)
    found[0] = Burglar(folder / "entered")
    return found


DATA = {
    "no_x": ({"z": X}, "'x'"),
    "nan": ({"x": X * np.nan}, "NaN"),
    "beyond_float32": ({"x": X.astype(np.float64) + 1e300}, "infinity"),
    "text": ({"x": np.array(["a"])}, "numbers"),
    "complex": ({"x": X.astype(np.complex64)}, "numbers"),
    "empty": ({"x": X[:0]}, "no samples"),
    "scalar": ({"x": np.float32(3)}, "no samples"),
    "shape": ({"x": X[:, :, :4]}, "shape"),
    "rank": ({"x": X.reshape(4, -1)}, "shape"),
    "labels_short": ({"x": X, "y": np.arange(3)}, "labels"),
    "labels_float": ({"x": X, "y": np.zeros(4)}, "integers"),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data_is_one_line(case: str, lepton: Any, work: Path) -> None:
    arrays, word = DATA[case]
    np.savez(work / "bad.npz", **arrays)
    out = work / "new.json"
    assert word in lepton("plan", work / "model.onnx", "--target", "unit-cpu", "-o", out, "--data", work / "bad.npz").complaint
    assert not out.exists()


@pytest.mark.parametrize("key", ["x", "y"])
def test_pickled_objects_are_never_read(key: str, lepton: Any, work: Path) -> None:
    arrays = {"x": X[:1]} | {key: objects(work)}
    np.savez(work / "bad.npz", **arrays)
    result = lepton("plan", work / "model.onnx", "--target", "unit-cpu", "-o", work / "new.json", "--data", work / "bad.npz")
    assert "bad.npz" in result.complaint
    assert not (work / "entered").exists()


def foreign_array(path: Path) -> None:
    np.save(path.with_suffix(".npy"), X)
    path.with_suffix(".npy").rename(path)


def damaged(path: Path) -> None:
    np.savez_compressed(path, x=np.random.default_rng(0).random((4, 1, 5, 5)))
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 40] = bytes(40)
    path.write_bytes(data)


def encrypted(path: Path) -> None:
    np.savez(path, x=X)
    data = path.read_bytes()
    # The flags of the entry, in its own header and in the directory.
    path.write_bytes(
        data.replace(b"PK\x03\x04\x2d\x00\x00", b"PK\x03\x04\x2d\x00\x01").replace(
            b"\x2d\x03\x2d\x00\x00", b"\x2d\x03\x2d\x00\x01"
        )
    )


@pytest.mark.parametrize(
    "make", [foreign_array, damaged, encrypted, Path.mkdir, lambda path: path.write_text("hello"), lambda path: None]
)
def test_files_that_are_no_archives_are_one_line(make: Any, lepton: Any, work: Path) -> None:
    make(work / "bad.npz")
    arguments = ("--target", "unit-cpu", "-o", work / "new.json", "--data", work / "bad.npz")
    assert "bad.npz" in lepton("plan", work / "model.onnx", *arguments).complaint


OPTIONS = {
    "format": (["--format", "int99"], "int99"),
    "format_unknown": (["--format", "posit8"], "posit8"),
    "rounding": (["--rounding", "up"], "adaround"),
    "override": (["--override", "conv2d0"], "OP=FORMAT"),
    "override_unknown": (["--override", "conv9=w4a8"], "conv9"),
    "prune_everything": (["--prune", "1"], "ratio"),
    "prune_kind": (["--prune", "0.5", "--kind", "rows"], "channels"),
    "prune_score": (["--prune", "0.5", "--score", "luck"], "magnitude"),
    "target": (["--target", "amd-zynq-7021"], "amd-zynq-7020"),
    "minimize": (["--minimize", "beauty"], "throughput"),
    "method": (["--method", "guess"], "minmax"),
    "seed": (["--seed", "-1"], "seed"),
    "seed_text": (["--seed", "one"], "--seed"),
    "measure_unlabelled": (["--measure", "4"], "labelled"),
    "metric_unknown": (["--metric", "f1"], "agreement"),
    "metric_without_its_number": (["--metric", "top"], "top5"),
    "measure_negative": (["--measure", "-4"], "--measure"),
    "unknown_option": (["--fast"], "--fast"),
    "no_model": (["extra"], "extra"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options_are_one_line(case: str, lepton: Any, work: Path) -> None:
    more, word = OPTIONS[case]
    before = (work / "plan.json").read_bytes()
    base = ["plan", work / "model.onnx", "-o", work / "plan.json"]
    target = [] if "--target" in more else ["--target", "unit-cpu"]
    assert word in lepton(*base, *target, *more).complaint
    assert (work / "plan.json").read_bytes() == before


def test_measuring_needs_labels_in_the_data(lepton: Any, work: Path) -> None:
    np.savez(work / "plain.npz", x=X)
    arguments = ("--target", "unit-cpu", "-o", work / "new.json", "--data", work / "plain.npz", "--measure", "2")
    assert "labelled" in lepton("plan", work / "model.onnx", *arguments).complaint


@pytest.mark.parametrize(
    "arguments", [[], ["--target", "unit-cpu", "--batch", "0"], ["--target", "nowhere"], ["--target", "x.toml"]]
)
def test_bad_cost_arguments_are_one_line(arguments: list[str], lepton: Any, work: Path) -> None:
    assert lepton("cost", work / "model.onnx", *arguments).complaint


@pytest.mark.parametrize("command", ["frobnicate", "--frobnicate"])
def test_an_unknown_command_is_one_line(command: str, lepton: Any) -> None:
    assert "frobnicate" in lepton(command).complaint


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


HARDWARE = {
    "typo": (replaced(CPU, "clock_hz", "clok_hz"), "clok_hz"),
    "negative": (replaced(CPU, "value = 2.4e9", "value = -2.4e9"), "clock_hz.value"),
    "not_toml": ("= nope", "TOML"),
    "empty": ("", "family"),
    "long_number": (replaced(CPU, "value = 2.4e9", "value = " + "1" * 5000), "TOML"),
    "deep": ("a = " + "[" * 5000, "TOML"),
    "nan": (replaced(CPU, "value = 2.4e9", "value = nan"), "finite"),
    "text": (replaced(CPU, "value = 2.4e9", 'value = "fast"'), "clock_hz.value"),
    "family": (replaced(CPU, 'family = "cpu"', 'family = "npu"'), "npu"),
    "source": (replaced(CPU, 'source = "table"', 'source = "tabel"'), "tabel"),
    "kind": (replaced(CPU, 'kind = "datasheet"', 'kind = "rumour"'), "kind"),
    "capacity_order": (replaced(CPU, "value = 3145728", "value = 3e12"), "inner to outer"),
    "bandwidth_order": (replaced(CPU, "value = 460.8e9", "value = 460.8e15"), "inner to outer"),
    "format": (replaced(CPU, 'format = "int8"', 'format = "int99"'), "int99"),
    "no_bandwidth": (replaced(CPU, "value = 460.8e9", "value = 0"), "greater than 0"),
    "no_rate": (replaced(CPU, "value = 14.7456e12", "value = 0"), "greater than 0"),
    "no_clock": (replaced(FPGA, "value = 100e6", "value = 0"), "greater than 0"),
    "share": (replaced(FPGA, "lut = { value = 0.7", "lut = { value = 1.7"), "share"),
    "level_twice": (replaced(CPU, 'name = "l2"', 'name = "l1"'), "share a name"),
}


@pytest.mark.parametrize("case", HARDWARE)
def test_bad_hardware_models_are_one_line(case: str, lepton: Any, work: Path) -> None:
    text, word = HARDWARE[case]
    path = work / "device.toml"
    path.write_text(text)
    for line in (
        lepton("targets", path).complaint,
        lepton("cost", work / "model.onnx", "--target", path).complaint,
        lepton("plan", work / "model.onnx", "--target", path, "-o", work / "new.json").complaint,
    ):
        assert "device.toml" in line
        assert word in line
    assert not (work / "new.json").exists()


def test_a_hardware_model_that_is_no_text_is_one_line(lepton: Any, work: Path) -> None:
    (work / "device.toml").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in lepton("targets", work / "device.toml").complaint


@pytest.mark.parametrize("numbers", [("53200", "106400", "220", "280"), ("53200",), ("280",)])
def test_a_device_without_resources_is_infeasible(numbers: tuple[str, ...], lepton: Any, work: Path) -> None:
    text = FPGA
    for number in numbers:
        text = replaced(text, f"value = {number},", "value = 0,")
    (work / "device.toml").write_text(text)
    result = lepton("plan", work / "model.onnx", "--target", work / "device.toml", "-o", work / "new.json")
    # Block RAM alone is not needed by so small a model.
    assert result.code == (0 if numbers == ("280",) else 1), result
    assert lepton("cost", work / "model.onnx", "--target", work / "device.toml", "--json").code in (0, 1)


def test_what_cannot_fit_is_exit_1_with_its_violations(lepton: Any, work: Path) -> None:
    (work / "device.toml").write_text(
        replaced(replaced(FPGA, "value = 53200,", "value = 300,"), "value = 106400,", "value = 300,")
    )
    arguments = ("plan", work / "model.onnx", "--target", work / "device.toml", "-o", work / "new.json")
    result = lepton(*arguments)
    assert (result.code, result.err) == (1, "")
    assert "does not fit: LUT" in result.out
    document = lepton(*arguments, "--json")
    assert document.code == 1
    violations = json.loads(document.out)["predicted"]["violations"]
    assert {entry["unit"] for entry in violations} <= {"LUT", "FF", "DSP", "BRAM18"}
    assert all(entry["demand"] > entry["bound"] and entry["levers"] for entry in violations)


@pytest.mark.parametrize("place", ["/proc/nowhere/plan.json", "folder", "file/plan.json"])
def test_a_plan_that_cannot_be_written_is_one_line(place: str, lepton: Any, work: Path) -> None:
    (work / "folder").mkdir()
    (work / "file").write_text("mine")
    assert lepton("plan", work / "model.onnx", "--target", "unit-cpu", "-o", work / place).complaint
    assert (work / "file").read_text() == "mine"
    assert list((work / "folder").iterdir()) == []
