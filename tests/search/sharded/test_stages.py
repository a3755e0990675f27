"""Stages of a pipeline: the best cuts against trying all, and what passes between stages."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.ir.semantics import run
from lepton_dse.parallel.layout import Mesh
from lepton_dse.schedule.sharded import Compute, staged_program
from lepton_dse.schedule.sharded.stages import crossing
from lepton_dse.search.sharded import plan_sharding, plan_stages, prices_of, send_seconds
from lepton_dse.search.sharded.stages import operation_seconds
from lepton_dse.sim.sharded import run_sharded
from lepton_dse.targets import load_cluster
from tests.oracle.sharding import MESHES, attention_block, networks, perceptron, strategies

PRICES = prices_of(load_cluster("google-v5e-pod"))


@settings(deadline=None, max_examples=30)
@given(networks(), st.integers(1, 4))
def test_the_cuts_are_the_best_of_all(graph: object, stages: int) -> None:
    found = plan_sharding(graph, Mesh.parse("x=2"), PRICES)  # type: ignore[arg-type]
    program = found.program
    count = len(program.graph.ops)
    stages = min(stages, count)
    each, sends = operation_seconds(program, PRICES), [*send_seconds(program.graph, program, PRICES), 0.0]
    assert sum(each) == pytest.approx(found.seconds)
    best = min(
        max(sum(each[a:b]) + sends[b] for a, b in itertools.pairwise((0, *cuts, count)))
        for cuts in itertools.combinations(range(1, count), stages - 1)
    )
    begins, slowest = plan_stages(program, stages, PRICES)
    assert slowest == pytest.approx(best)
    assert len(begins) == stages - 1


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_stages_compute_what_the_graph_computes(data: st.DataObject) -> None:
    graph, mesh = data.draw(networks()), data.draw(st.sampled_from(MESHES))
    chosen = data.draw(strategies(graph, mesh))
    places = sorted(data.draw(st.sets(st.integers(1, len(graph.ops) - 1), max_size=3))) if len(graph.ops) > 1 else []
    staged = staged_program(graph, mesh, chosen, [graph.ops[place].name for place in places])
    generator = np.random.default_rng(0)
    have = {name: generator.normal(size=graph.tensors[name].shape).astype(np.float32) for name in graph.inputs}
    expected = run(graph, have)
    for stage in staged.stages:
        have |= run_sharded(stage, {name: have[name] for name in stage.graph.inputs})
    for name, value in expected.items():
        np.testing.assert_allclose(have[name], value, rtol=1e-3, atol=1e-3)
    computed = [step.op.name for stage in staged.stages for step in stage.steps if isinstance(step, Compute)]
    assert {op.name for op in graph.ops} <= {name.removesuffix(" bias shape").removesuffix(" bias") for name in computed}
    crossed = crossing(graph)
    for place in places:
        later = {entry.tensor for entry in staged.transfers if entry.source < places.index(place) + 1 <= entry.sink}
        assert later == set(crossed[place])


def test_a_residual_passes_with_what_it_is_added_to() -> None:
    graph = attention_block(0, batch=2, sequence=4, heads=2, width=4)
    found = plan_sharding(graph, Mesh.parse("x=2"), PRICES)
    scores = next(op.name for op in graph.ops if op.output == "scores")
    staged = staged_program(graph, Mesh.parse("x=2"), found.strategies, [scores])
    assert {entry.tensor for entry in staged.transfers} == {"q first", "k first", "v first"}
    assert "x" in staged.stages[1].graph.inputs  # the graph's own input needs no stage before
    assert staged.devices == 4


def test_what_is_no_pipeline_is_refused() -> None:
    graph, mesh = perceptron(0, batch=4, extents=(8, 8, 8)), Mesh.parse("x=2")
    found = plan_sharding(graph, mesh, PRICES)
    for stages in (0, 4):
        with pytest.raises(LeptonError, match="of 3 operations"):
            plan_stages(found.program, stages, PRICES)
    with pytest.raises(LeptonError, match="on a cluster of 256"):
        plan_stages(plan_sharding(perceptron(0, batch=256, extents=(8, 8, 8)), Mesh.parse("x=128"), PRICES).program, 3, PRICES)
    with pytest.raises(InvalidPlanError, match="does not have"):
        staged_program(graph, mesh, found.strategies, ["nothing"])
    with pytest.raises(InvalidPlanError, match="out of order"):
        staged_program(graph, mesh, found.strategies, [graph.ops[2].name, graph.ops[1].name])
    with pytest.raises(InvalidPlanError, match="out of order"):
        staged_program(graph, mesh, found.strategies, [graph.ops[0].name])
