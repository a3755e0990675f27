"""Small networks of the kinds that people share among devices: a perceptron, a convolutional one, a transformer block."""

from __future__ import annotations

import numpy as np

from lepton_dse import flow
from lepton_dse.compress.quantize import noise
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder, LoweredGraph
from lepton_dse.ir.ops import BinaryFunction
from lepton_dse.lower import lower_bundle

INFINITE = float("inf")


def _weight(builder: GraphBuilder, name: str, *shape: int) -> str:
    value = np.random.default_rng([len(name), *shape]).normal(size=shape) / np.sqrt(
        shape[0] if len(shape) < 3 else np.prod(shape[1:])
    )
    return builder.constant(name, value.astype(np.float32))


def perceptron(batch: int = 8) -> Graph:
    builder = GraphBuilder("perceptron")
    builder.input("x", (batch, 16))
    last = "x"
    for number, (inputs, outputs) in enumerate(((16, 32), (32, 16), (16, 8))):
        operands = (last, _weight(builder, f"w{number}", inputs, outputs), _weight(builder, f"b{number}", outputs))
        last = builder.add(ops.MatMul(), operands, output=f"h{number}", name=f"dense{number}")
        if number < 2:
            last = builder.add(ops.Clip(0.0, INFINITE), (last,), output=f"r{number}", name=f"relu{number}")
    return builder.build([last])


def convolutional(batch: int = 8) -> Graph:
    builder = GraphBuilder("convolutional")
    builder.input("x", (batch, 2, 16, 8))
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    halved = ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))
    c = builder.add(
        ops.Conv(window), ("x", _weight(builder, "k0", 8, 2, 3, 3), _weight(builder, "kb0", 8)), output="c0", name="conv0"
    )
    c = builder.add(ops.Clip(0.0, INFINITE), (c,), output="cr0", name="relu0")
    p = builder.add(ops.MaxPool(halved), (c,), output="p0", name="pool0")
    c = builder.add(
        ops.Conv(window), (p, _weight(builder, "k1", 8, 8, 3, 3), _weight(builder, "kb1", 8)), output="c1", name="conv1"
    )
    c = builder.add(ops.Add(), (c, p), output="s1", name="skip")
    c = builder.add(ops.Clip(0.0, INFINITE), (c,), output="cr1", name="relu1")
    c = builder.add(ops.MaxPool(ops.Window((3, 3), (2, 2), (1, 1), (1, 1), (0, 0))), (c,), output="p1", name="pool1")
    c = builder.add(ops.AveragePool(ops.Window.full((4, 2))), (c,), output="mean", name="mean")
    c = builder.add(ops.Reshape((batch, 8)), (c,), output="flat", name="flatten")
    c = builder.add(ops.MatMul(), (c, _weight(builder, "w", 8, 8), _weight(builder, "b", 8)), output="y", name="dense")
    return builder.build([c])


def transformer(batch: int = 2, sequence: int = 8, heads: int = 4, width: int = 16) -> Graph:
    builder = GraphBuilder("transformer")
    builder.input("x", (batch, sequence, width))
    each = width // heads

    def dense(x: str, name: str, inputs: int, outputs: int) -> str:
        operands = (x, _weight(builder, f"{name}.w", inputs, outputs), _weight(builder, f"{name}.b", outputs))
        return builder.add(ops.MatMul(), operands, output=name, name=f"{name} product")

    def norm(x: str, name: str) -> str:
        scale, shift = (
            builder.constant(f"{name}.{part}", np.full(width, value, np.float32)) for part, value in (("s", 1.1), ("t", 0.1))
        )
        return builder.add(ops.LayerNorm((2,), 1e-5), (x, scale, shift), output=name, name=f"{name} norm")

    normal = norm("x", "n0")
    parts = []
    for name in "qkv":
        shaped = builder.add(
            ops.Reshape((batch, sequence, heads, each)),
            (dense(normal, name, width, width),),
            output=f"{name}4",
            name=f"{name} heads",
        )
        order = (0, 2, 3, 1) if name == "k" else (0, 2, 1, 3)
        parts.append(builder.add(ops.Transpose(order), (shaped,), output=f"{name}t", name=f"{name} turned"))
    scores = builder.add(ops.MatMul(), (parts[0], parts[1]), output="scores", name="scores product")
    scale = builder.constant("scale", np.full((), 1 / np.sqrt(each), np.float32))
    scores = builder.add(ops.Binary(BinaryFunction.MULTIPLY), (scores, scale), output="scaled", name="scaling")
    shares = builder.add(ops.Softmax((3,)), (scores,), output="shares", name="softmax")
    mixed = builder.add(ops.MatMul(), (shares, parts[2]), output="mixed", name="mixing")
    mixed = builder.add(ops.Transpose((0, 2, 1, 3)), (mixed,), output="mixedt", name="mixed turned")
    mixed = builder.add(ops.Reshape((batch, sequence, width)), (mixed,), output="mixed3", name="joined heads")
    x = builder.add(ops.Add(), ("x", dense(mixed, "o", width, width)), output="a0", name="skip0")
    inner = builder.add(ops.Gelu(), (dense(norm(x, "n1"), "up", width, 4 * width),), output="g", name="gelu")
    x = builder.add(ops.Add(), (x, dense(inner, "down", 4 * width, width)), output="a1", name="skip1")
    return builder.build([x])


def lowered(graph: Graph, form: str = "int8") -> LoweredGraph:
    """Quantised on noise and lowered, at the batch of the graph."""
    found = lower_bundle(flow.quantize(graph, form, noise(graph, 1, 8))).with_batch(graph.batch)
    assert isinstance(found, LoweredGraph)
    return found
