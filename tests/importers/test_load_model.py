"""Choosing an importer, and what a caller may leave to it: batch, shapes, constants, types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lepton_dse import files
from lepton_dse.errors import InvalidModelError
from lepton_dse.importers import load_model
from lepton_dse.ir import semantics
from lepton_dse.ir.serialize import graph_to_files
from lepton_dse.numerics.formats import FLOAT32

Save = Callable[[onnx.ModelProto], Path]


def _model(
    shape: list[Any], nodes: list[onnx.NodeProto], *, kind: int = TensorProto.FLOAT, opset: int = 17, **constants: Any
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"net.h5: no importer reads '.h5' files; known: .json \(graph\), .onnx \(ONNX\)"):
        load_model(tmp_path / "net.h5")


def test_an_unknown_batch_is_one_or_what_is_asked_for(save: Save) -> None:
    path = save(_model(["N", 3], [helper.make_node("Relu", ["x"], ["y"])]))
    assert load_model(path).tensors["y"].shape == (1, 3)
    assert load_model(path, batch=5).tensors["y"].shape == (5, 3)
    with pytest.raises(InvalidModelError, match="a batch of 0 samples; use at least 1"):
        load_model(path, batch=0)


def test_a_fixed_batch_stays_unless_another_is_asked_for(save: Save) -> None:
    path = save(_model([2, 3], [helper.make_node("Relu", ["x"], ["y"])]))
    assert load_model(path).batch == 2
    assert load_model(path, batch=5).tensors["y"].shape == (5, 3)


def test_the_batch_reaches_a_shape_that_the_model_computes(save: Save) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    model = _model(
        ["N", 3, 4], nodes, zero=np.asarray(0, np.int64), axes=np.asarray([0], np.int64), rest=np.asarray([-1], np.int64)
    )
    path = save(model)
    assert [load_model(path, batch=batch).tensors["y"].shape for batch in (1, 6)] == [(1, 12), (6, 12)]


def test_other_open_axes_are_given_by_shape(save: Save) -> None:
    path = save(_model(["N", 3, "H", "W"], [helper.make_node("GlobalMaxPool", ["x"], ["y"])]))
    assert load_model(path, shapes={"x": (2, 3, 8, 9)}).tensors["x"].shape == (2, 3, 8, 9)
    with pytest.raises(InvalidModelError, match=r"axis 2 \('H'\) has no extent in the file; give it: dims={'H': ...}"):
        load_model(path)
    with pytest.raises(
        InvalidModelError, match=r"input 'x': the given shape \[2, 4, 8, 9\] contradicts \[-1, 3, -1, -1\] in the file"
    ):
        load_model(path, shapes={"x": (2, 4, 8, 9)})
    with pytest.raises(InvalidModelError, match=r"has no input 'z'; its inputs are x"):
        load_model(path, shapes={"z": (1,)})
    with pytest.raises(InvalidModelError, match=r"input 'x': has the impossible shape \[2, 3, 0, 9\]"):
        load_model(path, shapes={"x": (2, 3, 0, 9)})


def test_initializers_that_are_listed_as_inputs_are_constants(save: Save) -> None:
    model = _model([1, 2], [helper.make_node("MatMul", ["x", "w"], ["y"])], w=np.eye(2, dtype=np.float32))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 2]))
    graph = load_model(save(model))
    assert graph.inputs == ("x",)
    assert list(graph.constants) == ["w"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("raw", [True, False])
def test_other_real_types_become_float32(dtype: Any, raw: bool, save: Save) -> None:
    weights = np.asarray([[1.5, -2.0], [0.25, 3.0]]).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = _model(["N", 2], [helper.make_node("MatMul", ["x", "w"], ["y"])], kind=kind)
    values = weights.tobytes() if raw else weights.astype(np.float64).reshape(-1).tolist()
    model.graph.initializer.append(helper.make_tensor("w", kind, [2, 2], values, raw=raw))
    graph = load_model(save(model))
    assert {tensor.format for tensor in graph.tensors.values()} == {FLOAT32}
    np.testing.assert_array_equal(graph.constants["w"], weights.astype(np.float32))


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.bool_])
def test_integer_constants_keep_their_type(dtype: Any, raw: bool, save: Save) -> None:
    value = np.asarray([0, 1, 1, 1], dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    model = _model([1], [helper.make_node("Relu", ["x"], ["y"])])
    model.graph.initializer.append(helper.make_tensor("c", kind, [4], value.tobytes() if raw else value.tolist(), raw=raw))
    model.graph.output.append(helper.make_tensor_value_info("c", kind, [4]))
    found = load_model(save(model)).constants["c"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, value)


def test_casts_of_constants_are_folded(save: Save) -> None:
    nodes = [helper.make_node("Cast", ["w"], ["f"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["x", "f"], ["y"])]
    graph = load_model(save(_model([1, 2], nodes, w=np.asarray([[1, 2], [3, -4]], np.int64))))
    np.testing.assert_array_equal(graph.constants["f"], np.asarray([[1, 2], [3, -4]], np.float32))


def test_a_constant_of_shape_costs_no_memory(save: Save) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["w"], value=numpy_helper.from_array(np.asarray([0.5], np.float32))),
        helper.make_node("Gemm", ["x", "w"], ["g"], transB=1, alpha=2.0),
        helper.make_node("Mul", ["g", "two"], ["y"]),
    ]
    model = _model([1, 1 << 14], nodes, s=np.asarray([1 << 16, 1 << 14], np.int64), two=np.asarray(2.0, np.float32))
    graph = load_model(save(model))
    (weights,) = (value for value in graph.constants.values() if value.ndim == 2)
    assert weights.shape == (1 << 14, 1 << 16)
    assert weights.strides[0] == 0
    assert weights[3, 5] == 2.0


def test_an_output_that_is_another_name_keeps_its_name(save: Save) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Identity", ["r"], ["y"])]
    graph = load_model(save(_model([1, 3], nodes)))
    assert graph.outputs == ("y",)
    found = semantics.run(graph, {"x": np.asarray([[-1, 0, 2]], np.float32)})
    np.testing.assert_array_equal(found["y"], [[0, 0, 2]])


def test_nodes_in_any_order_are_sorted(save: Save) -> None:
    nodes = [helper.make_node("Tanh", ["r"], ["y"], name="second"), helper.make_node("Relu", ["x"], ["r"], name="first")]
    assert [op.name for op in load_model(save(_model([1, 3], nodes))).ops] == ["first", "second"]


def test_what_no_output_depends_on_is_left_out(save: Save) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Mystery", ["x"], ["unread"])]
    assert [op.kind for op in load_model(save(_model([1, 3], nodes))).ops] == ["Clip"]


def test_one_constant_may_serve_twice(save: Save) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], transB=1),
        helper.make_node("Gemm", ["a", "w"], ["b"], transB=1),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    w = np.asarray([[1, 2], [3, 4]], np.float32)
    graph = load_model(save(_model([1, 2], nodes, w=w)))
    x = np.asarray([[1, -1]], np.float32)
    np.testing.assert_array_equal(semantics.run(graph, {"x": x})["y"], x @ w.T @ w.T @ w)


def test_a_bound_input_becomes_a_constant(save: Save) -> None:
    model = _model([2, 3], [helper.make_node("Reshape", ["x", "shape"], ["y"])])
    model.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [2]))
    path = save(model)
    assert load_model(path, bind={"shape": np.asarray([3, 2])}).inputs == ("x",)
    with pytest.raises(InvalidModelError, match=r"'y' \(Reshape: its shape are not a constant\)"):
        load_model(path)
    with pytest.raises(InvalidModelError, match=r"has no input 'pads'; its inputs are x, shape"):
        load_model(path, bind={"pads": np.zeros(1)})


def test_a_graph_file_reads_back_equal(save: Save, tmp_path: Path) -> None:
    graph = load_model(save(_model([1, 2], [helper.make_node("MatMul", ["x", "w"], ["y"])], w=np.eye(2, dtype=np.float32))))
    files.write_folder(tmp_path / "graph", {**graph_to_files(graph), "manifest.json": b"{}"})
    path = tmp_path / "graph" / "graph.json"
    assert load_model(path).digest == graph.digest
    assert load_model(path, batch=3).batch == 3
    with pytest.raises(InvalidModelError, match="a graph file leaves no shape or value open; give neither shapes nor bind"):
        load_model(path, shapes={"x": (1, 2)})


def test_the_package_imports_without_onnx() -> None:
    script = "import sys, lepton_dse.importers, lepton_dse.importers.onnx; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
