"""Testbench: every tap of every output pixel, padding included."""

import random
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import cocotb
from bench_streams import check_case, load_case, pack


def taps(p: dict[str, int]) -> Iterator[tuple[int, int] | None]:
    """Yield the pixel that each tap of a frame reads; None for padding."""
    for oh in range(p["OH"]):
        for ow in range(p["OW"]):
            for kh in range(p["KH"]):
                for kw in range(p["KW"]):
                    y = oh * p["SH"] - p["PT"] + kh * p["DH"]
                    x = ow * p["SW"] - p["PL"] + kw * p["DW"]
                    yield (y, x) if 0 <= y < p["ROWS"] and 0 <= x < p["COLS"] else None


@cocotb.test()
async def emits_all_taps(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    p = case["parameters"]
    blank = [pack([p["PAD"]] * p["LANES"], p["ELEMENT"])] * p["FOLDS"]
    beats, expected = [], []
    while len(beats) < len(case["runs"][0]["input_cycles"]):
        image = {
            (y, x): [rng.getrandbits(p["ELEMENT"] * p["LANES"]) for _ in range(p["FOLDS"])]
            for y in range(p["ROWS"])
            for x in range(p["COLS"])
        }
        beats += [word for pixel in image.values() for word in pixel]
        expected += [word for tap in taps(p) for word in (blank if tap is None else image[tap])]
    # The padding before a frame's first pixel needs no input, so that of the next frame may already come.
    following = [word for _ in takewhile(lambda tap: tap is None, taps(p)) for word in blank]
    await check_case(dut, case, beats, expected, following=following)
