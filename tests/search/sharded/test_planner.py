"""The planner against exhaustive search, and its certificate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.parallel.layout import Mesh
from lepton_dse.schedule.sharded import fold
from lepton_dse.search.sharded import layouts, plan_sharding, planner, prices_of
from lepton_dse.search.sharded.choices import graph_choices, input_layouts, op_choices
from lepton_dse.targets import load_cluster
from tests.emit.xla_networks import transformer
from tests.oracle.sharding import attention_block, cheapest_of_all, count_of_all, perceptron

CLUSTERS = ("google-v5e-pod", "dgx-a100")
PRICES = {name: prices_of(load_cluster(name)) for name in CLUSTERS}


def forked(seed: int, batch: int, width: int) -> Graph:
    """A tensor that two operations read, so that they may share an exchange."""
    builder = GraphBuilder("forked")
    x = builder.input("x", (batch, width))
    left = builder.add(ops.Gelu(), [x], output="left")
    both = builder.add(ops.Add(), [x, left], output="both")
    return builder.build([builder.add(ops.Softmax((seed % 2,)), [both], output="softmax")])


@st.composite
def small(draw: st.DrawFn) -> Graph:
    batch = draw(st.sampled_from([2, 4, 64, 1024]))
    if draw(st.booleans()):
        return forked(draw(st.integers(0, 1)), batch, draw(st.sampled_from([2, 16, 4096])))
    extents = draw(st.lists(st.sampled_from([2, 6, 64, 1024]), min_size=2, max_size=3))
    return perceptron(0, batch=batch, extents=tuple(extents))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(small(), st.sampled_from(CLUSTERS), st.sampled_from(["x=2", "x=4", "x=2,y=2"]))
def test_the_plan_is_the_cheapest_of_all(graph: Graph, cluster: str, text: str) -> None:
    mesh, prices = Mesh.parse(text), PRICES[cluster]
    assume(count_of_all(graph, mesh) <= 6000)
    found = plan_sharding(graph, mesh, prices)
    assert found.seconds == pytest.approx(cheapest_of_all(graph, mesh, prices), rel=1e-9, abs=1e-15)
    assert found.search.optimal
    assert found.search.gap == 0.0
    assert prices.program(found.program) == found.seconds


@st.composite
def repeated(draw: st.DrawFn) -> Graph:
    """Three or four blocks alike that one tensor joins, and perhaps another that all of them read."""
    builder = GraphBuilder("repeated")
    batch, width = draw(st.sampled_from([2, 64, 1024])), draw(st.sampled_from([4, 64, 1024]))
    x = builder.input("x", (batch, width))
    mask = builder.add(ops.Tanh(), [x], output="mask") if draw(st.booleans()) else x
    kinds = draw(st.lists(st.sampled_from(["dense", "skip", "mask", "softmax", "gelu", "square"]), min_size=1, max_size=4))
    for number in range(draw(st.integers(3, 4))):
        before = x
        for place, kind in enumerate(kinds):
            output = f"{number}.{place}"
            if kind == "dense":
                weight = builder.constant(f"{output}.w", np.ones((width, width), np.float32))
                bias = builder.constant(f"{output}.b", np.ones(width, np.float32))
                x = builder.add(ops.MatMul(), [x, weight, bias], output=output)
            elif kind in ("skip", "mask", "square"):
                x = builder.add(ops.Add(), [x, {"skip": before, "mask": mask, "square": x}[kind]], output=output)
            else:
                x = builder.add(ops.Gelu() if kind == "gelu" else ops.Softmax((1,)), [x], output=output)
    return builder.build([x])


@pytest.mark.parametrize("limit", [1 << 22, 64])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(repeated(), st.sampled_from(CLUSTERS), st.sampled_from(["x=2", "x=4", "x=2,y=2"]))
def test_elimination_finds_what_the_mixed_integer_program_finds(limit: int, graph: Graph, cluster: str, text: str) -> None:
    """Also where tables may be so small that exchanges become variables of their own."""
    mesh, prices = Mesh.parse(text), PRICES[cluster]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "_LIMIT", limit)
        found = plan_sharding(graph, mesh, prices)
        patch.setattr(planner, "cheapest_layouts", lambda *given: None)
        whole = plan_sharding(graph, mesh, prices)
    assert found.search.lower_bound == pytest.approx(whole.search.lower_bound, rel=1e-7, abs=1e-14)
    assert found.search.optimal or len(mesh.names) > 1
    if len(mesh.names) == 1:
        assert found.seconds == pytest.approx(whole.seconds, rel=1e-7, abs=1e-14)


def test_large_tables_are_left_to_the_mixed_integer_program(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, prices = attention_block(0, batch=4, sequence=32, heads=4, width=16), PRICES["google-v5e-pod"]
    mesh = Mesh.parse("x=2")
    choices = graph_choices(graph, mesh, prices)
    arriving = {"x": input_layouts(graph.tensors["x"].shape, mesh)}
    assert layouts.cheapest_layouts(graph, mesh, prices, choices, arriving) is not None
    monkeypatch.setattr(layouts, "_LIMIT", 2)
    assert layouts.cheapest_layouts(graph, mesh, prices, choices, arriving) is None
    assert plan_sharding(graph, mesh, prices).search.optimal


def test_layers_alike_are_shared_alike() -> None:
    found = plan_sharding(transformer(layers=12), Mesh.parse("x=2,y=2"), PRICES["google-v5e-pod"])
    assert found.search.optimal
    assert fold(found.program).loops[0].count >= 10


def test_choices_of_operations_alike_are_listed_once() -> None:
    graph = transformer(layers=2)
    choices = graph_choices(graph, Mesh.parse("x=2,y=2"), PRICES["google-v5e-pod"])
    assert choices["0.up product"] is choices["1.up product"]
    assert choices["0.up product"] is not choices["0.down product"]
    for op in graph.ops:
        assert choices[op.name] == op_choices(graph, op, Mesh.parse("x=2,y=2"), PRICES["google-v5e-pod"])


def test_a_larger_graph_is_proved_too() -> None:
    graph = attention_block(0, batch=4, sequence=32, heads=4, width=16)
    for cluster, text in itertools.product(CLUSTERS, ("x=4", "x=2,y=2")):
        found = plan_sharding(graph, Mesh.parse(text), PRICES[cluster])
        assert found.search.optimal
        alone = plan_sharding(graph, Mesh.parse("x=1"), PRICES[cluster])
        assert found.seconds <= alone.seconds * (1 + 1e-9)


def test_weights_that_do_not_fit_are_a_violation_with_levers() -> None:
    graph = perceptron(0, batch=4, extents=(8, 8))
    prices = prices_of(load_cluster("google-v5e-pod"))
    levels = prices.device.levels
    tiny = levels[-1].model_copy(update={"capacity_bytes": levels[-1].capacity_bytes.model_copy(update={"value": 100.0})})
    prices.device = prices.device.model_copy(update={"levels": (*levels[:-1], tiny)})
    found = plan_sharding(graph, Mesh.parse("x=1"), prices)
    assert found.violations[0].demand == 4 * (64 + 8)
    assert found.violations[0].levers
    fits = plan_sharding(graph, Mesh.parse("x=8"), prices)  # by rows or columns, not by samples
    assert fits.violations == ()
    assert fits.weight_bytes <= 100


def test_a_mesh_larger_than_the_cluster_is_refused() -> None:
    with pytest.raises(LeptonError, match="512 devices on a cluster of 256"):
        plan_sharding(perceptron(0, batch=512, extents=(8, 8)), Mesh.parse("x=512"), PRICES["google-v5e-pod"])
