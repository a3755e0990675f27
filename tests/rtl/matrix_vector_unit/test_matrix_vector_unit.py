"""Runs the testbench of ``rtl/matrix_vector_unit.v`` under stall traces in both simulators."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, MatrixVectorUnit, MemoryStyle, Multiplier
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

SMALL, BLOCK = MemoryStyle.DISTRIBUTED, MemoryStyle.BLOCK
DSP, LUT, PACKED = Multiplier.DSP, Multiplier.LUT, Multiplier.PACKED
CASES = [
    MatrixVectorUnit(8, 8, 24, 1, 1, 1, 1, DSP, SMALL),
    MatrixVectorUnit(2, 2, 12, 2, 1, 3, 1, LUT, SMALL),
    MatrixVectorUnit(8, 4, 10, 1, 2, 1, 5, LUT, SMALL),
    MatrixVectorUnit(4, 8, 16, 3, 5, 2, 2, LUT, BLOCK),
    MatrixVectorUnit(8, 8, 22, 4, 1, 2, 3, PACKED, SMALL),
    MatrixVectorUnit(5, 3, 17, 2, 5, 1, 4, PACKED, SMALL),
    MatrixVectorUnit(16, 16, 40, 2, 3, 4, 3, PACKED, BLOCK),
    MatrixVectorUnit(16, 16, 40, 2, 3, 4, 3, DSP, BLOCK),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(case, Simulator.VERILATOR) for case in CASES[-2:]]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: MatrixVectorUnit, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["matrix_vector_unit"].timing(parameters)], parameters.sf * 6)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_matrix_vector_unit.py"), tmp_path, seed=7)
