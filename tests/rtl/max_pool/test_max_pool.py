"""Runs the testbench of ``rtl/max_pool.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, MaxPool
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    MaxPool(5, 2, 1, 1),
    MaxPool(6, 1, 1, 4),
    MaxPool(8, 2, 3, 9),
    MaxPool(4, 3, 2, 4),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: MaxPool, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["max_pool"].timing(parameters)], parameters.folds * parameters.taps * 3)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_max_pool.py"), tmp_path, seed=7)
