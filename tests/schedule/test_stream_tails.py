"""What the last word of a streaming design waits for: against windows followed tap by tap, and against simulated designs."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.schedule.stream import PoolLayer, StreamGraph, needed_shares, stream_graph, stream_schedule
from lepton_dse.schedule.stream.tails import needed_pixels
from lepton_dse.search.fifo_sizing import deepened
from lepton_dse.search.stream_planner import plan_stream
from lepton_dse.sim.event_graph import Times
from lepton_dse.sim.stream import cycles_by_stage, run_stream
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.testing import StreamCase, stream_cases
from lepton_dse.testing.strategies import foldings

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@given(data=st.data())
def test_pixels_below_a_window_are_those_that_its_taps_touch(data: st.DataObject) -> None:
    kernel, strides, dilations, begin, end = (tuple(data.draw(st.integers(low, 3)) for _ in range(2)) for low in (1, 1, 1, 0, 0))
    window = ops.Window(kernel, strides, dilations, begin, end)
    extent = tuple(
        data.draw(st.integers(max(1, (kernel[axis] - 1) * dilations[axis] + 1 - begin[axis] - end[axis]), 12))
        for axis in range(2)
    )
    layer = PoolLayer("pool", "y", 8, 1, (extent[0], extent[1]), window, 8, -128, None)
    pixels = data.draw(st.integers(1, layer.pixels))
    last = 0
    for position in range(pixels):
        row, column = divmod(position, layer.out_extent[1])
        for down, across in product(range(kernel[0]), range(kernel[1])):
            y = row * strides[0] - begin[0] + down * dilations[0]
            x = column * strides[1] - begin[1] + across * dilations[1]
            if 0 <= y < extent[0] and 0 <= x < extent[1]:
                last = max(last, y * extent[1] + x + 1)
    assert needed_pixels(layer, pixels) == last


def streams_of(case: StreamCase) -> StreamGraph:
    streams = stream_graph(lower_bundle(quantize(case.graph, case.recipe, case.data)[0]))
    assume(isinstance(streams, StreamGraph))
    assert isinstance(streams, StreamGraph)
    return streams


@settings(max_examples=40, suppress_health_check=SLOW)
@given(case=stream_cases(samples=1, wide=True), data=st.data())
def test_no_design_is_faster_than_its_slowest_stage_takes_for_what_the_last_word_waits_for(
    case: StreamCase, data: st.DataObject
) -> None:
    streams = streams_of(case)
    schedule = stream_schedule(streams, deepened(streams, data.draw(foldings(streams))))
    times = run_stream(schedule, 1)
    assert isinstance(times, Times)
    shares = needed_shares(streams)
    assert all(0 <= share <= 1 for share in shares)
    stages = zip(cycles_by_stage(schedule), shares, strict=True)
    assert times.latency_cycles >= max(math.floor(cycles * share) for cycles, share in stages) - 1


@settings(max_examples=15, suppress_health_check=SLOW)
@given(case=stream_cases(samples=1, wide=True))
def test_the_certificate_of_least_latency_holds_for_every_network(case: StreamCase) -> None:
    lowered = lower_bundle(quantize(case.graph, case.recipe, case.data)[0])
    target = load_target("amd-zynq-7020")
    assert isinstance(target, FpgaTarget)
    report, _ = plan_stream(lowered, target, "latency")
    assume(report.feasible)
    assert report.search is not None
    assert report.cycles is not None
    assert report.search.lower_bound <= report.search.best == report.cycles.latency


def test_a_stride_that_leaves_rows_unread_shortens_what_the_layers_before_it_have_to_give() -> None:
    # Two convolutions of 8 by 8, then a window of 2 by 2 with a stride of 5: it ends with row 6 and column 6.
    rng = np.random.default_rng(0)
    builder = GraphBuilder("tail")
    found = builder.input("x", (1, 1, 8, 8))
    for name, kernel, stride, pads in (("first", 3, 1, 1), ("second", 2, 5, 0)):
        weights = builder.constant(f"{name}.w", rng.normal(0, 1, (1, 1, kernel, kernel)).astype(np.float32))
        window = ops.Window((kernel, kernel), (stride, stride), (1, 1), (pads, pads), (pads, pads))
        found = builder.add(ops.Conv(window), [found, weights], output=name, name=name)
    data = Dataset(rng.normal(0, 1, (4, 1, 8, 8)).astype(np.float32))
    streams = stream_graph(lower_bundle(quantize(builder.build([found]), Recipe(Precision.parse("int8")), data)[0]))
    assert isinstance(streams, StreamGraph)
    read = 6 * 8 + 7
    assert needed_shares(streams) == (Fraction(read, 64), Fraction(read, 64))
