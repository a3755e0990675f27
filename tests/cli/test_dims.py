"""``--dim``: extents of axes that a model leaves open, wherever one is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A product over a sequence whose length the file leaves open."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    graph = helper.make_graph(
        nodes,
        "open",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "length", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.random.default_rng(0).normal(0, 1, (6, 4)).astype(np.float32), "w")],
    )
    path = tmp_path / "open.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).normal(0, 1, (8, 5, 6)), y=np.arange(8) % 4)
    return path


def commands(path: Path) -> dict[str, tuple[object, ...]]:
    """Every command that opens a model."""
    return {
        "inspect": ("inspect", path),
        "memory": ("memory", path),
        "cost": ("cost", path, "--target", "unit-cpu"),
        "plan": ("plan", path, "--target", "unit-cpu", "-o", path.parent / "plan.json"),
        "allocate": ("allocate", path, "--target", "unit-cpu", "--data", path.parent / "data.npz", "--metric", "cosine"),
    }


COMMANDS = tuple(commands(Path()))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_extents(name: str, lepton: Any, opened: Path) -> None:
    assert "length" in lepton(*commands(opened)[name]).complaint
    result = lepton(*commands(opened)[name], "--dim", "length=5")
    assert (result.code, result.err) == (0, "")


def test_extents_reach_the_graph(lepton: Any, opened: Path) -> None:
    def macs(*more: str) -> int:
        return int(lepton("inspect", opened, "--json", *more).document["macs"])

    assert macs("--dim", "length=5") == 5 * 6 * 4
    assert macs("--dim", "length=7", "--dim", "N=3") == 3 * 7 * 6 * 4
    lepton(*commands(opened)["plan"], "--dim", "length=9")
    assert json.loads((opened.parent / "plan.json").read_text())["predicted"]["ops"][0]["macs"] == 9 * 6 * 4


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["length"], "NAME=N"),
        (["=5"], "NAME=N"),
        (["length="], "NAME=N"),
        (["length=five"], "NAME=N"),
        (["length=-5"], "NAME=N"),
        (["length=1_0"], "NAME=N"),
        (["length=5.0"], "NAME=N"),
        (["length=\u0665"], "NAME=N"),
        (["length=" + "9" * 5000], "NAME=N"),
        (["length=" + "9" * 18], "impossible shape"),
        (["length=0"], "at least 1"),
        (["width=5"], "no open axis 'width'"),
        (["length=5", "length=6"], "twice"),
    ],
)
def test_bad_extents_are_one_line(name: str, given: list[str], word: str, lepton: Any, opened: Path) -> None:
    options = [part for text in given for part in ("--dim", text)]
    assert word in lepton(*commands(opened)[name], *options).complaint
    assert not (opened.parent / "plan.json").exists()


def test_a_graph_file_has_no_open_axes(lepton: Any, work: Path) -> None:
    (bundle,) = (work / "bundles").iterdir()
    assert "open" in lepton("inspect", bundle / "graph.json", "--dim", "length=5").complaint
