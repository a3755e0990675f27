"""FPGA fabrics: one whose resource formulas no synthesis has checked is refused in words, wherever it turns up."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_dse import rtl_library as rtl
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder, LoweredGraph
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.schedule.stream import StreamGraph, stream_graph
from lepton_dse.search.folding import FoldingSpace
from lepton_dse.search.stream_planner import plan_stream
from lepton_dse.targets import FpgaTarget, load_target, target_names

CHECKED = {family.value for family in rtl.Family}
FPGAS = [target for name in target_names(unit=False) if isinstance(target := load_target(name), FpgaTarget)]
UNCHECKED = [target for target in FPGAS if target.fabric not in CHECKED]


def lowered() -> LoweredGraph:
    rng = np.random.default_rng(0)
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 8))
    w = builder.constant("w", rng.normal(0, 1, (8, 4)).astype(np.float32))
    graph = builder.build([builder.add(ops.MatMul(), [x, w], output="y")])
    return lower_bundle(quantize(graph, Recipe(Precision.parse("int8")), Dataset(rng.normal(0, 1, (4, 8)).astype(np.float32)))[0])


def test_there_are_both_kinds() -> None:
    assert {target.fabric for target in FPGAS} == {"xc7", "ecp5", "xcup", "versal", "ice40"}
    assert {"versal", "ice40"}.isdisjoint(CHECKED)


@pytest.mark.parametrize("target", UNCHECKED, ids=lambda target: target.name)
def test_the_planner_refuses_a_fabric_without_formulas(target: FpgaTarget) -> None:
    report, foldings = plan_stream(lowered(), target, "throughput")
    assert not report.feasible
    assert foldings == ()
    (violation,) = report.violations
    assert target.fabric in violation.what
    assert target.name in violation.what
    assert all(fabric in violation.levers[0] for fabric in CHECKED)


def test_no_other_familys_formulas_are_used_instead() -> None:
    """Below the planner the same is an error that names the fabric, not a cost."""
    streams = stream_graph(lowered())
    assert isinstance(streams, StreamGraph)
    with pytest.raises(LeptonError, match="ice40"):
        FoldingSpace(streams, UNCHECKED[0].model_copy(update={"fabric": "ice40"}))
    with pytest.raises(LeptonError, match="versal"):
        rtl.Family("versal")
    assert rtl.Family("xc7") is rtl.Family.XC7
    assert rtl.Family("xcup") is rtl.Family.XCUP
