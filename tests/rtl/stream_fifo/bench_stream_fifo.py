"""Testbench: a FIFO passes every word on, in order."""

import random
from typing import Any

import cocotb
from bench_streams import check_case, load_case


@cocotb.test()
async def passes_words_on(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    words = [rng.getrandbits(case["parameters"]["WIDTH"]) for _ in case["runs"][0]["input_cycles"]]
    await check_case(dut, case, words, words)
