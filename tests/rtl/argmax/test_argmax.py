"""Runs the testbench of ``rtl/argmax.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, Argmax
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [Argmax(4, 1, 1, 1), Argmax(3, 1, 10, 4), Argmax(5, 5, 1, 8), Argmax(3, 4, 3, 4)]

RUNS = [(case, Simulator.ICARUS) for case in CASES]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: Argmax, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["argmax"].timing(parameters)], parameters.folds * 8)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_argmax.py"), tmp_path, seed=7)
