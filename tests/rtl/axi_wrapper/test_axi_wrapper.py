"""Runs the testbench of ``rtl/axi_wrapper.v`` under random stalls on every channel."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_values, skip_without

from lepton_dse.rtl_library import AXI_REGISTERS, AxiWrapper
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [AxiWrapper(8, 8, 1), AxiWrapper(16, 8, 2, 1193046), AxiWrapper(40, 5, 7, (1 << 31) - 1)]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values(parameters: AxiWrapper, simulator: Simulator, tmp_path: Path) -> None:
    run_values(parameters, simulator, Path(__file__).with_name("bench_axi_wrapper.py"), tmp_path, seed=7)


def test_the_map_fills_the_address_space() -> None:
    assert [register.offset for register in AXI_REGISTERS] == list(range(0, 32, 4))
