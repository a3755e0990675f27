"""Random small networks give what onnxruntime gives."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lepton_dse.importers import load_model
from lepton_dse.ir import ops, semantics

try:
    import onnxruntime
except ModuleNotFoundError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("onnxruntime is not installed", allow_module_level=True)


@dataclass
class Net:
    """A model in the making: the nodes so far and the shape of the newest tensor."""

    opset: int
    rng: np.random.Generator
    shape: tuple[int, ...]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    top: str = "x"
    made: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.rng.normal(0, scale, shape))

    def add(self, operator: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> None:
        self.top = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [self.top], **attributes))
        self.shape = self.made[self.top] = shape

    def model(self, batch: int | None) -> onnx.ModelProto:
        first = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch or "N", *self.made["x"][1:]])
        kind = TensorProto.INT64 if self.nodes[-1].op_type == "ArgMax" else TensorProto.FLOAT
        last = helper.make_tensor_value_info(self.top, kind, None)
        graph = helper.make_graph(self.nodes, "net", [first], [last], self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def _window(draw: st.DrawFn, net: Net, *, pool: str = "") -> dict[str, Any]:
    """Attributes of a window that fits, and the extents it gives under ``extents``."""
    size = net.shape[2:]
    kernel = [draw(st.integers(1, min(3, extent))) for extent in size]
    strides = [draw(st.integers(1, 3)) for _ in size]
    dilated = not pool or (pool == "MaxPool" and net.opset >= 10) or (pool == "AveragePool" and net.opset >= 19)
    dilations = [
        draw(st.integers(1, 2)) if dilated and (k - 1) * 2 < extent else 1 for k, extent in zip(kernel, size, strict=True)
    ]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if dilated:
        attributes["dilations"] = dilations
    # onnxruntime has no automatic padding of windows that are dilated, or that leave gaps between them.
    covers = max(dilations) == 1 and all(stride <= k for stride, k in zip(strides, kernel, strict=True))
    automatic = ["SAME_UPPER", "SAME_LOWER"] if covers else []
    padding = draw(st.sampled_from(["NOTSET", "NOTSET", "VALID", *automatic]))
    ceiling = bool(pool) and net.opset >= 10 and padding == "NOTSET" and draw(st.booleans())
    pads = [0] * (2 * len(size))
    if padding == "NOTSET":
        pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
        attributes["pads"] = pads
    else:
        attributes["auto_pad"] = padding
    if pool == "AveragePool" and padding == "NOTSET":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    extents = []
    for axis, extent in enumerate(size):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if padding.startswith("SAME"):
            extents.append(-(-extent // strides[axis]))
            continue
        span = extent + pads[axis] + pads[len(size) + axis] - reach
        positions = span // strides[axis] + 1
        if ceiling and span % strides[axis]:
            # A window that would start in the end padding is left out; before opset 22 onnxruntime contradicts itself there.
            starts_inside = positions * strides[axis] < extent + pads[axis]
            assume(starts_inside or net.opset >= 22)
            positions += starts_inside
        extents.append(positions)
    if ceiling:
        attributes["ceil_mode"] = 1
    return {"attributes": attributes, "extents": tuple(extents)}


def _conv(draw: st.DrawFn, net: Net) -> None:
    window = _window(draw, net)
    channels = net.shape[1]
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    filters = groups * draw(st.integers(1, 3))
    kernel = window["attributes"]["kernel_shape"]
    inputs = [net.top, net.normal(filters, channels // groups, *kernel, scale=(channels // groups * np.prod(kernel)) ** -0.5)]
    if draw(st.booleans()):
        inputs.append(net.normal(filters))
    net.add("Conv", inputs, (net.shape[0], filters, *window["extents"]), group=groups, **window["attributes"])


def _pool(draw: st.DrawFn, net: Net) -> None:
    kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    window = _window(draw, net, pool=kind)
    net.add(kind, [net.top], (*net.shape[:2], *window["extents"]), **window["attributes"])


def _normalization(draw: st.DrawFn, net: Net) -> None:
    channels = net.shape[1]
    statistics = [net.normal(channels), net.normal(channels), net.normal(channels)]
    variance = net.constant(net.rng.uniform(0.2, 2, channels))
    net.add("BatchNormalization", [net.top, *statistics, variance], net.shape, epsilon=1e-3)


def _activation(draw: st.DrawFn, net: Net) -> None:
    kind = draw(st.sampled_from(["Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "LRN", "Softmax", "Identity", "Dropout"]))
    inputs, attributes = [net.top], {}
    if kind == "Clip" and net.opset < 11:
        attributes = {"min": 0.0, "max": 6.0}
    elif kind == "Clip":
        inputs += [net.constant(-0.5), net.constant(1.5)][: draw(st.integers(0, 2))]
    elif kind == "LeakyRelu":
        attributes = {"alpha": 0.2}
    elif kind == "LRN":
        attributes = {"size": draw(st.sampled_from([1, 3, 5])), "alpha": 0.3, "beta": 0.6, "bias": 1.5}
    elif kind == "Softmax":
        attributes = {"axis": draw(st.integers(1, len(net.shape) - 1))}
    net.add(kind, inputs, net.shape, **attributes)


def _constant_arithmetic(draw: st.DrawFn, net: Net) -> None:
    kind = draw(st.sampled_from(["Add", "Mul", "Sub", "Div"]))
    shape = draw(st.sampled_from([(), (1,), (net.shape[1], 1, 1), (1, net.shape[1], 1, 1)]))
    constant = net.constant(net.rng.uniform(0.5, 2, shape))
    swapped = kind != "Div" and draw(st.booleans())
    net.add(kind, [constant, net.top] if swapped else [net.top, constant], net.shape)


def _join(draw: st.DrawFn, net: Net) -> None:
    """A residual sum, or a concatenation of channels, with any earlier tensor that fits."""
    alike = sorted(name for name, shape in net.made.items() if shape == net.shape)
    besides = sorted(
        name for name, shape in net.made.items() if len(shape) == 4 and (shape[0], *shape[2:]) == (net.shape[0], *net.shape[2:])
    )
    if draw(st.booleans()):
        others = [draw(st.sampled_from(alike)) for _ in range(draw(st.integers(1, 2)))]
        net.add("Sum" if len(others) > 1 else "Add", [net.top, *others], net.shape)
    else:
        other = draw(st.sampled_from(besides))
        shape = (net.shape[0], net.shape[1] + net.made[other][1], *net.shape[2:])
        if shape[1] <= 12:
            net.add("Concat", [net.top, other], shape, axis=1)


def _pad(draw: st.DrawFn, net: Net) -> None:
    amounts = [draw(st.integers(0, 2)) if axis % 4 >= 2 else 0 for axis in range(8)]
    mode = draw(st.sampled_from(["constant", "edge", "reflect"]))
    if mode == "reflect" and any(max(amounts[axis], amounts[axis + 4]) >= net.shape[axis] for axis in (2, 3)):
        mode = "edge"
    shape = tuple(extent + amounts[axis] + amounts[axis + 4] for axis, extent in enumerate(net.shape))
    if net.opset < 11:
        net.add("Pad", [net.top], shape, mode=mode, pads=amounts)
    else:
        net.add("Pad", [net.top, net.constant(amounts, np.int64)], shape, mode=mode)


def _shuffle(draw: st.DrawFn, net: Net) -> None:
    """Channel shuffle: reshape, transpose, reshape back; or a squeeze undone."""
    n, c, h, w = net.shape
    if draw(st.booleans()):
        groups = draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
        net.add("Reshape", [net.top, net.constant([0, groups, c // groups, h, w], np.int64)], (n, groups, c // groups, h, w))
        net.add("Transpose", [net.top], (n, c // groups, groups, h, w), perm=[0, 2, 1, 3, 4])
        net.add("Reshape", [net.top, net.constant([0, -1, h, w], np.int64)], (n, c, h, w))
        return
    for kind, shape in (("Unsqueeze", (n, 1, c, h, w)), ("Squeeze", (n, c, h, w))):
        if net.opset < 13:
            net.add(kind, [net.top], shape, axes=[1])
        else:
            net.add(kind, [net.top, net.constant([1], np.int64)], shape)


def _head(draw: st.DrawFn, net: Net) -> None:
    kind = draw(st.sampled_from(["GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "none"]))
    if kind == "ReduceMean" and net.opset >= 18:
        net.add(kind, [net.top, net.constant([-2, -1], np.int64)], net.shape[:2], keepdims=0)
    elif kind == "ReduceMean":
        net.add(kind, [net.top], net.shape[:2], axes=[2, 3], keepdims=0)
    elif kind != "none":
        net.add(kind, [net.top], (*net.shape[:2], 1, 1))
    net.add("Flatten", [net.top], (net.shape[0], int(np.prod(net.shape[1:]))), axis=1)
    for _ in range(draw(st.integers(1, 2))):
        features, classes = net.shape[1], draw(st.integers(2, 5))
        scale = features**-0.5
        if draw(st.booleans()):
            transposed = draw(st.integers(0, 1))
            weights = net.normal(*((classes, features) if transposed else (features, classes)), scale=scale)
            bias = net.normal(*draw(st.sampled_from([(classes,), (1, classes), (1,), (1, 1)])))
            inputs = [net.top, weights, bias][: 3 if net.opset < 11 else draw(st.integers(2, 3))]
            net.add("Gemm", inputs, (net.shape[0], classes), transB=transposed, alpha=0.5, beta=2.0)
        else:
            net.add("MatMul", [net.top, net.normal(features, classes, scale=scale)], (net.shape[0], classes))
            if draw(st.booleans()):
                net.add("Add", [net.top, net.normal(classes)], net.shape)
        if draw(st.booleans()):
            _normalization(draw, net)
    last = draw(st.sampled_from(["Softmax", "ArgMax", "Relu", "Identity"]))
    if last == "ArgMax":
        net.add(last, [net.top], (net.shape[0],), axis=1, keepdims=0)
    else:
        net.add(last, [net.top], net.shape)


@st.composite
def networks(draw: st.DrawFn) -> tuple[onnx.ModelProto, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    batch = draw(st.integers(1, 2))
    shape = (batch, draw(st.integers(1, 4)), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    net = Net(draw(st.integers(9, 24)), rng, shape, made={"x": shape})
    steps = [_conv, _conv, _pool, _normalization, _activation, _constant_arithmetic, _join, _pad, _shuffle]
    for step in draw(st.lists(st.sampled_from(steps), min_size=1, max_size=8)):
        step(draw, net)
    if draw(st.booleans()):
        _head(draw, net)
    if not net.nodes:  # a concatenation that would have grown too wide
        _activation(draw, net)
    fixed = batch if batch > 1 or draw(st.booleans()) else None
    return net.model(fixed), rng.normal(0, 1, shape).astype(np.float32)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_random_networks_agree(tmp_path_factory: pytest.TempPathFactory, network: tuple[onnx.ModelProto, np.ndarray]) -> None:
    model, x = network
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, {"x": x})
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    path.write_bytes(model.SerializeToString())
    graph = load_model(path)
    (found,) = semantics.run(graph, {"x": x}).values()
    assert found.shape == expected.shape
    if expected.dtype == np.int64:
        # Where two classes are within rounding of one another either index is right.
        assert np.mean(found == expected) >= 0.5
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_normalisations_and_biases_leave_no_operation_behind(tmp_path: Path) -> None:
    net = Net(17, np.random.default_rng(0), (1, 3, 8, 8), made={"x": (1, 3, 8, 8)})
    net.add("Conv", [net.top, net.normal(4, 3, 3, 3)], (1, 4, 6, 6))
    statistics = [net.normal(4), net.normal(4), net.normal(4), net.constant(net.rng.uniform(0.2, 2, 4))]
    net.add("BatchNormalization", [net.top, *statistics], net.shape)
    net.add("Mul", [net.top, net.normal(4, 1, 1)], net.shape)
    net.add("Add", [net.top, net.normal(4, 1, 1)], net.shape)
    net.add("Flatten", [net.top], (1, 144))
    net.add("MatMul", [net.top, net.normal(144, 5)], (1, 5))
    net.add("Add", [net.top, net.normal(5)], net.shape)
    path = tmp_path / "net.onnx"
    path.write_bytes(net.model(None).SerializeToString())
    graph = load_model(path)
    assert [op.kind for op in graph.ops] == ["Conv", "Reshape", "MatMul"]
    assert graph.parameters == 4 * 3 * 9 + 4 + 144 * 5 + 5
    x = net.rng.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(semantics.run(graph, {"x": x})[net.top], expected, rtol=1e-4, atol=1e-4)


def test_a_normalisation_stays_where_its_input_has_another_reader(tmp_path: Path) -> None:
    net = Net(17, np.random.default_rng(0), (1, 3, 8, 8), made={"x": (1, 3, 8, 8)})
    net.add("Conv", [net.top, net.normal(3, 3, 3, 3)], (1, 3, 6, 6))
    before = net.top
    net.add("Mul", [net.top, net.normal(3, 1, 1)], net.shape)
    net.add("Add", [net.top, before], net.shape)
    path = tmp_path / "net.onnx"
    path.write_bytes(net.model(None).SerializeToString())
    assert [type(op.attributes) for op in load_model(path).ops] == [ops.Conv, ops.Affine, ops.Add]
