"""Networks that the benchmarks run: single int8 convolutions, and a chain of thirty layers."""

from __future__ import annotations

import numpy as np

from lepton_dse.bundle import Bundle, Scale
from lepton_dse.compress.groups import scale_groups
from lepton_dse.compress.quantize import weight_axis
from lepton_dse.compress.ranges import weight_params
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder, LoweredGraph
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.plan import CalibrationMethod

INT8 = Precision.parse("int8")


def convolution(channels: int, outputs: int, extent: int, kernel: int) -> LoweredGraph:
    """An int8 convolution that keeps its extent, with its Requantize; int8 in, int8 out."""
    rng = np.random.default_rng(0)
    int8, acc = NumberFormat(FormatKind.INT, 8), NumberFormat(FormatKind.INT, 32)
    pad = (kernel // 2,) * 2
    window = ops.Window((kernel, kernel), (1, 1), (1, 1), pad, pad)
    builder = GraphBuilder(f"conv{kernel}x{kernel}_{channels}_{outputs}_{extent}")
    builder.input("x", (1, channels, extent, extent), int8)
    weights = np.clip(np.rint(rng.normal(0, 40, (outputs, channels, kernel, kernel))), -127, 127).astype(np.int64)
    builder.constant("w", weights, int8)
    builder.constant("b", rng.integers(-5000, 5000, outputs), acc)
    builder.constant("m", rng.integers(1 << 15, 1 << 17, (1, outputs, 1, 1)), NumberFormat(FormatKind.INT, 17, False))
    builder.add(ops.Conv(window, 1, -3), ["x", "w", "b"], output="acc", form=acc)
    builder.add(ops.Requantize(28, 5, -128, 127), ["acc", "m"], output="y", form=int8)
    return builder.build_lowered(["y"])


def thirty_layers(extent: int = 64) -> Graph:
    """A float CNN of thirty layers in one chain: 22 convolutions of 16 to 256 channels, 5 pools, 3 dense layers."""
    rng = np.random.default_rng(1)
    builder = GraphBuilder("cnn30")
    flow = builder.input("x", (1, 3, extent, extent))
    channels, count = 3, 0
    for block, (width, depth) in enumerate(((16, 3), (32, 4), (64, 5), (128, 5), (256, 5))):
        for _ in range(depth):
            weights = rng.normal(0, (2 / (9 * channels)) ** 0.5, (width, channels, 3, 3)).astype(np.float32)
            w = builder.constant(f"w{count}", weights)
            b = builder.constant(f"b{count}", rng.normal(0, 0.05, width).astype(np.float32))
            window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
            flow = builder.add(ops.Conv(window), [flow, w, b], output=f"conv{count}")
            flow = builder.add(ops.Clip(0.0, float("inf")), [flow], output=f"relu{count}")
            channels, count = width, count + 1
        window = ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))
        flow = builder.add(ops.MaxPool(window), [flow], output=f"pool{block}")
    inputs = channels * (extent >> 5) ** 2
    flow = builder.add(ops.Reshape((1, inputs)), [flow], output="flat")
    for index, outputs in enumerate((256, 128, 10)):
        weights = rng.normal(0, (2 / inputs) ** 0.5, (inputs, outputs)).astype(np.float32)
        w = builder.constant(f"dense_w{index}", weights)
        b = builder.constant(f"dense_b{index}", rng.normal(0, 0.05, outputs).astype(np.float32))
        flow = builder.add(ops.MatMul(), [flow, w, b], output=f"dense{index}")
        if index < 2:
            flow = builder.add(ops.Clip(0.0, float("inf")), [flow], output=f"dense_relu{index}")
        inputs = outputs
    return builder.build([flow])


def quantized(graph: Graph) -> Bundle:
    """The int8 bundle of a graph whose activations are of order one, without looking at any data."""
    scales = {name: Scale(INT8.activations, QuantParams((0.03125,), -3)) for name in scale_groups(graph)}
    for op in graph.ops:
        axis = weight_axis(op)
        if axis is not None:
            weights = np.asarray(graph.constants[op.inputs[1]], np.float32)
            params = weight_params(weights, axis % weights.ndim, INT8.weights, CalibrationMethod.MINMAX)
            scales[op.inputs[1]] = Scale(INT8.weights, params)
    samples = np.random.default_rng(2).normal(0, 1, (2, *graph.tensors[graph.inputs[0]].shape[1:])).astype(np.float32)
    return Bundle(graph, scales, samples)


def lowered(graph: Graph) -> LoweredGraph:
    """The int8 lowered graph of :func:`quantized`."""
    return lower_bundle(quantized(graph))
