"""Drawn networks through the whole flow: bit-exact and cycle-exact in Icarus Verilog, and equal in C++."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from lepton_dse import flow
from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import quantize
from lepton_dse.data import Dataset
from lepton_dse.lower import lower_bundle
from lepton_dse.memory import map_memory, stored_bytes
from lepton_dse.plan import Plan
from lepton_dse.schedule.stream import StreamGraph, stream_graph, stream_schedule
from lepton_dse.sim.event_graph import Deadlock
from lepton_dse.sim.stream import run_stream, stream_report
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.testing import StreamCase, stream_cases
from lepton_dse.testing.strategies import foldings, graphs, precisions
from lepton_dse.verify.artefact import VerifyOptions, open_artefact
from lepton_dse.verify.cpp import VERIFIER as CPP
from lepton_dse.verify.first_wrong import run_testbench

NETWORKS = 30
WIDE_NETWORKS = 60
SEARCH = (Phase.explicit, Phase.reuse, Phase.generate)  # a simulation takes seconds: a failure is shown as it was drawn


def planned_with(case: StreamCase, draw: st.DataObject) -> flow.PlannedModel:
    """A plan with drawn foldings for a device without limits."""
    bundle, calibration = quantize(case.graph, case.recipe, case.data)
    bundle = Bundle(bundle.graph, bundle.scales, case.data.x)
    lowered = lower_bundle(bundle)
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph), streams
    chosen = draw.draw(foldings(streams))
    schedule = stream_schedule(streams, chosen)
    # FIFOs in front of a join may be drawn too shallow: the prediction says so, and nothing is emitted.
    assume(not isinstance(run_stream(schedule), Deadlock))
    target = load_target("unit-fpga")
    assert isinstance(target, FpgaTarget)
    precision = str(case.precision)
    plan = Plan(
        model="drawn",
        bundle_digest=bundle.digest,
        target=target.name,
        target_digest=target.digest,
        precision=precision,
        calibration=calibration,
        seed=0,
        objective="throughput",
        ops=tuple(
            folding.to_plan(layer.name, str(case.overrides.get(layer.name, case.precision)))
            for layer, folding in zip(streams.layers, chosen, strict=True)
        ),
        memory=map_memory(lowered, bytes_of=stored_bytes),
        predicted=stream_report(schedule, lowered, target),
    )
    return flow.PlannedModel(plan, bundle, target)


@pytest.mark.slow
@pytest.mark.rtl
@settings(max_examples=NETWORKS, phases=SEARCH)
@given(case=stream_cases(samples=4), draw=st.data())
def test_streams_are_exact_in_icarus_and_equal_in_cpp(case: StreamCase, draw: st.DataObject) -> None:
    check(planned_with(case, draw))


@pytest.mark.slow
@pytest.mark.rtl
@settings(max_examples=WIDE_NETWORKS, phases=SEARCH, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(case=stream_cases(samples=3, wide=True), draw=st.data())
def test_branches_are_exact_in_icarus_and_equal_in_cpp(case: StreamCase, draw: st.DataObject) -> None:
    """Residuals, concatenations, depthwise and dilated convolutions, tables, and formats that differ from layer to layer."""
    check(planned_with(case, draw))


def check(planned: flow.PlannedModel) -> None:
    """Every word and every cycle of the design in Icarus Verilog, and the C++ program of the same plan."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # The bench compares every output word, and the cycle of every beat at both ends under seven pairs of traces.
        design = flow.emit(planned, folder / "design")
        (folder / "simulation").mkdir()
        tests, failures = run_testbench(open_artefact(design), folder / "simulation", {})
        assert failures == ()
        assert tests == 7
        program = flow.emit(planned, folder / "program", emitter="cpp")
        checks = CPP.run(open_artefact(program), VerifyOptions())
        assert [check.status.value for check in checks] == ["passed"], checks


@pytest.mark.slow
@settings(max_examples=20, phases=SEARCH)
@given(graph=graphs(branches=True), precision=precisions(2, 16), seed=st.integers(0, 2**32 - 1))
def test_branching_networks_are_equal_in_cpp(graph, precision, seed: int) -> None:
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    x = np.random.default_rng(seed).normal(0, 1, (4, *shape)).astype(np.float32)
    planned = flow.plan(graph, "unit-cpu", format=str(precision), data=Dataset(x))
    with tempfile.TemporaryDirectory() as scratch:
        program = flow.emit(planned, Path(scratch) / "program")
        checks = CPP.run(open_artefact(program), VerifyOptions())
        assert [check.status.value for check in checks] == ["passed"], checks
