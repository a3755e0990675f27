"""What exporters spell out becomes one operation again, in any spelling; what only looks like it stays as it is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lepton_dse.importers import load_model
from lepton_dse.ir import ops, semantics
from lepton_dse.ir.graph import Graph

try:
    import onnxruntime
except ModuleNotFoundError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("onnxruntime is not installed", allow_module_level=True)

_SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
_OPSET = 18


@dataclass
class Net:
    shape: tuple[int, ...]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name


def checked(net: Net, path: Path, *, seed: int = 0) -> Graph:
    """The imported graph, which gives what onnxruntime gives without its own fusions."""
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, net.shape)
    result = helper.make_tensor_value_info(net.nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(net.nodes, "net", [entry], [result], net.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    x = np.random.default_rng(seed).normal(0.3, 1, net.shape).astype(np.float32)
    (expected,) = session.run(None, {"x": x})
    loaded = load_model(path)
    (found,) = semantics.run(loaded, {"x": x}).values()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    return loaded


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops if op.kind != "Reshape"]


def ordered(draw: st.DrawFn, net: Net, operator: str, first: str, second: str) -> str:
    return net.add(operator, *((second, first) if draw(st.booleans()) else (first, second)))


def mean(draw: st.DrawFn, net: Net, x: str, axes: list[int], kept: tuple[int, ...]) -> str:
    """The mean along axes, as a mean or as a sum and a factor, with its axes kept or brought back."""
    named, keep = net.constant(axes, np.int64), draw(st.integers(0, 1))
    count = math.prod(net.shape[axis] for axis in axes)
    match draw(st.sampled_from(["mean", "multiply", "divide"])):
        case "mean":
            found = net.add("ReduceMean", x, named, keepdims=keep)
        case "multiply":
            found = ordered(draw, net, "Mul", net.add("ReduceSum", x, named, keepdims=keep), net.constant(1 / count))
        case _:
            found = net.add("Div", net.add("ReduceSum", x, named, keepdims=keep), net.constant(count))
    if not keep:
        found = net.add("Reshape", found, net.constant(kept, np.int64))
    return net.add("Expand", found, net.constant(net.shape, np.int64)) if draw(st.booleans()) else found


@st.composite
def norms(draw: st.DrawFn) -> tuple[Net, tuple[int, ...], dict[str, bool]]:
    """A layer normalisation in one of its spellings, or in one that is none."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(2, 5)), *draw(st.lists(st.integers(2, 5), max_size=2)))
    axes = draw(st.sampled_from([(1,), tuple(range(1, len(shape))), (len(shape) - 1,)]))
    net, rng = Net(shape), np.random.default_rng(draw(st.integers(0, 99)))
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    wrong = draw(st.sampled_from(["", "", "", "epsilon", "axes", "cube", "scale"]))
    first = mean(draw, net, "x", list(axes), kept)
    centred = net.add("Sub", "x", first)
    if draw(st.booleans()) and not wrong:
        squares = mean(draw, net, net.add("Mul", "x", "x"), list(axes), kept)
        variance = net.add("Sub", squares, net.add("Mul", first, first))
        if draw(st.booleans()):
            variance = net.add("Max", variance, net.constant(0.0))
    else:
        power = net.constant(3.0 if wrong == "cube" else 2.0)
        square = net.add("Pow", centred, power) if draw(st.booleans()) or wrong == "cube" else net.add("Mul", centred, centred)
        square = net.add("Abs", square) if wrong == "cube" else square
        other = tuple(axis for axis in range(len(shape)) if axis not in axes) if wrong == "axes" else axes
        around = tuple(1 if axis in other else extent for axis, extent in enumerate(shape))
        variance = mean(draw, net, square, list(other), around)
    epsilon = net.constant(np.full(kept, 0.01) + (rng.uniform(0, 0.1, kept) if wrong == "epsilon" else 0))
    root = net.add("Sqrt", ordered(draw, net, "Add", variance, epsilon))
    extents = tuple(extent if axis in axes else 1 for axis, extent in enumerate(shape))
    full = extents if wrong != "scale" else shape
    scale, shift = (net.constant(rng.normal(1, 0.3, full)) for _ in range(2))
    # A scale that varies along no axis but the normalised ones is one even so.
    changed = bool(wrong) and not (wrong == "epsilon" and math.prod(kept) == 1) and not (wrong == "scale" and full == extents)
    match draw(st.sampled_from(["divide", "reciprocal", "scaled reciprocal"])):
        case "divide":
            y = ordered(draw, net, "Mul", net.add("Div", centred, root), scale)
        case "reciprocal":
            y = ordered(draw, net, "Mul", ordered(draw, net, "Mul", centred, net.add("Reciprocal", root)), scale)
        case _:
            y = ordered(draw, net, "Mul", centred, ordered(draw, net, "Mul", net.add("Reciprocal", root), scale))
    if draw(st.booleans()):
        y = ordered(draw, net, "Add", y, shift)
    return net, axes, {"fused": not changed}


@_SETTINGS
@given(norms())
def test_layer_normalisations(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Net, tuple[int, ...], dict[str, bool]]
) -> None:
    net, axes, told = case
    graph = checked(net, tmp_path_factory.getbasetemp() / "norm.onnx")
    if told["fused"]:
        (op,) = graph.ops
        assert isinstance(op.attributes, ops.LayerNorm)
        assert op.attributes.axes == axes
        assert 0.0099 < op.attributes.epsilon < 0.12
    elif kinds(graph) == ["LayerNorm"]:
        raise AssertionError("this is no layer normalisation")


@st.composite
def gelus(draw: st.DrawFn) -> tuple[Net, bool | None]:
    """A Gelu in one of its spellings and whether it is approximate; None for what is none."""
    net = Net((2, 3, 4) if draw(st.booleans()) else (3,))
    x = "x"
    wrong, approximate = draw(st.sampled_from(["", "", "half", "slope", "one"])), draw(st.booleans())
    if approximate:
        slope = net.constant(math.sqrt(2 / math.pi) * (1.1 if wrong == "slope" else 1))
        cubic = net.constant(0.044715)
        match draw(st.sampled_from(["pow", "product", "factored"])):
            case "pow":
                inner = ordered(draw, net, "Add", x, ordered(draw, net, "Mul", net.add("Pow", x, net.constant(3.0)), cubic))
            case "product":
                cube = ordered(draw, net, "Mul", x, ordered(draw, net, "Mul", x, ordered(draw, net, "Mul", cubic, x)))
                inner = ordered(draw, net, "Add", x, cube)
            case _:
                square = ordered(draw, net, "Mul", net.add("Mul", x, x), cubic)
                inner = ordered(draw, net, "Mul", x, ordered(draw, net, "Add", square, net.constant(1.0)))
        curve = net.add("Tanh", ordered(draw, net, "Mul", inner, slope))
    else:
        width = math.sqrt(2) * (1.1 if wrong == "slope" else 1)
        divided = draw(st.booleans())
        inner = net.add("Div", x, net.constant(width)) if divided else ordered(draw, net, "Mul", x, net.constant(1 / width))
        curve = net.add("Erf", inner)
    half = net.constant(0.6 if wrong == "half" else 0.5)
    gate = ordered(draw, net, "Add", curve, net.constant(1.2 if wrong == "one" else 1.0))
    match draw(st.sampled_from(["last", "gate", "x"])):
        case "last":
            y = ordered(draw, net, "Mul", ordered(draw, net, "Mul", x, gate), half)
        case "gate":
            y = ordered(draw, net, "Mul", x, ordered(draw, net, "Mul", gate, half))
        case _:
            y = ordered(draw, net, "Mul", ordered(draw, net, "Mul", x, half), gate)
    assert y
    return net, None if wrong else approximate


@_SETTINGS
@given(gelus())
def test_gelus(tmp_path_factory: pytest.TempPathFactory, case: tuple[Net, bool | None]) -> None:
    net, approximate = case
    graph = checked(net, tmp_path_factory.getbasetemp() / "gelu.onnx")
    if approximate is None:
        assert "Gelu" not in kinds(graph)
    else:
        assert [op.attributes for op in graph.ops] == [ops.Gelu(approximate)]


@_SETTINGS
@given(st.data(), st.sampled_from(["", "", "sum", "peak", "other"]))
def test_softmaxes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, wrong: str) -> None:
    draw = data.draw
    shape = (2, draw(st.integers(2, 4)), draw(st.integers(2, 4)))
    axis = draw(st.integers(1, 2))
    net = Net(shape)

    def reduced(operator: str, name: str, along: int) -> str:
        keep = draw(st.integers(0, 1))
        found = net.add(operator, name, net.constant([along], np.int64), keepdims=keep)
        kept = [1 if place == along else extent for place, extent in enumerate(shape)]
        return found if keep else net.add("Reshape", found, net.constant(kept, np.int64))

    peak = reduced("ReduceMax" if wrong != "peak" else "ReduceMin", "x", axis)
    if draw(st.booleans()):
        peak = net.add("Max", net.constant(-np.inf), peak)
    raised = net.add("Exp", net.add("Sub", "x", peak))
    total = reduced("ReduceSum" if wrong != "sum" else "ReduceMean", raised, 3 - axis if wrong == "other" else axis)
    net.add("Div", raised, total)
    graph = checked(net, tmp_path_factory.getbasetemp() / "softmax.onnx")
    if wrong:
        assert "Softmax" not in kinds(graph)
    else:
        assert [op.attributes for op in graph.ops] == [ops.Softmax((axis,))]


def test_a_part_with_another_reader_is_kept_for_it(tmp_path: Path) -> None:
    net = Net((2, 3))
    gate = net.add("Add", net.add("Erf", net.add("Div", "x", net.constant(math.sqrt(2)))), net.constant(1.0))
    whole = net.add("Mul", net.add("Mul", "x", gate), net.constant(0.5))
    net.add("Add", whole, gate)
    assert sorted(kinds(checked(net, tmp_path / "both.onnx"))) == ["Add", "Affine", "Affine", "Gelu", "Unary"]


def test_a_sign_goes_into_the_weights_before_it(tmp_path: Path) -> None:
    net, rng = Net((1, 2, 5)), np.random.default_rng(0)
    convolved = net.add("Conv", "x", net.constant(rng.normal(0, 1, (3, 2, 2))), net.constant(rng.normal(0, 1, 3)))
    turned = net.add("Transpose", net.add("Neg", convolved), perm=[0, 2, 1])
    net.add("Neg", net.add("MatMul", turned, net.constant(rng.normal(0, 1, (3, 4)))))
    assert kinds(checked(net, tmp_path / "signs.onnx")) == ["Conv", "Transpose", "MatMul"]


# --- zeros around an image ----------------------------------------------------------------------------------------


@_SETTINGS
@given(
    rank=st.integers(1, 2),
    amounts=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    own=st.integers(0, 1),
    stride=st.integers(1, 2),
    where=st.sampled_from(["image", "channels", "ones", "edge", "cropped", "read twice"]),
)
def test_zeros_around_an_image_become_those_of_the_convolution(
    tmp_path_factory: pytest.TempPathFactory, rank: int, amounts: list[int], own: int, stride: int, where: str
) -> None:
    extents = (6, 7)[:rank]
    net, rng = Net((1, 2, *extents)), np.random.default_rng(0)
    begin, end = amounts[:rank], amounts[2 : 2 + rank]
    channels = 1 if where == "channels" else 0
    if where == "cropped":
        begin = [-1, *begin[1:]]
    pads = [0, channels, *begin, 0, 0, *end]
    operands = [net.constant(pads, np.int64)] + ([net.constant(1.0)] if where == "ones" else [])
    padded = net.add("Pad", "x", *operands, mode="edge" if where == "edge" else "constant")
    weights = net.constant(rng.normal(size=(3, 2 + channels, *(3,) * rank)))
    window = {"pads": [own] * 2 * rank, "strides": [stride] * rank}
    given_ = [extent + first + last + 2 * own for extent, first, last in zip(extents, begin, end, strict=True)]
    if min(given_) < 3:
        return
    made = net.add("Conv", padded, weights, **window)
    if where == "read twice":
        reduced = net.add("ReduceMax", padded, keepdims=1)
        net.add("Add", made, reduced)
    graph = checked(net, tmp_path_factory.mktemp("pads") / "net.onnx")
    kinds = [op.kind for op in graph.ops]
    nothing = not any(pads) and where != "ones"
    if where == "image" or nothing:
        assert kinds.count("Pad") == 0
        (conv,) = (op.attributes for op in graph.ops if isinstance(op.attributes, ops.Conv))
        assert conv.window.pads_begin == tuple(own + first for first in begin)
        assert conv.window.pads_end == tuple(own + last for last in end)
    elif any(pads):
        assert kinds.count("Pad") == 1
