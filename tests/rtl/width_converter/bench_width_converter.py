"""Testbench: the elements come out in the order in which they went in."""

import random
from typing import Any

import cocotb
from bench_streams import check_case, load_case, pack


@cocotb.test()
async def keeps_the_order_of_elements(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    element, lanes_in, lanes_out = (case["parameters"][name] for name in ("ELEMENT", "IN_LANES", "OUT_LANES"))
    elements = [rng.getrandbits(element) for _ in range(lanes_in * len(case["runs"][0]["input_cycles"]))]
    words = [pack(elements[i : i + lanes_in], element) for i in range(0, len(elements), lanes_in)]
    expected = [pack(elements[i : i + lanes_out], element) for i in range(0, len(elements), lanes_out)]
    await check_case(dut, case, words, expected)
