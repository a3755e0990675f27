"""Random networks that exercise importers' results, lowering, emitters and simulators, small enough to simulate in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from lepton_dse import rtl_library as rtl
from lepton_dse.compress.quantize import Recipe
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.schedule.stream import Folding, MatrixLayer, StreamGraph

__all__ = ["StreamCase", "foldings", "graphs", "precisions", "stream_cases"]


@dataclass(frozen=True)
class StreamCase:
    """A network, the formats to quantise it to, those of single operations, and samples."""

    graph: Graph
    precision: Precision
    data: Dataset
    overrides: Mapping[str, Precision] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The formats as a recipe."""
        return Recipe(self.precision, self.overrides)


def precisions(low: int = 2, high: int = 8) -> st.SearchStrategy[Precision]:
    """Integer formats with weights and activations of `low` to `high` bits each."""
    widths = st.integers(low, high).map(lambda bits: NumberFormat(FormatKind.INT, bits))
    return st.builds(Precision, widths, widths)


@st.composite
def graphs(draw: st.DrawFn, *, branches: bool = False, units: bool = False, layers: tuple[int, int] = (0, 3)) -> Graph:
    """A chain of convolutions, pools and clips behind which a flatten and dense layers may follow.

    Parameters
    ----------
    branches : bool
        Also residual additions and concatenations.
    units : bool
        Also depthwise and dilated convolutions, and functions of one element.
    layers : tuple of int
        Least and most layers before the flatten.
    """
    kinds = ["conv", "conv", "max", "average", "clip"]
    kinds += ["add", "concat"] if branches else []
    kinds += ["depthwise", "dilated", "function"] if units else []
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    builder = GraphBuilder("drawn")
    channels, extent = draw(st.integers(1, 4)), (draw(st.integers(3, 8)), draw(st.integers(3, 8)))
    tensor = builder.input("x", (1, channels, *extent))
    for index in range(draw(st.integers(*layers))):
        kind = draw(st.sampled_from(kinds))
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
        case "depthwise":
            window = _window(draw, shape[2:], pad=True)
            weights = generator.normal(0, 1, (shape[1], 1, *window.kernel)).astype(np.float32)
            return builder.add(ops.Conv(window, shape[1]), [x, builder.constant(f"{name}.w", weights)], output=name)
        case "dilated":
            dilation = max(1, min(draw(st.integers(2, 3)), min(shape[2:]) - 1))
            return _same_extent(builder, x, name, 2, dilation, draw(st.integers(1, 4)), generator)
        case "function":
            functions: list[ops.Attributes] = [ops.Tanh(), ops.Sigmoid(), ops.LeakyRelu(0.1)]
            return builder.add(draw(st.sampled_from(functions)), [x], output=name)
        case "add":
            branch = _branch(draw, builder, x, name, shape[1], generator)
            return builder.add(ops.Add(), draw(st.permutations([x, branch])), output=name)
        case _:
            parts = [_branch(draw, builder, x, f"{name}.{part}", 1 + part, generator) for part in range(draw(st.integers(1, 2)))]
            return builder.add(ops.Concat(1), draw(st.permutations([x, *parts])), output=name)


def _branch(draw: st.DrawFn, builder: GraphBuilder, x: str, name: str, outputs: int, generator: np.random.Generator) -> str:
    """One or two convolutions of x, so that a branch and its trunk differ, and the branch is behind."""
    for index in range(draw(st.integers(1, 2))):
        x = _same_extent(builder, x, f"{name}.branch{index}", draw(st.sampled_from([1, 3])), 1, outputs, generator)
    return x


def _same_extent(
    builder: GraphBuilder, x: str, name: str, kernel: int, dilation: int, outputs: int, generator: np.random.Generator
) -> str:
    """A padded convolution of x whose result is as large."""
    shape = builder.tensors[x].shape
    rank, overlap = len(shape) - 2, (kernel - 1) * dilation
    weights = generator.normal(0, 0.5, (outputs, shape[1], *(kernel,) * rank)).astype(np.float32)
    before = (overlap // 2,) * rank
    window = ops.Window((kernel,) * rank, (1,) * rank, (dilation,) * rank, before, (overlap - overlap // 2,) * rank)
    return builder.add(ops.Conv(window), [x, builder.constant(f"{name}.w", weights)], output=name)


def _dense(draw: st.DrawFn, builder: GraphBuilder, x: str, index: int, generator: np.random.Generator) -> str:
    inputs, outputs = builder.tensors[x].shape[-1], draw(st.integers(1, 8))
    weights = generator.normal(0, 1, (inputs, outputs)).astype(np.float32)
    bias = generator.normal(0, 1, outputs).astype(np.float32)
    operands = [x, builder.constant(f"fc{index}.w", weights), builder.constant(f"fc{index}.b", bias)]
    return builder.add(ops.MatMul(), operands, output=f"fc{index}")


@st.composite
def stream_cases(draw: st.DrawFn, *, low: int = 2, high: int = 8, samples: int = 8, wide: bool = False) -> StreamCase:
    """A streamable network with formats and normal samples.

    Parameters
    ----------
    low, high : int
        Bits.
    samples : int
    wide : bool
        Of every layer that streams, with branches, and formats that differ from layer to layer.
    """
    graph = draw(graphs(branches=True, units=True, layers=(2, 5)) if wide else graphs())
    seed = draw(st.integers(0, 2**32 - 1))
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    x = np.random.default_rng(seed).normal(0, 1, (samples, *shape)).astype(np.float32)
    names = [op.name for op in graph.ops if isinstance(op.attributes, ops.Conv | ops.MatMul)] if wide else []
    overrides = {name: draw(precisions(low, high)) for name in names if draw(st.booleans())}
    return StreamCase(graph, draw(precisions(low, high)), Dataset(x), overrides)


@st.composite
def foldings(draw: st.DrawFn, streams: StreamGraph) -> tuple[Folding, ...]:
    """Any foldings of a design, with FIFOs of one word upwards and windows without slack."""
    found = []
    for position, layer in enumerate(streams.layers):
        outputs = layer.outputs if isinstance(layer, MatrixLayer) else 1
        pe = draw(st.sampled_from([value for value in range(1, outputs + 1) if outputs % value == 0]))
        simd = draw(st.sampled_from([value for value in range(1, layer.lanes_limit + 1) if layer.lanes_limit % value == 0]))
        rows = draw(st.sampled_from([None, 0, 1]))
        paired = isinstance(layer, MatrixLayer) and pe % 2 == 0
        multiplier = draw(st.sampled_from([kind for kind in rtl.Multiplier if paired or kind is not rtl.Multiplier.PACKED]))
        depths = st.integers(0, 3) if len(streams.sources[position]) == 1 else st.integers(1, 40)
        feeds = tuple(draw(depths) for _ in streams.sources[position])
        found.append(Folding(pe, simd, draw(st.integers(1, 4)), rows, multiplier, feeds if any(feeds) else ()))
    return tuple(found)
