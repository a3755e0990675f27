"""Published networks lose 30% of their channels; ONNX Runtime computes of the rest what zeros in their place would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lepton_dse.compress.prune import masked, prune, report
from lepton_dse.flow import to_onnx
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.semantics import run

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# Layers that keep all of their channels, by what their reason says.
MODELS = {
    "bvlc_alexnet": {"mixes neighbouring channels": 2, "output of the graph": 1},
    "densenet121": {"output of the graph": 1},
    "inception_v1": {"mixes neighbouring channels": 2, "output of the graph": 1},
    "inception_v2": {"output of the graph": 1},
    "resnet50": {"output of the graph": 1},
    "shufflenet": {"output of the graph": 1},
    "squeezenet": {"output of the graph": 1},
    "vgg19": {"output of the graph": 1},
    "zfnet512": {"mixes neighbouring channels": 2, "output of the graph": 1},
}


def _with_weights(graph: Graph) -> Graph:
    """Normal weights that keep the variance, for the models ship with equal ones; without the final Softmax, which saturates."""
    rng = np.random.default_rng(0)
    weights = {}
    for op in graph.ops:
        if isinstance(op.attributes, ops.Conv | ops.MatMul):
            shape = graph.tensors[op.inputs[1]].shape
            summed = int(np.prod(shape[1:])) if isinstance(op.attributes, ops.Conv) else shape[0]
            weights[op.inputs[1]] = rng.standard_normal(shape, np.float32) * np.float32((2 / summed) ** 0.5)
    last, kept = graph.ops[-1], list(graph.ops)
    outputs, constants = graph.outputs, {**graph.constants, **weights}
    if isinstance(last.attributes, ops.Softmax):
        kept, outputs = kept[:-1], (last.inputs[0],)
    tensors = [tensor for tensor in graph.tensors.values() if tensor.name != last.output or kept[-1] is last]
    return Graph(graph.name, tensors, kept, graph.inputs, outputs, constants)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_thirty_per_cent_of_the_channels(name: str, tmp_path: Path) -> None:
    graph = _with_weights(load_model(FOLDER / f"light_{name}.onnx"))
    small, zeros = prune(graph, 0.3, kind="channels"), masked(graph, 0.3, kind="channels")
    # Products of two shrunk axes: 0.49 of the weights, more where an end of a layer is locked.
    assert 0.45 < small.parameters / graph.parameters < 0.65
    assert 0.45 < small.macs / graph.macs < 0.8
    kept = [line.reason for line in report(graph, small) if line.reason]
    for text, count in MODELS[name].items():
        assert sum(text in reason for reason in kept) == count
    assert len(kept) == sum(MODELS[name].values())
    for line in report(graph, small):
        assert line.reason or 0.69 < line.channels[1] / line.channels[0] < 0.85
    x = np.random.default_rng(1).standard_normal(graph.tensors[graph.inputs[0]].shape, np.float32)
    (expected,) = run(zeros, {graph.inputs[0]: x}).values()
    assert expected.std() > 0.01 * np.abs(expected).max()
    for each in (small, zeros):
        to_onnx(each, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: x})
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_equal_weights_tie_and_lose_the_first_channels() -> None:
    graph = load_model(FOLDER / "light_squeezenet.onnx")
    first = graph.ops[0]
    small = prune(graph, 0.3, kind="channels")
    assert small.digest == prune(graph, 0.3, kind="channels").digest
    assert small.tensors[first.output].shape[1] == graph.tensors[first.output].shape[1] - 19  # 0.3 of 64


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_shufflenet_stays_balanced_at_any_ratio(scope: str) -> None:
    graph = _with_weights(load_model(FOLDER / "light_shufflenet.onnx"))
    last = graph.parameters
    for ratio in (0.1, 0.5, 0.8):
        small = prune(graph, ratio, kind="channels", scope=scope)
        assert small.parameters < last
        last = small.parameters
