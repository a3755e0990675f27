"""Testbench: every beat passes through in the cycle it is offered, and exactly the last beat of each frame is marked."""

import random
from typing import Any

import cocotb
from bench_streams import load_case
from cocotb.triggers import Timer

FRAMES = 5


@cocotb.test()
async def marks_the_last_beat(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    beats, width = case["parameters"]["BEATS"], case["parameters"]["WIDTH"]
    for source_density, sink_density in ((1.0, 1.0), (0.4, 1.0), (1.0, 0.3), (0.6, 0.6)):
        dut.clk.value, dut.rst.value, dut.s_valid.value, dut.s_data.value, dut.m_ready.value = 0, 1, 0, 0, 0
        await Timer(1, "ns")
        dut.clk.value = 1
        await Timer(1, "ns")
        marks: list[int] = []
        while len(marks) < FRAMES * beats:
            valid, ready, data = rng.random() < source_density, rng.random() < sink_density, rng.getrandbits(width)
            dut.clk.value, dut.rst.value = 0, 0
            dut.s_valid.value, dut.s_data.value, dut.m_ready.value = int(valid), data, int(ready)
            await Timer(1, "ns")
            assert (int(dut.m_valid.value), int(dut.s_ready.value), int(dut.m_data.value)) == (valid, ready, data)
            if valid and ready:
                marks.append(int(dut.m_last.value))
            dut.clk.value = 1
            await Timer(1, "ns")
        assert marks == ([0] * (beats - 1) + [1]) * FRAMES
