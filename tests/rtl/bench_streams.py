"""What the testbenches share: driving a stream under stall traces, watching both ends, comparing.

Runs inside the simulator's Python. The clock is driven by hand: all inputs of a cycle are set while it is low, what the
module answers is sampled just before the edge, so that "cycle" means the same as in the event graph.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cocotb.triggers import Timer

IDLE_LIMIT = 2_000
EXTRA = 16  # cycles after the last beat, in which nothing more may come


def load_case() -> dict[str, Any]:
    """Return the case that the runner wrote."""
    return json.loads(Path(os.environ["LEPTON_CASE"]).read_text())


def pack(elements: Sequence[int], width: int) -> int:
    """Pack signed or unsigned elements into a word, element 0 in the least significant bits."""
    word = 0
    for position, element in enumerate(elements):
        word |= (element & ((1 << width) - 1)) << (position * width)
    return word


def unpack(word: int, width: int, count: int) -> list[int]:
    """Split a word into signed elements."""
    elements = []
    for position in range(count):
        element = (word >> (position * width)) & ((1 << width) - 1)
        elements.append(element - (1 << width) if element >> (width - 1) else element)
    return elements


class Memory:
    """An outside memory with a registered read port: the word of this cycle's address shows in the next one."""

    def __init__(self, dut: Any, prefix: str, words: Sequence[int], enabled: bool) -> None:
        self._enable = getattr(dut, f"{prefix}_en") if enabled else None
        self._address = getattr(dut, f"{prefix}_addr")
        self._data = getattr(dut, f"{prefix}_data")
        self._words = words
        self._next: int | None = None

    def drive(self) -> None:
        if self._next is not None:
            self._data.value = self._next

    def reset(self) -> None:
        """Sample at the edge of reset, where an enable is not yet known."""
        if self._enable is None:
            self.sample()

    def sample(self) -> None:
        read = self._enable is None or int(self._enable.value) == 1
        self._next = self._words[int(self._address.value)] if read else None


async def run_stream(
    dut: Any,
    beats: Sequence[int],
    outputs: int,
    source_trace: Sequence[int],
    sink_trace: Sequence[int],
    memories: Sequence[Memory] = (),
    spare: int = 0,
) -> tuple[list[int], list[int], list[int]]:
    """Reset the module, feed it, and return the input cycles, the output words and their cycles.

    The run goes on for a while after the last beat; up to ``spare`` further outputs may come then.
    """
    dut.clk.value = 0
    dut.rst.value = 1
    dut.s_valid.value = 0
    dut.s_data.value = 0
    dut.m_ready.value = 0
    # One clock edge of reset is all that a module may need.
    await Timer(1, "ns")
    for memory in memories:
        memory.reset()
    dut.clk.value = 1
    await Timer(1, "ns")

    input_cycles: list[int] = []
    words: list[int] = []
    output_cycles: list[int] = []
    offering = False
    held: int | None = None
    cycle = 0
    idle = 0
    remaining = EXTRA
    while remaining:
        if len(words) >= outputs and len(input_cycles) == len(beats):
            remaining -= 1
        position = len(input_cycles)
        offering = position < len(beats) and (offering or source_trace[cycle % len(source_trace)] == 1)
        dut.clk.value = 0
        dut.rst.value = 0
        dut.s_valid.value = int(offering)
        # Between beats the data lines carry rubbish, which the module must not look at.
        dut.s_data.value = beats[position] if offering else (1 << len(dut.s_data)) - 1 - beats[cycle % len(beats)]
        dut.m_ready.value = sink_trace[cycle % len(sink_trace)]
        for memory in memories:
            memory.drive()
        await Timer(1, "ns")
        accepted = offering and int(dut.s_ready.value) == 1
        valid = int(dut.m_valid.value) == 1
        if held is not None:
            assert valid, f"cycle {cycle}: valid fell before the beat was taken"
            assert int(dut.m_data.value) == held, f"cycle {cycle}: the data changed before the beat was taken"
        held = None
        if valid:
            assert len(words) < outputs + spare, f"cycle {cycle}: more outputs than {outputs} + {spare}"
            word = int(dut.m_data.value)
            if sink_trace[cycle % len(sink_trace)]:
                words.append(word)
                output_cycles.append(cycle)
            else:
                held = word
        for memory in memories:
            memory.sample()
        if accepted:
            input_cycles.append(cycle)
            offering = False
        idle = 0 if accepted or valid else idle + 1
        assert idle < IDLE_LIMIT, f"nothing moved for {idle} cycles: {len(input_cycles)} beats in, {len(words)} out"
        dut.clk.value = 1
        await Timer(1, "ns")
        cycle += 1
    return input_cycles, words, output_cycles


async def check_case(
    dut: Any,
    case: dict[str, Any],
    beats: Sequence[int],
    expected: Sequence[int],
    memories: Callable[[], Sequence[Memory]] = tuple,
    following: Sequence[int] = (),
) -> None:
    """Run all stall traces of a case; every value and every cycle must be the expected one.

    Behind the last frame the words ``following`` may begin to appear: a module that needs no input for the start of a
    frame, since that is padding, does not wait for it.
    """
    for number, run in enumerate(case["runs"]):
        taken, words, sent = await run_stream(
            dut, beats, len(expected), run["source_trace"], run["sink_trace"], memories(), len(following)
        )
        wanted_words = [*expected, *following][: len(words)]
        for position, (word, wanted) in enumerate(zip(words, wanted_words, strict=True)):
            assert word == wanted, f"run {number}, output {position}: {word:#x} instead of {wanted:#x}"
        _same_cycles(f"run {number}, input", taken, run["input_cycles"])
        _same_cycles(f"run {number}, output", sent[: len(expected)], run["output_cycles"])


def _same_cycles(what: str, observed: Sequence[int], predicted: Sequence[int]) -> None:
    assert len(observed) == len(predicted), f"{what}: {len(observed)} beats instead of {len(predicted)}"
    for beat, (cycle, expected) in enumerate(zip(observed, predicted, strict=True)):
        assert cycle == expected, f"{what} {beat}: cycle {cycle} instead of {expected}"
