"""Small networks with every way in which channels can depend on one another."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.ir.semantics import run

RELU = ops.Clip(0.0, math.inf)
KINDS = [
    *("conv", "residual", "concat", "depthwise", "grouped", "shuffle", "affine", "activation"),
    *("pool", "pad", "shared", "lrn", "broadcast", "single", "softmax"),
    *("gate", "norm", "slice", "reduce", "function", "pole"),
]


class Net:
    """A graph under construction, weights drawn from a seeded generator."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        self.builder = GraphBuilder("net")
        self.x = self.builder.input("x", shape)
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def shape(self, name: str) -> tuple[int, ...]:
        return self.builder.tensors[name].shape

    def normal(self, *shape: int) -> str:
        self.count += 1
        return self.builder.constant(f"c{self.count}", self.rng.normal(0, 1, shape).astype(np.float32))

    def add(self, attributes: ops.Attributes, *inputs: str) -> str:
        self.count += 1
        return self.builder.add(attributes, inputs, output=f"{type(attributes).__name__}{self.count}")

    def conv(self, x: str, outputs: int, kernel: int = 1, groups: int = 1, *, bias: bool = True, name: str = "") -> str:
        rank, channels = len(self.shape(x)) - 2, self.shape(x)[1]
        ones, pads = (1,) * rank, (kernel // 2,) * rank
        window = ops.Window((kernel,) * rank, ones, ones, pads, pads)
        operands = [x, self.normal(outputs, channels // groups, *(kernel,) * rank), *([self.normal(outputs)] if bias else [])]
        self.count += 1
        return self.builder.add(ops.Conv(window, groups), operands, output=name or f"conv{self.count}")

    def dense(self, x: str, outputs: int, name: str = "") -> str:
        self.count += 1
        operands = [x, self.normal(self.shape(x)[-1], outputs), self.normal(outputs)]
        return self.builder.add(ops.MatMul(), operands, output=name or f"dense{self.count}")

    def relu(self, x: str) -> str:
        return self.add(RELU, x)

    def flat(self, x: str) -> str:
        return self.add(ops.Reshape((self.shape(x)[0], math.prod(self.shape(x)[1:]))), x)

    def pool(self, x: str, kernel: int = 2) -> str:
        rank = len(self.shape(x)) - 2
        ones, pads = (1,) * rank, (kernel // 2,) * rank
        return self.add(ops.AveragePool(ops.Window((kernel,) * rank, ones, ones, pads, pads), True), x)

    def shuffle(self, x: str, groups: int) -> str:
        batch, channels, *extent = self.shape(x)
        split = self.add(ops.Reshape((batch, groups, channels // groups, *extent)), x)
        turned = self.add(ops.Transpose((0, 2, 1, *range(3, 3 + len(extent)))), split)
        return self.add(ops.Reshape((batch, channels, *extent)), turned)

    def affine(self, x: str) -> str:
        channels = self.shape(x)[1]
        return self.add(ops.Affine(), x, self.normal(channels), self.normal(channels))

    def done(self, *outputs: str) -> Graph:
        return self.builder.build(list(outputs))


@st.composite
def nets(draw: st.DrawFn) -> Graph:
    """A trunk of blocks, each of one kind of dependency, and a head."""
    net = Net((draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 4])), 5, 4), draw(st.integers(0, 2**32 - 1)))
    x = net.conv(net.x, draw(st.sampled_from([4, 8, 12])), 3)
    for _ in range(draw(st.integers(0, 4))):
        x = _block(draw, net, x)
    match draw(st.sampled_from(["conv", "dense", "softmax", "tokens"])):
        case "conv":
            x = net.conv(x, 3)
        case "dense":
            x = net.dense(net.relu(net.dense(net.flat(x), draw(st.integers(1, 9)))), 4)
        case "softmax":
            x = net.add(ops.Softmax((1,)), net.dense(net.flat(x), 4))
        case _:
            batch, channels, *extent = net.shape(x)
            rows = net.add(ops.Reshape((batch, channels, math.prod(extent))), x)
            x = net.dense(net.relu(net.dense(net.add(ops.Transpose((0, 2, 1)), rows), draw(st.integers(1, 9)))), 3)
    return net.done(x)


def _block(draw: st.DrawFn, net: Net, x: str) -> str:
    channels, width = net.shape(x)[1], draw(st.sampled_from([4, 6, 8]))
    groups = draw(st.sampled_from([size for size in (1, 2, 3, 4) if channels % size == 0]))
    match draw(st.sampled_from(KINDS)):
        case "conv":
            return net.relu(net.conv(x, width, 3, bias=draw(st.booleans())))
        case "residual":
            return net.relu(net.add(ops.Add(), x, net.conv(net.relu(net.conv(x, width)), channels, 3)))
        case "concat":
            return net.add(ops.Concat(1), net.conv(x, width), x, net.conv(x, 4, 3))
        case "depthwise":
            return net.conv(x, channels * draw(st.integers(1, 2)), 3, channels)
        case "grouped":
            return net.conv(x, groups * draw(st.integers(1, 4)), 3, groups)
        case "shuffle":
            middle = net.relu(net.conv(x, groups * 4, 1, groups))
            return net.conv(net.conv(net.shuffle(middle, groups), groups * 4, 3, groups * 4), groups * 3, 1, groups)
        case "affine":
            return net.add(ops.Sigmoid(), net.affine(x))
        case "activation":
            return net.add(draw(st.sampled_from([ops.Tanh(), ops.Sigmoid(), ops.LeakyRelu(0.1), ops.Clip(0.5, 6.0)])), x)
        case "pool":
            return net.pool(x)
        case "pad":
            grown = draw(st.sampled_from([(0, 0, 1), (0, 2, 0), (0, -1, 1)]))
            mode = draw(st.sampled_from([ops.PadMode.CONSTANT, ops.PadMode.EDGE]))
            return net.add(ops.Pad((*grown, 0), (0, 1, 0, 1), mode, 0.0 if mode is ops.PadMode.EDGE else 0.7), x)
        case "shared":
            weights, bias = net.normal(channels, channels, 1, 1), net.normal(channels)
            window = ops.Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
            return net.add(ops.Conv(window), net.relu(net.add(ops.Conv(window), x, weights, bias)), weights, bias)
        case "lrn":
            return net.add(ops.LocalResponseNorm(3, 0.5, 0.75, 1.0), x)
        case "broadcast":
            return net.add(ops.Add(), net.add(ops.Add(), x, net.normal(channels, 1, 1)), net.conv(x, 1))
        case "gate":
            return net.add(ops.Binary(ops.BinaryFunction.MULTIPLY), x, net.add(ops.Sigmoid(), net.conv(x, channels)))
        case "norm":
            axes = draw(st.sampled_from([(1,), (3,), (2, 3)]))
            extents = [net.shape(x)[axis] for axis in axes]
            return net.add(ops.LayerNorm(axes, 1e-3), x, net.normal(*extents), net.normal(*extents))
        case "slice":
            axis, shape = draw(st.sampled_from([1, 2, 3])), list(net.shape(x))
            begin = [1 if place == axis and shape[place] > 1 else 0 for place in range(4)]
            extent = tuple(size - first for size, first in zip(shape, begin, strict=True))
            return net.add(ops.Slice(tuple(begin), extent, (1, 1, 1, 1)), x)
        case "reduce":
            axis = draw(st.sampled_from([1, 2, 3]))
            total = net.add(ops.Reduce(draw(st.sampled_from(ops.ReduceFunction)), (axis,), True), x)
            return net.add(ops.Binary(ops.BinaryFunction.SUBTRACT), x, total)
        case "function":
            bounded = net.add(ops.Tanh(), x)
            functions = [ops.UnaryFunction.EXPONENTIAL, ops.UnaryFunction.ABSOLUTE, ops.UnaryFunction.ERROR_FUNCTION]
            kinds = [ops.Gelu(), ops.Gelu(True), *(ops.Unary(function) for function in functions)]
            return net.add(draw(st.sampled_from(kinds)), bounded)
        case "pole":
            positive = net.add(ops.Clip(0.5, 2.0), net.conv(x, channels))
            return net.add(ops.Binary(ops.BinaryFunction.DIVIDE), x, net.add(ops.Unary(ops.UnaryFunction.RECIPROCAL), positive))
        case "single":
            return net.conv(net.conv(x, 1), width)
        case _:
            return net.add(ops.Softmax((1,)), x)


def outputs(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Outputs on normal samples."""
    rng = np.random.default_rng(seed)
    feeds = {name: rng.normal(0, 1, graph.tensors[name].shape).astype(np.float32) for name in graph.inputs}
    return [np.asarray(value, np.float64) for value in run(graph, feeds).values()]


def assert_close(first: Graph, second: Graph) -> None:
    """Outputs within 1e-4 of each other, relative to their scale."""
    for found, expected in zip(outputs(first), outputs(second), strict=True):
        assert np.abs(found - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-3)
