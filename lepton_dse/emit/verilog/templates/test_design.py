"""Testbench of the design: every output word and the cycle of every beat, under seeded stall traces.

Runs with cocotb and Icarus Verilog or Verilator alone; start it with ``python tb/run.py``. The environment variable
``DESIGN_FRAMES`` sets the frames of each case, ``DESIGN_CASES`` picks some by name, and ``DESIGN_PROBE`` names a file for a
record of all transfers inside the design.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

FOLDER = Path(__file__).resolve().parent.parent
DESIGN = json.loads((FOLDER / "design.json").read_text())
UNKNOWN = -1  # in a record: a word with unknown bits
PICKED = os.environ.get("DESIGN_CASES", "").split()
CASES = [path for path in sorted(FOLDER.glob("vectors/stalls_*.json")) if not PICKED or path.stem in PICKED]


def beats(name: str) -> list[int]:
    """Words of a vector file."""
    return [int(line, 16) for line in (FOLDER / "vectors" / name).read_text().split()]


class Bench:
    """Drives both ends of the design and records every transfer with its cycle."""

    def __init__(self, dut: Any, words: list[int], source: str, sink: str) -> None:
        self.dut = dut
        self.words = words
        self.source = source
        self.sink = sink
        self.taken: list[int] = []
        self.given: list[tuple[int, int, int]] = []
        self.probed: list[tuple[str, int, int]] = []

    async def run(self, expected: int, patience: int) -> None:
        """Stream all words and collect `expected` output beats, or give up `patience` cycles after the last transfer."""
        dut = self.dut
        Clock(dut.clk, 10, "ns").start()
        dut.rst.value = 1
        dut.s_axis_tvalid.value = 0
        dut.m_axis_tready.value = 0
        for _ in range(4):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        cycle, sent, holding, idle = 0, 0, False, 0
        probes = [
            (name, getattr(dut, name + "_valid"), getattr(dut, name + "_ready"), getattr(dut, name + "_data"))
            for name in (DESIGN["instances"] if "DESIGN_PROBE" in os.environ else [])
        ]
        # Beats that no window reads are taken too, some of them after the last output.
        while len(self.given) < expected or sent < len(self.words):
            if not holding and sent < len(self.words) and self.source[cycle % len(self.source)] == "1":
                dut.s_axis_tdata.value = self.words[sent]
                holding = True
            dut.s_axis_tvalid.value = int(holding)
            dut.m_axis_tready.value = int(self.sink[cycle % len(self.sink)] == "1")
            await ReadOnly()
            idle += 1
            for name, valid, ready, data in probes:
                if valid.value and ready.value:
                    self.probed.append((name, cycle, int(data.value) if data.value.is_resolvable else UNKNOWN))
            if holding and dut.s_axis_tready.value:
                self.taken.append(cycle)
                sent, holding, idle = sent + 1, False, 0
            if dut.m_axis_tvalid.value and dut.m_axis_tready.value:
                self.given.append((cycle, int(dut.m_axis_tdata.value), int(dut.m_axis_tlast.value)))
                idle = 0
            if idle > patience:
                break
            await RisingEdge(dut.clk)
            await FallingEdge(dut.clk)
            cycle += 1


def first_difference(name: str, expected: list[int], observed: list[int]) -> str:
    """Where two lists first differ, for a person; empty if they are equal."""
    for index, (want, have) in enumerate(zip(expected, observed, strict=False)):
        if want != have:
            return f"{name} {index}: expected {want}, observed {have}"
    return "" if len(expected) == len(observed) else f"{name}: expected {len(expected)}, observed {len(observed)}"


@cocotb.test()
@cocotb.parametrize(case=range(len(CASES)))
async def stalls(dut: Any, case: int) -> None:
    """Outputs, last marks and cycles under one pair of traces."""
    entry = json.loads(CASES[case].read_text())
    frames = min(DESIGN["frames"], int(os.environ.get("DESIGN_FRAMES", entry["frames"])))
    inputs, outputs = frames * DESIGN["input_beats"], frames * DESIGN["output_beats"]
    bench = Bench(dut, beats("input.hex")[:inputs], entry["source"], entry["sink"])
    try:
        await bench.run(outputs, DESIGN["patience"])
    finally:  # an unknown bit at an end raises, and the record shows where it came from
        if "DESIGN_PROBE" in os.environ:
            Path(os.environ["DESIGN_PROBE"]).write_text(json.dumps(bench.probed))
    problems = [
        first_difference("output word", beats("expected.hex")[:outputs], [word for _, word, _ in bench.given]),
        first_difference(
            "last mark",
            [int((beat + 1) % DESIGN["output_beats"] == 0) for beat in range(outputs)],
            [last for _, _, last in bench.given],
        ),
    ]
    # With fewer frames than were predicted the source ends earlier, but no beat before that moves.
    for name, key, seen in (
        ("cycle of input beat", "input_cycles", bench.taken),
        ("cycle of output beat", "output_cycles", [cycle for cycle, _, _ in bench.given]),
    ):
        common = min(len(entry[key]), inputs if key == "input_cycles" else outputs)
        problems.append(first_difference(name, entry[key][:common], seen[:common]))
    problems = [problem for problem in problems if problem]
    assert not problems, "; ".join(problems)
