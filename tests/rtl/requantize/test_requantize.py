"""Runs the testbench of ``rtl/requantize.v`` under stall traces in both simulators."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, Requantize
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    Requantize(20, 17, 16, 8, 0, -128, 127, 1, 1),
    Requantize(12, 5, 1, 9, 3, -200, 255, 2, 3),
    Requantize(18, 17, 40, 4, -2, -7, 7, 1, 2),
    Requantize(24, 17, 22, 8, -128, -128, 127, 3, 4),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: Requantize, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["requantize"].timing(parameters)], parameters.nf * 10)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_requantize.py"), tmp_path, seed=7)
