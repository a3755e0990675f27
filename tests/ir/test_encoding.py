"""Every operation and tensor survives JSON, and a graph survives its files."""

from __future__ import annotations

import dataclasses
import json
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import files
from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.ir import Graph, GraphBuilder, LoweredGraph, Op, Tensor, ops
from lepton_dse.ir.encoding import decode_op, decode_tensor, encode_op, encode_tensor
from lepton_dse.ir.serialize import graph_to_files, read_graph
from lepton_dse.numerics.formats import BFLOAT16, INT8, INT32, NumberFormat
from lepton_dse.numerics.quantize import QuantParams

names = st.text(min_size=1, max_size=8)
integers = st.integers(-(2**40), 2**40)
reals = st.floats(allow_nan=False)


def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an attribute by its annotation."""
    if hint == tuple[int, ...]:
        return st.lists(integers, max_size=4).map(tuple)
    if hint is ops.Window:
        return st.builds(ops.Window, *[st.lists(integers, max_size=3).map(tuple)] * 5)
    if hint is NumberFormat:
        return st.sampled_from(["int64", "bool", "float32"]).map(NumberFormat.parse)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    return {int: integers, float: reals, bool: st.booleans()}[hint]


def _attributes(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: _values(hints[field.name]) for field in dataclasses.fields(kind)})


@pytest.mark.parametrize("kind", ops.ATTRIBUTES.values(), ids=ops.ATTRIBUTES)
def test_every_kind_of_operation(kind: type) -> None:
    @settings(max_examples=30)
    @given(st.builds(Op, names, _attributes(kind), st.lists(names, max_size=3).map(tuple), names))
    def survives(op: Op) -> None:
        assert decode_op(json.loads(json.dumps(encode_op(op), allow_nan=False))) == op

    survives()


formats = st.sampled_from(["int8", "uint4", "int32", "bool", "fixed16.8", "ufixed8.8", "float32", "bfloat16", "float8_e4m3"])
quantisations = st.builds(
    QuantParams,
    st.lists(st.floats(2.0**-20, 2.0**20), min_size=1, max_size=4).map(tuple),
    st.integers(-200, 200),
    st.integers(0, 3),
)


@given(names, st.lists(st.integers(0, 9), max_size=4).map(tuple), formats.map(NumberFormat.parse), st.none() | quantisations)
def test_tensors(name: str, shape: tuple[int, ...], form: NumberFormat, quant: QuantParams | None) -> None:
    tensor = Tensor(name, shape, form, quant)
    assert decode_tensor(json.loads(json.dumps(encode_tensor(tensor)))) == tensor


def test_what_is_not_an_operation() -> None:
    good = encode_op(Op("op", ops.Clip(0.0, 6.0), ("x",), "y"))
    assert decode_op(good).attributes == ops.Clip(0.0, 6.0)
    for change, message in (
        ({"kind": "Magic"}, "op: unknown kind 'Magic'; known: Add, AddRequantize"),
        ({"attributes": {"low": 0.0}}, "a Clip 'op' must have exactly the fields high, low"),
        ({"attributes": {"low": 0.0, "high": "six"}}, "Clip 'op': high: expected float, found str"),
        ({"attributes": {"low": True, "high": 6.0}}, "Clip 'op': low: expected float, found bool"),
        ({"inputs": "x"}, "inputs: expected"),
        ({"inputs": [1]}, "inputs: expected str, found int"),
        ({"extra": 1}, "a operation must have exactly the fields"),
    ):
        with pytest.raises(InvalidModelError) as refusal:
            decode_op({**good, **change})
        assert message in str(refusal.value)
    with pytest.raises(InvalidModelError, match="x: a negative extent"):
        decode_tensor({"name": "x", "shape": [2, -1], "format": "int8"})


def _graph() -> Graph:
    builder = GraphBuilder("net")
    builder.input("x", (1, 3))
    builder.constant("w", np.arange(6, dtype=np.float32).reshape(3, 2))
    builder.constant("repeated", np.broadcast_to(np.float32(0.5), (2,)))
    builder.add(ops.MatMul(), ["x", "w", "repeated"], output="m")
    builder.add(ops.Clip(0.0, float("inf")), ["m"], output="y")
    return builder.build(["y"])


def _lowered() -> LoweredGraph:
    builder = GraphBuilder("net")
    builder.input("x", (1, 3))
    builder.constant("w", np.arange(6, dtype=np.int8).reshape(3, 2))
    builder.add(ops.Quantize(), ["x"], output="q", form=INT8, quant=QuantParams((0.25,), 3))
    builder.add(ops.MatMul(), ["q", "w"], output="acc", form=INT32)
    builder.add(ops.Dequantize(), ["acc"], output="never", form=BFLOAT16)
    return builder.build_lowered(["acc"])


@pytest.mark.parametrize("graph", [_graph(), _lowered()], ids=["graph", "lowered"])
def test_a_graph_survives_its_files(graph: Graph, tmp_path: Path) -> None:
    contents = graph_to_files(graph)
    files.write_folder(tmp_path / "g", contents)
    back = read_graph(tmp_path / "g")
    assert type(back) is type(graph)
    assert (back.name, back.digest) == (graph.name, graph.digest)
    assert graph_to_files(back) == contents


def test_a_damaged_graph_file(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    files.write_folder(folder, graph_to_files(_graph()))
    text = (folder / "graph.json").read_text()
    for damage, message in (
        (text[:-20], "not valid JSON"),
        ("[]", "a graph file has exactly the fields"),
        (text.replace('"schema_version": 1', '"schema_version": 9'), "schema version 9, this release reads 1"),
        (text.replace('"kind": "graph"', '"kind": "tree"'), "unknown kind of graph 'tree'"),
        (text.replace("constants.safetensors", "../constants.safetensors"), "leaves its folder"),
        (
            text.replace("constants.safetensors", "other.safetensors"),
            "the constants are missing or damaged; write the graph again",
        ),
        (text.replace('"MatMul"', '"Conv"'), "must have exactly the fields"),
    ):
        (folder / "graph.json").write_text(damage)
        with pytest.raises(LeptonError) as refusal:
            read_graph(folder)
        assert message in str(refusal.value)
    (folder / "graph.json").write_text(text)
    (folder / "constants.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(InvalidModelError, match="the constants are missing or damaged"):
        read_graph(folder)
