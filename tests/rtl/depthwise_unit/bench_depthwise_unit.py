"""Testbench: each channel's window times its own weights, plus its bias, modulo the accumulator's width."""

import random
from typing import Any

import cocotb
from bench_streams import Memory, check_case, load_case, pack


@cocotb.test()
async def multiplies_channels(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    p = case["parameters"]
    lanes, folds, taps = p["LANES"], p["FOLDS"], p["TAPS"]

    def signed(bits: int) -> int:
        # The most negative operands now and then: their product needs every bit.
        return -(1 << (bits - 1)) if rng.random() < 0.2 else rng.randint(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)

    weights = [[signed(p["W_WIDTH"]) for _ in range(lanes * folds)] for _ in range(taps)]
    bias = [signed(p["ACC_WIDTH"]) for _ in range(lanes * folds)]
    beats, expected = [], []
    while len(beats) < len(case["runs"][0]["input_cycles"]):
        window = [[signed(p["A_WIDTH"]) for _ in range(lanes * folds)] for _ in range(taps)]
        beats += [pack(tap[fold * lanes :][:lanes], p["A_WIDTH"]) for tap in window for fold in range(folds)]
        sums = [
            bias[channel] + sum(window[tap][channel] * weights[tap][channel] for tap in range(taps))
            for channel in range(lanes * folds)
        ]
        expected += [pack(sums[fold * lanes :][:lanes], p["ACC_WIDTH"]) for fold in range(folds)]
    words = [pack(tap[fold * lanes :][:lanes], p["W_WIDTH"]) for tap in weights for fold in range(folds)]
    biases = [pack(bias[fold * lanes :][:lanes], p["ACC_WIDTH"]) for fold in range(folds)]
    await check_case(dut, case, beats, expected, lambda: [Memory(dut, "w", words, True), Memory(dut, "b", biases, False)])
