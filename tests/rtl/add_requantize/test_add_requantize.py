"""Runs the testbench of ``rtl/add_requantize.v`` under random stalls on every stream."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_values, skip_without

from lepton_dse.rtl_library import AddRequantize
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    AddRequantize(8, 8, 3, -5, 65000, 40123, 17, 17, 8, -2, -128, 127, 2),
    AddRequantize(2, 7, -2, 9, 3, 131071, 17, 20, 4, 0, -7, 6, 1),
    AddRequantize(16, 5, 32767, -16, 1, 0, 1, 1, 16, 100, -32768, 32767, 1),
    AddRequantize(4, 4, 1, 1, 80000, 100000, 17, 18, 3, -1, -4, 3, 3),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values(parameters: AddRequantize, simulator: Simulator, tmp_path: Path) -> None:
    run_values(parameters, simulator, Path(__file__).with_name("bench_add_requantize.py"), tmp_path, seed=7)
