"""Sharded programs compute what the whole graph computes, whatever the strategy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.semantics import run
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.schedule.sharded import Compute, Cut, Exchange, Halo, ShardedProgram, Strategies, sharded_program
from lepton_dse.schedule.sharded.build import OpStrategy
from lepton_dse.schedule.sharded.reshard import moves
from lepton_dse.sim.sharded import run_sharded
from tests.oracle.sharding import MESHES, arrivals, attention_block, networks, perceptron, residual_network, strategies


def feeds(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=graph.tensors[name].shape).astype(np.float32) for name in graph.inputs}


def kinds(program: ShardedProgram) -> Counter[str]:
    names = {Compute: "compute", Cut: "cut", Halo: "halo"}
    return Counter(step.kind.value if isinstance(step, Exchange) else names[type(step)] for step in program.steps)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_strategy_computes_the_whole_graph(data: st.DataObject) -> None:
    graph = data.draw(networks())
    mesh = data.draw(st.sampled_from(MESHES))
    program = sharded_program(graph, mesh, data.draw(strategies(graph, mesh)))
    given_ = feeds(graph)
    expected, found = run(graph, given_), run_sharded(program, given_)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-3)
    for step in program.steps:
        if isinstance(step, Compute):
            assert all(name in program.shards for name in (*step.op.inputs, step.op.output))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_integers_come_out_equal_bit_for_bit(data: st.DataObject) -> None:
    """Partial sums of integers are exact, so any strategy gives the very integers of the reference."""
    drawn = data.draw(st.sampled_from(["perceptron", "residual"]))
    if drawn == "perceptron":
        graph = perceptron(3, batch=1, extents=(16, 8, 8))
    else:
        graph = residual_network(3, batch=1, channels=8, extent=8)
    lowered = ld.plan(graph, "google-tpu-v5e", format=data.draw(st.sampled_from(["int8", "w4a8"]))).lowered
    mesh = data.draw(st.sampled_from(MESHES))
    program = sharded_program(lowered, mesh, data.draw(strategies(lowered, mesh)))
    given_ = feeds(lowered)
    expected, found = run(lowered, given_), run_sharded(program, given_)
    for name, value in expected.items():
        assert np.array_equal(found[name], value)


MESH = Mesh.parse("x=2")
BATCH, COLUMNS = Layout((("x",), ())), Layout(((), ("x",)))
WHOLE = Layout(((), ()))


def dense(shared: dict[str, tuple[str, ...]], home: Layout, arriving: Layout) -> ShardedProgram:
    graph = perceptron(0, batch=4, extents=(8, 6))
    return sharded_program(graph, MESH, Strategies({"x": arriving}, {graph.ops[0].name: OpStrategy(shared, home)}))


@pytest.mark.parametrize(
    ("shared", "home", "arriving", "expected"),
    [
        ({"i": ("x",)}, BATCH, BATCH, {"compute": 1}),  # y_i = f(x_i W + b): samples
        ({"j": ("x",)}, COLUMNS, WHOLE, {"compute": 1}),  # y_i = f(x W_i + b_i): columns
        ({"k": ("x",)}, WHOLE, COLUMNS, {"compute": 2, "all_reduce": 1}),  # y = f(sum x_i W_i + b): rows
        ({"k": ("x",)}, BATCH, COLUMNS, {"compute": 2, "reduce_scatter": 1}),
        ({"i": ("x",)}, BATCH, WHOLE, {"compute": 1, "cut": 1}),
        ({"j": ("x",)}, COLUMNS, BATCH, {"compute": 1, "all_gather": 1}),
        ({"k": ("x",)}, WHOLE, BATCH, {"compute": 2, "all_to_all": 1, "all_reduce": 1}),
    ],
)
def test_the_three_definitions_and_their_exchanges(
    shared: dict[str, tuple[str, ...]], home: Layout, arriving: Layout, expected: dict[str, int]
) -> None:
    program = dense(shared, home, arriving)
    assert kinds(program) == expected
    given_ = feeds(program.graph)
    np.testing.assert_allclose(run_sharded(program, given_)["dense0"], run(program.graph, given_)["dense0"], rtol=1e-5, atol=1e-5)


def test_rows_of_an_image_need_those_of_the_neighbours() -> None:
    graph = residual_network(0, batch=1, channels=4, extent=8)
    rows = Layout(((), (), ("x",), ()))
    chosen = {op.name: OpStrategy({}, Layout(((),) * len(graph.tensors[op.output].shape))) for op in graph.ops}
    for op in graph.ops[:3]:
        loop = "d2" if op.kind == "Clip" else "o0"
        chosen[op.name] = OpStrategy({loop: ("x",)}, rows)
    program = sharded_program(graph, MESH, Strategies({"x": rows}, chosen))
    halos = [step for step in program.steps if isinstance(step, Halo)]
    assert [(step.before, step.after, step.dimension) for step in halos] == [(1, 1, 2), (1, 1, 2)]


def test_heads_are_shared_with_one_all_reduce() -> None:
    """Columns into the heads, the heads each by itself, and rows out of them (arXiv:1909.08053)."""
    graph = attention_block(0, batch=2, sequence=4, heads=4, width=4)
    chosen = {}
    for op in graph.ops:
        rank = len(graph.tensors[op.output].shape)
        name = op.output
        if name in ("q", "k", "v"):
            chosen[op.name] = OpStrategy({"j": ("x",)}, Layout(((), (), ("x",))))
        elif name.endswith("heads"):
            chosen[op.name] = OpStrategy({"v2": ("x",)}, Layout(((), (), ("x",), ())))
        elif name.endswith("first") or name == "shares":
            chosen[op.name] = OpStrategy({"d1": ("x",)}, Layout(((), ("x",), (), ())))
        elif name in ("scores", "mixed"):
            chosen[op.name] = OpStrategy({"b1": ("x",)}, Layout(((), ("x",), (), ())))
        elif name == "back":
            chosen[op.name] = OpStrategy({"d2": ("x",)}, Layout(((), (), ("x",), ())))
        elif name == "joined":
            chosen[op.name] = OpStrategy({"v2": ("x",)}, Layout(((), (), ("x",))))
        elif name == "out":
            chosen[op.name] = OpStrategy({"k": ("x",)}, Layout(((),) * rank))
        else:
            chosen[op.name] = OpStrategy({}, Layout(((),) * rank))
    program = sharded_program(graph, MESH, Strategies({"x": Layout(((), (), ()))}, chosen))
    assert {kind: count for kind, count in kinds(program).items() if kind != "compute"} == {"all_reduce": 1}
    given_ = feeds(graph)
    np.testing.assert_allclose(run_sharded(program, given_)["sum"], run(graph, given_)["sum"], rtol=1e-4, atol=1e-4)


@settings(max_examples=300)
@given(st.data())
def test_moves_end_where_they_should(data: st.DataObject) -> None:
    mesh = data.draw(st.sampled_from(MESHES))
    shape = (16, 16, 16)
    source, wanted = (data.draw(st.sampled_from(list(arrivals(shape, mesh)))) for _ in range(2))
    free = [axis for axis in mesh.names if axis not in source.used]
    source = Layout(source.cuts, tuple(axis for axis in free if data.draw(st.booleans())))
    found = moves(source, wanted)
    assert (found[-1].result if found else source) == wanted
    assert found == [] if source == wanted else found
    assert all(move.kind is None or move.kind in Collective for move in found)


def test_a_graph_needs_a_strategy_for_everything() -> None:
    graph = perceptron(0, batch=4, extents=(8, 6))
    with pytest.raises(InvalidPlanError, match="no layout"):
        sharded_program(graph, MESH, Strategies({}, {}))
    with pytest.raises(InvalidPlanError, match="no strategy"):
        sharded_program(graph, MESH, Strategies({"x": WHOLE}, {}))
    odd = {graph.ops[0].name: OpStrategy({"j": ("x",), "i": ("x",)}, WHOLE)}
    with pytest.raises(ld.LeptonError):
        sharded_program(graph, MESH, Strategies({"x": WHOLE}, odd))
    uneven = {graph.ops[0].name: OpStrategy({"nothing": ("x",)}, WHOLE)}
    with pytest.raises(InvalidPlanError, match="comes out even"):
        sharded_program(graph, MESH, Strategies({"x": WHOLE}, uneven))
