"""Testbench: every element replaced by its entry."""

import random
from typing import Any

import cocotb
from bench_streams import Memory, check_case, load_case, pack


class Lanes(Memory):
    """One memory a lane with the same words: a lane's part of the address picks its part of the data."""

    def __init__(self, dut: Any, table: list[int], in_width: int, out_width: int, lanes: int) -> None:
        super().__init__(dut, "t", [], True)
        self._table, self._in, self._out, self._lanes = table, in_width, out_width, lanes

    def sample(self) -> None:
        """Read every lane under the enable."""
        self._next = None
        if int(self._enable.value) == 1:
            address = int(self._address.value)
            picked = [(address >> (lane * self._in)) & ((1 << self._in) - 1) for lane in range(self._lanes)]
            self._next = pack([self._table[place] for place in picked], self._out)


@cocotb.test()
async def replaces_elements(dut: Any) -> None:
    case = load_case()
    rng = random.Random(case["seed"])
    wide, out, lanes = (case["parameters"][name] for name in ("IN_WIDTH", "OUT_WIDTH", "LANES"))
    table = [rng.getrandbits(out) for _ in range(1 << wide)]
    beats, expected = [], []
    while len(beats) < len(case["runs"][0]["input_cycles"]):
        elements = [rng.getrandbits(wide) for _ in range(lanes)]
        beats.append(pack(elements, wide))
        expected.append(pack([table[element] for element in elements], out))
    await check_case(dut, case, beats, expected, lambda: [Lanes(dut, table, wide, out, lanes)])
