"""Random networks that exercise importers' results, lowering, emitters and simulators, small enough to simulate in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from lepton_dse import rtl_library as rtl
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.schedule.layers import Chain, MatrixLayer
from lepton_dse.schedule.stream import Folding

__all__ = ["StreamCase", "foldings", "graphs", "precisions", "stream_cases"]


@dataclass(frozen=True)
class StreamCase:
    """A network, the formats to quantise it to, and samples."""

    graph: Graph
    precision: Precision
    data: Dataset


def precisions(low: int = 2, high: int = 8) -> st.SearchStrategy[Precision]:
    """Integer formats with weights and activations of `low` to `high` bits each."""
    widths = st.integers(low, high).map(lambda bits: NumberFormat(FormatKind.INT, bits))
    return st.builds(Precision, widths, widths)


@st.composite
def graphs(draw: st.DrawFn, *, branches: bool = False) -> Graph:
    """A chain of convolutions, pools and clips behind which a flatten and dense layers may follow.

    Parameters
    ----------
    branches : bool
        Also residual additions and concatenations, which are no stream.
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    builder = GraphBuilder("drawn")
    channels, extent = draw(st.integers(1, 4)), (draw(st.integers(3, 8)), draw(st.integers(3, 8)))
    tensor = builder.input("x", (1, channels, *extent))
    for index in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["conv", "conv", "max", "average", "clip", *(["add", "concat"] if branches else [])]))
        tensor = _layer(draw, builder, tensor, kind, index, generator)
    if draw(st.booleans()) or not builder.tensors[tensor].shape[2:]:
        shape = builder.tensors[tensor].shape
        tensor = builder.add(ops.Reshape((1, int(np.prod(shape)))), [tensor], output="flat")
        for index in range(draw(st.integers(1, 2))):
            tensor = _dense(draw, builder, tensor, index, generator)
        if draw(st.booleans()):
            tensor = builder.add(ops.ArgMax(1, draw(st.booleans())), [tensor], output="class")
    if tensor == "x" or all(isinstance(op.attributes, ops.MaxPool | ops.Clip) for op in builder.build([tensor]).ops):
        tensor = _layer(draw, builder, tensor, "conv", 9, generator)
    return builder.build([tensor])


def _window(draw: st.DrawFn, extent: tuple[int, ...], *, pad: bool) -> ops.Window:
    kernel = tuple(draw(st.integers(1, min(3, size))) for size in extent)
    strides = tuple(draw(st.integers(1, 2)) for _ in extent)
    before = tuple(draw(st.integers(0, min(1, size - 1))) if pad else 0 for size in kernel)
    after = tuple(draw(st.integers(0, min(1, size - 1))) if pad else 0 for size in kernel)
    return ops.Window(kernel, strides, (1,) * len(extent), before, after)


def _layer(draw: st.DrawFn, builder: GraphBuilder, x: str, kind: str, index: int, generator: np.random.Generator) -> str:
    shape = builder.tensors[x].shape
    name = f"{kind}{index}"
    match kind:
        case "conv":
            window = _window(draw, shape[2:], pad=True)
            outputs = draw(st.integers(1, 6))
            weights = generator.normal(0, 1, (outputs, shape[1], *window.kernel)).astype(np.float32)
            inputs = [x, builder.constant(f"{name}.w", weights)]
            if draw(st.booleans()):
                inputs.append(builder.constant(f"{name}.b", generator.normal(0, 1, outputs).astype(np.float32)))
            y = builder.add(ops.Conv(window), inputs, output=name)
            return builder.add(ops.Clip(0.0, float("inf")), [y], output=f"{name}.relu") if draw(st.booleans()) else y
        case "max":
            return builder.add(ops.MaxPool(_window(draw, shape[2:], pad=True)), [x], output=name)
        case "average":
            padded = draw(st.booleans())
            return builder.add(ops.AveragePool(_window(draw, shape[2:], pad=padded), padded), [x], output=name)
        case "clip":
            # A stream clips with the rounding of a layer before it, so there must be one.
            rounded = any(tensor.startswith(("conv", "average")) for tensor in builder.tensors)
            return builder.add(ops.Clip(-0.5, 6.0), [x], output=name) if rounded else x
        case "add":
            return builder.add(ops.Add(), [x, _same_shape(builder, x, name, generator)], output=name)
        case _:
            return builder.add(ops.Concat(1), [x, _same_shape(builder, x, name, generator)], output=name)


def _same_shape(builder: GraphBuilder, x: str, name: str, generator: np.random.Generator) -> str:
    """A pointwise convolution of x, so that a branch and its trunk differ."""
    channels = builder.tensors[x].shape[1]
    rank = len(builder.tensors[x].shape) - 2
    weights = generator.normal(0, 0.5, (channels, channels, *(1,) * rank)).astype(np.float32)
    ones, zeros = (1,) * rank, (0,) * rank
    window = ops.Window(ones, ones, ones, zeros, zeros)
    return builder.add(ops.Conv(window), [x, builder.constant(f"{name}.branch.w", weights)], output=f"{name}.branch")


def _dense(draw: st.DrawFn, builder: GraphBuilder, x: str, index: int, generator: np.random.Generator) -> str:
    inputs, outputs = builder.tensors[x].shape[-1], draw(st.integers(1, 8))
    weights = generator.normal(0, 1, (inputs, outputs)).astype(np.float32)
    bias = generator.normal(0, 1, outputs).astype(np.float32)
    operands = [x, builder.constant(f"fc{index}.w", weights), builder.constant(f"fc{index}.b", bias)]
    return builder.add(ops.MatMul(), operands, output=f"fc{index}")


@st.composite
def stream_cases(draw: st.DrawFn, *, low: int = 2, high: int = 8, samples: int = 8) -> StreamCase:
    """A streamable network with formats and normal samples."""
    graph = draw(graphs())
    seed = draw(st.integers(0, 2**32 - 1))
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    x = np.random.default_rng(seed).normal(0, 1, (samples, *shape)).astype(np.float32)
    return StreamCase(graph, draw(precisions(low, high)), Dataset(x))


@st.composite
def foldings(draw: st.DrawFn, chain: Chain) -> tuple[Folding, ...]:
    """Any foldings of a chain, with FIFOs of one word upwards and windows without slack."""
    found = []
    for layer in chain.layers:
        outputs = layer.outputs if isinstance(layer, MatrixLayer) else 1
        pe = draw(st.sampled_from([value for value in range(1, outputs + 1) if outputs % value == 0]))
        simd = draw(st.sampled_from([value for value in range(1, layer.channels + 1) if layer.channels % value == 0]))
        rows = draw(st.sampled_from([None, 0, 1]))
        multiplier = draw(st.sampled_from(list(rtl.Multiplier)))
        found.append(Folding(pe, simd, draw(st.integers(1, 4)), rows, multiplier))
    return tuple(found)
