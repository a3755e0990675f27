"""Testbench: words of the first, then of the second, turn by turn."""

import random
from typing import Any

import cocotb
from bench_joins import check_streams
from bench_streams import load_case


@cocotb.test()
@cocotb.parametrize(round=range(6))
async def joins_in_turns(dut: Any, round: int) -> None:
    case = load_case()
    rng = random.Random(case["seed"] + round)
    width, first, second = (case["parameters"][name] for name in ("WIDTH", "A_WORDS", "B_WORDS"))
    a, b, expected = [], [], []
    for _ in range(20):
        for words, count in ((a, first), (b, second)):
            drawn = [rng.getrandbits(width) for _ in range(count)]
            words.extend(drawn)
            expected += drawn
    await check_streams(dut, {"a": a, "b": b}, expected, rng)
