"""Runs the testbench of ``rtl/average_pool.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, AveragePool
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    AveragePool(5, 2, 1, 1, 5, 0),
    AveragePool(6, 1, 1, 4, 9, -13),
    AveragePool(8, 2, 3, 9, 12, 40),
    AveragePool(4, 3, 2, 4, 7, 3),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: AveragePool, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["average_pool"].timing(parameters)], parameters.folds * parameters.taps * 3)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_average_pool.py"), tmp_path, seed=7)
