"""Random small networks of the operators of transformers and signal processing give what onnxruntime gives."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers import load_model
from lepton_dse.ir import semantics

try:
    import onnxruntime
except ModuleNotFoundError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("onnxruntime is not installed", allow_module_level=True)

Shape = tuple[int, ...]
_SETTINGS = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Net:
    """A model in the making; the first axis of everything that depends on the input is the batch."""

    opset: int
    rng: np.random.Generator
    made: dict[str, Shape]
    top: str = "x"
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)  # names of what holds integers or truth values

    @property
    def shape(self) -> Shape:
        return self.made[self.top]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.rng.normal(0, 1, shape))

    def node(self, operator: str, inputs: list[str], shape: Shape, *, name: str = "", **attributes: Any) -> str:
        name = name or f"t{len(self.made)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        self.made[name] = shape
        return name

    def add(self, operator: str, inputs: list[str], shape: Shape, **attributes: Any) -> None:
        self.top = self.node(operator, inputs, shape, **attributes)

    def bounded(self, function: str = "Tanh") -> str:
        return self.node(function, [self.top], self.shape)


def _axes(draw: st.DrawFn, rank: int, *, low: int = 1) -> list[int]:
    axes = sorted(draw(st.sets(st.integers(low, rank - 1), min_size=1)))
    return [axis - rank if draw(st.booleans()) else axis for axis in axes]


def _operand(draw: st.DrawFn, net: Net) -> str:
    """A constant that broadcasts, or an earlier tensor of the same shape."""
    if draw(st.booleans()):
        alike = sorted(name for name, shape in net.made.items() if shape == net.shape and name not in net.whole)
        return draw(st.sampled_from(alike))
    kept = net.shape[draw(st.integers(0, len(net.shape))) :]
    shape = tuple(1 if draw(st.booleans()) else extent for extent in kept)
    return net.normal(*(shape if len(kept) < len(net.shape) else (1, *shape[1:])))


def _binary(draw: st.DrawFn, net: Net) -> None:
    operator = draw(st.sampled_from(["Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"]))
    x, other = net.bounded(), _operand(draw, net)
    if operator in ("Div", "Pow"):
        other = net.node("Add", [net.node("Sigmoid", [other], ()), net.constant(0.5)], ())
        x = net.node("Sigmoid", [x], net.shape) if operator == "Pow" else x
    swapped = operator in ("Sub", "Add", "Mul", "Min", "Max") and draw(st.booleans())
    net.add(operator, [other, x] if swapped else [x, other], net.shape)


def _power(draw: st.DrawFn, net: Net) -> None:
    exponent = draw(st.sampled_from([1.0, 2.0, 3.0, 0.5, -1.5]))
    base = net.bounded("Sigmoid")
    kind = np.int64 if exponent.is_integer() and net.opset >= 12 and draw(st.booleans()) else np.float32
    net.add("Pow", [base, net.constant(exponent, kind)], net.shape)


def _unary(draw: st.DrawFn, net: Net) -> None:
    operator = draw(st.sampled_from(["Neg", "Abs", "Erf", "Exp", "Sqrt", "Log", "Reciprocal"]))
    positive = operator in ("Sqrt", "Log", "Reciprocal")
    x = net.bounded("Sigmoid" if positive else "Tanh")
    net.add(operator, [net.node("Add", [x, net.constant(0.3)], net.shape)] if positive else [x], net.shape)


def _reduce(draw: st.DrawFn, net: Net) -> None:
    operator = draw(st.sampled_from(["ReduceSum", "ReduceMean", "ReduceMin", "ReduceMax"]))
    rank = len(net.shape)
    if rank < 2:
        return
    axes, keep = _axes(draw, rank), draw(st.integers(0, 1))
    positive = {axis % rank for axis in axes}
    shape = tuple(1 if axis in positive else extent for axis, extent in enumerate(net.shape) if keep or axis not in positive)
    as_input = net.opset >= (13 if operator == "ReduceSum" else 18)
    named = {} if as_input else {"axes": axes}
    operands = [net.top, *([net.constant(axes, np.int64)] if as_input else [])]
    net.add(operator, operands, shape, keepdims=keep, **named)


def _norm(draw: st.DrawFn, net: Net) -> None:
    rank = len(net.shape)
    if net.opset < 17 or rank < 2:
        return
    axis = draw(st.integers(1, rank - 1))
    extents = net.shape[axis:]
    operands = [net.top, net.normal(*extents), *([net.normal(*extents)] if draw(st.booleans()) else [])]
    # An epsilon that tells in float32 even where all elements are alike.
    net.add("LayerNormalization", operands, net.shape, axis=axis - rank if draw(st.booleans()) else axis, epsilon=0.01)


def _gelu(draw: st.DrawFn, net: Net) -> None:
    if net.opset >= 20:
        net.add("Gelu", [net.top], net.shape, approximate=draw(st.sampled_from(["none", "tanh"])))


def _slice(draw: st.DrawFn, net: Net) -> None:
    rank = len(net.shape)
    if rank < 2:
        return
    axes, shape, rows = _axes(draw, rank), list(net.shape), []
    for axis in axes:
        size = net.shape[axis]
        step = draw(st.sampled_from([-2, -1, 1, 2])) if net.opset >= 10 else 1
        picked = list(range(size))[:: 1 if step > 0 else -1]
        first = draw(st.integers(0, size - 1))
        count = draw(st.integers(1, size - first))
        start, end = picked[first], picked[first + count - 1] + (1 if step > 0 else -1)
        taken = range(size)[start : end if end >= 0 else None : step]
        shape[axis] = len(taken)
        if end >= size or end < 0:
            end = draw(st.sampled_from([1 << 40, size])) if step > 0 else -(1 << 40)
        rows.append((start - size if draw(st.booleans()) else start, end, axis, step))
    starts, ends, named, steps = (list(column) for column in zip(*rows, strict=True))
    if net.opset < 10:
        net.add("Slice", [net.top], tuple(shape), starts=starts, ends=ends, axes=named)
    else:
        operands = [net.constant(column, np.int64) for column in (starts, ends, named, steps)]
        net.add("Slice", [net.top, *operands], tuple(shape))


def _split(draw: st.DrawFn, net: Net) -> None:
    rank = len(net.shape)
    if rank < 2:
        return
    axis = draw(st.integers(1, rank - 1))
    size = net.shape[axis]
    if size < 2:
        return
    first = draw(st.integers(1, size - 1))
    names = [f"s{len(net.made)}", f"s{len(net.made)}b"]
    operands, attributes = [net.top], {}
    if net.opset >= 18 and size % 2 and draw(st.booleans()):
        first, attributes = size - size // 2, {"num_outputs": 2}
    elif net.opset >= 13:
        operands.append(net.constant([first, size - first], np.int64))
    else:
        attributes = {"split": [first, size - first]}
    net.nodes.append(helper.make_node("Split", operands, names, axis=axis, **attributes))
    for name, extent in zip(names, (first, size - first), strict=True):
        net.made[name] = (*net.shape[:axis], extent, *net.shape[axis + 1 :])
    net.add("Concat", [names[1], names[0]], net.shape, axis=axis)


def _gather(draw: st.DrawFn, net: Net) -> None:
    rank = len(net.shape)
    if rank < 2 or rank > 4:
        return
    axis = draw(st.integers(1, rank - 1))
    size = net.shape[axis]
    extents = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    indices = net.rng.integers(-size, size, extents)
    shape = (*net.shape[:axis], *extents, *net.shape[axis + 1 :])
    net.add("Gather", [net.top, net.constant(indices, draw(st.sampled_from([np.int64, np.int32])))], shape, axis=axis)


def _embed(draw: st.DrawFn, net: Net) -> None:
    """Whole numbers between -4 and 3 pick rows of a table; they come from the input, which both sides read alike."""
    shape = net.made["x"]
    if len(shape) > 3:
        return
    low = net.node("Max", ["x", net.constant(-4.0)], shape)
    index = net.node("Cast", [net.node("Min", [low, net.constant(3.9)], shape)], shape, to=TensorProto.INT64)
    net.whole.add(index)
    net.add("Gather", [net.normal(4, 2), index], (*shape, 2))


def _expand(draw: st.DrawFn, net: Net) -> None:
    shape = tuple(draw(st.integers(1, 3)) if extent == 1 and axis else extent for axis, extent in enumerate(net.shape))
    wanted = [1, *(1 if draw(st.booleans()) else extent for extent in shape[1:])]
    reached = tuple(max(a, b) for a, b in zip(net.shape, wanted, strict=True))
    net.add("Expand", [net.top, net.constant(wanted, np.int64)], reached)


def _choice(draw: st.DrawFn, net: Net) -> None:
    """Comparisons of whole numbers from the input choose between two tensors of its shape."""
    shape = net.made["x"]
    if net.shape != shape:
        return
    kinds = ["Equal", "Less", "Greater", *(["LessOrEqual", "GreaterOrEqual"] if net.opset >= 12 else [])]
    whole = net.node("Cast", ["x"], shape, to=TensorProto.INT32)
    other = net.constant(net.rng.integers(-1, 2, shape[1:]), np.int32)
    truth = net.node(draw(st.sampled_from(kinds)), [whole, other], shape)
    second = net.node("Cast", [whole], shape, to=TensorProto.BOOL)
    joined = net.node(draw(st.sampled_from(["And", "Or"])), [truth, second], shape)
    net.whole |= {whole, truth, second, joined}
    if draw(st.booleans()):
        joined = net.node("Not", [joined], shape)
        net.whole.add(joined)
    number = net.node("Cast", [joined], shape, to=TensorProto.FLOAT)
    net.add("Where", [joined, net.top, net.node("Sub", [number, net.constant(0.25)], shape)], shape)


def _attention(draw: st.DrawFn, net: Net) -> None:
    if len(net.shape) != 3:
        return
    n, rows, columns = net.shape
    turned = net.node("Transpose", [net.top], (n, columns, rows), perm=[0, 2, 1])
    scores = net.node("MatMul", [net.bounded(), turned], (n, rows, rows))
    shares = net.node("Softmax", [scores], (n, rows, rows), axis=2)
    net.add("MatMul", [shares, net.top], net.shape)


STEPS: list[Callable[[st.DrawFn, Net], None]] = [
    *(_binary, _power, _unary, _reduce, _norm, _gelu, _slice, _split),
    *(_gather, _embed, _expand, _choice, _attention),
]


@st.composite
def networks(draw: st.DrawFn) -> tuple[onnx.ModelProto, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    shape = (draw(st.integers(1, 3)), *draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    net = Net(draw(st.integers(11, 24)), rng, {"x": shape})
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        step(draw, net)
    net.add("Identity", [net.top], net.shape, name="y")
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(net.nodes, "net", [entry], [result], net.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=8)
    return model, rng.normal(0, 1, shape).astype(np.float32)


@_SETTINGS
@given(networks())
def test_random_networks_agree(tmp_path_factory: pytest.TempPathFactory, network: tuple[onnx.ModelProto, np.ndarray]) -> None:
    model, x = network
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    path = tmp_path_factory.getbasetemp() / "net.onnx"
    path.write_bytes(model.SerializeToString())
    graph = load_model(path)
    for batch in (1, len(x)):
        (found,) = semantics.run(graph.with_batch(batch), {"x": x[:batch]}).values()
        (expected,) = session.run(None, {"x": x[:batch]})
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_integer_tokens_and_a_mask_are_inputs_of_their_own(tmp_path: Path) -> None:
    """Two inputs of int64 and bool, of a length that the caller names."""
    table = np.random.default_rng(0).normal(0, 1, (9, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Where", ["column", "rows", "zero"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "first"], ["y"], keepdims=0),
    ]
    entries = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "length"]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, ["N", "length"]),
    ]
    values = {"table": table, "last": np.asarray([2]), "first": np.asarray([1]), "zero": np.zeros((), np.float32)}
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    path = tmp_path / "tokens.onnx"
    graph = helper.make_graph(nodes, "tokens", entries, [result], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    loaded = load_model(path, dims={"length": 5}, batch=2)
    feeds = {"ids": np.asarray([[1, 2, 8, 0, 0], [3, -1, 3, 4, 5]]), "mask": np.asarray([[1, 1, 1, 0, 0], [1] * 5], np.bool_)}
    (expected,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_allclose(semantics.run(loaded, feeds)["y"], expected, rtol=1e-6)
    feeds["ids"][0, 0] = 9
    with pytest.raises(InvalidModelError, match=r"Gather 'rows': reads index 9 of an axis of 9; feed indices inside the axis"):
        semantics.run(loaded, feeds)
    for dims, message in (
        ({"width": 5}, r"has no open axis 'width'; its open axes are N, length"),
        ({"length": 0}, r"an extent of 0 for the axis 'length'; use at least 1"),
    ):
        with pytest.raises(InvalidModelError, match=message):
            load_model(path, dims=dims)


_CASTS = [
    (source, target) for source in ("float32", "int64", "int32", "uint8", "bool") for target in ("float32", "int32", "bool")
]


@pytest.mark.parametrize(("source", "target"), _CASTS)
def test_casts(source: str, target: str, tmp_path: Path) -> None:
    kinds = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9}
    entry = helper.make_tensor_value_info("x", kinds[source], [6])
    result = helper.make_tensor_value_info("y", kinds[target], None)
    graph = helper.make_graph([helper.make_node("Cast", ["x"], ["y"], to=kinds[target])], "cast", [entry], [result])
    path = tmp_path / "cast.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    x = np.asarray([0, 1, 2, 3.75, 0.5, -2.5 if source[0] in "fi" else 7]).astype(source)
    (expected,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    (found,) = semantics.run(load_model(path), {"x": x}).values()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
