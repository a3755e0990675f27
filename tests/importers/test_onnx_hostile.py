"""Damaged and hostile files: each is one clear error, and none costs memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.importers import UnsupportedError, load_model
from lepton_dse.importers.onnx.folding import FOLDABLE
from lepton_dse.importers.onnx.importer import OPERATORS

Save = Callable[[onnx.ModelProto], Path]
Edit = Callable[[onnx.ModelProto], Any]


def _valid() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 1, (3, 2, 3, 3)).astype(np.float32),
        "b": np.zeros(3, np.float32),
        "shape": np.asarray([0, -1], np.int64),
        "v": rng.normal(0, 1, (48, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Reshape", ["r", "shape"], ["f"], name="view"),
        helper.make_node("Gemm", ["f", "v"], ["g"], name="gemm"),
        helper.make_node("Softmax", ["g"], ["y"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


BYTES = _valid().SerializeToString()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(BYTES)
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(data) - 1))
        data[position] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    if draw(st.booleans()):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        data[start:start] = draw(st.binary(max_size=12))
    return bytes(data)


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(damaged(), st.binary(max_size=64)))
def test_damage_never_raises_anything_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(data)
    tracemalloc.start()
    message = "damaged.onnx: fine"
    try:
        load_model(path)
    except LeptonError as error:
        message = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert "damaged.onnx" in message
    assert "\n" not in message
    assert peak < 256 << 20


_OPERANDS = {
    "i": np.asarray([1, 2], np.int64),
    "k": np.asarray(3, np.int64),
    "f": np.asarray([1, 2], np.float32),
    "s": np.asarray(1.5, np.float32),
    "m": np.ones((2, 2), np.float32),
    "e": np.zeros(0, np.float32),
    "b": np.asarray([True, False]),
    "t": np.ones((2, 3, 4, 4), np.float32),
}


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted({*OPERATORS, *FOLDABLE, "Shape", "Size", "Constant", "ConstantOfShape"})),
    st.integers(9, 24),
    st.lists(st.sampled_from(["x", "v", "", *_OPERANDS]), max_size=5),
)
def test_any_operands_give_a_graph_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, operator: str, opset: int, inputs: list[str]
) -> None:
    nodes = [helper.make_node(operator, inputs, ["y"], name="node")]
    entries = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", [2, 3, 4, 4]), ("v", [2]))]
    initializers = [numpy_helper.from_array(value, name) for name, value in _OPERANDS.items()]
    graph = helper.make_graph(nodes, "g", entries, [helper.make_tensor_value_info("y", 1, None)], initializers)
    path = tmp_path_factory.getbasetemp() / "operands.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString())
    try:
        outputs = load_model(path).outputs
    except InvalidModelError as error:
        outputs = ("y",) if "operands.onnx: " in str(error) else ()
    assert outputs == ("y",)


def test_the_valid_model_is_valid(save: Save) -> None:
    graph = load_model(save(_valid()))
    assert [op.kind for op in graph.ops] == ["Conv", "Clip", "Reshape", "MatMul", "Softmax"]
    assert graph.macs == 3 * 16 * 18 + 48 * 4


def _initializer(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _attribute(model: onnx.ModelProto, node: int, **values: Any) -> None:
    target = model.graph.node[node]
    kept = [attribute for attribute in target.attribute if attribute.name not in values]
    del target.attribute[:]
    target.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])


def _huge_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1 << 20, 1 << 20], np.int64), "huge"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["huge"], ["h"], name="ones"))
    model.graph.node[-2].input[1] = "h"


def _outer_product(model: onnx.ModelProto) -> None:
    """Two small constants whose sum would take a hundred gigabytes."""
    for name, shape in (("tall", (160_000, 1)), ("wide", (1, 160_000))):
        model.graph.initializer.append(numpy_helper.from_array(np.arange(160_000, dtype=np.float32).reshape(shape), name))
    model.graph.node.insert(0, helper.make_node("Add", ["tall", "wide"], ["square"], name="outer"))
    model.graph.node[-2].input[1] = "square"


def _range(model: onnx.ModelProto) -> None:
    for name, value in (("zero", 0), ("far", 1 << 40), ("one", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.int64), name))
    model.graph.node.insert(0, helper.make_node("Range", ["zero", "far", "one"], ["all"], name="range"))
    model.graph.node[-2].input[1] = "all"


def _doubling(model: onnx.ModelProto) -> None:
    """A constant joined with itself forty times over."""
    for step in range(40):
        name = f"d{step}" if step else "w"
        model.graph.node.insert(step, helper.make_node("Concat", [name, name], [f"d{step + 1}"], name=f"double{step}", axis=0))
    model.graph.node[-2].input[1] = "d40"


def _many_folds(model: onnx.ModelProto) -> None:
    """A thousand constants of 16 MB each, none of them too large by itself."""
    for name, shape in (("tall", (2000, 1)), ("wide", (1, 2000))):
        model.graph.initializer.append(numpy_helper.from_array(np.arange(2000, dtype=np.float32).reshape(shape), name))
    names = [f"f{step}" for step in range(1000)]
    nodes = [helper.make_node("Add", ["tall", "wide"], [name], name=name) for name in names]
    model.graph.node.extend([*nodes, helper.make_node("Sum", ["y", *names], ["z"], name="sum")])
    model.graph.output[0].name = "z"


def _wide_channels(model: onnx.ModelProto) -> None:
    """Arithmetic over four billion channels, each of them the same number, ends at NaN."""
    del model.graph.node[:]
    wide = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1 << 32])
    model.graph.input[0].CopyFrom(wide)
    for name, value in (("extent", np.asarray([1 << 32])), ("two", np.float32(2)), ("bad", np.float32(np.nan))):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    nodes = [
        ("ConstantOfShape", ["extent"], "c"),
        ("BatchNormalization", ["x", "c", "c", "c", "c"], "n"),
        ("Mul", ["n", "two"], "m"),
        ("Add", ["m", "c"], "a"),
        ("Sub", ["two", "a"], "s"),
        ("Div", ["s", "bad"], "y"),
    ]
    model.graph.node.extend(helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes)


CASES: dict[str, tuple[Edit, str]] = {
    "cycle": (
        lambda m: m.graph.node[1].input.__setitem__(0, "g"),
        r"Relu 'relu': the graph has a cycle; a network must be acyclic",
    ),
    "own input": (lambda m: m.graph.node[1].input.__setitem__(0, "r"), r"Relu 'relu': the graph has a cycle"),
    "missing input": (
        lambda m: m.graph.node[1].input.__setitem__(0, "gone"),
        r"Relu 'relu': reads 'gone', which nothing produces",
    ),
    "no operand": (lambda m: m.graph.node[1].input.pop(), r"Relu 'relu': lacks an input"),
    "left out operand": (
        lambda m: m.graph.node[1].CopyFrom(helper.make_node("Sum", ["c", ""], ["r"])),
        r"Sum 'r': lacks an input",
    ),
    "empty join": (
        lambda m: m.graph.node[1].CopyFrom(helper.make_node("Concat", [], ["r"], axis=0)),
        r"Concat 'r': lacks an input",
    ),
    "no output": (lambda m: m.graph.node[1].output.pop(), r"Relu 'relu': has no output"),
    "two producers": (lambda m: m.graph.node[2].output.__setitem__(0, "r"), r"r: two producers for one tensor"),
    "input produced": (lambda m: m.graph.node[2].output.__setitem__(0, "x"), r"x: two producers for one tensor"),
    "two initializers": (lambda m: m.graph.initializer.append(_initializer(m, "w")), r"w: two initializers share a name"),
    "two inputs": (lambda m: m.graph.input.append(m.graph.input[0]), r"x: two inputs share a name"),
    "two outputs": (lambda m: m.graph.output.append(m.graph.output[0]), r"y: two outputs share a name"),
    "lost output": (lambda m: m.graph.node.pop(), r"y: nothing produces this output"),
    "empty graph": (lambda m: m.ClearField("graph"), r"holds no graph with an output; is this the right file\?"),
    "no opset": (lambda m: m.ClearField("opset_import"), r"does not say which operator set it uses"),
    "old opset": (lambda m: setattr(m.opset_import[0], "version", 7), r"uses operator set 7; convert it to one of 9 to 28"),
    "new opset": (lambda m: setattr(m.opset_import[0], "version", 99), r"uses operator set 99; convert it to one of 9 to 28"),
    "no input": (lambda m: m.graph.input.pop(), r"Conv 'conv': reads 'x', which nothing produces"),
    "wrong weights": (
        lambda m: _initializer(m, "w").dims.__setitem__(1, 3),
        r"tensor 'w': holds 216 bytes, its shape \[3, 3, 3, 3\] takes 324",
    ),
    "wrong channels": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 5),
        r"Conv 'conv': weights \[3, 2, 3, 3\]",
    ),
    "huge weights": (lambda m: _initializer(m, "w").dims.__setitem__(0, 1 << 40), r"tensor 'w': has the impossible shape"),
    "negative weights": (lambda m: _initializer(m, "w").dims.__setitem__(0, -1), r"tensor 'w': has the impossible shape \[-1,"),
    "huge input": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 1 << 62),
        r"input 'x': has the impossible shape",
    ),
    "huge pads": (
        lambda m: _attribute(m, 0, pads=[1 << 62] * 4),
        r"Conv 'conv': gives a tensor of shape .* beyond 4294967296 elements",
    ),
    "negative pads": (
        lambda m: _attribute(m, 0, pads=[-1] * 4),
        r"Conv 'conv': kernel, strides and dilations must be at least 1",
    ),
    "zero stride": (lambda m: _attribute(m, 0, strides=[0, 1]), r"Conv 'conv': kernel, strides and dilations must be at least 1"),
    "too few strides": (
        lambda m: _attribute(m, 0, strides=[1]),
        r"Conv 'conv': its window does not have the 2 axes of its input",
    ),
    "real strides": (
        lambda m: _attribute(m, 0, strides=[1.0, 1.0]),
        r"Conv 'conv': the attribute 'strides' is not a list of integers",
    ),
    "two attributes": (
        lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0]),
        r"Conv 'conv': two attributes share one name",
    ),
    "huge axis": (
        lambda m: _attribute(m, 4, axis=1 << 62),
        r"Softmax 'softmax': axis 4611686018427387904 of a tensor with 2 axes",
    ),
    "bad auto_pad": (lambda m: _attribute(m, 0, auto_pad="MAGIC"), r"Conv 'conv': auto_pad is 'MAGIC'"),
    "huge constant": (_huge_constant, r"ConstantOfShape 'ones': asks for a tensor of shape \[1048576, 1048576\]"),
    "doubling": (
        _doubling,
        r"Concat 'double\d+': would fold into a constant of \d+ elements; fold it when the model is exported",
    ),
    "many folds": (_many_folds, r"Add 'f\d+': the constants fold into far more than the file holds; fold them on export"),
    "wide channels": (_wide_channels, r"holds NaN or infinity"),
    "outer product": (_outer_product, r"Add 'outer': would fold into a constant of 25600000000 elements"),
    "endless range": (_range, r"Range 'range': would fold into a constant of 1099511627776 elements"),
    "bad reshape": (
        lambda m: _initializer(m, "shape").CopyFrom(numpy_helper.from_array(np.asarray([7, 7], np.int64), "shape")),
        r"Reshape 'view': cannot reshape \[1, 3, 4, 4\] to \[7, 7\]",
    ),
    "NaN": (
        lambda m: _initializer(m, "w").CopyFrom(numpy_helper.from_array(np.full((3, 2, 3, 3), np.nan, np.float32), "w")),
        r"w: holds NaN or infinity; repair the weights",
    ),
    "infinity": (
        lambda m: _initializer(m, "b").CopyFrom(numpy_helper.from_array(np.full(3, np.inf, np.float32), "b")),
        r"b: holds NaN or infinity",
    ),
    "no shape": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
        r"input 'x': its shape is unknown; give it: shapes={'x': \(...\)}",
    ),
    "unknown axis": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_param", "H"),
        r"input 'x': axis 2 \('H'\) has no extent in the file; give it: dims={'H': ...}",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_inconsistent_models(name: str, save: Save) -> None:
    edit, message = CASES[name]
    model = _valid()
    edit(model)
    path = save(model)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidModelError, match=message) as refusal:
            load_model(path)
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()
    assert str(refusal.value).startswith(str(path))


def test_names_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for name in (b"softmax", b"Softmax", b"\x01w", b"\x01b", b"\x01x", b"\x01y", b"strides"):
        path.write_bytes(BYTES.replace(name, name[:-1] + b"\xff"))
        with pytest.raises(InvalidModelError, match="a name in it is not UTF-8 text; export the model again"):
            load_model(path)


def test_control_characters_in_names_stay_out_of_messages(save: Save) -> None:
    model = _valid()
    model.graph.node[1].name = "re\nlu\x1b[31m"
    model.graph.node[1].op_type = "Ce\nlu"
    with pytest.raises(UnsupportedError) as refusal:
        load_model(save(model))
    assert str(refusal.value).isprintable()
    model.graph.node[1].op_type = "Relu"
    model.graph.node[1].input[0] = "go\nne"
    with pytest.raises(InvalidModelError, match="which nothing produces") as broken:
        load_model(save(model))
    assert str(broken.value).isprintable()


def test_deep_nesting(tmp_path: Path) -> None:
    def field(number: int, payload: bytes) -> bytes:
        size, length = len(payload), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + payload

    nested = b""
    for _ in range(2000):  # a graph (7) of a node (1) of an attribute (5) of a graph (6)
        nested = field(1, field(5, field(6, nested)))
    path = tmp_path / "model.onnx"
    path.write_bytes(BYTES + field(7, nested))
    with pytest.raises(InvalidModelError, match="not an ONNX file, or damaged"):
        load_model(path)


@pytest.mark.parametrize("keep", [1, 10, len(BYTES) // 2, len(BYTES) - 1])
def test_truncated(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(BYTES[:keep])
    with pytest.raises(InvalidModelError, match=r"model.onnx: not an ONNX file, or damaged; export the model again"):
        load_model(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InvalidModelError, match=r"folder.onnx: is a folder, not a file; give the path of an .onnx file"):
        load_model(tmp_path / "folder.onnx")
    with pytest.raises(InvalidModelError, match=r"absent.onnx: no such file"):
        load_model(tmp_path / "absent.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InvalidModelError, match=r"pipe.onnx: is not a regular file"):
        load_model(tmp_path / "pipe.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(InvalidModelError, match=r"empty.onnx: does not say which operator set it uses"):
        load_model(tmp_path / "empty.onnx")


def _external(location: str, **entries: str) -> onnx.ModelProto:
    model = _valid()
    tensor = _initializer(model, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def test_external_data_is_read_from_beside_the_model(save: Save, tmp_path: Path) -> None:
    raw = _initializer(_valid(), "w").raw_data
    (tmp_path / "weights.bin").write_bytes(b"head" + raw)
    graph = load_model(save(_external("weights.bin", offset="4", length=str(len(raw)))))
    np.testing.assert_array_equal(graph.constants["w"], numpy_helper.to_array(_initializer(_valid(), "w")))


def test_external_data_elsewhere_is_refused(save: Save, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside.bin"
    outside.write_bytes(_initializer(_valid(), "w").raw_data)
    (tmp_path / "link.bin").symlink_to(outside)
    (tmp_path / "loop.bin").symlink_to(tmp_path / "loop.bin")
    for location in (str(outside), "../outside.bin", "link.bin", "loop.bin", "absent.bin", ".", "nul\0.bin", "", "x" * 5000):
        with pytest.raises(InvalidModelError, match=r"tensor 'w': its external data '.*' cannot be read from the model's folder"):
            load_model(save(_external(location)))


@pytest.mark.parametrize(
    "entries", [{"offset": "8"}, {"offset": "-4"}, {"length": "4"}, {"offset": str(1 << 70)}, {"length": str(1 << 62)}]
)
def test_external_data_of_another_size_is_refused(entries: dict[str, str], save: Save, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(_initializer(_valid(), "w").raw_data)
    with pytest.raises(
        InvalidModelError, match=r"tensor 'w': takes 216 bytes at .*, the file says .* and 'weights.bin' holds 216"
    ):
        load_model(save(_external("weights.bin", **entries)))


def test_everything_unsupported_is_listed_at_once(save: Save) -> None:
    model = _valid()
    model.graph.node[1].op_type = "Celu"
    model.graph.node[4].op_type = "LpNormalization"
    model.graph.node[4].domain = "com.example"
    _attribute(model, 3, fastGelu=1)
    model.graph.node.insert(0, helper.make_node("Mod", ["x", "x"], ["xx"], name="rest"))
    model.graph.node[1].input[0] = "xx"
    model.graph.node.append(helper.make_node("Nonsense", ["y"], ["unread"], name="dead end"))
    with pytest.raises(UnsupportedError) as refusal:
        load_model(save(model))
    found = {entry.name: (entry.op_type, entry.why) for entry in refusal.value.unsupported}
    assert found == {
        "rest": ("Mod", "no such operator here"),
        "relu": ("Celu", "no such operator here"),
        "softmax": ("LpNormalization", "is of the domain 'com.example'"),
    }
    text = str(refusal.value)
    assert "3 operations are not supported: 'rest' (Mod: no such operator here), 'relu' (Celu: " in text
    assert text.endswith("replace them in the model and export it again")


# One node over x of shape [2, 3, 4] and constants; what a person reads.
NODES: dict[str, tuple[str, list[str], dict[str, Any], str]] = {
    "index beyond the end": ("Gather", ["x", "nine"], {"axis": 1}, r"Gather 'node': reads index 9 of an axis of 3"),
    "index before the front": ("Gather", ["x", "minus"], {"axis": 1}, r"Gather 'node': reads index -4 of an axis of 3"),
    "indices that are reals": ("Gather", ["x", "half"], {}, r"Gather 'node': its indices are no integers"),
    "axis of a gather": ("Gather", ["x", "nine"], {"axis": 3}, r"Gather 'node': axis 3 of a tensor with 3 axes"),
    "step of 0": ("Slice", ["x", "zero", "nine", "one", "zero"], {}, r"Slice 'node': a step of 0"),
    "empty slice": ("Slice", ["x", "nine", "nine", "one"], {}, r"Slice 'node': takes no element of axis 1 of \[2, 3, 4\]"),
    "backwards from the front": ("Slice", ["x", "zero", "one", "one", "minus"], {}, r"Slice 'node': takes no element of axis 1"),
    "slice of an axis twice": ("Slice", ["x", "zeros", "ones", "ones"], {}, r"Slice 'node': slices axis 1 twice"),
    "slice of lists that differ": (
        "Slice",
        ["x", "zero", "ones", "ones"],
        {},
        r"Slice 'node': its starts, ends, axes and steps differ",
    ),
    "slice by reals": ("Slice", ["x", "half", "one"], {}, r"Slice 'node': its starts are not a list of integers"),
    "slice of an axis beyond": ("Slice", ["x", "zero", "one", "nine"], {}, r"Slice 'node': axis 9 of a tensor with 3 axes"),
    "split that does not fit": ("Split", ["x", "ones"], {"axis": 1}, r"Split 'node': splits an axis of 3 into \[1, 1\]"),
    "split into nothing": ("Split", ["x", "nothing"], {"axis": 1}, r"Split 'node': splits an axis of 3 into \[0\]"),
    "expansion that does not fit": ("Expand", ["x", "nine"], {}, r"Expand 'node': cannot repeat \[2, 3, 4\] to \[9\]"),
    "expansion without end": (
        "Expand",
        ["x", "huge"],
        {},
        r"Expand 'node': gives a tensor of shape .* beyond 4294967296 elements",
    ),
    "product that does not fit": ("Mul", ["x", "pair"], {}, r"Mul 'node': cannot broadcast \[2, 3, 4\] with \[2\]"),
    "power that does not fit": ("Pow", ["x", "pair"], {}, r"Pow 'node': cannot broadcast \[2, 3, 4\] with \[2\]"),
    "comparison that does not fit": ("Less", ["x", "pair"], {}, r"Less 'node': cannot broadcast"),
    "comparison of kinds": ("Equal", ["x", "one"], {}, r"'node' \(Equal: mixes reals and integers\)"),
    "choice by reals": ("Where", ["x", "x", "x"], {}, r"Where 'node': a condition of float32, which must be bool"),
    "choice of kinds": ("Where", ["truth", "x", "one"], {}, r"'node' \(Where: mixes reals and integers\)"),
    "logic of reals": ("And", ["x", "truth"], {}, r"And 'node': reads what are no truth values"),
    "reduction of an axis beyond": ("ReduceSum", ["x", "nine"], {}, r"ReduceSum 'node': axis 9 of a tensor with 3 axes"),
    "reduction along an unknown axis": ("ReduceSum", ["x", "x"], {}, r"'node' \(ReduceSum: its axes are not a constant\)"),
    "scale that does not fit": (
        "LayerNormalization",
        ["x", "pair"],
        {},
        r"LayerNormalization 'node': a scale or shift \[2\] for the",
    ),
    "another type within": (
        *("LayerNormalization", ["x", "half"], {"stash_type": 10}),
        r"'node' \(LayerNormalization: does not normalise in float32\)",
    ),
    "unknown approximation": ("Gelu", ["x"], {"approximate": "magic"}, r"Gelu 'node': approximate is 'magic'"),
    "unknown attribute": ("Erf", ["x"], {"steps": 3}, r"'node' \(Erf: has the attribute 'steps'\)"),
    "cast to text": ("Cast", ["x"], {"to": 8}, r"'node' \(Cast: holds string values\)"),
    "bound that is no number": ("Max", ["x", "nan"], {}, r"Max 'node': a bound is not a number"),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes_that_do_not_fit(name: str, save: Save) -> None:
    operator, inputs, attributes, message = NODES[name]
    values = {
        **{"zero": [0], "one": [1], "nine": [9], "minus": [-4], "ones": [1, 1], "zeros": [0, 0], "huge": [1 << 40, 1, 1, 1]},
        "nothing": [0],
        **{name: np.asarray(value, np.float32) for name, value in (("half", [0.5]), ("pair", [1, 2]), ("nan", np.nan))},
        "truth": np.asarray([True]),
    }
    node = helper.make_node(operator, inputs, ["y"], name="node", **attributes)
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph([node], "net", [entry], [result], initializers)
    path = save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8))
    with pytest.raises(InvalidModelError, match=message) as refusal:
        load_model(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_an_attribute_that_no_one_knows_is_not_ignored(save: Save) -> None:
    model = _valid()
    _attribute(model, 0, mode="transposed")
    with pytest.raises(UnsupportedError, match=r"'conv' \(Conv: has the attribute 'mode'\)"):
        load_model(save(model))
