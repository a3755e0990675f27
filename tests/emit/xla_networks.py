"""Small networks of the kinds that people share among devices: perceptrons, convolutional ones, transformers."""

from __future__ import annotations

import numpy as np

from lepton_dse import flow
from lepton_dse.compress.quantize import noise
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder, LoweredGraph
from lepton_dse.ir.ops import BinaryFunction, Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import INT8, INT32, NumberFormat

INFINITE = float("inf")


def _weight(builder: GraphBuilder, name: str, *shape: int) -> str:
    value = np.random.default_rng([*name.encode(), *shape]).normal(size=shape) / np.sqrt(
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


def transformer(batch: int = 2, sequence: int = 8, heads: int = 4, width: int = 16, layers: int = 1) -> Graph:
    """Names of a network of several layers begin with the number of the layer."""
    builder = GraphBuilder("transformer")
    x = builder.input("x", (batch, sequence, width))
    for number in range(layers):
        x = _layer(builder, x, f"{number}." if layers > 1 else "", batch, sequence, heads, width)
    return builder.build([x])


def _layer(builder: GraphBuilder, x: str, stem: str, batch: int, sequence: int, heads: int, width: int) -> str:
    each = width // heads

    def made(attributes: ops.Attributes, operands: tuple[str, ...], output: str, name: str) -> str:
        return builder.add(attributes, operands, output=f"{stem}{output}", name=f"{stem}{name}")

    def dense(x: str, name: str, inputs: int, outputs: int) -> str:
        operands = (x, _weight(builder, f"{stem}{name}.w", inputs, outputs), _weight(builder, f"{stem}{name}.b", outputs))
        return made(ops.MatMul(), operands, name, f"{name} product")

    def norm(x: str, name: str) -> str:
        scale, shift = (
            builder.constant(f"{stem}{name}.{part}", np.full(width, value, np.float32))
            for part, value in (("s", 1.1), ("t", 0.1))
        )
        return made(ops.LayerNorm((2,), 1e-5), (x, scale, shift), name, f"{name} norm")

    normal = norm(x, "n0")
    parts = []
    for name in "qkv":
        shaped = made(
            ops.Reshape((batch, sequence, heads, each)), (dense(normal, name, width, width),), f"{name}4", f"{name} heads"
        )
        order = (0, 2, 3, 1) if name == "k" else (0, 2, 1, 3)
        parts.append(made(ops.Transpose(order), (shaped,), f"{name}t", f"{name} turned"))
    scores = made(ops.MatMul(), (parts[0], parts[1]), "scores", "scores product")
    scale = builder.constant(f"{stem}scale", np.full((), 1 / np.sqrt(each), np.float32))
    scores = made(ops.Binary(BinaryFunction.MULTIPLY), (scores, scale), "scaled", "scaling")
    shares = made(ops.Softmax((3,)), (scores,), "shares", "softmax")
    mixed = made(ops.MatMul(), (shares, parts[2]), "mixed", "mixing")
    mixed = made(ops.Transpose((0, 2, 1, 3)), (mixed,), "mixedt", "mixed turned")
    mixed = made(ops.Reshape((batch, sequence, width)), (mixed,), "mixed3", "joined heads")
    x = made(ops.Add(), (x, dense(mixed, "o", width, width)), "a0", "skip0")
    inner = made(ops.Gelu(), (dense(norm(x, "n1"), "up", width, 4 * width),), "g", "gelu")
    return made(ops.Add(), (x, dense(inner, "down", 4 * width, width)), "a1", "skip1")


def residual(batch: int = 2, blocks: int = 5) -> Graph:
    """Blocks of two convolutions beside a sum; their names begin with the number of the block."""
    builder, window = GraphBuilder("residual"), ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    x = builder.input("x", (batch, 4, 16, 8))
    for number in range(blocks):
        y = x
        for place in range(2):
            stem = f"{number}.{place}"
            operands = (y, _weight(builder, f"{stem}.k", 4, 4, 3, 3), _weight(builder, f"{stem}.b", 4))
            y = builder.add(ops.Conv(window), operands, output=f"{stem}.c", name=f"{stem}.conv")
            y = builder.add(ops.Clip(0.0, INFINITE), (y,), output=f"{stem}.r", name=f"{stem}.relu")
        x = builder.add(ops.Add(), (x, y), output=f"{number}.sum", name=f"{number}.skip")
    return builder.build([x])


def integers(batch: int = 8, layers: int = 8) -> LoweredGraph:
    """Products of eight bits whose rounding is the same in all layers; weights, multipliers and tables are each layer's own."""
    tensors, made, constants = [Tensor("x", (batch, 16), INT8)], [], {}
    for number in range(layers):
        generator = np.random.default_rng(number)
        before = f"{number - 1}.y" if number else "x"
        values = {
            "w": (INT8, generator.integers(-127, 127, (16, 16))),
            "b": (INT32, generator.integers(-999, 999, 16)),
            "m": (NumberFormat.parse("uint17"), generator.integers(1, 2000, 16)),
            "t": (INT8, generator.permutation(256) - 128),
        }
        for name, (form, value) in values.items():
            tensors.append(Tensor(f"{number}.{name}", value.shape, form))
            constants[f"{number}.{name}"] = value.astype(form.numpy)
        forms = {"a": INT32, "q": INT8, "y": INT8}
        tensors += [Tensor(f"{number}.{name}", (batch, 16), form) for name, form in forms.items()]
        w, b, m, t, a, q, y = (f"{number}.{name}" for name in "wbmtaqy")
        made.append(Op(f"{number}.product", ops.MatMul(), (before, w, b), a))
        made.append(Op(f"{number}.requantize", ops.Requantize(18, 3, -128, 127), (a, m), q))
        made.append(Op(f"{number}.lookup", ops.Lookup(-128), (q, t), y))
    return LoweredGraph("integers", tensors, made, ["x"], [f"{layers - 1}.y"], constants)


def lowered(graph: Graph, form: str = "int8") -> LoweredGraph:
    """Quantised on noise and lowered, at the batch of the graph."""
    found = lower_bundle(flow.quantize(graph, form, noise(graph, 1, 8))).with_batch(graph.batch)
    assert isinstance(found, LoweredGraph)
    return found
