"""Testbench: scale, round halves up, shift by the zero point, clamp."""

import random
from fractions import Fraction
from math import floor
from typing import Any

import cocotb
from bench_streams import Memory, check_case, load_case, pack


@cocotb.test()
async def scales_and_clamps(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    p = case["parameters"]
    limit = 1 << (p["ACC_WIDTH"] - 1)
    largest = (1 << p["M_WIDTH"]) - 1
    multipliers = [[rng.choice((largest, rng.randint(0, largest))) for _ in range(p["PE"])] for _ in range(p["NF"])]
    beats, expected = [], []
    for beat in range(len(case["runs"][0]["input_cycles"])):
        row = multipliers[beat % p["NF"]]
        lanes = []
        for multiplier in row:
            # Most accumulators land inside the clamp, some on a half, some at the ends of the range.
            inside = (2 * p["HIGH"] << p["SHIFT"]) // max(multiplier, 1)
            half = ((2 * rng.randint(-9, 9) + 1) << (p["SHIFT"] - 1)) // max(multiplier, 1)
            drawn = rng.choices((rng.randint(-inside, inside), half, -limit, limit - 1), (6, 2, 1, 1))[0]
            lanes.append(max(-limit, min(limit - 1, drawn)))
        beats.append(pack(lanes, p["ACC_WIDTH"]))
        scaled = [Fraction(a * m, 1 << p["SHIFT"]) for a, m in zip(lanes, row, strict=True)]
        rounded = [floor(value + Fraction(1, 2)) + p["ZERO"] for value in scaled]
        expected.append(pack([max(p["LOW"], min(p["HIGH"], value)) for value in rounded], p["OUT_WIDTH"]))
    words = [pack(row, p["M_WIDTH"]) for row in multipliers]
    await check_case(dut, case, beats, expected, lambda: [Memory(dut, "p", words, enabled=True)])
