"""Runs the testbench of ``rtl/stream_concat.v`` under random stalls on every stream."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_values, skip_without

from lepton_dse.rtl_library import StreamConcat
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    StreamConcat(4, 1, 1),
    StreamConcat(8, 1, 3),
    StreamConcat(12, 5, 2),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values(parameters: StreamConcat, simulator: Simulator, tmp_path: Path) -> None:
    run_values(parameters, simulator, Path(__file__).with_name("bench_stream_concat.py"), tmp_path, seed=7)
