"""FIFO depths as sized, and one word below: the design keeps its pace, or slows down or stops as predicted, in the RTL too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lepton_dse import flow
from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.emit.verilog.top import TOP, design_modules, memory_files, top_module
from lepton_dse.files import data_folder
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.memory import map_memory, stored_bytes
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Plan
from lepton_dse.schedule.stream import Folding, StreamGraph, StreamSchedule, stream_graph, stream_schedule
from lepton_dse.search.fifo_sizing import size_fifos
from lepton_dse.sim.event_graph import Deadlock
from lepton_dse.sim.stream import FRAMES, cycles_by_stage, run_stream, stream_report
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.verify.artefact import open_artefact
from lepton_dse.verify.first_wrong import run_testbench
from lepton_dse.verify.simulators import Simulator, run_cocotb

pytestmark = [pytest.mark.slow, pytest.mark.rtl]


def convolved(builder: GraphBuilder, x: str, name: str, outputs: int, kernel: int, groups: int = 1) -> str:
    shape, pad = (outputs, builder.tensors[x].shape[1] // groups, kernel, kernel), (kernel // 2,) * 2
    weights = builder.constant(f"{name}.w", np.random.default_rng(len(name)).normal(0, 1, shape).astype(np.float32))
    return builder.add(ops.Conv(ops.Window((kernel,) * 2, (1, 1), (1, 1), pad, pad), groups), [x, weights], output=name)


def residual() -> Graph:
    """Two convolutions beside nothing: the rows that their windows hold back must wait in front of the sum."""
    builder = GraphBuilder("residual")
    x = convolved(builder, builder.input("x", (1, 2, 7, 6)), "stem", 4, 1)
    main = convolved(builder, convolved(builder, x, "first", 4, 3), "second", 4, 3)
    return builder.build([builder.add(ops.Add(), [main, x], output="sum")])


def parts() -> Graph:
    """Three branches of different length, one behind another."""
    builder = GraphBuilder("parts")
    x = convolved(builder, builder.input("x", (1, 2, 6, 6)), "stem", 2, 1)
    deep = convolved(builder, convolved(builder, x, "deep", 2, 3), "deeper", 4, 3)
    return builder.build([builder.add(ops.Concat(1), [deep, x, convolved(builder, x, "flat", 2, 1)], output="all")])


def fewer(schedule: StreamSchedule) -> Iterator[list[Folding]]:
    """The foldings of a design with one word less in one FIFO."""
    found = [stage.folding for stage in schedule.stages]
    for position, folding in enumerate(found):
        trials = [replace(folding, fifo_depth=folding.fifo_depth - 1)] if folding.fifo_depth > 2 else []
        for operand, depth in enumerate(folding.feed_depths):
            feeds = tuple(entry - (place == operand) for place, entry in enumerate(folding.feed_depths))
            trials += [replace(folding, feed_depths=feeds)] if depth > 1 else []
        for trial in trials:
            yield [*found[:position], trial, *found[position + 1 :]]


@pytest.mark.parametrize("build", [residual, parts])
def test_one_word_less_slows_or_stops_as_predicted(build: Callable[[], Graph], tmp_path: Path) -> None:
    graph = build()
    bundle, calibration = quantize(graph, Recipe(Precision.parse("int8")), noise(graph, 0, 4))
    bundle = Bundle(bundle.graph, bundle.scales, noise(graph, 1, 4).x)
    lowered = lower_bundle(bundle)
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph)
    schedule = size_fifos(streams, [Folding(1, layer.lanes_limit) for layer in streams.layers])
    pace = run_stream(schedule)
    assert not isinstance(pace, Deadlock)
    assert pace.interval_cycles == max(cycles_by_stage(schedule))
    target = load_target("unit-fpga")
    assert isinstance(target, FpgaTarget)
    slower = stopped = 0
    for number, chosen in enumerate(fewer(schedule)):
        shallow = stream_schedule(streams, chosen)
        times = run_stream(shallow)
        folder = tmp_path / str(number)
        folder.mkdir()
        if isinstance(times, Deadlock):
            stopped += 1
            source, sink = times.waits[0], times.waits[-1]
            assert (source.process, sink.process) == ("stream_fifo", "sink")
            expected = [
                source.frame * shallow.input_beats + source.step,
                sink.frame * shallow.output_beats + sink.step,
            ]
            assert transfers(shallow, folder) == expected
            continue
        slower += 1
        assert times.interval_cycles > pace.interval_cycles
        plan = Plan(
            model=graph.name,
            bundle_digest=bundle.digest,
            target=target.name,
            target_digest=target.digest,
            precision="int8",
            calibration=calibration,
            seed=0,
            objective="throughput",
            ops=tuple(folding.to_plan(layer.name, "int8") for layer, folding in zip(streams.layers, chosen, strict=True)),
            memory=map_memory(lowered, bytes_of=stored_bytes),
            predicted=stream_report(shallow, lowered, target),
        )
        design = flow.emit(flow.PlannedModel(plan, bundle, target), folder / "design")
        tests, failures = run_testbench(open_artefact(design), folder, {})
        assert failures == ()
        assert tests == 7
    assert slower + stopped > 0


def test_a_join_that_is_fed_too_little_stops(tmp_path: Path) -> None:
    """A residual whose bypass holds two words: the deadlock that is found before emission is that of the RTL."""
    graph = residual()
    lowered = lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), noise(graph, 0, 4))[0])
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph)
    bypass = [tuple(2 for _ in sources) if len(sources) > 1 else () for sources in streams.sources]
    chosen = [Folding(1, layer.lanes_limit, feed_depths=feeds) for layer, feeds in zip(streams.layers, bypass, strict=True)]
    schedule = stream_schedule(streams, chosen)
    times = run_stream(schedule)
    assert isinstance(times, Deadlock)
    source, sink = times.waits[0], times.waits[-1]
    assert (source.frame, sink.frame, sink.step) == (0, 0, 0)
    assert transfers(schedule, tmp_path) == [source.step, 0]


def transfers(schedule: StreamSchedule, folder: Path) -> list[int]:
    """Beats that a design takes and gives in Icarus Verilog before it stops."""
    (folder / f"{TOP}.v").write_text(top_module(schedule, "stuck"))
    for name, image in memory_files(schedule).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(image)
    result = run_cocotb(
        Simulator.ICARUS,
        [*(data_folder("rtl") / f"{name}.v" for name in design_modules(schedule)), folder / f"{TOP}.v"],
        TOP,
        {},
        "bench_stuck",
        [Path(__file__).parent],
        folder,
        {"TRANSFERS": str(folder / "transfers.json"), "MOST_BEATS": str(FRAMES * schedule.input_beats)},
    )
    assert result.passed, result.failures
    found: list[int] = json.loads((folder / "transfers.json").read_text())
    return found
