"""Testbench: the index of the greatest element, the first of equals."""

import random
from typing import Any

import cocotb
from bench_streams import check_case, load_case, pack


@cocotb.test()
async def finds_the_first_greatest(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    element, lanes, folds = (case["parameters"][name] for name in ("ELEMENT", "LANES", "FOLDS"))
    low, high = -(1 << (element - 1)), (1 << (element - 1)) - 1
    beats, expected = [], []
    while len(beats) < len(case["runs"][0]["input_cycles"]):
        # Few different values make ties common; all-lowest vectors would lose to a wrong start value.
        values = rng.choice(([low], [low, high], [-1, 0, 1], range(low, high + 1)))
        vector = [rng.choice(values) for _ in range(lanes * folds)]
        beats += [pack(vector[i : i + lanes], element) for i in range(0, len(vector), lanes)]
        expected.append(vector.index(max(vector)))
    await check_case(dut, case, beats, expected)
