"""Runs the testbench of ``rtl/stream_register.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, StreamRegister
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

CASES = [StreamRegister(1), StreamRegister(13)]

RUNS = [(case, Simulator.ICARUS) for case in CASES]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: StreamRegister, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["stream_register"].timing(parameters)], 12)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_stream_register.py"), tmp_path, seed=7)
