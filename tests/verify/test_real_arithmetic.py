"""Real programs: sums in another order pass, anything more is found where it happened."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.data import Dataset
from lepton_dse.importers import load_model
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Conv, MatMul
from lepton_dse.lower import lower_bundle
from lepton_dse.reference import fast
from lepton_dse.reference.engine import steps
from lepton_dse.verify.real_arithmetic import each_operation, sums_reals

MODEL = Path(__file__).parents[2] / "studies" / "models" / "digits_cnn.onnx"


@pytest.fixture(scope="module")
def lowered() -> LoweredGraph:
    graph = load_model(MODEL)
    bundle = flow.quantize(graph, "float32", Dataset(samples(graph.tensors[graph.inputs[0]].shape[1:], 2, 0)))
    return lower_bundle(bundle).with_batch(1)


def samples(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)


def recorded(graph: LoweredGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    return {
        name: np.array(value) for name, value in steps(graph, {graph.inputs[0]: x}, fast.evaluate) if name not in graph.inputs
    }


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_another_order_of_the_sum_is_within_the_bound(lowered: LoweredGraph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = samples(lowered.tensors[lowered.inputs[0]].shape[1:], 1, seed)
    found = recorded(lowered, x)
    op = next(op for op in reversed(lowered.ops) if isinstance(op.attributes, MatMul))
    (row,) = (found.get(op.inputs[0], x)).reshape(1, -1)
    weights, bias = (lowered.constants[name] for name in op.inputs[1:3])
    order = rng.permutation(len(row))
    total = np.array(bias, np.float32)
    for k in order:  # one after another, rounded to float32 each time
        total = (total + row[k] * weights[k]).astype(np.float32)
    found[op.output] = total.reshape(found[op.output].shape)
    beyond = {name: wrong for name, wrong, _ in each_operation(lowered, x, found)}
    assert beyond[op.output] == 0


@pytest.mark.parametrize("kind", [Conv, MatMul])
def test_one_wrong_element_is_named(lowered: LoweredGraph, kind: type) -> None:
    x = samples(lowered.tensors[lowered.inputs[0]].shape[1:], 1, 3)
    found = recorded(lowered, x)
    op = next(op for op in lowered.ops if isinstance(op.attributes, kind))
    found[op.output].reshape(-1)[5] *= np.float32(1.001)
    found[op.output].reshape(-1)[5] += np.float32(0.001)
    wrong = [(name, text) for name, count, text in each_operation(lowered, x, found) if count]
    # What reads the element was recorded before the change: it is wrong as well, and comes later.
    assert wrong[0][0] == op.output
    assert "is" in wrong[0][1]
    assert "expected" in wrong[0][1]


def test_not_a_number_is_beyond_every_bound(lowered: LoweredGraph) -> None:
    x = samples(lowered.tensors[lowered.inputs[0]].shape[1:], 1, 3)
    found = recorded(lowered, x)
    op = next(op for op in reversed(lowered.ops) if sums_reals(lowered, op))
    found[op.output].reshape(-1)[0] = np.nan
    assert [count for name, count, _ in each_operation(lowered, x, found) if name == op.output] == [1]


@pytest.mark.parametrize("overrides", [{}, {"linear12": "float32"}, {"conv2d0": "float32"}])
def test_programs_with_real_layers_are_equal(overrides: dict[str, str], tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    graph = load_model(MODEL)
    data = Dataset(samples(graph.tensors[graph.inputs[0]].shape[1:], 16, 1))
    bundle = flow.quantize(graph, "int8" if overrides else "float32", data, overrides=overrides)
    artefact = flow.emit(flow.plan(bundle, "raspberry-pi-5"), tmp_path / "program", emitter="cpp", data=data)
    assert flow.verify(artefact).passed
