"""Branches whose FIFOs would have to be deeper than there are: an infeasible plan with its levers, and no design."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.schedule.stream import StreamGraph, stream_graph
from lepton_dse.search import fifo_sizing


def convolved(builder: GraphBuilder, x: str, name: str) -> str:
    weights = builder.constant(f"{name}.w", np.random.default_rng(len(name)).normal(0, 1, (2, 2, 3, 3)).astype(np.float32))
    return builder.add(ops.Conv(ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))), [x, weights], output=name)


def residual() -> Graph:
    builder = GraphBuilder("residual")
    stem = convolved(builder, builder.input("x", (1, 2, 8, 8)), "stem")
    main = convolved(builder, convolved(builder, stem, "first"), "second")
    return builder.build([builder.add(ops.Add(), [main, stem], output="sum", name="sum")])


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_a_bypass_deeper_than_any_fifo_is_a_violation(objective: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fifo_sizing, "MOST_DEPTH", 4)
    planned = ld.plan(residual(), "unit-fpga", minimize=objective)
    assert not planned.predicted.feasible
    assert planned.plan.ops == () or all(not entry.feed_depths for entry in planned.plan.ops)
    (violation,) = planned.predicted.violations
    assert violation.what.startswith("deadlock: ")
    assert violation.levers
    with pytest.raises(ld.LeptonError, match="does not fit"):
        ld.emit(planned, tmp_path / "design")


def test_a_plan_with_too_shallow_a_bypass_is_refused(tmp_path: Path) -> None:
    planned = ld.plan(residual(), "unit-fpga")
    streams = stream_graph(planned.lowered)
    assert isinstance(streams, StreamGraph)
    (depth,) = (depth for depth in planned.plan.op("sum").feed_depths if depth)
    shallow = tuple(min(entry, 1) for entry in planned.plan.op("sum").feed_depths)
    assert depth > 1
    ops_of = tuple(
        entry.model_copy(update={"feed_depths": shallow}) if entry.op == "sum" else entry for entry in planned.plan.ops
    )
    edited = replace(planned, plan=planned.plan.model_copy(update={"ops": ops_of}))
    with pytest.raises(InvalidPlanError, match="too shallow"):
        ld.emit(edited, tmp_path / "design")
    assert not (tmp_path / "design").exists()
