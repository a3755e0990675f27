"""The digits network, trained and committed: what the demo reports, held to its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from lepton_dse import flow
from lepton_dse.demo.digits import load_digits_split
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model


@pytest.fixture(scope="module")
def model():
    return load_model(data_folder("models") / "digits_cnn.onnx")


@pytest.fixture(scope="module")
def data():
    return load_digits_split()


def test_split_never_mixes_training_and_held_out(data) -> None:
    training, held_out = data
    assert len(training) + len(held_out) == 1797
    seen = {image.tobytes() for image in training.x}
    assert not any(image.tobytes() in seen for image in held_out.x)


@pytest.mark.parametrize(("precision", "loss"), [("int8", 0.5), ("w4a8", 1.0), ("w4a4", 2.0)])
def test_accuracy_integer_exact(model, data, precision: str, loss: float) -> None:
    training, held_out = data
    planned = flow.plan(model, "amd-epyc-9654", format=precision, data=training.take(256))
    lost = 100 * (flow.accuracy(model, held_out).value - flow.accuracy(planned, held_out).value)
    assert flow.accuracy(model, held_out).value > 0.975
    assert lost <= loss, f"{precision} loses {lost:.2f} points"


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize(("device", "precision"), [("amd-zynq-7020", "int8"), ("lattice-ecp5-85f", "w4a8")])
def test_designs_do_what_was_predicted(model, data, device: str, precision: str, tmp_path: Path) -> None:
    training, held_out = data
    planned = flow.plan(model, device, format=precision, data=training.take(256), minimize="throughput")
    assert planned.predicted.search is not None
    assert planned.predicted.search.optimal
    result = flow.verify(flow.emit(planned, tmp_path / "design", data=held_out.take(128)), synthesis=True)
    names = {check.name for check in result.checks}
    assert {"outputs_equal", "latency_cycles", "interval_cycles", "testbench", "resource_LUT"} <= names
    assert len([name for name in names if name.startswith("stalls_")]) >= 5
    assert result.complete, [check for check in result.checks if check.status.value != "passed"]
