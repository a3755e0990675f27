"""Runs the testbench of ``rtl/depthwise_unit.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, DepthwiseUnit, Multiplier
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

DSP, LUT = Multiplier.DSP, Multiplier.LUT

CASES = [
    DepthwiseUnit(8, 8, 20, 2, 1, 9, DSP),
    DepthwiseUnit(4, 3, 7, 1, 1, 1, LUT),
    DepthwiseUnit(5, 8, 18, 1, 4, 4, LUT),
    DepthwiseUnit(8, 4, 17, 3, 2, 9, DSP),
    DepthwiseUnit(6, 6, 9, 2, 3, 1, DSP),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: DepthwiseUnit, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["depthwise_unit"].timing(parameters)], parameters.folds * parameters.taps * 3)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_depthwise_unit.py"), tmp_path, seed=7)
