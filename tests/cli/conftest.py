"""Runs the program in this process, and files that it is run on."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lepton_dse import flow
from lepton_dse.cli import main
from lepton_dse.data import Dataset
from lepton_dse.importers import load_model

SAMPLES = np.random.default_rng(5).normal(0, 1, (12, 1, 5, 5)).astype(np.float32)


@dataclass(frozen=True)
class Result:
    """What a run left: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Stdout as the one JSON document that it must be; nothing may be on stderr."""
        assert self.err == ""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line on stderr of a run that was refused."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        assert self.err.startswith("lepton: error: ")
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err


@pytest.fixture
def lepton(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # it would be one more line on stderr
            with pytest.raises(SystemExit) as stopped:
                main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Result(stopped.value.code, captured.out, captured.err)

    return run


def network(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    shape: tuple[int, ...] = (1, 1, 5, 5),
    initializers: list[onnx.TensorProto] | None = None,
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants + (initializers or []),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_model() -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.normal(0, 1, (2, 1, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 1, 2).astype(np.float32),
        "v": rng.normal(0, 1, (18, 4)).astype(np.float32),
        "c": rng.normal(0, 1, 4).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], name="conv"),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("Flatten", ["relu"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "v", "c"], ["y"], name="fc"),
    ]
    return network(nodes, weights)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model.onnx``, ``data.npz``, ``plan.json`` with its bundle, and an artefact ``cpp``."""
    folder = tmp_path_factory.mktemp("made")
    onnx.save(tiny_model(), folder / "model.onnx")
    np.savez(folder / "data.npz", x=SAMPLES, y=np.arange(12) % 4)
    planned = flow.plan(load_model(folder / "model.onnx"), "amd-zynq-7020", data=Dataset(SAMPLES))
    planned.save(folder / "plan.json")
    flow.emit(planned, folder / "cpp", emitter="cpp")
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` to do anything to."""
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


STUDY = """\
model = "model.onnx"
{asked}

[space]
targets = ["raspberry-pi-5", "google-tpu-v7"]
formats = ["float16", "int8"]
"""


@pytest.fixture
def finished(lepton: Callable[..., Result], work: Path) -> Callable[[str, str], Path]:
    """Runs a study of `work` with some more lines in its file, above and in the space; its folder."""

    def run(asked: str, space: str = "") -> Path:
        (work / "STUDY.toml").write_text(STUDY.format(asked=asked) + space)
        assert lepton("study", work / "STUDY.toml", "-o", work / "out", "--workers", 0).code in (0, 1)
        return work / "out"

    return run
