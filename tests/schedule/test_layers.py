"""The streaming schedule computes what the lowered graph says: stream order, weight memories and layouts, word by word."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder, LoweredGraph
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import OpPlan
from lepton_dse.reference.engine import steps
from lepton_dse.schedule.program import program
from lepton_dse.schedule.stream import (
    AddLayer,
    ArgMaxLayer,
    ConcatLayer,
    DepthwiseLayer,
    Folding,
    LookupLayer,
    MatrixLayer,
    MemoryPort,
    PoolLayer,
    Rounding,
    Stage,
    StreamGraph,
    channels_last,
    stream_graph,
    stream_schedule,
)
from lepton_dse.schedule.stream.layers import INPUT, WindowedLayer
from lepton_dse.testing import StreamCase, stream_cases
from lepton_dse.testing.strategies import foldings


def window(kernel: tuple[int, int], strides: tuple[int, int] = (1, 1), pad: int = 0) -> ops.Window:
    return ops.Window(kernel, strides, (1, 1), (pad, pad), (pad, pad))


def rounded(acc: int, scale: int, rounding: Rounding) -> int:
    value = ((acc * scale + (1 << (rounding.shift - 1))) >> rounding.shift) + rounding.zero
    return min(max(value, rounding.low), rounding.high)


def patches(stream: list[int], layer: WindowedLayer) -> list[list[list[int]]]:
    """For each output pixel the pixels of its window, each a list of channels, in row-major order; padding included."""
    (rows, columns), (kh, kw), (sh, sw) = layer.extent, layer.window.kernel, layer.window.strides
    (dh, dw), (top, left), channels = layer.window.dilations, layer.window.pads_begin, layer.channels
    pixels = {(r, c): stream[(r * columns + c) * channels :][:channels] for r, c in product(range(rows), range(columns))}
    outside = [layer.pad_value] * channels
    return [
        [pixels.get((r * sh + i * dh - top, c * sw + j * dw - left), outside) for i, j in product(range(kh), range(kw))]
        for r, c in product(*map(range, layer.out_extent))
    ]


def memories_of(stage: Stage) -> dict[MemoryPort, np.ndarray]:
    return {memory.port: memory.values for instance in stage.instances for memory in instance.memories}


def matrix(stream: list[int], stage: Stage, layer: MatrixLayer) -> list[int]:
    """The unit as its memories say: word after word, PE rows of SIMD columns."""
    pe, simd = stage.folding.pe, stage.folding.simd
    memories = memories_of(stage)
    weights, bias, multipliers = (memories[port] for port in (MemoryPort.WEIGHTS, MemoryPort.BIAS, MemoryPort.MULTIPLIERS))
    folds, found = layer.channels // simd, []
    for patch in patches(stream, layer):
        words = [pixel[fold * simd :][:simd] for pixel in patch for fold in range(folds)]
        for group in range(layer.outputs // pe):
            sums = [int(value) for value in bias[group]]
            for index, word in enumerate(words):
                row = weights[group * len(words) + index]
                for p, s in product(range(pe), range(simd)):
                    sums[p] += int(row[p * simd + s]) * word[s]
            scale = multipliers[group % len(multipliers)]
            found += [rounded(acc, int(scale[p]), layer.rounding) for p, acc in enumerate(sums)]
    return found


def depthwise(stream: list[int], stage: Stage, layer: DepthwiseLayer) -> list[int]:
    """The unit as its memories say: tap after tap, SIMD channels a word."""
    simd = stage.folding.simd
    memories = memories_of(stage)
    weights, bias, multipliers = (memories[port] for port in (MemoryPort.WEIGHTS, MemoryPort.BIAS, MemoryPort.MULTIPLIERS))
    folds, found = layer.channels // simd, []
    for patch in patches(stream, layer):
        for fold, lane in product(range(folds), range(simd)):
            acc = int(bias[fold][lane])
            for tap, pixel in enumerate(patch):
                acc += pixel[fold * simd + lane] * int(weights[tap * folds + fold][lane])
            found.append(rounded(acc, int(multipliers[fold % len(multipliers)][lane]), layer.rounding))
    return found


def pool(stream: list[int], layer: PoolLayer) -> list[int]:
    found = []
    for patch in patches(stream, layer):
        for channel in range(layer.channels):
            taps, rounding = [pixel[channel] for pixel in patch], layer.rounding
            if rounding is None:
                found.append(max(taps))
            else:
                found.append(rounded(layer.sum_start + sum(taps), int(rounding.multipliers[channel]), rounding))
    return found


def looked_up(stream: list[int], stage: Stage, layer: LookupLayer) -> list[int]:
    """Entries at the elements' own bits."""
    (table,) = memories_of(stage)[MemoryPort.TABLE].T.tolist()
    return [table[element & ((1 << layer.input_bits) - 1)] for element in stream]


def added(first: list[int], second: list[int], total: ops.AddRequantize) -> list[int]:
    found = []
    for a, b in zip(first, second, strict=True):
        exact = (a - total.zero_a) * total.multiplier_a + (b - total.zero_b) * total.multiplier_b
        value = ((exact + (1 << (total.shift - 1))) >> total.shift) + total.zero
        found.append(min(max(value, total.low), total.high))
    return found


def concatenated_streams(parts: list[list[int]], layer: ConcatLayer) -> list[int]:
    found: list[int] = []
    for pixel in range(layer.pixels):
        for stream, channels in zip(parts, layer.channels, strict=True):
            found += stream[pixel * channels :][:channels]
    return found


def run(streams: StreamGraph, chosen: tuple[Folding, ...], sample: np.ndarray) -> tuple[np.ndarray, list[list[int]]]:
    """One sample through the schedule, element by element: the result and the stream behind every stage."""
    schedule = stream_schedule(streams, chosen)
    given = [int(value) for value in sample.reshape(-1)[streams.input_layout]]
    behind: list[list[int]] = []
    for stage, sources in zip(schedule.stages, streams.sources, strict=True):
        taken = [given if source == INPUT else behind[source] for source in sources]
        match stage.layer:
            case MatrixLayer():
                made = matrix(taken[0], stage, stage.layer)
            case DepthwiseLayer():
                made = depthwise(taken[0], stage, stage.layer)
            case PoolLayer():
                made = pool(taken[0], stage.layer)
            case LookupLayer():
                made = looked_up(taken[0], stage, stage.layer)
            case AddLayer():
                made = added(taken[0], taken[1], stage.layer.sum)
            case ConcatLayer():
                made = concatenated_streams(taken, stage.layer)
            case ArgMaxLayer():
                made = [taken[0].index(max(taken[0]))]
        behind.append(made)
    result = np.empty(len(streams.output_layout), np.int64)
    result[streams.output_layout] = behind[streams.last]
    return result, behind


def held_equal(lowered: LoweredGraph, chosen: tuple[Folding, ...], x: np.ndarray) -> None:
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph)
    values = dict(steps(lowered, {lowered.inputs[0]: x}))
    found, behind = run(streams, chosen, values[streams.input.name].astype(np.int64))
    assert np.array_equal(found, values[streams.output.name].reshape(-1).astype(np.int64))
    # Verification looks for the first wrong stage by the tensors that stages name, pixel by pixel.
    for layer, stream in zip(streams.layers, behind, strict=True):
        if layer.tensor:
            layout, _ = channels_last(lowered.tensors[layer.tensor].shape)
            assert values[layer.tensor].reshape(-1)[layout].astype(np.int64).tolist() == stream, layer.name


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(case=stream_cases(low=2, high=9, samples=2, wide=True), data=st.data())
def test_memories_and_layouts_compute_the_graph(case: StreamCase, data: st.DataObject) -> None:
    lowered = lower_bundle(quantize(case.graph, case.recipe, case.data)[0])
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph)
    held_equal(lowered, data.draw(foldings(streams)), case.data.x[:1])


def conv(builder: GraphBuilder, x: str, name: str, outputs: int, kernel: int = 2, groups: int = 1) -> str:
    shape = (outputs, builder.tensors[x].shape[1] // groups, kernel, kernel)
    weights = builder.constant(f"{name}.w", np.random.default_rng(len(name)).normal(0, 1, shape).astype(np.float32))
    return builder.add(ops.Conv(window((kernel, kernel)), groups), [x, weights], output=name)


def dense(builder: GraphBuilder, x: str, name: str, outputs: int) -> str:
    shape = (builder.tensors[x].shape[-1], outputs)
    weights = builder.constant(f"{name}.w", np.random.default_rng(len(name)).normal(0, 1, shape).astype(np.float32))
    return builder.add(ops.MatMul(), [x, weights], output=name)


def flattened(permutation: tuple[int, ...] | None, *, ends_there: bool, clip: bool = False) -> Graph:
    builder = GraphBuilder("flattened")
    x = conv(builder, builder.input("x", (1, 2, 4, 5)), "conv", 3)
    if permutation is not None:
        x = builder.add(ops.Transpose(permutation), [x], output="moved")
    x = builder.add(ops.Reshape((1, 36)), [x], output="flat")
    if clip:
        x = builder.add(ops.Clip(0.0, 1.0), [x], output="clip")
    return builder.build([x if ends_there else dense(builder, x, "dense", 4)])


@pytest.mark.parametrize("permutation", [None, (0, 2, 3, 1), (0, 3, 2, 1), (0, 1, 3, 2)])
@pytest.mark.parametrize("ends_there", [False, True])
@pytest.mark.parametrize("clip", [False, True])
def test_reshapes_and_transposes_move_no_data(permutation: tuple[int, ...] | None, ends_there: bool, clip: bool) -> None:
    graph = flattened(permutation, ends_there=ends_there, clip=clip)
    data = noise(graph, 1, 8)
    lowered = lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), data)[0])
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph)
    assert [type(layer) for layer in streams.layers] == [MatrixLayer] if ends_there else [MatrixLayer, MatrixLayer]
    chosen = (Folding(3, 2), Folding(2, 4))[: len(streams.layers)]
    for sample in range(3):
        held_equal(lowered, chosen, data.x[sample : sample + 1])


def test_pixels_come_one_after_another() -> None:
    layout, channels = channels_last((1, 3, 2, 2))
    assert channels == 3
    assert layout.tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert channels_last((1, 4))[0].tolist() == [0, 1, 2, 3]


# --- what is no stream ------------------------------------------------------------------------------------------------


def refused(build) -> dict[str, str]:  # type: ignore[no-untyped-def]
    builder = GraphBuilder("refused")
    graph = builder.build([build(builder, builder.input("x", (1, 2, 6, 6)))])
    found = stream_graph(lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), noise(graph, 0, 4))[0]))
    assert not isinstance(found, StreamGraph)
    assert all(violation.levers and violation.demand > violation.bound for violation in found)
    return {violation.what.partition(":")[0]: violation.what for violation in found}


def uneven_average(builder: GraphBuilder, x: str) -> str:
    return builder.add(ops.AveragePool(window((2, 2), pad=1)), [x], output="odd")


def constant_addend(builder: GraphBuilder, x: str) -> str:
    first = conv(builder, x, "first", 2, 1)
    return builder.add(ops.Add(), [first, builder.constant("c", np.ones((1, 2, 6, 6), np.float32))], output="odd")


def rows_joined(builder: GraphBuilder, x: str) -> str:
    first = conv(builder, x, "first", 2, 1)
    return builder.add(ops.Concat(2), [first, conv(builder, first, "second", 2, 1)], output="odd")


def moved_addend(builder: GraphBuilder, x: str) -> str:
    first = conv(builder, x, "first", 2, 1)
    return builder.add(ops.Add(), [first, builder.add(ops.Transpose((0, 1, 3, 2)), [first], output="moved")], output="odd")


def wide_groups(builder: GraphBuilder, x: str) -> str:
    return conv(builder, conv(builder, x, "first", 4, 1), "odd", 4, groups=2)


def multiplied_channels(builder: GraphBuilder, x: str) -> str:
    return conv(builder, x, "odd", 4, groups=2)


def softmax_inside(builder: GraphBuilder, x: str) -> str:
    soft = builder.add(ops.Softmax((1,)), [conv(builder, x, "first", 2, 1)], output="odd")
    return conv(builder, soft, "second", 2, 1)


def transposed_image(builder: GraphBuilder, x: str) -> str:
    moved = builder.add(ops.Transpose((0, 1, 3, 2)), [x], output="moved")
    return conv(builder, moved, "odd", 2)


def rows_of_dense(builder: GraphBuilder, x: str) -> str:
    return dense(builder, x, "odd", 3)


def last_of_ties(builder: GraphBuilder, x: str) -> str:
    flat = builder.add(ops.Reshape((1, 72)), [x], output="flat")
    return builder.add(ops.ArgMax(1, False, True), [dense(builder, flat, "dense", 3)], output="odd")


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (wide_groups, "Conv"),
        (multiplied_channels, "Conv"),
        (uneven_average, "SumPool"),
        (constant_addend, "AddRequantize"),
        (moved_addend, "AddRequantize"),
        (rows_joined, "Concat"),
        (softmax_inside, "Softmax"),
        (transposed_image, "Conv"),
        (rows_of_dense, "MatMul"),
        (last_of_ties, "ArgMax"),
    ],
)
def test_what_is_no_stream_is_named(build, kind: str) -> None:  # type: ignore[no-untyped-def]
    assert f"{kind} 'odd'" in refused(build)


def test_a_table_is_no_wider_than_a_memory_is_addressed() -> None:
    builder = GraphBuilder("wide")
    first = conv(builder, builder.input("x", (1, 2, 6, 6)), "first", 2, 1)
    # Read twice, so that the clip cannot move into the rounding before it.
    clip = builder.add(ops.Clip(0.0, 1.0), [first], output="clip")
    graph = builder.build([builder.add(ops.Add(), [first, clip], output="sum")])
    for form, wide in (("int12", False), ("int13", True)):
        found = stream_graph(lower_bundle(quantize(graph, Recipe(Precision.parse(form)), noise(graph, 0, 4))[0]))
        assert isinstance(found, StreamGraph) != wide
        if not isinstance(found, StreamGraph):
            assert [(violation.demand, violation.bound, violation.unit) for violation in found] == [(13, 12, "bits")]
        else:
            assert [type(layer) for layer in found.layers] == [MatrixLayer, LookupLayer, AddLayer]
            assert len(found.readers[0]) == 2


def test_a_tail_of_reals_stays_with_the_host() -> None:
    builder = GraphBuilder("tail")
    flat = builder.add(ops.Reshape((1, 8)), [builder.input("x", (1, 2, 2, 2))], output="flat")
    graph = builder.build([builder.add(ops.Softmax((1,)), [dense(builder, flat, "dense", 3)], output="y")])
    streams = stream_graph(lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), noise(graph, 0, 4))[0]))
    assert isinstance(streams, StreamGraph)
    assert streams.output.name == "dense.q"


# --- foldings and programs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [(Folding(2, 2),), (Folding(3, 4),), (Folding(3, 2), Folding(1, 1)), ()])
def test_foldings_that_do_not_divide_are_refused(chosen: tuple[Folding, ...]) -> None:
    graph = flattened(None, ends_there=True)
    streams = stream_graph(lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), noise(graph, 0, 4))[0]))
    assert isinstance(streams, StreamGraph)
    with pytest.raises(InvalidPlanError):
        stream_schedule(streams, chosen)


@given(st.builds(Folding, st.integers(1, 64), st.integers(1, 64), st.integers(1, 4096), st.none() | st.integers(0, 9)))
def test_a_folding_survives_the_plan(folding: Folding) -> None:
    entry = folding.to_plan("op", "int8")
    assert Folding.from_plan(OpPlan.model_validate_json(entry.model_dump_json())) == folding


def test_views_alias_their_buffer_in_a_program() -> None:
    graph = flattened(None, ends_there=False)
    found = program(graph)
    assert [step.op.name for step in found.steps] == ["conv", "dense"]
    assert found.aliases["flat"] == "conv"
    assert {tensor.name for tensor in found.buffers} == {"conv", "dense"}
    assert {tensor.name for tensor in found.constants} == {"conv.w", "dense.w"}
