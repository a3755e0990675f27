"""Bounds of results in another order of sums: every such order lies inside, a wrong element does not, the unrecorded widens."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder, LoweredGraph
from lepton_dse.numerics.formats import FLOAT16, FLOAT32, INT8
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.reference import fast
from lepton_dse.reference.engine import steps
from lepton_dse.verify.intervals import Judged, judged

SHAPE, COLUMNS = (3, 40), 6
CHAINS: dict[str, list[ops.Attributes]] = {
    "clip": [ops.Clip(-2.0, math.inf)],
    "leaky": [ops.LeakyRelu(0.125)],
    "add": [ops.Add()],
    "multiply": [ops.Binary(ops.BinaryFunction.MULTIPLY)],
    "subtract": [ops.Binary(ops.BinaryFunction.SUBTRACT)],
    "maximum": [ops.Binary(ops.BinaryFunction.MAXIMUM)],
    "affine": [ops.Affine()],
    "sigmoid": [ops.Sigmoid()],
    "tanh": [ops.Tanh()],
    "gelu": [ops.Gelu()],
    "approximate gelu": [ops.Gelu(approximate=True)],
    "several": [ops.Affine(), ops.Gelu(), ops.Add(), ops.Binary(ops.BinaryFunction.MULTIPLY), ops.Tanh()],
    "quantized": [ops.Affine(), ops.Quantize()],
    "half": [ops.Sigmoid(), ops.Quantize()],
}


def network(chain: str, seed: int) -> LoweredGraph:
    """A product, whose sums no one sees, and what follows it."""
    rng = np.random.default_rng(seed)

    def real(*shape: int) -> np.ndarray:
        return rng.normal(0, 1, shape).astype(np.float32)

    builder = GraphBuilder("chain")
    builder.input("x", SHAPE)
    builder.constant("w", real(SHAPE[1], COLUMNS))
    builder.constant("bias", real(COLUMNS))
    last = builder.add(ops.MatMul(), ["x", "w", "bias"], output="sum")
    for index, attributes in enumerate(CHAINS[chain]):
        inputs = [last]
        if isinstance(attributes, ops.Affine):
            inputs += [builder.constant(f"{name}{index}", real(COLUMNS)) for name in ("scale", "shift")]
        elif isinstance(attributes, ops.Add | ops.Binary):
            inputs.append(builder.constant(f"other{index}", real(*SHAPE[:1], COLUMNS)))
        given = {}
        if isinstance(attributes, ops.Quantize):
            given = {"form": FLOAT16 if chain == "half" else INT8, "quant": QuantParams((1.0 if chain == "half" else 2.0**-4,))}
        last = builder.add(attributes, inputs, output=f"r{index}", **given)
    return builder.build_lowered([last])


def in_another_order(graph: LoweredGraph, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The last result when the product's sums are added one after another in a drawn order, each rounded to float32."""
    w, bias = graph.constants["w"], graph.constants["bias"]
    total = np.zeros((SHAPE[0], COLUMNS), np.float32)
    for k in rng.permutation(SHAPE[1]):
        total = (total + x[:, k, None] * w[k]).astype(np.float32)
    values: dict[str, np.ndarray] = {**graph.constants, "sum": (total + bias).astype(np.float32)}
    for op in graph.ops[1:]:
        tensors = [graph.tensors[name] for name in op.inputs]
        values[op.output] = np.asarray(fast.evaluate(op, [values[name] for name in op.inputs], graph.tensors[op.output], tensors))
    return values[graph.outputs[0]]


@settings(max_examples=60)
@given(chain=st.sampled_from(sorted(CHAINS)), seed=st.integers(0, 2**32 - 1))
def test_another_order_lies_inside(chain: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = network(chain, seed)
    x = rng.normal(0, 1, SHAPE).astype(np.float32)
    found = in_another_order(graph, x, rng)
    (result,) = judged(graph, {"x": x}, {graph.outputs[0]: found})
    assert result == Judged(graph.outputs[0], 0, "")


@pytest.mark.parametrize("chain", sorted(set(CHAINS) - {"clip", "maximum"}))
def test_one_wrong_element_is_outside(chain: str) -> None:
    graph = network(chain, 7)
    x = np.random.default_rng(7).normal(0, 1, SHAPE).astype(np.float32)
    found = in_another_order(graph, x, np.random.default_rng(8)).copy()
    found[1, 2] = -found[1, 2] + found.dtype.type(1)
    (result,) = judged(graph, {"x": x}, {graph.outputs[0]: found})
    assert result.wrong == 1
    assert result.first.startswith(f"element [1, 2] is {found[1, 2]}, expected ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_outside(value: float) -> None:
    graph = network("add", 3)
    x = np.random.default_rng(3).normal(0, 1, SHAPE).astype(np.float32)
    found = in_another_order(graph, x, np.random.default_rng(4)).copy()
    found[0, 0] = value
    (result,) = judged(graph, {"x": x}, {"r0": found})
    assert result.wrong == 1


def test_what_is_recorded_is_what_later_operations_read() -> None:
    """A wrong sum is told once, where it is; what follows from it is right."""
    graph = network("several", 5)
    x = np.random.default_rng(5).normal(0, 1, SHAPE).astype(np.float32)
    values = {name: np.array(value) for name, value in steps(graph, {"x": x}, fast.evaluate) if name != "x"}
    values["sum"][0, 0] += np.float32(0.5)
    for op in graph.ops[1:]:
        tensors = [graph.tensors[name] for name in op.inputs]
        inputs = [values.get(name, graph.constants.get(name)) for name in op.inputs]
        values[op.output] = np.array(fast.evaluate(op, inputs, graph.tensors[op.output], tensors))
    results = list(judged(graph, {"x": x}, values))
    assert [result.tensor for result in results] == [op.output for op in graph.ops]
    assert [result.wrong for result in results] == [1, 0, 0, 0, 0, 0]


def test_integers_must_be_equal() -> None:
    builder = GraphBuilder("g")
    builder.input("x", (2, 3), INT8)
    builder.constant("w", np.asarray([[1, 2], [3, 4], [5, 6]], np.int8))
    graph = builder.build_lowered([builder.add(ops.MatMul(), ["x", "w"], output="y", form=INT8)])
    x = np.asarray([[1, 2, 3], [-1, 0, 1]], np.int8)
    right = (x.astype(np.int32) @ np.asarray([[1, 2], [3, 4], [5, 6]])).astype(np.int8)
    assert [result.wrong for result in judged(graph, {"x": x}, {"y": right})] == [0]
    assert [result.wrong for result in judged(graph, {"x": x}, {"y": right + np.int8(1)})] == [4]


def test_a_rounded_result_lies_between_those_of_both_ends() -> None:
    """Of a sum near a tie either neighbour is right; two away is not."""
    builder = GraphBuilder("g")
    builder.input("x", (1, 2))
    builder.constant("w", np.asarray([[1.0], [1.0]], np.float32))
    builder.add(ops.MatMul(), ["x", "w"], output="sum")
    graph = builder.build_lowered([builder.add(ops.Quantize(), ["sum"], output="y", form=INT8, quant=QuantParams((1.0,)))])
    x = np.asarray([[1.0, 1.5]], np.float32)  # 2.5: a tie
    assert [next(judged(graph, {"x": x}, {"y": np.asarray([[value]], np.int8)})).wrong for value in range(5)] == [1, 1, 0, 0, 1]
    x = np.asarray([[1.0, 1.25]], np.float32)
    assert [next(judged(graph, {"x": x}, {"y": np.asarray([[value]], np.int8)})).wrong for value in range(5)] == [1, 1, 0, 1, 1]


@pytest.mark.parametrize("function", [ops.UnaryFunction.ABSOLUTE, ops.BinaryFunction.POWER])
def test_a_function_that_turns_at_zero(function: ops.UnaryFunction | ops.BinaryFunction) -> None:
    """A sum that cancels: any order may give a little more or less than zero, or zero."""
    builder = GraphBuilder("g")
    builder.input("x", (1, 3))
    builder.constant("w", np.ones((3, 1), np.float32))
    builder.add(ops.MatMul(), ["x", "w"], output="sum")
    if isinstance(function, ops.BinaryFunction):
        builder.add(ops.Binary(function), ["sum", builder.constant("two", np.asarray([2.0], np.float32))], output="y")
    else:
        builder.add(ops.Unary(function), ["sum"], output="y")
    graph = builder.build_lowered(["y"])
    x = np.asarray([[1e5, -1e5, 2.0**-20]], np.float32)
    (small,) = judged(graph, {"x": x}, {"y": np.asarray([[0.0]], np.float32)})
    assert small.wrong == 0
    (large,) = judged(graph, {"x": x}, {"y": np.asarray([[1.0]], np.float32)})
    assert large.wrong == 1


def test_results_that_nobody_recorded_are_not_judged() -> None:
    graph = network("several", 1)
    assert list(judged(graph, {"x": np.zeros(SHAPE, np.float32)}, {})) == []
    assert str(graph.tensors["sum"].format) == str(FLOAT32)
