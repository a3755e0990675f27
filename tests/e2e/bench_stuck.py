"""Testbench: offers beats without end, takes all that come, and records how many moved before nothing moved any more."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer

IDLE = 4_000  # cycles without a transfer after which a small design is stuck


@cocotb.test()
async def counts_transfers(dut: Any) -> None:
    dut.clk.value, dut.rst.value, dut.s_axis_tvalid.value, dut.m_axis_tready.value = 0, 1, 0, 0
    for level in (1, 0, 1, 0):
        await Timer(1, "ns")
        dut.clk.value = level
    dut.rst.value, dut.s_axis_tvalid.value, dut.m_axis_tready.value, dut.s_axis_tdata.value = 0, 1, 1, 0
    taken = given = idle = 0
    most = int(os.environ["MOST_BEATS"])
    while idle < IDLE and taken < most:
        await Timer(1, "ns")
        accepted, sent = int(dut.s_axis_tready.value), int(dut.m_axis_tvalid.value)
        taken, given = taken + accepted, given + sent
        idle = 0 if accepted or sent else idle + 1
        dut.clk.value = 1
        await Timer(1, "ns")
        dut.clk.value = 0
    Path(os.environ["TRANSFERS"]).write_text(json.dumps([taken, given]))
