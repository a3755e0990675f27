"""Small float networks for tests of compression: a chain, and a residual one with a depthwise convolution."""

from __future__ import annotations

import numpy as np

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder

RELU = ops.Clip(0.0, float("inf"))


def window(size: int, pad: int = 0, stride: int = 1) -> ops.Window:
    return ops.Window((size, size), (stride, stride), (1, 1), (pad, pad), (pad, pad))


def chain(seed: int = 0, *, spread: float = 1.0, relu6: bool = False) -> Graph:
    """conv 3x3 -> relu -> depthwise 3x3 -> relu -> pool -> conv 1x1 -> relu -> flatten -> dense -> relu -> dense.

    `spread` is how far the channels' magnitudes lie apart, in natural logarithms.
    """
    rng = np.random.default_rng(seed)
    builder = GraphBuilder("chain")

    def uneven(shape: tuple[int, ...], axis: int) -> np.ndarray:
        size = [1] * len(shape)
        size[axis] = shape[axis]
        return (rng.normal(0, 0.5, shape) * np.exp(rng.normal(0, spread, size))).astype(np.float32)

    def layer(x: str, name: str, shape: tuple[int, ...], attributes: ops.Conv | ops.MatMul) -> str:
        axis = 0 if isinstance(attributes, ops.Conv) else 1
        bias = rng.normal(0, 0.2, shape[axis]).astype(np.float32)
        operands = [x, builder.constant(f"{name}.w", uneven(shape, axis)), builder.constant(f"{name}.b", bias)]
        return builder.add(attributes, operands, output=name)

    def active(x: str) -> str:
        return builder.add(ops.Clip(0.0, 6.0) if relu6 else RELU, [x], output=f"{x}.relu")

    x = builder.input("x", (1, 2, 6, 6))
    x = active(layer(x, "first", (8, 2, 3, 3), ops.Conv(window(3, 1))))
    x = active(layer(x, "depthwise", (8, 1, 3, 3), ops.Conv(window(3, 1), groups=8)))
    x = builder.add(ops.MaxPool(window(2, stride=2)), [x], output="pool")
    x = active(layer(x, "pointwise", (6, 8, 1, 1), ops.Conv(window(1))))
    x = builder.add(ops.Reshape((1, 54)), [x], output="flat")
    x = active(layer(x, "hidden", (54, 12), ops.MatMul()))
    return builder.build([layer(x, "scores", (12, 5), ops.MatMul())])


def samples(count: int = 64, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 2, 6, 6)).astype(np.float32)
