"""Testbench: the sum of two streams, rounded and clamped, in whole numbers of any size."""

import random
from typing import Any

import cocotb
from bench_joins import check_streams
from bench_streams import load_case, pack


@cocotb.test()
@cocotb.parametrize(round=range(4))
async def adds(dut: Any, round: int) -> None:
    case = load_case()
    rng = random.Random(case["seed"] + round)
    p = case["parameters"]

    def element(bits: int) -> int:
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        return rng.choice([low, high]) if rng.random() < 0.2 else rng.randint(low, high)

    a, b, expected = [], [], []
    for _ in range(100):
        left = [element(p["A_WIDTH"]) for _ in range(p["LANES"])]
        right = [element(p["B_WIDTH"]) for _ in range(p["LANES"])]
        sums = []
        for x, y in zip(left, right, strict=True):
            total = (x - p["ZERO_A"]) * p["MULTIPLIER_A"] + (y - p["ZERO_B"]) * p["MULTIPLIER_B"]
            rounded = ((total + (1 << (p["SHIFT"] - 1))) >> p["SHIFT"]) + p["ZERO"]
            sums.append(max(p["LOW"], min(p["HIGH"], rounded)))
        a.append(pack(left, p["A_WIDTH"]))
        b.append(pack(right, p["B_WIDTH"]))
        expected.append(pack(sums, p["OUT_WIDTH"]))
    assert len(set(expected)) > 3
    await check_streams(dut, {"a": a, "b": b}, expected, rng)
