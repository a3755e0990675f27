"""Testbench: convolution, requantisation, pooling, dense layer and argmax, each as plain loops."""

import random
from typing import Any

import cocotb
from bench_streams import check_case, load_case, pack

SIZE, CHANNELS = 6, 2
PAD, ZERO, LOW, HIGH, SHIFT = -1, -1, -16, 15, 10


def classify(image: list[list[list[int]]], numbers: dict[str, list[list[int]]]) -> int:
    """Return the index of the strongest class of an image ``[row][column][channel]``."""
    weights, (bias,) = numbers["weights_1"], numbers["bias_1"]
    multipliers = [multiplier for fold in numbers["multipliers_2"] for multiplier in fold]
    features = {}
    for y in range(SIZE):
        for x in range(SIZE):
            taps = []
            for row in range(y - 1, y + 2):
                for column in range(x - 1, x + 2):
                    inside = 0 <= row < SIZE and 0 <= column < SIZE
                    taps += image[row][column] if inside else [PAD] * CHANNELS
            for channel, row_weights in enumerate(weights):
                total = bias[channel] + sum(w * a for w, a in zip(row_weights, taps, strict=True))
                scaled = (total * multipliers[channel] + (1 << (SHIFT - 1))) // (1 << SHIFT) + ZERO
                features[y, x, channel] = max(LOW, min(HIGH, scaled))
    flat = []
    for y in range(0, SIZE, 2):
        for x in range(0, SIZE, 2):
            for channel in range(len(weights)):
                flat.append(max(features[y + dy, x + dx, channel] for dy in (0, 1) for dx in (0, 1)))
    dense, (dense_bias,) = numbers["weights_7"], numbers["bias_7"]
    scores = [b + sum(w * a for w, a in zip(row, flat, strict=True)) for row, b in zip(dense, dense_bias, strict=True)]
    return scores.index(max(scores))


@cocotb.test()
async def classifies_images(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    beats, expected = [], []
    while len(beats) < len(case["runs"][0]["input_cycles"]):
        image = [[[rng.randint(-16, 15) for _ in range(CHANNELS)] for _ in range(SIZE)] for _ in range(SIZE)]
        beats += [pack(pixel, 5) for row in image for pixel in row]
        expected.append(classify(image, case["numbers"]))
    assert len(set(expected)) > 1
    await check_case(dut, case, beats, expected)
