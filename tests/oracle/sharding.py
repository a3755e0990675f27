"""Networks and strategies drawn at random, and the cheapest strategies found by trying all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.parallel.splitting import OpLayouts, layouts_of, splittable
from lepton_dse.schedule.sharded import Strategies, sharded_program
from lepton_dse.schedule.sharded.build import OpStrategy
from lepton_dse.search.sharded import StepPrices

MESHES = (Mesh.parse("x=2"), Mesh.parse("x=4"), Mesh.parse("x=2,y=2"), Mesh.parse("a=2,b=4"))


def perceptron(seed: int, *, batch: int, extents: tuple[int, ...]) -> Graph:
    """Dense layers with biases and rectifiers between them."""
    generator = np.random.default_rng(seed)
    builder = GraphBuilder("perceptron")
    tensor = builder.input("x", (batch, extents[0]))
    for index, (before, after) in enumerate(itertools.pairwise(extents)):
        weights = builder.constant(f"w{index}", generator.normal(size=(before, after)).astype(np.float32))
        bias = builder.constant(f"b{index}", generator.normal(size=after).astype(np.float32))
        tensor = builder.add(ops.MatMul(), [tensor, weights, bias], output=f"dense{index}")
        if index < len(extents) - 2:
            tensor = builder.add(ops.Clip(0.0, float("inf")), [tensor], output=f"relu{index}")
    return builder.build([tensor])


def residual_network(seed: int, *, batch: int, channels: int, extent: int, stride: int = 1) -> Graph:
    """A convolution with padding, a residual block, a pool and a dense layer."""
    generator = np.random.default_rng(seed)
    builder = GraphBuilder("residual")
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    first = ops.Window((3, 3), (stride, stride), (1, 1), (1, 1), (1, 1))

    def conv(tensor: str, name: str, inputs: int, outputs: int, over: ops.Window, groups: int = 1) -> str:
        shape = (outputs, inputs // groups, *over.kernel)
        weights = builder.constant(f"{name} w", generator.normal(size=shape).astype(np.float32))
        bias = builder.constant(f"{name} b", generator.normal(size=outputs).astype(np.float32))
        return builder.add(ops.Conv(over, groups), [tensor, weights, bias], output=name)

    tensor = builder.input("x", (batch, 4, extent, extent))
    tensor = conv(tensor, "stem", 4, channels, first)
    inner = builder.add(
        ops.Clip(0.0, float("inf")), [conv(tensor, "depthwise", channels, channels, window, channels)], output="relu"
    )
    inner = conv(inner, "pointwise", channels, channels, ops.Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0)))
    tensor = builder.add(ops.Add(), [tensor, inner], output="sum")
    tensor = builder.add(ops.MaxPool(ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))), [tensor], output="pool")
    shape = builder.tensors[tensor].shape
    tensor = builder.add(ops.Reshape((batch, int(np.prod(shape[1:])))), [tensor], output="flat")
    weights = builder.constant("head w", generator.normal(size=(int(np.prod(shape[1:])), 8)).astype(np.float32))
    return builder.build([builder.add(ops.MatMul(), [tensor, weights], output="head")])


def attention_block(seed: int, *, batch: int, sequence: int, heads: int, width: int) -> Graph:
    """Layer normalisation, attention and a residual, as an ONNX export writes them."""
    generator = np.random.default_rng(seed)
    builder = GraphBuilder("attention")
    hidden = heads * width
    x = builder.input("x", (batch, sequence, hidden))
    scale = builder.constant("scale", generator.normal(size=hidden).astype(np.float32))
    shift = builder.constant("shift", generator.normal(size=hidden).astype(np.float32))
    normal = builder.add(ops.LayerNorm((2,), 1e-5), [x, scale, shift], output="normal")

    def heads_of(name: str, order: tuple[int, ...]) -> str:
        weights = builder.constant(f"{name} w", generator.normal(size=(hidden, hidden)).astype(np.float32) / hidden**0.5)
        bias = builder.constant(f"{name} b", generator.normal(size=hidden).astype(np.float32))
        made = builder.add(ops.MatMul(), [normal, weights, bias], output=name)
        apart = builder.add(ops.Reshape((batch, sequence, heads, width)), [made], output=f"{name} heads")
        return builder.add(ops.Transpose(order), [apart], output=f"{name} first")

    queries, keys, values = heads_of("q", (0, 2, 1, 3)), heads_of("k", (0, 2, 3, 1)), heads_of("v", (0, 2, 1, 3))
    scores = builder.add(ops.MatMul(), [queries, keys], output="scores")
    shares = builder.add(ops.Softmax((3,)), [scores], output="shares")
    mixed = builder.add(ops.MatMul(), [shares, values], output="mixed")
    back = builder.add(ops.Transpose((0, 2, 1, 3)), [mixed], output="back")
    joined = builder.add(ops.Reshape((batch, sequence, hidden)), [back], output="joined")
    weights = builder.constant("o w", generator.normal(size=(hidden, hidden)).astype(np.float32) / hidden**0.5)
    out = builder.add(ops.MatMul(), [joined, weights], output="out")
    return builder.build([builder.add(ops.Add(), [x, out], output="sum")])


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """One of the networks above, with extents that meshes divide and some that they do not."""
    seed, batch = draw(st.integers(0, 2**16)), draw(st.sampled_from([1, 2, 4, 8]))
    kind = draw(st.sampled_from(["perceptron", "residual", "attention"]))
    if kind == "perceptron":
        extents = draw(st.lists(st.sampled_from([3, 4, 8, 16]), min_size=2, max_size=4))
        return perceptron(seed, batch=batch, extents=tuple(extents))
    if kind == "residual":
        extent = draw(st.sampled_from([8, 16, 12]))
        channels = draw(st.sampled_from([4, 8]))
        return residual_network(seed, batch=batch, channels=channels, extent=extent, stride=draw(st.sampled_from([1, 2])))
    sequence = draw(st.sampled_from([4, 8, 6]))
    return attention_block(seed, batch=batch, sequence=sequence, heads=draw(st.sampled_from([2, 4])), width=4)


def shared_ways(graph: Graph, op: ops.Op, mesh: Mesh) -> Iterator[tuple[dict[str, tuple[str, ...]], OpLayouts]]:
    """Every way to give each axis of a mesh one loop of an operation, or none."""
    names = [loop.name for loop in splittable(graph, op)]
    for picked in itertools.product([None, *names], repeat=len(mesh.names)):
        shared: dict[str, tuple[str, ...]] = {}
        for axis, loop in zip(mesh.names, picked, strict=True):
            if loop is not None:
                shared[loop] = (*shared.get(loop, ()), axis)
        layouts = layouts_of(graph, op, shared, mesh)
        if layouts is not None:
            yield shared, layouts


def closings(shape: tuple[int, ...], layout: Layout, mesh: Mesh) -> Iterator[Layout]:
    """Every way to close the open sums of a result: whole, or cut along a dimension."""
    cuts = [list(layout.cuts)]
    for axis in layout.partial:
        further = []
        for entry in cuts:
            further.append(entry)
            for dimension, extent in enumerate(shape):
                if extent % (mesh.size(entry[dimension]) * mesh.sizes[axis]) == 0:
                    changed = list(entry)
                    changed[dimension] = (*entry[dimension], axis)
                    further.append(changed)
        cuts = further
    yield from (Layout(tuple(entry)) for entry in cuts)


def arrivals(shape: tuple[int, ...], mesh: Mesh) -> Iterator[Layout]:
    """Every layout of an input."""
    yield from closings(shape, Layout(((),) * len(shape), mesh.names), mesh)


@st.composite
def strategies(draw: st.DrawFn, graph: Graph, mesh: Mesh) -> Strategies:
    """Any strategies, however dear."""
    chosen = {}
    for op in graph.ops:
        shared, layouts = draw(st.sampled_from(list(shared_ways(graph, op, mesh))))
        home = draw(st.sampled_from(list(closings(graph.tensors[op.output].shape, layouts.output, mesh))))
        chosen[op.name] = OpStrategy(shared, home)
    arriving = {name: draw(st.sampled_from(list(arrivals(graph.tensors[name].shape, mesh)))) for name in graph.inputs}
    return Strategies(arriving, chosen)


def cheapest_of_all(graph: Graph, mesh: Mesh, prices: StepPrices) -> float:
    """Seconds of the cheapest program, by building and pricing every one."""
    ways = []
    for op in graph.ops:
        found = [
            OpStrategy(shared, home)
            for shared, layouts in shared_ways(graph, op, mesh)
            for home in closings(graph.tensors[op.output].shape, layouts.output, mesh)
        ]
        ways.append([(op.name, way) for way in found])
    arriving = [[(name, layout) for layout in arrivals(graph.tensors[name].shape, mesh)] for name in graph.inputs]
    best = float("inf")
    for picked in itertools.product(*ways):
        for inputs in itertools.product(*arriving):
            program = sharded_program(graph, mesh, Strategies(dict(inputs), dict(picked)))
            best = min(best, prices.program(program))
    return best


def count_of_all(graph: Graph, mesh: Mesh) -> int:
    """How many programs :func:`cheapest_of_all` builds."""
    count = 1
    for op in graph.ops:
        shape = graph.tensors[op.output].shape
        count *= sum(len(list(closings(shape, layouts.output, mesh))) for _, layouts in shared_ways(graph, op, mesh))
    for name in graph.inputs:
        count *= len(list(arrivals(graph.tensors[name].shape, mesh)))
    return count
