"""Runs the testbench of ``rtl/sliding_window.v`` under stall traces in both simulators."""

from pathlib import Path

import pytest
from rtl_cases import identifier, run_case, skip_without

from lepton_dse.rtl_library import MODULES, MemoryStyle, SlidingWindow, WindowShape
from lepton_dse.sim.event_graph import chain
from lepton_dse.verify.simulators import Simulator

pytestmark = pytest.mark.rtl

BLOCK = MemoryStyle.BLOCK
SHAPES = [
    # folds, rows, cols, kh, kw, sh, sw, dh, dw, pt, pl, oh, ow
    (WindowShape(1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1), 0),  # a wire with a buffer of one word
    (WindowShape(1, 5, 6, 3, 3, 1, 1, 1, 1, 1, 1, 5, 6), 0),  # padded on all sides, least buffer
    (WindowShape(2, 7, 5, 2, 2, 2, 2, 1, 1, 0, 0, 3, 2), 3),  # a row and a column are never read
    (WindowShape(1, 8, 8, 3, 2, 3, 2, 1, 1, 1, 0, 3, 4), 7),  # stride equal to the height, padding above alone
    (WindowShape(1, 9, 7, 2, 3, 2, 1, 3, 2, 1, 2, 4, 6), 1),  # dilated
    (WindowShape(3, 4, 4, 1, 1, 2, 3, 1, 1, 0, 0, 2, 2), 40),  # a buffer larger than a frame
    (WindowShape(1, 3, 3, 7, 7, 2, 2, 1, 1, 3, 3, 2, 2), 0),  # a window larger than the image
    (WindowShape(2, 6, 6, 3, 3, 2, 2, 1, 1, 1, 1, 3, 3), 12),
]
CASES = [
    SlidingWindow(**vars(shape), element=4, lanes=2, pad=-3, buffer=shape.minimum_buffer + slack, style=BLOCK)
    for shape, slack in SHAPES
]

RUNS = [(case, Simulator.ICARUS) for case in CASES] + [(CASES[-1], Simulator.VERILATOR)]


@pytest.mark.parametrize(("parameters", "simulator"), RUNS, ids=lambda value: getattr(value, "value", None) or identifier(value))
@skip_without
def test_values_and_cycles(parameters: SlidingWindow, simulator: Simulator, tmp_path: Path) -> None:
    network = chain([MODULES["sliding_window"].timing(parameters)], parameters.rows * parameters.cols * parameters.folds)
    run_case(parameters, network, simulator, Path(__file__).with_name("bench_sliding_window.py"), tmp_path, seed=7)
