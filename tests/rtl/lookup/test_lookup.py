"""Runs the testbench of ``rtl/lookup.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, Lookup
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    Lookup(1, 3, 1),
    Lookup(4, 8, 3),
    Lookup(8, 5, 2),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: Lookup, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["lookup"].timing(parameters)], 20)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_lookup.py"), tmp_path, seed=7)
