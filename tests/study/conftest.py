"""A small network with data, and a space that is evaluated in seconds."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_dse.data import Dataset
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir.graph import Graph
from lepton_dse.reference import engine
from lepton_dse.study import Space, Study

TARGETS = ({"target": "google-tpu-v1", "numbers": {"array_rows": [64, 128]}}, "nvidia-t4", "raspberry-pi-5")


@pytest.fixture(autouse=True)
def interrupts_as_in_a_terminal() -> Iterator[None]:
    """What a shell starts in the background ignores interrupts, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def graph() -> Graph:
    return load_model(data_folder("models") / "digits_cnn.onnx")


@pytest.fixture(scope="session")
def data(graph: Graph) -> Dataset:
    """Noise, labelled by what the float network says of it."""
    x = np.random.default_rng(1).random((60, 1, 8, 8)).astype(np.float32)
    answer = np.asarray(engine.run(graph, x)[graph.outputs[0]]).reshape(len(x), -1)
    labels = answer.argmax(1) if answer.shape[1] > 1 else answer[:, 0]
    return Dataset(x, labels.astype(np.int64))


@pytest.fixture
def study(graph: Graph, data: Dataset, tmp_path: Path) -> Callable[..., Study]:
    """Makes a study; each in a folder of its own unless it is named."""
    made = 0

    def make(folder: str = "", **options: Any) -> Study:
        nonlocal made
        made += 1
        axes = {"targets": TARGETS, "formats": ["float32", "int8", "w4a8"], "sparsities": [0, "2:4"], "channels": [0, 0.25]}
        axes |= options.pop("axes", {})
        usual = {"minimize": ["latency_s", "loss_points"], "screen": 20, "calibration": 10, "data": data}
        return Study(graph, Space(**axes), folder=tmp_path / (folder or f"study{made}"), **{**usual, **options})

    return make
