"""Whole networks as CUDA programs: run on the CPU thread by thread, outputs and requests held against the prediction."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.data import Dataset
from lepton_dse.errors import MissingToolError
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.plan import CheckStatus

sys.path.insert(0, str(Path(__file__).parents[2] / "studies" / "models"))
from published import published

pytestmark = pytest.mark.slow


def holds(graph: Graph, target: str, form: str, x: np.ndarray, folder: Path, allowed: tuple[str, ...] = ()) -> None:
    """Plan, emit and verify; every check that needs no GPU passes, but for those that are allowed to be missing."""
    planned = ld.plan(graph, target, format=form, data=Dataset(x))
    found = ld.verify(ld.emit(planned, folder, emitter="cuda", data=Dataset(x)))
    without = [check.name for check in found.checks if check.status is CheckStatus.UNAVAILABLE]
    assert set(without) <= {"milliseconds_on_gpu", *allowed}
    assert [str(check) for check in found.checks if check.status is CheckStatus.FAILED] == []


def path_of(name: str) -> Path:
    try:
        return published(name, fetch=False)
    except MissingToolError as error:
        pytest.skip(str(error))


class Residual:
    """Builds a network of 3 x 3 convolutions with skips: stages of 16, 32 and 64 channels, as K. He et al. for CIFAR-10."""

    def __init__(self) -> None:
        self.builder, self.count = GraphBuilder("resnet-8"), 0
        self.rng = np.random.default_rng(8)

    def conv(self, x: str, channels: int, kernel: int, stride: int, *, relu: bool) -> str:
        self.count += 1
        taken = self.builder.tensors[x].shape[1]
        spread = np.sqrt(2 / (taken * kernel**2))
        weights = self.rng.normal(0, spread, (channels, taken, kernel, kernel)).astype(np.float32)
        self.builder.constant(f"w{self.count}", weights)
        self.builder.constant(f"b{self.count}", self.rng.normal(0, 0.1, channels).astype(np.float32))
        pad = (kernel // 2,) * 2
        window = ops.Window((kernel,) * 2, (stride,) * 2, (1, 1), pad, pad)
        y = self.builder.add(ops.Conv(window), [x, f"w{self.count}", f"b{self.count}"], output=f"c{self.count}")
        return self.relu(y) if relu else y

    def relu(self, x: str) -> str:
        return self.builder.add(ops.Clip(0.0, np.inf), [x], output=f"{x}.relu")

    def block(self, x: str, channels: int, stride: int) -> str:
        y = self.conv(self.conv(x, channels, 3, stride, relu=True), channels, 3, 1, relu=False)
        skip = x if stride == 1 else self.conv(x, channels, 1, stride, relu=False)
        return self.relu(self.builder.add(ops.Add(), [y, skip], output=f"{y}.sum"))

    def graph(self) -> Graph:
        x = self.conv(self.builder.input("image", (1, 3, 32, 32)), 16, 3, 1, relu=True)
        for channels, stride in ((16, 1), (32, 2), (64, 2)):
            x = self.block(x, channels, stride)
        x = self.builder.add(ops.AveragePool(ops.Window.full((8, 8))), [x], output="pooled")
        x = self.builder.add(ops.Reshape((1, 64)), [x], output="flat")
        self.builder.constant("w", self.rng.normal(0, 0.2, (64, 10)).astype(np.float32))
        return self.builder.build([self.builder.add(ops.MatMul(), [x, "w"], output="scores")])


PLANS = [("int8", "nvidia-t4"), ("w4a8", "nvidia-h100-sxm"), ("bfloat16", "nvidia-b200-sxm")]


@pytest.mark.parametrize(("form", "target"), PLANS)
def test_a_residual_network(form: str, target: str, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(0, 1, (3, 3, 32, 32)).astype(np.float32)
    holds(Residual().graph(), target, form, x, tmp_path / "net")


def test_formats_that_tensor_cores_lack_are_computed_without_them(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(0, 1, (1, 3, 32, 32)).astype(np.float32)
    missing = ("shared_bytes_equal",)  # NVRTC has left that generation behind
    holds(Residual().graph(), "nvidia-v100-sxm2", "float16", x, tmp_path / "net", missing)


def test_magika_in_float32(tmp_path: Path) -> None:
    graph = load_model(path_of("magika"))
    data = Path(__file__).read_bytes() * 2
    x = np.frombuffer(data[:4096], np.uint8).reshape(2, 2048).astype(np.float32)
    holds(graph, "nvidia-a100-sxm-80gb", "float32", x, tmp_path / "net")


def test_minilm_in_float16(tmp_path: Path) -> None:
    mask = (np.arange(16) < 12).astype(np.int64)[None]
    graph = load_model(path_of("minilm"), dims={"sequence_length": 16}, bind={"attention_mask": mask})
    x = (np.random.default_rng(0).integers(1000, 29_000, (2, 16)) * mask).astype(np.float32)
    holds(graph, "nvidia-a100-sxm-80gb", "float16", x, tmp_path / "net")
