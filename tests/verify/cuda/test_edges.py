"""Kinds of graphs that few networks have: every one a branch of one program, checked like any other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import BOOL, FLOAT16, FLOAT32, FLOAT64, INT8, INT32, INT64, NumberFormat
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.schedule.gpu import gpu_program

sys.path.insert(0, str(Path(__file__).parent))
from cuda_programs import ORDERS, Built, check, check_compiled, window

HALF = QuantParams((0.5,), 3)


class Branch:
    """One branch of a builder: names of its own, and outputs."""

    def __init__(self, builder: GraphBuilder, name: str, outputs: list[str]) -> None:
        self.builder, self.name, self.outputs, self.rng = builder, name, outputs, np.random.default_rng(len(outputs))

    def input(self, shape: tuple[int, ...], form: NumberFormat = FLOAT32, quant: QuantParams | None = None) -> str:
        return self.builder.input(self.builder.fresh(f"{self.name}.x"), shape, form, quant)

    def constant(self, values: Any, form: NumberFormat | None = None, quant: QuantParams | None = None) -> str:
        return self.builder.constant(self.builder.fresh(f"{self.name}.c"), np.asarray(values), form, quant)

    def normal(self, *shape: int) -> str:
        return self.constant(self.rng.normal(0, 1, shape).astype(np.float32))

    def add(self, attributes: ops.Attributes, *inputs: str, **given: Any) -> str:
        return self.builder.add(attributes, inputs, output=self.builder.fresh(f"{self.name}.y"), **given)

    def out(self, *names: str) -> None:
        self.outputs.extend(names)


def fixed(b: Branch) -> None:
    """An output that is a constant, and one that is an input."""
    x = b.input((1, 4))
    b.out(b.add(ops.Clip(0.0, 1.0), x), b.normal(1, 3), x)


def views(b: Branch) -> None:
    x = b.input((1, 3, 4, 4))
    b.out(b.add(ops.Reshape((12, 4)), x))
    pooled = b.add(ops.MaxPool(window((2, 2))), x)
    viewed = b.add(ops.Reshape((3, 9)), pooled)
    b.out(pooled, viewed, b.add(ops.Transpose((1, 0)), viewed))


def stored_numbers(b: Branch) -> None:
    """Reals that are an output, alone and seen otherwise."""
    real = b.add(ops.Dequantize(), b.input((1, 4), INT8, HALF), form=FLOAT32)
    viewed = b.add(ops.Reshape((2, 2)), real)
    b.out(real, b.add(ops.Sigmoid(), viewed))
    other = b.add(ops.Dequantize(), b.input((1, 4), INT8, HALF), form=FLOAT32)
    b.out(b.add(ops.Reshape((2, 2)), other))


def scalars(b: Branch) -> None:
    x = b.input((2, 3))
    total = b.add(ops.Reduce(ops.ReduceFunction.SUM, (0, 1), False), x)
    b.out(total, b.add(ops.Add(), x, total), b.add(ops.Reshape((1,)), total))


def twice(b: Branch) -> None:
    """One tensor as both operands."""
    x = b.input((4, 4))
    y = b.add(ops.MatMul(), x, x)
    b.out(b.add(ops.Add(), b.add(ops.Add(), y, y), x))


def one_constant_two_ways(b: Branch) -> None:
    x, w = b.input((4, 8)), b.normal(8, 8)
    turned = b.add(ops.Transpose((1, 0)), w)
    b.out(b.add(ops.MatMul(), b.add(ops.MatMul(), x, w), turned), b.add(ops.Add(), w, turned))


def volumes(b: Branch) -> None:
    x = b.input((1, 2, 3, 4, 3))
    b.out(b.add(ops.Clip(0.0, 9.0), b.add(ops.Conv(window((2, 2, 2))), x, b.normal(3, 2, 2, 2, 2))))


def wide_integers(b: Branch) -> None:
    w = b.constant(b.rng.integers(-9, 9, (40, 8)).astype(np.int16))
    b.out(b.add(ops.MatMul(), b.input((3, 40), INT8), w, form=INT64))
    w = b.constant(b.rng.integers(-9, 9, (40, 8)).astype(np.int8))
    b.out(b.add(ops.MatMul(), b.input((3, 40), NumberFormat.parse("uint8")), w, form=INT32))


def odd_products(b: Branch) -> None:
    """Of vectors, and of batches that are broadcast against one another."""
    b.out(b.add(ops.MatMul(), b.input((16,)), b.normal(16, 8)), b.add(ops.MatMul(), b.input((16,)), b.normal(3, 16, 8)))
    b.out(b.add(ops.MatMul(), b.input((2, 1, 3, 16)), b.input((1, 5, 16, 8))))
    b.out(b.add(ops.MatMul(), b.input((3, 16)), b.input((2, 16, 8))))


def several_scales(b: Branch) -> None:
    quant = QuantParams((0.5, 0.5, 0.25), 0, 1)
    w = b.add(ops.Dequantize(), b.constant(b.rng.integers(-9, 9, (8, 3)).astype(np.int8), INT8, quant), form=FLOAT32)
    b.out(b.add(ops.MatMul(), b.input((4, 8)), w))


def scaled_halves(b: Branch) -> None:
    x = b.add(ops.Dequantize(), b.input((4, 8), FLOAT16, QuantParams((0.5,))), form=FLOAT32)
    w = b.constant(b.rng.normal(0, 1, (8, 6)).astype(np.float16), FLOAT16, QuantParams((1.0,)))
    b.out(b.add(ops.MatMul(), x, b.add(ops.Dequantize(), w, form=FLOAT32)))


def values_that_say_where(b: Branch) -> None:
    rows = b.add(ops.Gather(0), b.constant(np.arange(40, dtype=np.float32).reshape(20, 2)), b.input((4,), INT64))
    table = b.constant(np.arange(-128, 128).astype(np.int8)[::-1].copy())
    looked = b.add(ops.Lookup(-128), b.input((4,), INT8), table, form=INT8)
    b.out(b.add(ops.Clip(0.0, 12.0), rows), b.add(ops.Lookup(-128), looked, table, form=INT8))


def paddings(b: Branch) -> None:
    x = b.add(ops.MaxPool(window((1, 1))), b.input((1, 3, 4, 4)))
    x = b.add(ops.Pad((0, 0, 1, 1), (0, 0, 1, 1), ops.PadMode.REFLECT), x)
    x = b.add(ops.Pad((0, 0, -1, 2), (0, 0, 1, -3), ops.PadMode.EDGE), x)
    b.out(b.add(ops.Pad((0, 1, 0, 0), (0, 0, 0, 0), ops.PadMode.CONSTANT, 2.5), x))


def overhanging_means(b: Branch) -> None:
    given = window((3, 3), strides=(2, 2), pads_begin=(1, 1), pads_end=(2, 2))
    for counted in (True, False):
        b.out(b.add(ops.AveragePool(given, counted, (1, 1)), b.input((1, 3, 4, 4))))


def truths(b: Branch) -> None:
    x, given = b.input((2, 3)), b.input((2, 3), BOOL)
    truth = b.add(ops.Compare(ops.Relation.LESS), x, b.normal(3))
    either = b.add(ops.Binary(ops.BinaryFunction.MAXIMUM), truth, given)
    b.out(either, b.add(ops.Where(), either, x, b.normal(2, 1)), b.add(ops.Cast(INT64), either), b.add(ops.Cast(BOOL), x))


def whole_numbers(b: Branch) -> None:
    x, y = b.input((2, 3), INT32), b.input((3,), INT32)
    for function in ("SUBTRACT", "MULTIPLY", "MINIMUM", "MAXIMUM"):
        b.out(b.add(ops.Binary(ops.BinaryFunction[function]), x, y))
    b.out(b.add(ops.Unary(ops.UnaryFunction.NEGATE), x))


def doubles(b: Branch) -> None:
    """A bound that float32 does not hold."""
    wide = b.add(ops.Cast(FLOAT64), b.input((2, 3)))
    b.out(b.add(ops.Clip(-0.1, 0.3), wide))


def functions(b: Branch) -> None:
    """Of elements, behind a product whose sums no one sees."""
    x = b.add(ops.MatMul(), b.input((3, 9)), b.normal(9, 5))
    for function in (ops.UnaryFunction.ABSOLUTE, ops.UnaryFunction.SQUARE_ROOT, ops.UnaryFunction.EXPONENTIAL):
        x = b.add(ops.Unary(function), x)
    b.out(b.add(ops.Unary(ops.UnaryFunction.LOGARITHM), x))
    x = b.add(ops.Unary(ops.UnaryFunction.ERROR_FUNCTION), b.input((3, 9)))
    x = b.add(
        ops.Binary(ops.BinaryFunction.POWER), b.add(ops.Unary(ops.UnaryFunction.ABSOLUTE), x), b.constant(np.float32([1.5]))
    )
    x = b.add(ops.Binary(ops.BinaryFunction.DIVIDE), x, b.constant(np.float32([3.0])))
    b.out(b.add(ops.Unary(ops.UnaryFunction.RECIPROCAL), b.add(ops.Add(), x, b.constant(np.float32([1.0])))))


BRANCHES: list[Callable[[Branch], None]] = [
    fixed,
    views,
    stored_numbers,
    scalars,
    twice,
    one_constant_two_ways,
    volumes,
    wide_integers,
    odd_products,
    several_scales,
    scaled_halves,
    values_that_say_where,
    paddings,
    overhanging_means,
    truths,
    whole_numbers,
    doubles,
    functions,
]


@pytest.mark.slow
def test_every_branch(tmp_path: Path, cxx: str, nvrtc: None) -> None:
    builder = GraphBuilder("edges")
    outputs: list[str] = []
    for branch in BRANCHES:
        branch(Branch(builder, branch.__name__, outputs))
    graph = builder.build_lowered(outputs)
    rng = np.random.default_rng(0)
    feeds = {}
    for name in graph.inputs:
        tensor = graph.tensors[name]
        low = max(-5, int(tensor.format.minimum))
        values = rng.normal(0, 1, tensor.shape) if tensor.format.is_float else rng.integers(low, 2, tensor.shape)
        feeds[name] = np.asarray(values).astype(tensor.format.numpy)
    built = Built.build(gpu_program(graph, 8.0), feeds, tmp_path)
    for order in ORDERS:
        check(built, order)
    check_compiled(built, "sm_80")
