"""Runs the testbench of ``rtl/frame_last.v`` under random valid and ready."""

import json
from pathlib import Path

import pytest
from rtl_cases import identifier, skip_without, source

from lepton_dse.rtl_library import FrameLast
from lepton_dse.verify.simulators import Simulator, run_cocotb

pytestmark = pytest.mark.rtl

CASES = [FrameLast(1, 1), FrameLast(5, 2), FrameLast(8, 7), FrameLast(12, 16)]


@pytest.mark.parametrize("parameters", CASES, ids=identifier)
@skip_without
def test_marks_the_last_beat(parameters: FrameLast, tmp_path: Path) -> None:
    values = parameters.verilog_parameters()
    case = tmp_path / "case.json"
    case.write_text(json.dumps({"parameters": values, "seed": 7}))
    result = run_cocotb(
        Simulator.ICARUS,
        [source("frame_last")],
        "frame_last",
        values,
        "bench_frame_last",
        [Path(__file__).parent, Path(__file__).parents[1]],
        tmp_path,
        {"LEPTON_CASE": str(case)},
    )
    assert result.passed, "\n".join(result.failures)
