"""Traffic of mapped loop nests against a machine that walks them, and by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.ir.loops import Access, Affine, Loop, LoopNest
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.loopnest import Halo, LevelMapping, NestMapping, Operand, Problem, problem_of, traffic
from lepton_dse.sim.loopnest.counting import axis_elements, distinct, tile_classes
from lepton_dse.sim.loopnest.packing import pack
from lepton_dse.sim.loopnest.traffic import nest_traffic, traffic_batch

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
from nest_machine import NestMachine

INT8 = Precision.parse("int8")


def matmul(rows: int, columns: int, inner: int) -> Graph:
    builder = GraphBuilder("matmul")
    x = builder.input("x", (rows, inner))
    w = builder.constant("w", np.ones((inner, columns), np.float32))
    return builder.build([builder.add(ops.MatMul(), [x, w], output="y")])


def conv(
    shape: tuple[int, int, int, int],
    filters: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    groups: int = 1,
) -> Graph:
    builder = GraphBuilder("conv")
    x = builder.input("x", shape)
    w = builder.constant("w", np.ones((filters, shape[1] // groups, *kernel), np.float32))
    window = ops.Window(kernel, stride, dilation, pads[:2], pads[2:])
    return builder.build([builder.add(ops.Conv(window, groups), [x, w], output="y")])


@st.composite
def nests(draw: st.DrawFn) -> Graph:
    size = st.integers(1, 5)
    kind = draw(st.sampled_from(["matmul", "conv", "depthwise", "pool"]))
    if kind == "matmul":
        return matmul(draw(size), draw(size), draw(size))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    height, width = (draw(st.integers(r, r + 4)) for r in reach)
    if kind == "pool":
        builder = GraphBuilder("pool")
        x = builder.input("x", (1, draw(st.integers(1, 2)), height, width))
        window = ops.Window(kernel, stride, dilation, (0, 0), (0, 0))
        return builder.build([builder.add(ops.MaxPool(window), [x], output="y")])
    if kind == "depthwise":
        channels = draw(st.integers(1, 3))
        return conv((1, channels, height, width), channels * draw(st.integers(1, 2)), kernel, stride, dilation, pads, channels)
    return conv(
        (draw(st.integers(1, 2)), draw(st.integers(1, 3)), height, width), draw(st.integers(1, 3)), kernel, stride, dilation, pads
    )


@st.composite
def mappings(draw: st.DrawFn, problem: Problem, levels: int) -> NestMapping:
    """Any nested tiles, any loop orders, any residency."""
    names = [operand.name for operand in problem.operands]
    rows = [dict(zip(problem.loops, problem.extents, strict=True))]
    for _ in range(levels):
        rows.insert(0, {loop: draw(st.integers(1, rows[0][loop])) for loop in problem.loops})
    order = st.permutations(list(problem.loops)).map(tuple)
    kept = [
        LevelMapping(f"l{k}", rows[k + 1], draw(order), frozenset(draw(st.sets(st.sampled_from(names)))))
        for k in range(levels - 1)
    ]
    return NestMapping(rows[0], (*kept, LevelMapping("outer", {}, (), frozenset(names))), draw(order))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_traffic_is_that_of_a_machine_that_walks_the_nest(data: st.DataObject) -> None:
    graph = data.draw(nests())
    op = graph.ops[0]
    problem = problem_of(graph, op, INT8)
    mapping = data.draw(mappings(problem, data.draw(st.integers(1, 3))))
    found = traffic(problem, mapping)
    machine = machine_of(graph, problem, mapping)
    nest = graph.nest(op)
    assert nest.write is not None
    accesses = {access.tensor: access for access in (*nest.reads[: len(problem.reads)], nest.write)}
    partial = problem.accumulator_bits / 8
    read = {level.name: dict.fromkeys(accesses, 0.0) for level in mapping.levels}
    written = {level.name: dict.fromkeys(accesses, 0.0) for level in mapping.levels}
    fetched = dict.fromkeys(accesses, 0.0)
    for operand in problem.operands:
        access, width, result = accesses[operand.name], operand.bits / 8, operand is problem.write
        chain = [index for index, level in enumerate(mapping.levels) if operand.name in level.resident]
        for inner, outer in zip([-1, *chain], chain, strict=False):
            if inner < 0 and outer == 0:
                fetched[operand.name] = problem.iterations * (2 * partial if result else width)
                continue
            if result and inner < 0:
                streamed = machine.streamed(access)
                total, again = sum(streamed.values()), sum(streamed.values()) - len(streamed)
                down, up = again * partial, again * partial + (total - again) * width
            elif result:
                total, again = machine.stored(access, inner + 1)
                down, up = again * partial, again * partial + (total - again) * width
            else:
                total = sum(machine.streamed(access).values()) if inner < 0 else machine.loaded(access, inner + 1)
                down, up = total * width, 0.0
            read[mapping.levels[outer].name][operand.name] += down
            written[mapping.levels[outer].name][operand.name] += up
            if inner >= 0:
                written[mapping.levels[inner].name][operand.name] += down
                read[mapping.levels[inner].name][operand.name] += up
    assert found.steps == machine.steps()
    assert found.fetched_bytes == fetched
    for level in mapping.levels:
        for name in accesses:
            assert found.read_bytes[level.name].get(name, 0.0) == read[level.name][name], (level.name, name)
            assert found.written_bytes[level.name].get(name, 0.0) == written[level.name][name], (level.name, name)


def machine_of(graph: Graph, problem: Problem, mapping: NestMapping) -> NestMachine:
    nest = graph.nest(graph.ops[0])
    loops = [loop.name for loop in nest.loops]
    whole = {loop.name: loop.extent for loop in nest.loops}
    rows = [whole]
    for level in reversed(mapping.levels[:-1]):
        rows.insert(0, {loop: level.tile.get(loop, rows[0][loop]) for loop in loops})
    rows.insert(0, {loop: mapping.spatial.get(loop, 1) for loop in loops})
    orders = [list(mapping.order), *(list(level.order) for level in mapping.levels[:-1])]
    complete = [[*order, *(loop for loop in reversed(loops) if loop not in order)] for order in orders]
    shapes = {name: tensor.shape for name, tensor in graph.tensors.items()}
    return NestMachine(nest, shapes, rows, complete)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_axes_are_counted_as_by_enumeration(data: st.DataObject) -> None:
    first, second = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 6))
    a, b = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    offset, extent = data.draw(st.integers(-8, 2)), data.draw(st.integers(1, 40))
    tiles = [sorted(data.draw(st.lists(st.integers(1, size), min_size=2, max_size=2))) for size in (first, second)]
    expected = 0
    for p in nested_tiles(first, tiles[0]):
        for r in nested_tiles(second, tiles[1]):
            values = {a * i + b * j + offset for i in p for j in r}
            expected += sum(0 <= value < extent for value in values)
    arrays = [np.array(entry, np.int64) for entry in tiles]
    assert axis_elements(first, arrays[0], second, arrays[1], a, b, offset, extent) == expected
    assert distinct(first, second, a, b) == len({a * i + b * j for i in range(first) for j in range(second)})


def nested_tiles(extent: int, tiles: list[int]) -> list[range]:
    found = [range(extent)]
    for size in reversed(tiles):
        found = [part[start : start + size] for part in found for start in range(0, len(part), size)]
    return found


@given(st.integers(1, 60), st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_classes_of_tiles_are_those_of_the_list(extent: int, tiles: list[int]) -> None:
    tiles = sorted(min(tile, extent) for tile in tiles)
    sizes, counts = tile_classes(extent, np.array(tiles, np.int64))
    listed = [len(part) for part in nested_tiles(extent, tiles)]
    assert sum(counts) == len(listed)
    assert sum(size * count for size, count in zip(sizes, counts, strict=True)) == extent
    for size in set(listed):
        assert sum(count for s, count in zip(sizes, counts, strict=True) if s == size) == listed.count(size)


def test_a_product_by_hand() -> None:
    """4 x 6 x 8 with weights of a 2 x 4 tile in place while rows pass by: each weight is loaded once, each row three times."""
    graph = matmul(4, 6, 8)
    problem = problem_of(graph, graph.ops[0], INT8)
    everything = frozenset({"x", "w", "y"})
    levels = (
        LevelMapping("array", {"i": 4, "j": 2, "k": 4}, ("k", "j"), frozenset({"w"})),
        LevelMapping("memory", {}, (), everything),
    )
    found = traffic(problem, NestMapping({"j": 2, "k": 4}, levels))
    assert found.steps == 4 * 3 * 2
    assert found.read_bytes["memory"]["w"] == 48
    assert found.read_bytes["memory"]["x"] == 4 * 8 * 3
    assert found.written_bytes["memory"]["y"] == 4 * 6 * (1 + 4)  # one partial sum of 4 bytes, one result
    assert found.read_bytes["memory"]["y"] == 4 * 6 * 4
    assert found.fetched_bytes == {"x": 0, "w": 4 * 6 * 8, "y": 0}
    assert found.footprint_bytes == {"array": 8, "memory": 32 + 48 + 4 * 24}


def test_a_halo_by_hand() -> None:
    """Rows of 3 under a kernel of 3 with one row of padding: tiles of 2 read 3, 4 and 3 of 6 rows."""
    graph = conv((1, 1, 6, 1), 1, (3, 1), pads=(1, 0, 1, 0))
    problem = problem_of(graph, graph.ops[0], INT8)
    everything = frozenset({"x", "w", "y"})
    levels = (LevelMapping("buffer", {"o0": 2}, (), everything), LevelMapping("memory", {}, (), everything))
    found = traffic(problem, NestMapping({}, levels))
    assert found.read_bytes["memory"]["x"] == 3 + 4 + 3
    assert found.footprint_bytes["buffer"] == 4 + 3 + 2 * 4


def test_groups_are_loops_of_their_own() -> None:
    graph = conv((1, 4, 5, 5), 8, (3, 3), groups=2)
    problem = problem_of(graph, graph.ops[0], INT8)
    assert problem.loops == ("g", "m", "o0", "o1", "c", "k0", "k1")
    assert [len(operand.halos) for operand in problem.operands] == [2, 0, 0]


def test_a_batch_counts_what_single_calls_count() -> None:
    graph = conv((1, 3, 9, 9), 4, (3, 3), (2, 2), pads=(1, 1, 1, 1))
    problem = problem_of(graph, graph.ops[0], INT8)
    packed, generator = pack(problem), np.random.default_rng(0)
    count, loops, operands = 200, len(problem.loops), 3
    tiles = np.empty((count, 4, loops), np.int64)
    tiles[:, 3] = packed.extents
    for row in (2, 1, 0):
        tiles[:, row] = 1 + (generator.random((count, loops)) * tiles[:, row + 1]).astype(np.int64)
    orders = generator.permuted(np.tile(np.arange(loops), (count, 3, 1)), axis=2).astype(np.int64)
    resident = generator.random((count, 3, operands)) < 0.6
    resident[:, 2] = True
    arrays = (packed.relevant, packed.single, packed.halos, packed.halo_counts)
    elements, visited, steps = (np.zeros(shape, np.int64) for shape in ((count, 4, operands), (count, 4, operands), count))
    traffic_batch(packed.extents, tiles, orders, resident, *arrays, elements, visited, steps)
    for index in range(count):
        one, two = np.zeros((4, operands), np.int64), np.zeros((4, operands), np.int64)
        assert nest_traffic(packed.extents, tiles[index], orders[index], resident[index], *arrays, one, two) == steps[index]
        assert (one == elements[index]).all()
        assert (two == visited[index]).all()


INTERPRETED = """
import numpy as np
from lepton_dse.sim.loopnest.counting import axis_elements
generator = np.random.default_rng(7)
for f, s, t, u, v, a, b, o, e in generator.integers(1, 9, (40, 9)).tolist():
    tiles = np.array(sorted((t % f + 1, u % f + 1))), np.array([v % s + 1, s])
    print(axis_elements(f, tiles[0], s, tiles[1], a, b, -o, e))
"""


def test_compiled_and_interpreted_kernels_agree() -> None:
    outputs = []
    for flag in ("0", "1"):
        environment = os.environ | {"NUMBA_DISABLE_JIT": flag}
        run = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, check=True, env=environment)
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 80


def test_sizes_do_not_wrap() -> None:
    """A product of 2^61 iterations, one loop of 2^40, counted exactly."""
    rows = 1 << 40
    operands = (Operand("x", (0, 1), (), 8), Operand("w", (1,), (), 8))
    problem = Problem(("i", "k"), (rows, 1 << 21), operands, Operand("y", (0,), (), 8), 32)
    everything = frozenset({"x", "w", "y"})
    levels = (LevelMapping("buffer", {"i": 1, "k": 1 << 21}, (), everything), LevelMapping("memory", {}, (), everything))
    found = traffic(problem, NestMapping({}, levels))
    assert found.read_bytes["memory"] == {"x": float(rows << 21), "w": float(1 << 21), "y": 0.0}


def test_a_nest_beyond_counting_is_refused() -> None:
    class Huge:
        def nest(self, op: object) -> LoopNest:
            loops = (Loop("i", 1 << 40), Loop("j", 1 << 40))
            return LoopNest(loops, (), Access("y", (Affine((("i", 1),)),)), True)

    with pytest.raises(LeptonError, match="iterations"):
        problem_of(Huge(), ops.Op("big", ops.MatMul(), (), "y"), INT8)  # type: ignore[arg-type]


EVERYTHING = frozenset({"x", "w", "y"})
MEMORY = LevelMapping("memory", {}, (), EVERYTHING)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (NestMapping({}, (LevelMapping("b", {"i": 9}, (), EVERYTHING), MEMORY)), "inner to outer"),
        (NestMapping({"i": 3}, (LevelMapping("b", {"i": 2}, (), EVERYTHING), MEMORY)), "inner to outer"),
        (NestMapping({"i": 0}, (MEMORY,)), "inner to outer"),
        (NestMapping({}, (LevelMapping("m", {"i": 2}, (), EVERYTHING),)), "covers 2 of 4"),
        (NestMapping({"z": 2}, (MEMORY,)), "'z'"),
        (NestMapping({}, (LevelMapping("b", {}, ("i", "i"), EVERYTHING), MEMORY)), "twice"),
        (NestMapping({}, (LevelMapping("b", {}, ("q",), EVERYTHING), MEMORY)), "'q'"),
        (NestMapping({}, (LevelMapping("m", {}, (), frozenset({"x"})),)), "does not keep"),
        (NestMapping({}, (LevelMapping("b", {}, (), frozenset({"q"})), MEMORY)), "no operand"),
    ],
)
def test_mappings_that_are_none_are_refused(mapping: NestMapping, message: str) -> None:
    graph = matmul(4, 6, 8)
    with pytest.raises(LeptonError, match=message):
        traffic(problem_of(graph, graph.ops[0], INT8), mapping)


def test_a_halo_knows_its_loops() -> None:
    graph = conv((1, 2, 8, 8), 2, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1))
    problem = problem_of(graph, graph.ops[0], INT8)
    loops = problem.loops
    assert problem.reads[0].halos[0] == Halo(loops.index("o0"), loops.index("k0"), 2, 1, -1, 8)
