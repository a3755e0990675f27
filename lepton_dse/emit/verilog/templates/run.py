"""Builds and runs the testbench: ``python tb/run.py [icarus|verilator]``; needs cocotb and the simulator."""

from __future__ import annotations

import sys
from pathlib import Path

from cocotb_tools.runner import get_runner

FOLDER = Path(__file__).resolve().parent.parent
SIMULATOR = sys.argv[1] if len(sys.argv) > 1 else "icarus"

if __name__ == "__main__":
    runner = get_runner(SIMULATOR)
    sources = [*sorted(FOLDER.glob("rtl/*.v")), FOLDER / "lepton_top.v"]
    # Memory images are found from the folder of the artefact, so that is where the simulation runs.
    runner.build(sources=sources, hdl_toplevel="lepton_top", build_dir=FOLDER / "sim_build", timescale=("1ns", "1ps"))
    runner.test(
        hdl_toplevel="lepton_top", test_module="test_design", test_dir=FOLDER, extra_env={"PYTHONPATH": str(FOLDER / "tb")}
    )
