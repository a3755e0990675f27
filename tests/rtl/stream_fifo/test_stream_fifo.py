"""Runs the testbench of ``rtl/stream_fifo.v`` under stall traces."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, MemoryStyle, StreamFifo
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

BLOCK = MemoryStyle.BLOCK
CASES = [
    *(StreamFifo(3, 1), StreamFifo(8, 2), StreamFifo(5, 5), StreamFifo(9, 8)),
    *(StreamFifo(3, 1, BLOCK), StreamFifo(4, 2, BLOCK), StreamFifo(7, 5, BLOCK)),
]

RUNS = [(case, Simulator.ICARUS) for case in CASES]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: StreamFifo, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["stream_fifo"].timing(parameters)], 16)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_stream_fifo.py"), tmp_path, seed=7)
