"""Testbench: every consumer gets every word once and in order, whatever the others do."""

import random
from typing import Any

import cocotb
from bench_joins import check_streams
from bench_streams import load_case


@cocotb.test()
@cocotb.parametrize(round=range(6))
async def offers_to_all(dut: Any, round: int) -> None:
    case = load_case()
    rng = random.Random(case["seed"] + round)
    words = [rng.getrandbits(case["parameters"]["WIDTH"]) for _ in range(120)]
    await check_streams(dut, {"s": words}, words, rng, case["parameters"]["COPIES"])
