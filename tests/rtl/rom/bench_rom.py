"""Testbench: the word of each address one cycle later; without the enable the last word stays."""

import random
from typing import Any

import cocotb
from bench_streams import load_case
from cocotb.triggers import Timer


@cocotb.test()
async def reads_the_image(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    image = case["image"]
    expected = None
    for address in [*range(len(image)), *(rng.randrange(len(image)) for _ in range(200))]:
        enable = expected is None or rng.random() < 0.6
        dut.clk.value = 0
        dut.en.value = int(enable)
        dut.addr.value = address
        await Timer(1, "ns")
        dut.clk.value = 1
        await Timer(1, "ns")
        expected = image[address] if enable else expected
        assert int(dut.data.value) == expected
