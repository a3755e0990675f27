"""ONNX export: every operation against onnxruntime, the same bytes twice, and back through the importer."""

from __future__ import annotations

import json
import math
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

import lepton_dse as ld
from lepton_dse import flow
from lepton_dse.compress.quantize import noise
from lepton_dse.emit.onnx import export, export_graph, writer
from lepton_dse.emit.onnx.types import activation_type, is_stored_wider, packed, weight_type
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir import ops, semantics
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import BOOL, FLOAT32, INT64, FormatKind, NumberFormat
from lepton_dse.numerics.quantize import QuantParams, dequantize
from lepton_dse.testing.strategies import graphs
from lepton_dse.verify.onnx.session import Session

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.fixture(scope="module")
def needs_onnxruntime() -> None:
    """Skip without onnxruntime, which is optional; fail in continuous integration, which installs it."""
    if find_spec("onnxruntime") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("onnxruntime is not installed")


def parsed(data: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString(data)
    return model


def in_onnxruntime(graph: Graph, feeds: dict[str, np.ndarray], level: str = "ORT_ENABLE_ALL") -> list[np.ndarray]:
    return Session(export(graph), level).run(graph.outputs, feeds)


def agrees(graph: Graph, batch: int = 1, *, seed: int = 0, rtol: float = 1e-5) -> None:
    """The exported file gives what the graph means, at the graph's batch and at another one where it takes any."""
    rng = np.random.default_rng(seed)
    shaped = graph.with_batch(batch)
    feeds = {name: rng.normal(0, 1, shaped.tensors[name].shape).astype(np.float32) for name in graph.inputs}
    for found, expected in zip(in_onnxruntime(graph, feeds), semantics.run(shaped, feeds).values(), strict=True):
        assert found.dtype == expected.dtype
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * float(np.abs(expected).max(initial=1e-30)))
        else:
            np.testing.assert_array_equal(found, expected)


def one(attributes: ops.Attributes, shape: tuple[int, ...], *constants: np.ndarray) -> Graph:
    builder = GraphBuilder("one")
    builder.input("x", shape)
    inputs = ["x", *(builder.constant(f"c{index}", value) for index, value in enumerate(constants))]
    builder.add(attributes, inputs, output="y")
    return builder.build(["y"])


def window(kernel: tuple[int, ...], strides: int = 1, dilations: int = 1, begin: int = 0, end: int = 0) -> ops.Window:
    rank = len(kernel)
    return ops.Window(kernel, (strides,) * rank, (dilations,) * rank, (begin,) * rank, (end,) * rank)


RNG = np.random.default_rng(1)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


INF = math.inf
MONOTONE = [ops.BinaryFunction.SUBTRACT, ops.BinaryFunction.MULTIPLY, ops.BinaryFunction.MINIMUM, ops.BinaryFunction.MAXIMUM]
ANYWHERE = [function for function in ops.UnaryFunction if function.value not in ("square_root", "logarithm")]


def chosen(relation: ops.Relation) -> Graph:
    """A choice by two comparisons that are joined to one condition."""
    builder = GraphBuilder("chosen")
    builder.input("x", (1, 3, 4))
    y, z = builder.constant("y", normal(3, 1)), builder.constant("z", normal(1, 4))
    first = builder.add(ops.Compare(relation), ["x", y], output="first")
    second = builder.add(ops.Compare(ops.Relation.LESS), ["x", z], output="second")
    either = builder.add(ops.Binary(ops.BinaryFunction.MAXIMUM), [first, second], output="either")
    both = builder.add(ops.Binary(ops.BinaryFunction.MINIMUM), [either, first], output="both")
    turned = builder.add(ops.Transpose((0, 2, 1)), [builder.add(ops.Transpose((0, 2, 1)), [both], output="t")], output="turned")
    return builder.build([builder.add(ops.Where(), [turned, "x", z], output="chosen")])


def tokens() -> Graph:
    """Reals cut to whole numbers pick rows of a table, and are numbers again."""
    builder = GraphBuilder("tokens")
    x = builder.add(ops.Clip(-3.9, 3.9), [builder.input("x", (1, 5))], output="near")
    index = builder.add(ops.Cast(INT64), [x], output="index")
    rows = builder.add(ops.Gather(0), [builder.constant("table", normal(8, 2)), index], output="rows")
    again = builder.add(ops.Reshape((1, 5, 1)), [builder.add(ops.Cast(FLOAT32), [index], output="reals")], output="column")
    return builder.build([builder.add(ops.Add(), [rows, again], output="sum")])


CASES = {
    "conv": one(ops.Conv(window((3, 2), 2, 1, 1, 2)), (1, 4, 9, 8), normal(6, 4, 3, 2), normal(6)),
    "conv-groups": one(ops.Conv(window((3, 3), dilations=2), 2), (1, 4, 9, 8), normal(6, 2, 3, 3)),
    "conv-1d": one(ops.Conv(window((3,), 2, 1, 1, 0)), (1, 4, 9), normal(5, 4, 3)),
    "conv-3d": one(ops.Conv(window((2, 2, 2))), (1, 2, 4, 5, 3), normal(3, 2, 2, 2, 2), normal(3)),
    "conv-wide-pads": one(ops.Conv(window((2, 2), begin=4, end=3)), (1, 2, 4, 4), normal(3, 2, 2, 2)),
    "matmul": one(ops.MatMul(), (1, 7), normal(7, 5), normal(5)),
    "matmul-plain": one(ops.MatMul(), (1, 7), normal(7, 5)),
    "matmul-batched": one(ops.MatMul(), (1, 3, 7), normal(7, 5), normal(5)),
    "affine": one(ops.Affine(), (1, 3, 4, 5), normal(3), normal(3)),
    "affine-flat": one(ops.Affine(), (1, 3), normal(3), normal(3)),
    "add-constant": one(ops.Add(), (1, 3, 4), normal(1, 3, 1)),
    "relu": one(ops.Clip(0.0, INF), (1, 9)),
    "relu6": one(ops.Clip(0.0, 0.6), (1, 9)),
    "clip-high": one(ops.Clip(-INF, 0.25), (1, 9)),
    "clip-low": one(ops.Clip(-0.25, INF), (1, 9)),
    "clip-nothing": one(ops.Clip(-INF, INF), (1, 9)),
    "leaky": one(ops.LeakyRelu(0.2), (1, 9)),
    "sigmoid": one(ops.Sigmoid(), (1, 9)),
    "tanh": one(ops.Tanh(), (1, 9)),
    "softmax": one(ops.Softmax((1,)), (1, 9, 2)),
    "softmax-all": one(ops.Softmax((1, 2, 3)), (1, 3, 4, 2)),
    "softmax-apart": one(ops.Softmax((1, 3)), (1, 3, 4, 2)),
    "argmax": one(ops.ArgMax(1, False), (1, 9)),
    "argmax-last": one(ops.ArgMax(2, True, True), (1, 4, 5)),
    "max": one(ops.MaxPool(window((3, 2), 2, 1, 1, 1)), (1, 3, 7, 6)),
    "max-dilated": one(ops.MaxPool(window((2, 2), 1, 2)), (1, 3, 7, 6)),
    "max-wide-pads": one(ops.MaxPool(ops.Window((2, 3), (3, 2), (2, 1), (2, 1), (0, 1))), (1, 3, 6, 6)),
    "mean": one(ops.AveragePool(window((3, 2), 2, 1, 1, 1)), (1, 3, 7, 6)),
    "mean-counting": one(ops.AveragePool(window((3, 2), 2, 1, 1, 1), True), (1, 3, 7, 6)),
    "mean-overhang": one(ops.AveragePool(window((3, 3), 2, 1, 1, 2), True, (1, 1)), (1, 3, 6, 6)),
    "mean-overhang-inside": one(ops.AveragePool(window((3, 3), 2, 1, 0, 1), False, (1, 1)), (1, 3, 6, 6)),
    "mean-dilated": one(ops.AveragePool(window((2, 2), 1, 2, 1, 1)), (1, 3, 7, 6)),
    "mean-wide-pads": one(ops.AveragePool(window((2, 2), 1, 1, 2, 2), True), (1, 3, 4, 4)),
    "mean-wide-pads-inside": one(ops.AveragePool(window((2, 2), 1, 2, 2, 2)), (1, 3, 4, 4)),
    "mean-global": one(ops.AveragePool(ops.Window.full((7, 6))), (1, 3, 7, 6)),
    "lrn": one(ops.LocalResponseNorm(5, 0.3, 0.6, 1.5), (1, 7, 4, 3)),
    "lrn-even": one(ops.LocalResponseNorm(4, 0.3, 0.6, 1.5), (1, 7, 4, 3)),
    "lrn-1d": one(ops.LocalResponseNorm(3, 0.3, 0.6, 1.5), (1, 7, 4)),
    "pad": one(ops.Pad((0, 1, 2), (0, 0, 3), value=1.5), (1, 3, 4)),
    "pad-edge": one(ops.Pad((0, 0, 2), (0, 0, 3), ops.PadMode.EDGE), (1, 3, 4)),
    "pad-reflect": one(ops.Pad((0, 0, 2), (0, 0, 3), ops.PadMode.REFLECT), (1, 3, 4)),
    "pad-crop": one(ops.Pad((0, -1, 0), (0, 0, -2)), (1, 3, 4)),
    "pad-and-crop": one(ops.Pad((0, -1, 2), (0, 2, -1), ops.PadMode.EDGE), (1, 3, 4)),
    "pad-reflect-and-crop": one(ops.Pad((0, 0, 3), (0, 0, -2), ops.PadMode.REFLECT), (1, 3, 4)),
    "pad-nothing": one(ops.Pad((0, 0), (0, 0)), (1, 3)),
    "reshape": one(ops.Reshape((1, 2, 6)), (1, 3, 4)),
    "transpose": one(ops.Transpose((0, 2, 1)), (1, 3, 4)),
    **{f"{function.value}": one(ops.Binary(function), (1, 3, 4), normal(3, 1)) for function in MONOTONE},
    "divide": one(ops.Binary(ops.BinaryFunction.DIVIDE), (1, 3, 4), np.abs(normal(1, 3, 4)) + 0.5),
    "power": one(ops.Binary(ops.BinaryFunction.POWER), (1, 3, 4), np.asarray(3, np.float32)),
    **{f"{function.value}": one(ops.Unary(function), (1, 3, 4)) for function in ANYWHERE},
    "gelu": one(ops.Gelu(), (1, 3, 4)),
    "gelu-tanh": one(ops.Gelu(True), (1, 3, 4)),
    "norm": one(ops.LayerNorm((2,), 1e-5), (1, 3, 4), normal(4), normal(4)),
    "norm-two": one(ops.LayerNorm((1, 2), 1e-5), (1, 3, 4), normal(3, 4), normal(3, 4)),
    "norm-inside": one(ops.LayerNorm((1,), 1e-5), (1, 3, 4), normal(3), normal(3)),
    **{f"reduce-{function.value}": one(ops.Reduce(function, (2,), False), (1, 3, 4)) for function in ops.ReduceFunction},
    "reduce-two": one(ops.Reduce(ops.ReduceFunction.SUM, (1, 3), True), (1, 3, 4, 2)),
    "expand": one(ops.Expand((1, 3, 4)), (1, 3, 1)),
    "slice": one(ops.Slice((0, 1, 3), (1, 2, 2), (1, 1, -2)), (1, 3, 4)),
    "slice-nothing": one(ops.Slice((0, 0), (1, 3), (1, 1)), (1, 3)),
    "slice-reversed": one(ops.Slice((0, 2), (1, 3), (1, -1)), (1, 3)),
    "gather": one(ops.Gather(2), (1, 3, 4), np.asarray([[0, -1], [2, 1]], np.int64)),
    "gather-bytes": one(ops.Gather(1), (1, 3, 4), np.asarray([0, 2, 2], np.int8)),
    **{f"where-{relation.value}": chosen(relation) for relation in ops.Relation},
    "tokens": tokens(),
}
FIXED = {
    "concat-constant": one(ops.Concat(1), (1, 3), normal(1, 2)),
    "reshape": one(ops.Reshape((6, 2)), (3, 4)),
    "transpose": one(ops.Transpose((1, 0)), (3, 4)),
    "softmax": one(ops.Softmax((0, 1)), (3, 4)),
    "argmax": one(ops.ArgMax(0, True), (3, 4)),
    "scalar": one(ops.Reshape(()), (1,)),
    "norm": one(ops.LayerNorm((0, 1), 1e-5), (3, 4), normal(3, 4), normal(3, 4)),
    "slice": one(ops.Slice((2, 0), (3, 4), (-1, 1)), (3, 4)),
    "gather": one(ops.Gather(0), (3, 4), np.asarray([2, 0], np.int64)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_operation_agrees_with_onnxruntime(name: str, batch: int, needs_onnxruntime: None) -> None:
    agrees(CASES[name], batch, seed=batch)


@pytest.mark.parametrize("name", FIXED)
def test_graphs_that_take_no_other_batch_keep_theirs(name: str, needs_onnxruntime: None) -> None:
    graph = FIXED[name]
    agrees(graph, graph.batch)
    (given,) = parsed(export(graph)).graph.input
    assert [axis.dim_param for axis in given.type.tensor_type.shape.dim] == [""] * len(graph.tensors["x"].shape)


def test_the_batch_axis_is_open_and_named() -> None:
    model = parsed(export(CASES["conv"])).graph
    for info in (*model.input, *model.output):
        assert info.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_all_kinds_of_operations_are_tried() -> None:
    tried = {type(op.attributes) for graph in (*CASES.values(), *FIXED.values()) for op in graph.ops}
    lowered = {ops.Quantize, ops.Dequantize, ops.Requantize, ops.AddRequantize, ops.SumPool, ops.Lookup}
    assert tried == set(ops.ATTRIBUTES.values()) - lowered


@settings(max_examples=25)
@given(graph=graphs(branches=True), batch=st.integers(1, 3))
def test_random_graphs_agree_and_come_back_through_the_importer(
    tmp_path_factory: pytest.TempPathFactory, needs_onnxruntime: None, graph: Graph, batch: int
) -> None:
    x = np.random.default_rng(0).normal(0, 1, (batch, *graph.tensors["x"].shape[1:])).astype(np.float32)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(export(graph))
    again = load_model(path, batch=batch)
    (expected,) = semantics.run(graph.with_batch(batch), {"x": x}).values()
    (found,) = semantics.run(again, {"x": x}).values()
    (there,) = in_onnxruntime(graph, {"x": x})
    if expected.dtype.kind == "f":
        scale = float(np.abs(expected).max()) or 1.0
        np.testing.assert_allclose(found / scale, expected / scale, atol=1e-5)
        np.testing.assert_allclose(there / scale, expected / scale, atol=1e-5)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"lrn-even", "lrn-1d", "mean-wide-pads-inside", "softmax-apart"}))
def test_every_operation_comes_back_through_the_importer(name: str, tmp_path: Path) -> None:
    graph = CASES[name]
    (tmp_path / "model.onnx").write_bytes(export(graph))
    x = normal(*graph.tensors["x"].shape)
    again = load_model(tmp_path / "model.onnx")
    (expected,) = semantics.run(graph, {"x": x}).values()
    (found,) = semantics.run(again, {"x": x}).values()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["float32", "int8", "w4a8", "w4-float32", "float8_e4m3"])
def test_exporting_twice_gives_the_same_bytes(form: str) -> None:
    graph = ld.load(data_folder("models") / "digits_cnn.onnx")
    once, twice = (export(lower_bundle(flow.quantize(graph, form))) for _ in range(2))
    assert once == twice
    onnx.checker.check_model(parsed(once), full_check=True)


def test_pruned_weights_keep_their_zeros_and_are_counted() -> None:
    weights = normal(6, 4, 3, 3)
    weights[:, :3] = 0
    exported = export_graph(one(ops.Conv(window((3, 3))), (1, 4, 8, 8), weights))
    assert exported.applied[0].sparsity == 0.75
    (stored,) = exported.model.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(stored), weights)


@pytest.mark.parametrize("bits", range(2, 17))
def test_weights_are_stored_in_the_next_type_and_the_record_says_so(bits: int) -> None:
    graph = ld.load(data_folder("models") / "digits_cnn.onnx")
    exported = export_graph(lower_bundle(flow.quantize(graph, f"w{bits}a8")))
    stored = "INT4" if bits <= 4 else "INT8" if bits <= 8 else "INT16"
    entry = next(entry for entry in exported.applied if entry.op == "conv2d0")
    assert (entry.weights, entry.weights_stored) == (f"int{bits}", stored)
    told = f"int{bits} weights in {stored}, their range kept"
    assert (told in entry.notes) == (bits not in (4, 8, 16))
    weights = next(tensor for tensor in exported.model.graph.initializer if tensor.name == "conv2d0.weights")
    assert onnx.TensorProto.DataType.Name(weights.data_type) == stored
    values = numpy_helper.to_array(weights).astype(np.int64)
    assert np.abs(values).max() == (1 << (bits - 1)) - 1


def test_the_record_names_every_operation_and_why_it_stays_real() -> None:
    builder = GraphBuilder("mixed")
    builder.input("x", (1, 3, 4, 4))
    builder.constant("w", normal(5, 3, 1, 1))
    builder.add(ops.Conv(window((1, 1))), ["x", "w"], output="c")
    builder.add(ops.LocalResponseNorm(3, 0.1, 0.5, 1.0), ["c"], output="n")
    builder.add(ops.Softmax((1,)), ["n"], output="y")
    lowered = lower_bundle(flow.quantize(builder.build(["y"])))
    applied = export_graph(lowered).applied
    recorded = {name for entry in applied for name in (entry.op, *([f"{entry.op}.requantize"] if "," in entry.kind else []))}
    assert recorded == {op.name for op in lowered.ops}
    for name in ("n", "y"):
        entry = next(entry for entry in applied if entry.op == name)
        assert any(note.startswith("real: ") for note in entry.notes)


def test_weight_only_groups_become_blocks() -> None:
    graph = ld.load(data_folder("models") / "digits_cnn.onnx")
    lowered = lower_bundle(flow.quantize(graph, "w4-float32", granularity="group", group=32))
    nodes = [node for node in export_graph(lowered).model.graph.node if node.op_type == "DequantizeLinear"]
    attributes = [{entry.name: entry.i for entry in node.attribute} for node in nodes]
    assert attributes[-1] == {"axis": 0, "block_size": 32}
    assert {"axis": 1, "block_size": 32} in attributes


@settings(max_examples=40)
@given(data=st.data(), bits=st.integers(2, 8), conv=st.booleans())
def test_stored_weights_are_the_reference_s(data: st.DataObject, needs_onnxruntime: None, bits: int, conv: bool) -> None:
    """Per tensor, per channel or in groups, the last one of which may be short: equal to the last bit."""
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * (4 if conv else 2)))
    axis, rank = (0, 4) if conv else (data.draw(st.sampled_from([0, 1, -1])), 2)
    channels = shape[axis]
    others = math.prod(shape) // channels
    group = data.draw(st.one_of(st.none(), st.integers(1, others + 2)))
    many = channels * (1 if group is None else -(-others // group))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    beta = tuple(float(value) for value in rng.uniform(0.01, 1, many).astype(np.float32))
    quant = QuantParams(beta, 0, axis, group)
    form = NumberFormat(FormatKind.INT, bits)
    value = rng.integers(int(form.minimum), int(form.maximum), shape, endpoint=True).astype(np.int8)
    builder = GraphBuilder("weights")
    builder.input("x", shape)
    builder.constant("w.q", value, form, quant)
    builder.add(ops.Dequantize(), ["w.q"], output="w", form=NumberFormat.parse("float32"))
    builder.add(ops.Add(), ["x", "w"], output="y")
    lowered = builder.build_lowered(["y"])
    (found,) = in_onnxruntime(lowered, {"x": np.zeros(shape, np.float32)})
    np.testing.assert_array_equal(found, dequantize(value, quant))
    assert rank == len(shape)


def test_an_axis_in_the_middle_has_no_blocks_and_the_record_says_so(needs_onnxruntime: None) -> None:
    builder = GraphBuilder("middle")
    builder.input("x", (2, 3, 4))
    quant = QuantParams((0.5,) * 12, 0, 1, 2)
    value = RNG.integers(-8, 7, (2, 3, 4)).astype(np.int8)
    builder.constant("w.q", value, NumberFormat.parse("int4"), quant)
    builder.add(ops.Dequantize(), ["w.q"], output="w", form=NumberFormat.parse("float32"))
    builder.add(ops.Add(), ["x", "w"], output="y")
    lowered = builder.build_lowered(["y"])
    assert "stored as float32" in export_graph(lowered).applied[0].notes[0]
    (found,) = in_onnxruntime(lowered, {"x": np.zeros((2, 3, 4), np.float32)})
    np.testing.assert_array_equal(found, dequantize(value, quant))


@pytest.mark.parametrize(("low", "high", "kind"), [(-8, 7, TensorProto.INT4), (0, 15, TensorProto.UINT4)])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_nibbles_are_packed_as_onnx_packs_them(low: int, high: int, kind: int, size: int) -> None:
    value = RNG.integers(low, high, (size,), endpoint=True)
    np.testing.assert_array_equal(numpy_helper.to_array(packed("w", value, kind)).astype(np.int64), value)


def test_types() -> None:
    for text, activation, weight in (
        ("int2", "INT8", "INT4"),
        ("uint4", "UINT8", "UINT4"),
        ("int9", "INT16", "INT16"),
        ("bfloat16", "BFLOAT16", "BFLOAT16"),
        ("float8_e5m2", "FLOAT8E5M2", "FLOAT8E5M2"),
    ):
        form = NumberFormat.parse(text)
        assert activation_type(form) == TensorProto.DataType.Value(activation)
        assert weight_type(form) == TensorProto.DataType.Value(weight)
    assert activation_type(INT64) == TensorProto.INT64
    assert activation_type(BOOL) == TensorProto.BOOL
    assert is_stored_wider(NumberFormat.parse("int3"), TensorProto.INT4)
    assert not is_stored_wider(NumberFormat.parse("int4"), TensorProto.INT4)


def test_outputs_that_nothing_computes(needs_onnxruntime: None) -> None:
    builder = GraphBuilder("through")
    builder.input("x", (1, 3))
    builder.constant("c", np.arange(4, dtype=np.float32))
    builder.add(ops.Tanh(), ["x"], output="y")
    graph = builder.build(["x", "c", "y"])
    x = normal(1, 3)
    for found, expected in zip(in_onnxruntime(graph, {"x": x}), semantics.run(graph, {"x": x}).values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("form", "opset"), [("float32", 19), ("int8", 19), ("w8a4", 19), ("w4a8", 21), ("int16", 21)])
def test_the_opset_is_the_least_that_has_the_types(form: str, opset: int) -> None:
    graph = ld.load(data_folder("models") / "digits_cnn.onnx")
    model = export_graph(lower_bundle(flow.quantize(graph, form))).model
    assert ([entry.version for entry in model.opset_import], model.ir_version) == ([opset], {19: 9, 21: 10}[opset])


def test_every_tensor_that_has_a_type_keeps_its_name_and_says_its_shape() -> None:
    lowered = lower_bundle(flow.quantize(ld.load(data_folder("models") / "digits_cnn.onnx")))
    model = export_graph(lowered).model
    known = {info.name: info.type.tensor_type for info in (*model.graph.value_info, *model.graph.output)}
    for op in lowered.ops:
        if not op.output.endswith(".acc"):
            extents = [axis.dim_value or axis.dim_param for axis in known[op.output].shape.dim]
            assert extents == ["batch", *lowered.tensors[op.output].shape[1:]]


# --- what cannot be written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "form"), [("conv0", "float32"), ("conv1", "float32"), ("conv1", "w4-float32")])
def test_a_layer_of_floats_among_integers(name: str, form: str, needs_onnxruntime: None) -> None:
    builder = GraphBuilder("chain")
    x = builder.input("x", (1, 2, 5, 5))
    for index in range(3):
        operands = [x, builder.constant(f"w{index}", normal(2, 2, 3, 3))]
        y = builder.add(ops.Conv(window((3, 3), begin=1, end=1)), operands, output=f"y{index}", name=f"conv{index}")
        x = builder.add(ops.Clip(0.0, 6.0), [y], output=f"r{index}")
    agrees(lower_bundle(ld.quantize(builder.build([x]), "int8", overrides={name: form})), 3)


def test_fixed_point_is_refused() -> None:
    builder = GraphBuilder("fixed")
    builder.input("x", (1, 3), NumberFormat.parse("fixed16.8"))
    builder.add(ops.Reshape((3,)), ["x"], output="y")
    with pytest.raises(LeptonError, match="fixed"):
        export(builder.build(["y"]))


def test_reals_that_the_runtime_does_not_compute_are_refused() -> None:
    builder = GraphBuilder("double")
    builder.input("x", (1, 3), NumberFormat.parse("float64"))
    builder.add(ops.Tanh(), ["x"], output="y")
    with pytest.raises(LeptonError, match=r"y: computes on float64; the operation is exported in float32 alone"):
        export(builder.build(["y"]))


@pytest.mark.parametrize("name", ["", "half \ud800", "nul \0"])
def test_names_that_no_file_holds_are_refused(name: str) -> None:
    builder = GraphBuilder("names")
    builder.input("x", (1, 3))
    builder.add(ops.Tanh(), ["x"], output=name, name="op")
    with pytest.raises(LeptonError, match="cannot stand in an ONNX file"):
        export(builder.build([name]))


def test_any_other_name_is_kept(needs_onnxruntime: None) -> None:
    builder = GraphBuilder("Namen | `x`")
    builder.input("größe/∑ |`", (1, 3))
    builder.add(ops.Tanh(), ["größe/∑ |`"], output="größe/∑ |`/Tanh")
    builder.add(ops.Softmax((1,)), ["größe/∑ |`/Tanh"], output="y")
    agrees(builder.build(["y", "größe/∑ |`/Tanh"]))


def test_widths_beyond_16_bits_are_refused() -> None:
    builder = GraphBuilder("wide")
    builder.input("x", (1, 3))
    builder.add(ops.Quantize(), ["x"], output="y", form=NumberFormat.parse("int20"), quant=QuantParams((0.5,)))
    with pytest.raises(LeptonError, match=r"at most 16 bits, not to int20"):
        export(builder.build_lowered(["y"]))


def test_an_accumulator_that_is_read_twice_is_refused() -> None:
    builder = GraphBuilder("twice")
    builder.input("x", (1, 3), NumberFormat.parse("int8"))
    builder.constant("w", np.ones((3, 2), np.int8))
    builder.add(ops.MatMul(), ["x", "w"], output="acc", form=NumberFormat.parse("int20"))
    with pytest.raises(LeptonError, match="accumulator"):
        export(builder.build_lowered(["acc"]))


def test_more_than_a_file_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_MOST_BYTES", 100)
    with pytest.raises(LeptonError, match=r"more than 2 GB"):
        export(CASES["conv"])


# --- artefacts ------------------------------------------------------------------------------------------------------------


def test_it_is_no_family_s_default_where_there_is_another() -> None:
    first = {family: flow.emitters_for(family)[0].name for family in ("cpu", "fpga", "gpu", "tpu")}
    assert (first["cpu"], first["fpga"]) == ("cpp", "verilog")
    for family in first:
        assert "onnx" in {emitter.name for emitter in flow.emitters_for(family)}


@pytest.mark.parametrize("target", ["unit-cpu", "amd-zynq-7020"])
def test_the_artefact_holds_model_table_and_vectors(target: str, tmp_path: Path) -> None:
    planned = ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), target, format="w3a8")
    ld.emit(planned, tmp_path / "one", emitter="onnx")
    ld.emit(planned, tmp_path / "two", emitter="onnx")
    files = {str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert files >= {"model.onnx", "README.md", "applied.json", "vectors/input.bin", "vectors/expected_0.bin", "plan.json"}
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    readme = (tmp_path / "one" / "README.md").read_text()
    assert "int3 weights in INT4, their range kept" in readme
    applied = json.loads((tmp_path / "one" / "applied.json").read_text())["applied"]
    for entry in applied:
        assert f"| {entry['op']} |" in readme


# --- published networks ---------------------------------------------------------------------------------------------------


def seeded(graph: Graph) -> Graph:
    """Random weights of the size that keeps activations even from layer to layer, for networks shipped without any."""
    rng, values = np.random.default_rng(0), {}
    for op in graph.ops:
        shape = graph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 else ()
        if isinstance(op.attributes, ops.Conv | ops.MatMul):
            terms = math.prod(shape[1:]) if isinstance(op.attributes, ops.Conv) else shape[0]
            values[op.inputs[1]] = rng.normal(0, math.sqrt(2 / terms), shape).astype(np.float32)
        elif isinstance(op.attributes, ops.Affine):
            values[op.inputs[1]] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return graph.with_constants(values)


def before_softmax(graph: Graph) -> Graph:
    """The network up to its scores: with random weights they are so large that a softmax of them magnifies every rounding."""
    last = graph.producer(graph.outputs[0])
    assert last is not None
    if not isinstance(last.attributes, ops.Softmax):
        return graph
    tensors = [tensor for tensor in graph.tensors.values() if tensor.name != last.output]
    return Graph(graph.name, tensors, [op for op in graph.ops if op != last], graph.inputs, last.inputs, graph.constants)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "densenet121", "inception_v1", "resnet50"])
def test_published_networks_agree_in_float(name: str, needs_onnxruntime: None) -> None:
    graph = before_softmax(seeded(load_model(LIGHT / f"light_{name}.onnx")))
    x = noise(graph, 3, 1).x
    (expected,) = semantics.run(graph, {graph.inputs[0]: x}).values()
    (found,) = in_onnxruntime(graph, {graph.inputs[0]: x})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))
