"""The published networks that ONNX ships without weights: counts, time, memory and outputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, shape_inference

from lepton_dse.importers import load_model
from lepton_dse.ir import ops, semantics
from lepton_dse.reference.engine import steps

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# Multiply-accumulates and parameters for one image of 224 x 224. Those of AlexNet (61.0 M parameters), GoogLeNet (7.0 M),
# ResNet-50 (4.09 G, 25.5 M with normalisations folded), SqueezeNet 1.1 (349 M, 1,235,496) and VGG-19 (19.6 G, 143,667,240)
# are the published ones; the test below counts all of them a second time from ONNX's own shape inference.
MODELS = {
    "bvlc_alexnet": (654_560_384, 60_965_224),
    "densenet121": (2_834_161_664, 7_971_368),
    "inception_v1": (1_431_556_352, 6_998_552),
    "inception_v2": (2_018_851_840, 11_185_032),
    "resnet50": (4_089_184_256, 25_530_472),
    "shufflenet": (124_664_528, 1_379_880),
    "squeezenet": (349_151_936, 1_235_496),
    "vgg19": (19_632_062_464, 143_667_240),
    "zfnet512": (1_481_727_008, 87_250_536),
}


def _path(name: str) -> Path:
    return FOLDER / f"light_{name}.onnx"


def _count(model: onnx.ModelProto) -> int:
    """MACs from shapes alone: the outputs of each Conv and Gemm times the products that each of them sums."""
    inferred = shape_inference.infer_shapes(model).graph
    named = (*inferred.value_info, *inferred.output, *inferred.input)
    shapes = {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in named}
    integers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.data_type == 7}
    shapes |= {node.output[0]: list(integers[node.input[0]]) for node in model.graph.node if node.op_type == "ConstantOfShape"}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "Gemm":
            total += int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][1]
    return total


@pytest.mark.parametrize("name", MODELS)
def test_counts(name: str) -> None:
    graph = load_model(_path(name))
    assert (graph.macs, graph.parameters) == MODELS[name]
    assert graph.macs == _count(onnx.load(_path(name)))


@pytest.mark.parametrize("name", MODELS)
def test_normalisations_are_folded(name: str) -> None:
    kinds = [type(op.attributes) for op in load_model(_path(name)).ops]
    # DenseNet normalises concatenations, which no convolution before them can absorb.
    assert kinds.count(ops.Affine) == (62 if name == "densenet121" else 0)


@pytest.mark.parametrize("name", ["squeezenet", "densenet121", "shufflenet"])
def test_shipped_output(name: str) -> None:
    graph = load_model(_path(name))
    # The shipped outputs are those of ramps from 0 to 1.
    shape = graph.tensors[graph.inputs[0]].shape
    x = (np.arange(np.prod(shape)) / np.prod(shape)).reshape(shape).astype(np.float32)
    expected = numpy_helper.to_array(onnx.load_tensor(FOLDER / f"light_{name}_output_0.pb"))
    last = graph.producer(graph.outputs[0])
    assert last is not None
    if name != "squeezenet":
        (found,) = semantics.run(graph, {graph.inputs[0]: x}).values()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        return
    # Its scores are 9.5e9, where float32 steps by 1,024: a softmax of how a machine rounds them is anything. So scores are
    # compared with the logarithms of the shipped shares, up to a constant, within ten steps.
    assert isinstance(last.attributes, ops.Softmax)
    scores = dict(steps(graph, {graph.inputs[0]: x}))[last.inputs[0]].astype(np.float64)
    wanted = np.log(expected.astype(np.float64))
    step = float(np.spacing(np.float32(scores.max())))
    np.testing.assert_allclose(scores - scores.max(), wanted - wanted.max(), rtol=0, atol=10 * step)
    assert scores.max() > 1e9


def test_all_of_them_import_in_little_time_and_memory() -> None:
    script = f"""
import resource, time
from pathlib import Path
from lepton_dse.importers import load_model
import onnx
base, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
for name in {sorted(MODELS)}:
    load_model(Path({str(FOLDER)!r}) / f"light_{{name}}.onnx")
print(time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, mebibytes = (float(word) for word in run.stdout.split())
    # Their weights would take 1.3 GB; a constant that repeats one value takes none.
    assert mebibytes < 100
    assert seconds < 20
