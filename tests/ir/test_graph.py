"""What always holds of a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import Graph, GraphBuilder, Op, Tensor, ops
from lepton_dse.numerics.formats import FLOAT32, INT8, INT32
from lepton_dse.numerics.quantize import QuantParams

RELU = ops.Clip(0.0, float("inf"))


def _diamond(weights: np.ndarray[Any, Any] | None = None, name: str = "net") -> Graph:
    builder = GraphBuilder(name)
    builder.input("x", (2, 4))
    builder.constant("w", np.eye(4, dtype=np.float32) if weights is None else weights)
    builder.add(ops.MatMul(), ["x", "w"], output="m")
    builder.add(ops.Tanh(), ["m"], output="left")
    builder.add(RELU, ["m"], output="right")
    builder.add(ops.Add(), ["left", "right"], output="y")
    return builder.build(["y"])


def _raw(operations: list[Op], *, tensors: list[Tensor] | None = None, **changes: Any) -> Graph:
    names = {"x", *(op.output for op in operations)}
    arguments = {
        "tensors": tensors or [Tensor(name, (2,)) for name in sorted(names)],
        "operations": operations,
        "inputs": ["x"],
        "outputs": [operations[-1].output],
        "constants": {},
    }
    return Graph("net", **{**arguments, **changes})


def test_what_it_is_made_of() -> None:
    graph = _diamond()
    assert [op.output for op in graph.ops] == ["m", "left", "right", "y"]
    assert [op.name for op in graph.consumers("m")] == ["left", "right"]
    assert graph.producer("m") is graph.op("m")
    assert graph.producer("x") is None
    assert graph.macs == 2 * 4 * 4
    assert graph.parameters == 16
    assert graph.batch == 2
    assert set(graph.networkx.edges) == {("m", "left"), ("m", "right"), ("left", "y"), ("right", "y")}
    with pytest.raises(InvalidModelError, match="nothing: no such operation"):
        graph.op("nothing")


def test_nothing_in_it_can_be_changed() -> None:
    graph = _diamond()
    with pytest.raises(ValueError, match="read-only"):
        graph.constants["w"][0, 0] = 1
    with pytest.raises(TypeError):
        graph.tensors["new"] = Tensor("new", ())  # type: ignore[index]
    with pytest.raises(nx.NetworkXError):
        graph.networkx.add_node("new")


def test_a_cycle_is_refused() -> None:
    with pytest.raises(InvalidModelError, match="the graph has a cycle; a network must be acyclic"):
        _raw([Op("a", ops.Add(), ("x", "b"), "a"), Op("b", RELU, ("a",), "b")])


def test_two_producers_are_refused() -> None:
    for output in ("a", "x"):
        with pytest.raises(InvalidModelError, match=f"{output}: two producers for one tensor"):
            _raw([Op("a", RELU, ("x",), "a"), Op("b", RELU, ("x",), output)])


def test_names_are_unique() -> None:
    with pytest.raises(InvalidModelError, match="a: two operations share this name"):
        _raw([Op("a", RELU, ("x",), "a"), Op("a", RELU, ("x",), "b")])
    with pytest.raises(InvalidModelError, match="x: two tensors share this name"):
        _raw([Op("a", RELU, ("x",), "a")], tensors=[Tensor("x", (2,)), Tensor("x", (2,)), Tensor("a", (2,))])


def test_unknown_tensors_are_refused() -> None:
    relu = Op("a", RELU, ("x",), "a")
    with pytest.raises(InvalidModelError, match="Clip 'a': reads 'z', which nothing produces"):
        _raw([replace(relu, inputs=("z",))])
    with pytest.raises(InvalidModelError, match="z: the tensor is named but not described"):
        _raw([relu], outputs=["z"])
    with pytest.raises(InvalidModelError, match="z: no operation produces this output"):
        _raw([relu], tensors=[Tensor(name, (2,)) for name in "xaz"], outputs=["z"])
    with pytest.raises(InvalidModelError, match="net: a graph needs an input and an output"):
        _raw([relu], outputs=[])


def test_shapes_must_follow() -> None:
    with pytest.raises(InvalidModelError, match=r"Clip 'a': gives \[2\] where the graph says \[3\]"):
        _raw([Op("a", RELU, ("x",), "a")], tensors=[Tensor("x", (2,)), Tensor("a", (3,))])


def test_constants_must_fit_and_be_finite() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(InvalidModelError, match="w: holds NaN or infinity; repair the weights"):
            _diamond(np.full((4, 4), value, np.float32))
        with pytest.raises(InvalidModelError, match="w: holds NaN or infinity"):
            _diamond(np.broadcast_to(np.float32(value), (4, 4)))
    with pytest.raises(InvalidModelError, match=r"a: a value of shape \[3\] for \[2\]"):
        _raw(
            [Op("b", RELU, ("a",), "b")], tensors=[Tensor(name, (2,)) for name in "xab"], constants={"a": np.zeros(3, np.float32)}
        )


def test_order_is_topological_with_ties_by_insertion() -> None:
    late = Op("late", RELU, ("early",), "late")
    ties = [Op(name, RELU, ("x",), name) for name in ("c", "a", "b")]
    early = Op("early", RELU, ("x",), "early")
    assert [op.name for op in _raw([late, *ties, early]).ops] == ["c", "a", "b", "early", "late"]


def test_digest_ignores_the_name_and_repeats() -> None:
    assert _diamond().digest == _diamond(name="other").digest
    # Written out, so that it stays the same over processes and releases: plans and bundles refer to it.
    assert _diamond().digest == "db098b5308380acfa9f657c6d6e73c10c1c87e860c9856c5e3769d560c93681e"
    assert _diamond(np.zeros((4, 4), np.float32)).digest == _diamond(np.broadcast_to(np.float32(0), (4, 4))).digest


def _variants() -> dict[str, Graph]:
    def built(**changes: Any) -> Graph:
        builder = GraphBuilder("net")
        builder.input("x", (2, 4), FLOAT32, changes.get("quant"))
        builder.constant("w", changes.get("w", np.eye(4, dtype=np.float32)))
        builder.add(ops.MatMul(), ["x", "w"], output="m", name=changes.get("op", "m"), form=changes.get("form"))
        builder.add(changes.get("activation", RELU), ["m"], output="y")
        return builder.build(changes.get("outputs", ["y"]))

    flipped = np.eye(4, dtype=np.float32)
    flipped[3, 3] = np.nextafter(np.float32(1), np.float32(2))
    return {
        "base": built(),
        "one bit of a weight": built(w=flipped),
        "an attribute": built(activation=ops.Clip(0.0, 6.0)),
        "a kind": built(activation=ops.Tanh()),
        "a format": built(form=INT32),
        "an operation's name": built(op="n"),
        "quantisation": built(quant=QuantParams((0.5,))),
        "outputs": built(outputs=["y", "m"]),
        "a constant's type": built(w=np.eye(4, dtype=np.float64)),
    }


def test_digest_changes_with_everything_that_matters() -> None:
    digests = {what: graph.digest for what, graph in _variants().items()}
    assert len(set(digests.values())) == len(digests), digests


def test_with_batch() -> None:
    graph = _diamond()
    five = graph.with_batch(5)
    assert {five.tensors[name].shape for name in ("x", "m", "left", "right", "y")} == {(5, 4)}
    assert five.constants["w"].shape == (4, 4)
    assert five.macs == graph.macs // 2 * 5
    assert graph.with_batch(2) is graph
    assert five.with_batch(2).digest == graph.digest


@pytest.mark.parametrize(
    "attributes",
    [
        ops.Transpose((1, 0)),
        ops.Reshape((8,)),
        ops.Concat(0),
        ops.Softmax((0, 1)),
        ops.ArgMax(0, True),
        ops.Pad((1, 0), (0, 0)),
    ],
)
def test_with_batch_refuses_to_mix_samples(attributes: ops.Attributes) -> None:
    builder = GraphBuilder("net")
    builder.input("x", (2, 4))
    builder.add(attributes, ["x"], output="y")
    with pytest.raises(InvalidModelError, match="'y': mixes samples of a batch; run it with batch 2"):
        builder.build(["y"]).with_batch(3)


def test_with_batch_keeps_reshapes_of_single_samples() -> None:
    builder = GraphBuilder("net")
    builder.input("x", (1, 4, 3))
    builder.add(ops.Reshape((1, 12)), ["x"], output="y")
    assert builder.build(["y"]).with_batch(7).tensors["y"].shape == (7, 12)


def test_builder_refuses_what_a_graph_would() -> None:
    builder = GraphBuilder("net")
    builder.input("x", (2, 4))
    with pytest.raises(InvalidModelError, match="Clip 'y': reads 'z', which nothing has produced"):
        builder.add(RELU, ["z"], output="y")
    with pytest.raises(InvalidModelError, match="x: two producers for one tensor"):
        builder.add(RELU, ["x"], output="x")
    with pytest.raises(InvalidModelError, match=r"MatMul 'y': cannot multiply \[2, 4\] by \[2, 4\]"):
        builder.add(ops.MatMul(), ["x", "x"], output="y")
    assert builder.fresh("x") == "x_1"
    assert builder.fresh("new") == "new"


def test_builder_drops_what_nothing_reads_and_keeps_names_apart() -> None:
    builder = GraphBuilder("net")
    builder.input("x", (2, 4))
    builder.constant("unused", np.zeros(3, np.float32))
    builder.add(RELU, ["x"], output="dead")
    builder.add(RELU, ["x"], output="y", name="act")
    builder.add(RELU, ["y"], output="z", name="act")
    graph = builder.build(["z"])
    assert [op.name for op in graph.ops] == ["act", "act_1"]
    assert set(graph.tensors) == {"x", "y", "z"}


def _lowered(weights: np.ndarray[Any, Any], quant: QuantParams | None) -> GraphBuilder:
    builder = GraphBuilder("net")
    builder.input("x", (1, 2))
    builder.constant("w", weights, form=INT8)
    builder.add(ops.Quantize(), ["x"], output="q", form=INT8, quant=quant)
    builder.add(ops.MatMul(), ["q", "w"], output="acc", form=INT32)
    return builder


def test_a_lowered_graph_has_final_formats() -> None:
    good = np.asarray([[1, -128], [127, 0]], np.int8)
    graph = _lowered(good, QuantParams((0.5,))).build_lowered(["acc"])
    assert {name: str(tensor.format) for name, tensor in graph.tensors.items()} == {
        "x": "float32",
        "w": "int8",
        "q": "int8",
        "acc": "int32",
    }
    with pytest.raises(InvalidModelError, match="w: holds values outside int8"):
        _lowered(good.astype(np.int32) * 2, QuantParams((0.5,))).build_lowered(["acc"])
    with pytest.raises(InvalidModelError, match="w: holds values outside int8"):
        _lowered(good.astype(np.float32), QuantParams((0.5,))).build_lowered(["acc"])
    with pytest.raises(InvalidModelError, match="q: has no scale"):
        _lowered(good, None).build_lowered(["acc"])


def test_formats_follow_the_first_input() -> None:
    graph = _diamond()
    assert {tensor.format for tensor in graph.tensors.values()} == {FLOAT32}


@pytest.mark.parametrize(
    ("attributes", "shape", "others", "message"),
    [
        (ops.Slice((1, 0), (1, 3), (1, 1)), (2, 3), [], "mixes samples of a batch"),
        (ops.Slice((1, 0), (2, 3), (-1, 1)), (2, 3), [], "mixes samples of a batch"),
        (ops.Reduce(ops.ReduceFunction.SUM, (0,), True), (2, 3), [], "mixes samples of a batch"),
        (ops.LayerNorm((0, 1), 1e-5), (2, 3), [np.ones((2, 3), np.float32)] * 2, "mixes samples of a batch"),
        (ops.Expand((2, 2, 3)), (2, 3), [], "mixes samples of a batch"),
        (ops.Gather(0), (2, 3), [np.asarray([1, 0])], "picks among samples of a batch"),
        (ops.Slice((0, 1), (2, 2), (1, 1)), (2, 3), [], ""),
        (ops.Reduce(ops.ReduceFunction.SUM, (1,), True), (2, 3), [], ""),
        (ops.LayerNorm((1,), 1e-5), (2, 3), [np.ones(3, np.float32)] * 2, ""),
        (ops.Expand((2, 4)), (2, 1), [], ""),
        (ops.Gather(1), (2, 3), [np.asarray([[1, 0]])], ""),
    ],
)
def test_another_batch_or_a_reason(
    attributes: ops.Attributes, shape: tuple[int, ...], others: list[np.ndarray], message: str
) -> None:
    builder = GraphBuilder("net")
    operands = [builder.input("x", shape), *(builder.constant(f"c{place}", value) for place, value in enumerate(others))]
    graph = builder.build([builder.add(attributes, operands, output="y")])
    if message:
        with pytest.raises(InvalidModelError, match=message):
            graph.with_batch(5)
    else:
        before, after = graph.tensors["y"].shape, graph.with_batch(5).tensors["y"].shape
        assert (before[0], after) == (2, (5, *before[1:]))
