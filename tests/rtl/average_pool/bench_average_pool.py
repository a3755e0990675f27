"""Testbench: the sum of each lane over the taps of a window, from INIT."""

import random
from typing import Any

import cocotb
from bench_streams import check_case, load_case, pack


@cocotb.test()
async def reduces_windows(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    element, lanes, folds, taps = (case["parameters"][name] for name in ("ELEMENT", "LANES", "FOLDS", "TAPS"))
    low, high = -(1 << (element - 1)), (1 << (element - 1)) - 1
    beats, expected = [], []
    while len(beats) < len(case["runs"][0]["input_cycles"]):
        # A window of extremes now and then, where a missing sign or carry would show.
        values = (low, high) if rng.random() < 0.3 else range(low, high + 1)
        window = [[[rng.choice(values) for _ in range(lanes)] for _ in range(folds)] for _ in range(taps)]
        beats += [pack(word, element) for tap in window for word in tap]
        for fold in range(folds):
            lanes_taps = [[window[tap][fold][lane] for tap in range(taps)] for lane in range(lanes)]
            expected.append(
                pack([case["parameters"]["INIT"] + sum(values) for values in lanes_taps], case["parameters"]["SUM_WIDTH"])
            )
    await check_case(dut, case, beats, expected)
