"""Driving a module of several streams: each with stalls of its own, every word compared, nothing lost, twice or out of order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from bench_streams import Memory
from cocotb.triggers import Timer

IDLE_LIMIT = 500


async def check_streams(
    dut: Any,
    given: Mapping[str, Sequence[int]],
    expected: Sequence[int],
    rng: random.Random,
    copies: int = 1,
    memories: Sequence[Memory] = (),
) -> None:
    """Reset the module and stream all words through it under random stalls on every stream.

    Parameters
    ----------
    dut : handle
    given : mapping of str to sequence of int
        Words of each input, by the prefix of its ports.
    expected : sequence of int
        Words that each of the `copies` consumers must get.
    rng : Random
        Draws how often each stream stalls, and when.
    copies : int
        Consumers of the output, each with a bit of valid and of ready.
    memories : sequence of Memory
    """
    rates = {name: rng.choice([0.2, 0.6, 1.0]) for name in given}
    ready_rates = [rng.choice([0.2, 0.6, 1.0]) for _ in range(copies)]
    sent = dict.fromkeys(given, 0)
    offering = dict.fromkeys(given, False)
    got: list[list[int]] = [[] for _ in range(copies)]
    held: list[int | None] = [None] * copies
    dut.clk.value, dut.rst.value, dut.m_ready.value = 0, 1, 0
    for name in given:
        getattr(dut, f"{name}_valid").value = 0
        getattr(dut, f"{name}_data").value = 0
    await Timer(1, "ns")
    for memory in memories:
        memory.reset()
    dut.clk.value = 1
    await Timer(1, "ns")
    idle, spare = 0, 20
    while spare:
        if all(len(words) >= len(expected) for words in got) and all(sent[name] == len(words) for name, words in given.items()):
            spare -= 1
        dut.clk.value, dut.rst.value = 0, 0
        for name, words in given.items():
            offering[name] = sent[name] < len(words) and (offering[name] or rng.random() < rates[name])
            getattr(dut, f"{name}_valid").value = int(offering[name])
            port = getattr(dut, f"{name}_data")
            port.value = words[sent[name]] if offering[name] else rng.getrandbits(len(port))
        ready = [int(rng.random() < rate) for rate in ready_rates]
        dut.m_ready.value = sum(bit << place for place, bit in enumerate(ready))
        for memory in memories:
            memory.drive()
        await Timer(1, "ns")
        moved = False
        valid = int(dut.m_valid.value)
        for consumer in range(copies):
            word = int(dut.m_data.value) if valid >> consumer & 1 else None
            if held[consumer] is not None:
                assert word == held[consumer], f"consumer {consumer}: a word that was offered went or changed"
            held[consumer] = None
            if word is None:
                continue
            if ready[consumer]:
                place = len(got[consumer])
                assert place < len(expected), f"consumer {consumer}: more than {len(expected)} words"
                assert word == expected[place], f"consumer {consumer}, word {place}: {word:#x} instead of {expected[place]:#x}"
                got[consumer].append(word)
                moved = True
            else:
                held[consumer] = word
        for name in given:
            if offering[name] and int(getattr(dut, f"{name}_ready").value):
                sent[name] += 1
                offering[name] = False
                moved = True
        for memory in memories:
            memory.sample()
        idle = 0 if moved else idle + 1
        assert idle < IDLE_LIMIT, f"nothing moved for {idle} cycles: {sent} in, {[len(words) for words in got]} out"
        dut.clk.value = 1
        await Timer(1, "ns")
