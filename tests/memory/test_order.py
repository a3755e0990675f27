"""Orders of operations: the least of all there are where proved so, never a larger arena, and the same results."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import InvalidModelError
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.ir.semantics import run
from lepton_dse.memory import arena_bytes, in_less_memory, least_order, map_memory, packed_bytes
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import orders as oracle

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@st.composite
def wired(draw: st.DrawFn, most: int = 7) -> Graph:
    """Irregular graphs: results of several sizes, views, sums, values made of constants, outputs and inputs anywhere."""
    builder = GraphBuilder("wired")
    inputs = [builder.input(f"x{index}", (1, draw(st.integers(1, 4)))) for index in range(draw(st.integers(1, 2)))]
    rows, columns = list(inputs), []
    for index in range(draw(st.integers(1, most))):
        name, x = f"t{index}", draw(st.sampled_from(rows))
        width = builder.tensors[x].shape[1]
        match draw(st.sampled_from(["tanh", "tanh", "slice", "slice", "concat", "add", "view", "column", "made"])):
            case "tanh":
                rows.append(builder.add(ops.Tanh(), [x], output=name))
            case "slice":
                kept = draw(st.integers(1, width))
                rows.append(builder.add(ops.Slice((0, width - kept), (1, kept), (1, 1)), [x], output=name))
            case "concat":
                rows.append(builder.add(ops.Concat(1), [x, draw(st.sampled_from(rows))], output=name))
            case "add":
                fitting = [each for each in rows if builder.tensors[each].shape == (1, width)]
                rows.append(builder.add(ops.Add(), [x, draw(st.sampled_from(fitting))], output=name))
            case "view":
                columns.append(builder.add(ops.Reshape((width, 1)), [x], output=name))
            case "column" if columns:
                column = draw(st.sampled_from(columns))
                rows.append(builder.add(ops.Reshape((1, builder.tensors[column].shape[0])), [column], output=name))
            case _:
                value = builder.constant(f"c{index}", np.full((1, draw(st.integers(1, 4))), index, np.float32))
                rows.append(builder.add(ops.Tanh(), [value], output=name))
    made = [name for name in (*rows, *columns) if name not in inputs]
    return builder.build(draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True)) if made else inputs)


def sizes_of(graph: Graph, alignment: int) -> dict[str, int]:
    return {name: -(-packed_bytes(tensor) // alignment) * alignment for name, tensor in graph.tensors.items()}


@settings(max_examples=400, deadline=None)
@given(wired(), st.booleans(), st.sampled_from([1, 8]))
def test_the_least_of_all_orders(graph: Graph, in_place: bool, alignment: int) -> None:
    sizes = sizes_of(graph, alignment)
    found = least_order(graph, bytes_of=packed_bytes, alignment=alignment, in_place=in_place)
    least = oracle.least_live(graph, sizes, in_place=in_place)
    assert found.proved
    assert found.live == found.bound == least
    order = [graph.ops[index] for index in found.operations]
    assert oracle.live_bytes(graph, order, sizes, in_place=in_place) == least
    assert found.changed == (oracle.live_bytes(graph, graph.ops, sizes, in_place=in_place) > least)


@settings(max_examples=200, deadline=None)
@given(wired(9), st.integers(0, 30))
def test_few_steps_give_no_worse_an_order_and_a_bound_that_holds(graph: Graph, steps: int) -> None:
    found = least_order(graph, bytes_of=packed_bytes, steps=steps)
    best = least_order(graph, bytes_of=packed_bytes)
    order = [graph.ops[index] for index in found.operations]
    live = oracle.live_bytes(graph, order, sizes_of(graph, 64), in_place=True)
    assert (
        found.bound <= best.live <= found.live == live <= oracle.live_bytes(graph, graph.ops, sizes_of(graph, 64), in_place=True)
    )


@settings(max_examples=200, deadline=None)
@given(wired(12), st.booleans(), st.sampled_from([1, 64]))
def test_another_order_computes_the_same_in_no_larger_an_arena(graph: Graph, in_place: bool, alignment: int) -> None:
    better = in_less_memory(graph, in_place=in_place, alignment=alignment)
    before = map_memory(graph, in_place=in_place, alignment=alignment)
    after = map_memory(better, in_place=in_place, alignment=alignment)
    assert after.peak < before.peak if better is not graph else better.digest == graph.digest
    assert sorted(op.name for op in better.ops) == sorted(op.name for op in graph.ops)
    for op in better.ops:
        assert all(better.producer(name) in better.ops[: better.ops.index(op)] for name in op.inputs if better.producer(name))
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(0, 1, graph.tensors[name].shape).astype(np.float32) for name in graph.inputs}
    found, wanted = run(better, inputs), run(graph, inputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(found[name], wanted[name])
    assert in_less_memory(better, in_place=in_place, alignment=alignment).digest == better.digest


@settings(max_examples=60, deadline=None)
@given(st.one_of(graphs(branches=True), wired(9)))
def test_the_peak_alone_is_that_of_the_better_order(graph: Graph) -> None:
    assert arena_bytes(graph) == map_memory(in_less_memory(graph)).peak


def test_a_large_result_is_read_before_the_next_is_made() -> None:
    builder = GraphBuilder("freed")
    x = builder.input("x", (1, 64))
    parts = [builder.add(ops.Concat(1), [x] * 8, output=name) for name in ("first", "second")]
    ends = [builder.add(ops.Slice((0, 0), (1, 16), (1, 1)), [part], output=f"end of {part}") for part in parts]
    graph = builder.build([builder.add(ops.Concat(1), ends, output="y")])
    found = least_order(graph, bytes_of=packed_bytes)
    assert [op.name for op in graph.ops][:3] == ["first", "second", "end of first"]
    assert [graph.ops[index].name for index in found.operations] == ["first", "end of first", "second", "end of second", "y"]
    assert (found.live, found.bound) == (64 * 4 * 9 + 64, 64 * 4 * 9 + 64)
    assert [op.name for op in in_less_memory(graph).ops] == [graph.ops[index].name for index in found.operations]


@pytest.mark.parametrize("steps", [*range(0, 200, 3), 20_000])
def test_parts_that_are_searched_one_after_another(steps: int) -> None:
    """Parts that could each need less, of which the steps are enough for none, some or all."""
    builder = GraphBuilder("parts")
    x = builder.input("x", (1, 16))
    for part, width in enumerate((3, 7, 5, 6)):
        ends = []
        for index in range(3):
            wide = builder.add(ops.Concat(1), [x] * (width + index), output=f"wide{part}.{index}")
            ends.append((wide, index))
        ends = [
            builder.add(ops.Slice((0, 0), (1, 16), (1, 1)), [wide], output=f"end{part}.{index}") for wide, index in reversed(ends)
        ]
        x = builder.add(
            ops.Slice((0, 0), (1, 16), (1, 1)), [builder.add(ops.Concat(1), ends, output=f"join{part}")], output=f"x{part}"
        )
    graph = builder.build([x])
    found, best = (least_order(graph, bytes_of=packed_bytes, **options) for options in ({"steps": steps}, {}))
    sizes = sizes_of(graph, 64)
    live = oracle.live_bytes(graph, [graph.ops[index] for index in found.operations], sizes, in_place=True)
    assert best.proved
    assert found.bound <= best.live <= found.live == live <= oracle.live_bytes(graph, graph.ops, sizes, in_place=True)
    assert found.live == best.live or steps < 200
    assert best.live < oracle.live_bytes(graph, graph.ops, sizes, in_place=True)


def test_what_is_made_of_constants_is_made_where_it_is_read() -> None:
    builder = GraphBuilder("late")
    x = builder.input("x", (1, 1000))
    made = [
        builder.add(ops.Tanh(), [builder.constant(f"w{index}", np.ones((1, 1000), np.float32))], output=f"made{index}")
        for index in range(20)
    ]
    for index, name in enumerate(made):
        x = builder.add(ops.Add(), [x, name], output=f"sum{index}")
    graph = builder.build([x])
    found = least_order(graph, bytes_of=packed_bytes, alignment=1)
    assert found.proved
    assert found.live == 2 * 4000
    assert map_memory(graph, alignment=1).peak == 21 * 4000
    assert map_memory(in_less_memory(graph), alignment=1).peak == 2 * 4032 - 64


def test_a_chain_needs_no_search() -> None:
    builder = GraphBuilder("chain")
    x = builder.input("x", (1, 3))
    for index in range(300):
        x = builder.add(ops.Concat(1), [x, x] if index < 9 else [x], output=f"t{index}")
    found = least_order(builder.build([x]), bytes_of=packed_bytes, steps=0)
    assert found.proved
    assert not found.changed


def test_graphs_take_no_order_that_is_none() -> None:
    builder = GraphBuilder("two")
    x = builder.input("x", (1, 3))
    first = builder.add(ops.Tanh(), [x], output="first")
    graph = builder.build([builder.add(ops.Tanh(), [first], output="second")])
    assert graph.with_order(["first", "second"]).digest == graph.digest
    with pytest.raises(InvalidModelError, match="second: stands before what it reads"):
        graph.with_order(["second", "first"])
    for names in (["first"], ["first", "first"], ["first", "second", "third"]):
        with pytest.raises(InvalidModelError, match="two: an order of other operations; name each operation once"):
            graph.with_order(names)


@pytest.mark.parametrize(
    ("name", "arena"), [("light_shufflenet", 2_885_120), ("light_inception_v2", 4_014_080), ("light_squeezenet", 3_928_576)]
)
def test_published_networks(name: str, arena: int) -> None:
    graph = load_model(LIGHT / f"{name}.onnx").with_batch(1)
    found = least_order(graph, bytes_of=packed_bytes)
    assert found.proved
    assert found.changed == (name == "light_shufflenet")
    mapped = map_memory(in_less_memory(graph))
    assert mapped.peak == mapped.bound == found.live == arena
