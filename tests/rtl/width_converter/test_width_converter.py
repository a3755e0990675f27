"""Runs the testbench of ``rtl/width_converter.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, WidthConverter
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [
    WidthConverter(5, 2, 2),
    WidthConverter(3, 1, 2),
    WidthConverter(3, 2, 1),
    WidthConverter(4, 6, 2),
    WidthConverter(4, 2, 6),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: WidthConverter, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["width_converter"].timing(parameters)], 12)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_width_converter.py"), tmp_path, seed=7)
