"""Runs the testbench of ``rtl/matrix_vector_unit.v`` under stall traces in both simulators."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, MatrixVectorUnit, MemoryStyle, Multiplier
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

SMALL, BLOCK, DSP, LUT = MemoryStyle.DISTRIBUTED, MemoryStyle.BLOCK, Multiplier.DSP, Multiplier.LUT
CASES = [
    MatrixVectorUnit(8, 8, 24, 1, 1, 1, 1, DSP, SMALL),
    MatrixVectorUnit(2, 2, 12, 2, 1, 3, 1, LUT, SMALL),
    MatrixVectorUnit(8, 4, 10, 1, 2, 1, 5, LUT, SMALL),
    MatrixVectorUnit(4, 8, 16, 3, 5, 2, 2, LUT, BLOCK),
    MatrixVectorUnit(16, 16, 40, 2, 3, 4, 3, DSP, BLOCK),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: MatrixVectorUnit, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["matrix_vector_unit"].timing(parameters)], parameters.sf * 6)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_matrix_vector_unit.py"), tmp_path, seed=7)
