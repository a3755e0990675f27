"""The clock of streaming designs: the longest way through a design's ends, and the band around it."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lepton_dse import rtl_library as rtl
from lepton_dse.compress.quantize import quantize
from lepton_dse.lower import lower_bundle
from lepton_dse.rtl_library import Depth, End
from lepton_dse.schedule.stream import StreamGraph, StreamSchedule, stream_graph, stream_schedule
from lepton_dse.schedule.stream.layers import OUTPUT
from lepton_dse.sim.clock import fmax_band, longest_way, path_seconds
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.targets.fpga import FabricTiming
from lepton_dse.testing import StreamCase, stream_cases
from lepton_dse.testing.strategies import foldings

EXAMPLES = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def device(name: str) -> FpgaTarget:
    target = load_target(name)
    assert isinstance(target, FpgaTarget)
    return target


ECP5 = device("lattice-ecp5-85f")
TIMED = [ECP5, device("amd-zynq-7020")]


def timing_of(target: FpgaTarget) -> FabricTiming:
    assert target.timing is not None
    return target.timing


def schedule_of(case: StreamCase, data: st.DataObject) -> StreamSchedule:
    streams = stream_graph(lower_bundle(quantize(case.graph, case.recipe, case.data)[0]))
    assume(isinstance(streams, StreamGraph))
    assert isinstance(streams, StreamGraph)
    return stream_schedule(streams, data.draw(foldings(streams)))


def by_enumeration(schedule: StreamSchedule, family: rtl.Family, timing: FabricTiming) -> float:
    """The longest way in a graph of every end of every instance and memory, found by networkx."""
    graph = nx.DiGraph()

    def edge(start: object, end: object, depth: Depth) -> None:
        known = graph.get_edge_data(start, end, {"weight": -1.0})["weight"]
        graph.add_edge(start, end, weight=max(known, path_seconds(depth, timing)))

    def place(name: object, module: rtl.ModuleDeclaration[rtl.Parameters], parameters: rtl.Parameters) -> None:
        for path in module.paths(parameters, family):
            start = "from register" if path.start is End.REGISTER else (name, path.start)
            edge(start, "to register" if path.end is End.REGISTER else (name, path.end), path.depth)

    for position, instance in enumerate(schedule.instances):
        place(position, instance.module, instance.parameters)
        for memory in instance.memories:
            part = rtl.rom_slices(memory.width, memory.depth)[0]
            place((position, memory.port), rtl.MODULES["rom"], rtl.Rom(part.width, memory.depth, "", part.style))
            edge((position, End.ADDRESS), ((position, memory.port), End.INPUT), Depth())
            edge(((position, memory.port), End.OUTPUT), (position, End.WORD), Depth())
    for link in schedule.links:
        if link.sink != OUTPUT:
            edge((link.source, End.OUTPUT), (link.sink, End.INPUT), Depth())
            edge((link.sink, End.READY_OUT), (link.source, End.READY_IN), Depth())
    assert nx.is_directed_acyclic_graph(graph)
    useful = nx.descendants(graph, "from register") & nx.ancestors(graph, "to register") | {"from register", "to register"}
    return float(nx.dag_longest_path_length(graph.subgraph(useful)))


@EXAMPLES
@given(stream_cases(samples=1, wide=True), st.data())
def test_the_longest_way_is_that_of_the_whole_graph(case: StreamCase, data: st.DataObject) -> None:
    schedule = schedule_of(case, data)
    for target in TIMED:
        family, timing = rtl.Family(target.fabric), timing_of(target)
        way = longest_way(schedule, family, timing)
        assert way.seconds == pytest.approx(by_enumeration(schedule, family, timing))
        names = [instance.name for instance in schedule.instances]
        assert way.through
        assert set(way.through) <= set(names)


@EXAMPLES
@given(stream_cases(samples=1, wide=True), st.data())
def test_the_band_lies_around_the_longest_way(case: StreamCase, data: st.DataObject) -> None:
    schedule = schedule_of(case, data)
    for target in TIMED:
        timing = timing_of(target)
        band = fmax_band(schedule, target)
        assert band is not None
        period = timing.register_s.value + longest_way(schedule, rtl.Family(target.fabric), timing).seconds
        assert band.low_hz * timing.slower.value == pytest.approx(1 / period)
        assert band.high_hz * timing.faster.value == pytest.approx(1 / period)
        slower = timing.model_copy(update={"level_s": timing.level_s.model_copy(update={"value": 2 * timing.level_s.value})})
        later = fmax_band(schedule, target.model_copy(update={"timing": slower}))
        assert later is not None
        assert later.high_hz <= band.high_hz
        assert fmax_band(schedule, target.model_copy(update={"timing": None})) is None


@given(st.integers(1, 8), st.integers(1, 8))
def test_more_lanes_at_once_are_never_faster(few: int, more: int) -> None:
    few, more = sorted((few, few + more))

    def slowest(lanes: int) -> float:
        paths = rtl.MODULES["argmax"].paths(rtl.Argmax(8, lanes, 1, 8), rtl.Family.ECP5)
        return max(path_seconds(path.depth, timing_of(ECP5)) for path in paths)

    assert slowest(few) <= slowest(more)


def test_depths_add_up() -> None:
    one, other = Depth(levels=1, carry=8, chains=1, loads=4), Depth(levels=2, blocks=1, products=1, lookups=1, loads=8)
    assert one + other == Depth(3, 1, 8, 0, 1, 1, 1, 32)
    timing = timing_of(ECP5)
    assert path_seconds(one + other, timing) == pytest.approx(path_seconds(one, timing) + path_seconds(other, timing))
