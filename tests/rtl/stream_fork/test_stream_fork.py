"""Runs the testbench of ``rtl/stream_fork.v`` under random stalls on every stream."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_values, skip_without

from lepton_dse.rtl_library import StreamFork
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    StreamFork(1, 2),
    StreamFork(9, 3),
    StreamFork(40, 2),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values(parameters: StreamFork, simulator: Simulator, tmp_path: Path) -> None:
    run_values(parameters, simulator, Path(__file__).with_name("bench_stream_fork.py"), tmp_path, seed=7)
