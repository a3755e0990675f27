"""The search of foldings against plain enumeration, and what it says where nothing fits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import rtl_library as rtl
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset
from lepton_dse.flow import plan
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.schedule.stream import Folding, StreamGraph, stream_graph, stream_schedule
from lepton_dse.search.folding import FoldingSpace, Option, layer_options, next_faster, search_foldings
from lepton_dse.search.levers import levers
from lepton_dse.search.stream_planner import plan_stream
from lepton_dse.sim.stream import cycles_by_stage, resource_violations
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.targets.schema import Quantity

UNIT = load_target("unit-fpga")
assert isinstance(UNIT, FpgaTarget)
NAMES = ("lut", "ff", "dsp", "bram18")


def device(amounts: tuple[float, ...]) -> FpgaTarget:
    assert isinstance(UNIT, FpgaTarget)
    values = {name: Quantity(value=float(int(amount)), source="unit") for name, amount in zip(NAMES, amounts, strict=True)}
    return UNIT.model_copy(update=values)


def network(channels: tuple[int, ...], *, pooled: bool) -> Graph:
    builder = GraphBuilder("net")
    x = builder.input("x", (1, channels[0], 4, 4))
    rng = np.random.default_rng(0)
    for index, outputs in enumerate(channels[1:]):
        weights = rng.normal(0, 1, (outputs, builder.tensors[x].shape[1], 2, 2)).astype(np.float32)
        window = ops.Window((2, 2), (1, 1), (1, 1), (0, 0), (0, 0))
        x = builder.add(ops.Conv(window), [x, builder.constant(f"w{index}", weights)], output=f"conv{index}")
    if pooled:
        x = builder.add(ops.MaxPool(ops.Window((2, 2), (1, 1), (1, 1), (0, 0), (0, 0))), [x], output="pool")
    return builder.build([x])


def streams_of(graph: Graph) -> StreamGraph:
    x = np.random.default_rng(1).normal(0, 1, (4, *graph.tensors["x"].shape[1:])).astype(np.float32)
    streams = stream_graph(lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), Dataset(x))[0]))
    assert isinstance(streams, StreamGraph)
    return streams


def options_of(streams: StreamGraph) -> list[tuple[Option, ...]]:
    return [layer_options(layer, rtl.Family.XC7) for layer in streams.layers]


def used(choice: tuple[Option, ...]) -> tuple[float, ...]:
    return tuple(sum(amounts) for amounts in zip(*(option.resources for option in choice), strict=True))


@settings(max_examples=25)
@given(
    channels=st.sampled_from([(1, 2), (2, 3), (1, 4, 2), (3, 2), (2, 2, 3)]),
    pooled=st.booleans(),
    shares=st.tuples(*(st.floats(0, 1) for _ in NAMES)),
)
def test_the_search_equals_plain_enumeration(channels: tuple[int, ...], pooled: bool, shares: tuple[float, ...]) -> None:
    streams = streams_of(network(channels, pooled=pooled))
    options = options_of(streams)
    choices = list(product(*options))
    least, most = (tuple(pick(column) for column in zip(*map(used, choices), strict=True)) for pick in (min, max))
    budget = tuple(float(int(low + (high - low) * share)) for low, high, share in zip(least, most, shares, strict=True))
    fitting = [choice for choice in choices if all(a <= b for a, b in zip(used(choice), budget, strict=True))]
    target = device(budget)
    found = search_foldings(streams, target)
    assert found.result.evaluated == sum(map(len, options))
    if not fitting:
        assert found.foldings == ()
        assert found.violations
        for violation in found.violations:
            assert violation.demand > violation.bound == target.resources()[violation.unit]
            assert violation.unit in violation.what
            assert violation.levers
        return
    best = min(max(option.cycles for option in choice) for choice in fitting)
    chosen = tuple(
        next(option for option in layer if option.folding == folding)
        for layer, folding in zip(options, found.foldings, strict=True)
    )
    assert max(option.cycles for option in chosen) == best
    assert all(a <= b + 1e-6 for a, b in zip(used(chosen), budget, strict=True))
    assert (found.result.best, found.result.lower_bound, found.result.gap, found.result.optimal) == (best, best, 0, True)
    assert found.violations == ()
    quick = FoldingSpace(streams, target).quickest()
    soonest = tuple(
        next(option for option in layer if option.folding == folding)
        for layer, folding in zip(options, quick.foldings, strict=True)
    )
    assert all(a <= b + 1e-6 for a, b in zip(used(soonest), budget, strict=True))
    assert sum(option.cycles for option in soonest) == min(sum(option.cycles for option in choice) for choice in fitting)


@settings(max_examples=15)
@given(slack=st.sampled_from([1.25, 1.5, 2.0, 4.0]))
def test_slack_trades_cycles_for_resources_and_says_so(slack: float) -> None:
    streams = streams_of(network((2, 4, 2), pooled=True))
    tight, loose = (
        search_foldings(streams, device((1e6, 1e6, 1e4, 1e4))),
        search_foldings(streams, device((1e6, 1e6, 1e4, 1e4)), slack=slack),
    )
    assert loose.result.lower_bound == tight.result.best
    assert tight.result.best <= loose.result.best <= slack * tight.result.best
    assert loose.result.optimal == (loose.result.best == tight.result.best)
    assert loose.result.gap == pytest.approx(1 - loose.result.lower_bound / loose.result.best)


@pytest.mark.parametrize("pooled", [False, True])
def test_options_are_all_foldings_with_their_true_cost(pooled: bool) -> None:
    streams = streams_of(network((2, 4), pooled=pooled))
    for layer, options in zip(streams.layers, options_of(streams), strict=True):
        matrix = hasattr(layer, "weights")
        expected = {
            (pe, simd, multiplier)
            for simd in (1, 2, 3, 4)
            if layer.channels % simd == 0
            for pe in ((1, 2, 4) if matrix else (1,))
            for multiplier in (rtl.Multiplier if matrix else [rtl.Multiplier.DSP])
            if pe % 2 == 0 or multiplier is not rtl.Multiplier.PACKED
        }
        assert {(option.folding.pe, option.folding.simd, option.folding.multiplier) for option in options} == expected
        assert len(options) == len(expected)
    first = options_of(streams)[0]
    by_folding = {(o.folding.pe, o.folding.simd, o.folding.multiplier): o for o in first}
    slow, fast = by_folding[1, 1, rtl.Multiplier.DSP], by_folding[4, 2, rtl.Multiplier.DSP]
    assert slow.cycles == 9 * 4 * 2 * 4  # pixels, taps, inputs, outputs
    assert fast.cycles < slow.cycles
    assert slow.resources[2] == 1 + 1  # a product and a rounding at a time
    assert fast.resources[2] == 8 + 4
    assert by_folding[4, 2, rtl.Multiplier.LUT].resources[2] == 4
    assert by_folding[4, 2, rtl.Multiplier.PACKED].resources[2] == 4 + 4


def test_the_cycles_of_options_are_those_of_the_design() -> None:
    streams = streams_of(network((2, 4, 2), pooled=True))
    for choice in list(product(*options_of(streams)))[::37]:
        schedule = stream_schedule(streams, [option.folding for option in choice])
        for cycles, option in zip(cycles_by_stage(schedule), choice, strict=True):
            assert cycles >= option.cycles  # a width converter, if any, may be busier than the stage itself


def test_the_next_faster_bound_is_the_next_one() -> None:
    streams = streams_of(network((2, 4, 2), pooled=False))
    rich, options = device((1e6, 1e6, 1e4, 1e4)), options_of(streams)
    bounds = sorted({max(option.cycles for option in choice) for choice in product(*options)})
    for slower, faster in zip(bounds[1:], bounds, strict=False):
        found = next_faster(streams, rich, slower)
        assert found is not None
        assert found[0] == faster
        assert found[1] == ()
    assert next_faster(streams, rich, bounds[0]) is None
    poor = device((1, 1, 1, 1))
    lacking = next_faster(streams, poor, bounds[-1])
    assert lacking is not None
    assert lacking[1]
    assert all(violation.demand > violation.bound for violation in lacking[1])


@settings(max_examples=12)
@given(objective=st.sampled_from(["latency", "throughput"]), share=st.floats(0.02, 1.0))
def test_a_planned_design_fits_as_built(objective: str, share: float) -> None:
    graph = network((2, 4, 3), pooled=True)
    x = np.random.default_rng(1).normal(0, 1, (4, 2, 4, 4)).astype(np.float32)
    lowered = lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), Dataset(x))[0])
    target = device((3000 * share, 4000 * share, 60 * share, 40))
    report, chosen = plan_stream(lowered, target, objective)
    assert report.search is not None or report.violations
    if not report.feasible:
        assert chosen == ()
        return
    streams = streams_of(graph)
    assert resource_violations(stream_schedule(streams, chosen).resources(rtl.Family.XC7), target) == ()
    assert report.search is not None
    assert report.cycles is not None
    assert report.search.lower_bound <= report.search.best
    assert report.search.optimal == (report.search.gap == 0)
    if objective == "latency":
        assert report.search.best == report.cycles.latency
        assert report.cycles.latency <= plan_stream(lowered, target, "throughput")[0].cycles.latency  # type: ignore[union-attr]
    else:
        assert report.search.best == report.cycles.interval


def test_levers_name_the_next_design_and_other_formats() -> None:
    graph = network((2, 4), pooled=False)
    for name, words in (("unit-fpga", "faster"), ("amd-zynq-7020", "cycles"), ("unit-cpu", "times as fast")):
        planned = plan(graph, name, minimize="throughput")
        found = levers(planned.plan, graph, planned.lowered, load_target(name))
        assert found
        assert any(words in sentence for sentence in found), found


def test_a_plan_for_a_processor_has_every_operation_at_its_formats() -> None:
    planned = plan(network((2, 4), pooled=True), "unit-gpu", format="w4a8", overrides={"conv0": "w6a8"})
    assert {entry.op: entry.precision for entry in planned.plan.ops} == {"conv0": "w6a8", "pool": "w4a8"}
    assert planned.plan.op("conv0").mapping.factor("pe") == 1
    assert Folding.from_plan(planned.plan.op("pool")) == Folding(1, 1)
