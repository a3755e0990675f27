"""The streaming simulator: bounded by its stages, never worse with more room, and its report adds up."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lepton_dse import rtl_library as rtl
from lepton_dse.compress.quantize import quantize
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.lower import lower_bundle
from lepton_dse.schedule.stream import (
    DepthwiseLayer,
    Folding,
    MatrixLayer,
    StreamGraph,
    StreamSchedule,
    stream_graph,
    stream_schedule,
)
from lepton_dse.schedule.stream.stalls import stall_bits
from lepton_dse.search.fifo_sizing import deepened, size_fifos
from lepton_dse.sim.event_graph import Deadlock, Times
from lepton_dse.sim.stream import cycles_by_stage, resource_violations, run_stream, stage_cycles, stall_case, stream_report
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.targets.fpga import FabricEnergy
from lepton_dse.targets.schema import Quantity
from lepton_dse.testing import StreamCase, stream_cases
from lepton_dse.testing.strategies import foldings

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
from fabric_energy import counted_energy

EXAMPLES = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def streams_of(case: StreamCase) -> tuple[LoweredGraph, StreamGraph]:
    lowered = lower_bundle(quantize(case.graph, case.recipe, case.data)[0])
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph)
    return lowered, streams


def times_of(schedule: StreamSchedule) -> Times:
    times = run_stream(schedule)
    assume(isinstance(times, Times))
    assert isinstance(times, Times)
    return times


def slowest_of(schedule: StreamSchedule) -> int:
    return max(cycles_by_stage(schedule))


@EXAMPLES
@given(case=stream_cases(samples=2, wide=True), data=st.data())
def test_no_interval_is_below_its_slowest_stage(case: StreamCase, data: st.DataObject) -> None:
    _, streams = streams_of(case)
    schedule = stream_schedule(streams, data.draw(foldings(streams)))
    times = times_of(schedule)
    assert times.interval_cycles >= max(slowest_of(schedule), schedule.input_beats, schedule.output_beats)
    assert times.latency_cycles >= schedule.output_beats


@EXAMPLES
@given(case=stream_cases(samples=2, wide=True), data=st.data())
def test_a_stage_takes_at_least_its_products(case: StreamCase, data: st.DataObject) -> None:
    """Counted by hand: a matrix stage makes PE x SIMD products a cycle."""
    _, streams = streams_of(case)
    schedule = stream_schedule(streams, data.draw(foldings(streams)))
    for position, stage in enumerate(schedule.stages):
        pairs = zip(stage.layer.operands, streams.sources[position], strict=True)
        cycles, beats = stage_cycles(stage, [operand.elements // schedule.lanes_behind(source) for operand, source in pairs])
        assert cycles == cycles_by_stage(schedule)[position]
        match stage.layer:
            case MatrixLayer(outputs=outputs, channels=channels, window=window, pixels=pixels):
                assert cycles >= pixels * outputs * window.taps * channels // (stage.folding.pe * stage.folding.simd)
            case DepthwiseLayer(channels=channels, window=window, pixels=pixels):
                assert cycles >= pixels * window.taps * channels // stage.folding.simd
        # Every element leaves once, in words as wide as the FIFO at the stage's end.
        width = stage.body[-1].module.ports(stage.body[-1].parameters)[-1].width
        assert width == stage.lanes * stage.layer.output_bits
        assert beats * stage.lanes == stage.layer.pixels * stage.layer.out_channels


@EXAMPLES
@given(case=stream_cases(samples=2, wide=True), data=st.data())
def test_more_room_never_slows_a_design(case: StreamCase, data: st.DataObject) -> None:
    _, streams = streams_of(case)
    chosen = data.draw(foldings(streams))
    base = times_of(stream_schedule(streams, chosen))
    index = data.draw(st.integers(0, len(chosen) - 1))
    deeper = [
        replace(entry, fifo_depth=entry.fifo_depth + data.draw(st.integers(1, 40))) if i == index else entry
        for i, entry in enumerate(chosen)
    ]
    longer = [replace(entry, buffer_rows=(entry.buffer_rows or 0) + 2) if i == index else entry for i, entry in enumerate(chosen)]
    base_rows = [replace(entry, buffer_rows=entry.buffer_rows or 0) if i == index else entry for i, entry in enumerate(chosen)]
    for before, after in ((base, deeper), (times_of(stream_schedule(streams, base_rows)), longer)):
        times = times_of(stream_schedule(streams, after))
        assert times.latency_cycles <= before.latency_cycles
        assert times.interval_cycles <= before.interval_cycles
        assert np.all(times.output_cycles <= before.output_cycles)


@EXAMPLES
@given(case=stream_cases(samples=2, wide=True), data=st.data())
def test_sized_fifos_keep_the_pace_of_deep_ones(case: StreamCase, data: st.DataObject) -> None:
    _, streams = streams_of(case)
    chosen = data.draw(foldings(streams))
    schedule = size_fifos(streams, chosen)
    deep = times_of(stream_schedule(streams, deepened(streams, chosen)))
    interval = times_of(schedule).interval_cycles
    # Windows may have grown too, so the pace can be better than with deep FIFOs alone, never better than the slowest stage.
    assert slowest_of(schedule) <= interval <= deep.interval_cycles
    found = [stage.folding for stage in schedule.stages]
    for index, folding in enumerate(found):
        # One word less anywhere slows the design or stops it.
        fewer = [replace(folding, fifo_depth=folding.fifo_depth - 1)] if folding.fifo_depth > 2 else []
        for operand, depth in enumerate(folding.feed_depths):
            if depth:
                feeds = tuple(entry - (place == operand) for place, entry in enumerate(folding.feed_depths))
                fewer.append(replace(folding, feed_depths=feeds if any(feeds) else ()))
        for changed in fewer:
            times = run_stream(stream_schedule(streams, [*found[:index], changed, *found[index + 1 :]]))
            assert isinstance(times, Deadlock) or times.interval_cycles > interval


@EXAMPLES
@given(case=stream_cases(samples=2, wide=True), data=st.data(), seed=st.integers(0, 9))
def test_stalls_only_delay(case: StreamCase, data: st.DataObject, seed: int) -> None:
    _, streams = streams_of(case)
    schedule = stream_schedule(streams, data.draw(foldings(streams)))
    times_of(schedule)
    free, stalled = stall_case(schedule, 0, 2), stall_case(schedule, seed, 2)
    assert np.all(stalled.output_cycles >= free.output_cycles)
    assert len(stalled.input_cycles) == 2 * schedule.input_beats
    assert len(stalled.output_cycles) == 2 * schedule.output_beats
    # A beat moves only in a cycle whose bit is 1; a source may have raised valid before.
    assert stalled.sink[stalled.output_cycles % len(stalled.sink)].all()


@pytest.mark.parametrize("seed", range(12))
def test_traces_are_seeded_and_never_stop_for_good(seed: int) -> None:
    source, sink = stall_bits(seed)
    again = stall_bits(seed)
    assert np.array_equal(source, again[0])
    assert np.array_equal(sink, again[1])
    assert source.any()
    assert sink.any()
    assert source.all() == (seed == 0)


@EXAMPLES
@given(case=stream_cases(samples=2, wide=True), data=st.data())
def test_the_report_adds_up(case: StreamCase, data: st.DataObject) -> None:
    lowered, streams = streams_of(case)
    target = load_target("unit-fpga")
    assert isinstance(target, FpgaTarget)
    schedule = stream_schedule(streams, data.draw(foldings(streams)))
    report = stream_report(schedule, lowered, target)
    times = times_of(schedule)
    total = schedule.resources(rtl.Family.XC7)
    assert report.cycles is not None
    assert (report.cycles.latency, report.cycles.interval) == (times.latency_cycles, times.interval_cycles)
    assert (report.latency_s, report.throughput_per_s) == (times.latency_cycles, 1 / times.interval_cycles)  # a cycle is a second
    assert report.resources == {"LUT": total.lut, "FF": total.ff, "DSP": total.dsp, "BRAM18": total.bram18}
    assert [op.name for op in report.ops] == [layer.name for layer in streams.layers]
    assert sum(op.macs for op in report.ops) == lowered.macs
    assert max(op.latency_s for op in report.ops) == slowest_of(schedule)
    assert report.bound_by == report.cycles.slowest
    assert all(0 < op.utilization <= 1 for op in report.ops)
    assert report.feasible
    words = [(layer.weights.size * layer.weight_bits) for layer in streams.layers if isinstance(layer, MatrixLayer)]
    assert report.peak_bytes * 8 >= sum(words)


@EXAMPLES
@given(case=stream_cases(samples=2, wide=True), data=st.data(), joules=st.tuples(*[st.floats(0, 10)] * 3))
def test_energy_is_that_of_every_event(case: StreamCase, data: st.DataObject, joules: tuple[float, float, float]) -> None:
    lowered, streams = streams_of(case)
    target = load_target("unit-fpga")
    assert isinstance(target, FpgaTarget)
    schedule = stream_schedule(streams, data.draw(foldings(streams)))
    assert stream_report(schedule, lowered, target).energy_j is None, "nothing is known of this device"
    multiply, add, memory = (Quantity(value=value, source="unit") for value in joules)
    energy = FabricEnergy(multiply_j=multiply, add_j=add, memory_j_per_byte=memory)
    report = stream_report(schedule, lowered, target.model_copy(update={"energy": energy}))
    assert report.energy_j == pytest.approx(counted_energy(schedule, lowered, energy))
    assert report.energy_j == sum(op.energy_j or 0.0 for op in report.ops)


def limited(**amounts: float) -> FpgaTarget:
    target = load_target("unit-fpga")
    assert isinstance(target, FpgaTarget)
    return target.model_copy(update={name: Quantity(value=value, source="unit") for name, value in amounts.items()})


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_violations_name_exactly_what_is_lacking(lut: int, ff: int, dsp: int, bram: int) -> None:
    target = limited(lut=50, ff=50, dsp=50, bram18=50)
    demand = {"LUT": lut, "FF": ff, "DSP": dsp, "BRAM18": bram}
    found = resource_violations(rtl.Resources(lut=lut, ff=ff, dsp=dsp, bram18=bram), target)
    assert {violation.unit: violation.demand for violation in found} == {
        name: value for name, value in demand.items() if value > 50
    }
    assert all(violation.bound == 50 and violation.levers for violation in found)


def test_a_design_that_is_too_large_is_reported_not_raised() -> None:
    case = _small()
    lowered, streams = streams_of(case)
    schedule = stream_schedule(streams, [Folding(1, 1)] * len(streams.layers))
    report = stream_report(schedule, lowered, limited(lut=1, dsp=0))
    assert not report.feasible
    assert {violation.unit for violation in report.violations} == {"LUT", "DSP"}


def _small() -> StreamCase:
    from lepton_dse.data import Dataset
    from lepton_dse.ir import ops
    from lepton_dse.ir.graph import GraphBuilder
    from lepton_dse.numerics.formats import Precision

    builder = GraphBuilder("small")
    weights = builder.constant("w", np.ones((3, 2), np.float32))
    graph = builder.build([builder.add(ops.MatMul(), [builder.input("x", (1, 3)), weights], output="y")])
    return StreamCase(graph, Precision.parse("int8"), Dataset(np.eye(3, dtype=np.float32)))
