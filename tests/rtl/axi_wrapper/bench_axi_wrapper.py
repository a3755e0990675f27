"""Testbench: frames enter when they are asked for and not otherwise, and every register says what was seen to happen.

The design inside is played by the bench: it takes frames of ``BEATS`` beats and gives back ``OUT_BEATS`` for each, both when it
likes. All seven channels stall at random.
"""

import random
from collections import deque
from typing import Any

import cocotb
from bench_streams import load_case
from cocotb.triggers import Timer

OUT_BEATS = 3
IDENTITY, VERSION, DESIGN, CONTROL, STATUS, FRAMES, LATENCY, INTERVAL = range(0, 32, 4)
CHANNELS = ("source", "core_in", "core_out", "sink", "aw", "w", "b", "ar", "r")


class Bench:
    """Plays source, design, sink and AXI master, one clock cycle after the other, and keeps what the registers should say."""

    def __init__(self, dut: Any, seed: int, rate: float | None = None) -> None:
        self.dut = dut
        self.case = load_case()["parameters"]
        self.rng = random.Random(seed)
        self.rates = {name: rate or self.rng.choice([0.2, 0.6, 1.0]) for name in CHANNELS}
        self.cycle = 0
        self.offer: int | None = None
        self.taken: list[int] = []  # the cycle of each beat that the design took
        self.capacity = 4 * OUT_BEATS  # words on the way out, before the design takes no more in
        self.leaving: deque[tuple[int, int]] = deque()
        self.given: list[tuple[int, int, int]] = []  # cycle, word and mark of each beat that left
        self.core_offers = False
        self.on_offer = False
        self.asked_writes: deque[tuple[int, int, int]] = deque()
        self.address: int | None = None
        self.written: tuple[int, int] | None = None
        self.raised = dict.fromkeys(("aw", "w", "ar"), False)
        self.asked_read: int | None = None
        self.answer: int | None = None
        self.responses = 0
        self.old_response = False
        self.enabled = self.single = 0
        self.frames = self.latency = self.interval = 0
        self.timed_from: int | None = None
        self.last_left = 0

    async def reset(self) -> None:
        """One edge under reset."""
        dut = self.dut
        dut.aclk.value, dut.aresetn.value = 0, 0
        for name in ("s_axis_t", "core_out_", "s_axil_aw", "s_axil_w", "s_axil_ar"):
            getattr(dut, f"{name}valid").value = 0
        for name in ("core_in_ready", "core_out_last", "m_axis_tready", "s_axil_bready", "s_axil_rready"):
            getattr(dut, name).value = 0
        await Timer(1, "ns")
        assert int(dut.core_rst.value) == 1
        dut.aclk.value = 1
        await Timer(1, "ns")

    def chance(self, channel: str) -> bool:
        return self.rng.random() < self.rates[channel]

    def inside(self) -> int:
        """Frames that have begun to enter and have not left."""
        return -(-len(self.taken) // self.case["BEATS"]) - self.frames

    def register(self, offset: int) -> int | None:
        """What a read in this cycle gives; None where a moment's choice of the gate shows."""
        return {
            IDENTITY: int.from_bytes(b"LEPT", "big"),
            VERSION: 1,
            DESIGN: self.case["DESIGN"],
            CONTROL: self.single << 1 | self.enabled,
            STATUS: None,
            FRAMES: self.frames,
            LATENCY: self.latency if self.timed_from is None else self.cycle - self.timed_from,
            INTERVAL: self.interval,
        }[offset]

    async def step(self) -> None:
        """One cycle."""
        dut, rng, width = self.dut, self.rng, self.case["IN_WIDTH"]
        dut.aclk.value, dut.aresetn.value = 0, 1
        if self.offer is None and self.chance("source"):
            self.offer = rng.getrandbits(width)
        dut.s_axis_tvalid.value = int(self.offer is not None)
        word = rng.getrandbits(width) if self.offer is None else self.offer
        dut.s_axis_tdata.value = word
        room, ready = self.chance("core_in") and len(self.leaving) < self.capacity, self.chance("sink")
        dut.core_in_ready.value, dut.m_axis_tready.value = int(room), int(ready)
        self.core_offers = bool(self.leaving) and (self.core_offers or self.chance("core_out"))
        out, last = self.leaving[0] if self.core_offers else (rng.getrandbits(self.case["OUT_WIDTH"]), rng.getrandbits(1))
        dut.core_out_valid.value, dut.core_out_data.value, dut.core_out_last.value = int(self.core_offers), out, last
        self.drive_writes()
        self.raised["ar"] = self.asked_read is not None and (self.raised["ar"] or self.chance("ar"))
        dut.s_axil_arvalid.value = int(self.raised["ar"])
        dut.s_axil_araddr.value = rng.getrandbits(5) if self.asked_read is None else self.asked_read
        dut.s_axil_bready.value, dut.s_axil_rready.value = int(self.chance("b")), int(self.chance("r"))
        await Timer(1, "ns")

        # The way out is a wire.
        seen = [int(s.value) for s in (dut.m_axis_tvalid, dut.m_axis_tdata, dut.m_axis_tlast, dut.core_out_ready)]
        assert seen == [int(self.core_offers), out, last, int(ready)]
        # The way in is one too while the gate is open, and no offer is taken back.
        offered, accepted = int(dut.core_in_valid.value), int(dut.s_axis_tready.value)
        assert int(dut.core_in_data.value) == word
        assert not offered or self.offer is not None
        assert accepted <= int(room)
        if self.offer is not None:
            assert accepted == (offered and int(room)), "the two sides disagree about a transfer"
        if self.on_offer:
            assert offered, "an offer was taken back"
        if len(self.taken) % self.case["BEATS"]:
            assert offered == int(self.offer is not None), "the gate closed within a frame"
        self.watch_writes()
        self.watch_reads(offered if self.offer is not None else None)
        self.on_offer = bool(offered and not room)
        self.count(bool(offered and room), bool(self.core_offers and ready), out, last)
        self.cycle += 1
        dut.aclk.value = 1
        await Timer(1, "ns")

    def drive_writes(self) -> None:
        dut, rng = self.dut, self.rng
        if self.asked_writes and self.address is None and self.written is None and self.responses == 0:
            offset, value, strobe = self.asked_writes[0]
            self.address, self.written, self.responses = offset, (value, strobe), 1
        for channel, waiting in (("aw", self.address), ("w", self.written)):
            self.raised[channel] = waiting is not None and (self.raised[channel] or self.chance(channel))
            getattr(dut, f"s_axil_{channel}valid").value = int(self.raised[channel])
        dut.s_axil_awaddr.value = rng.getrandbits(5) if self.address is None else self.address
        value, strobe = (rng.getrandbits(32), rng.getrandbits(4)) if self.written is None else self.written
        dut.s_axil_wdata.value, dut.s_axil_wstrb.value = value, strobe

    def watch_writes(self) -> None:
        dut = self.dut
        response = bool(int(dut.s_axil_bvalid.value))
        assert not self.old_response or response, "a response was taken back"
        if response and not self.old_response:
            assert self.responses == 1
            assert self.address is None
            assert self.written is None
            offset, value, strobe = self.asked_writes[0]
            if offset == CONTROL and strobe & 1:
                self.enabled = value & 1
                # A beat taken in the cycle of the write began a frame that was asked for before it.
                self.single = int(bool(value & 2) or self.single)
        if self.raised["aw"] and int(dut.s_axil_awready.value):
            self.address = None
        if self.raised["w"] and int(dut.s_axil_wready.value):
            self.written = None
        self.old_response = response and not int(dut.s_axil_bready.value)
        if response:
            assert int(dut.s_axil_bresp.value) == 0
            if int(dut.s_axil_bready.value):
                self.responses = 0
                self.asked_writes.popleft()

    def watch_reads(self, gate: int | None) -> None:
        dut = self.dut
        if self.asked_read is not None and self.raised["ar"] and int(dut.s_axil_arready.value):
            self.expected, self.busy, self.gate = self.register(self.asked_read), self.inside() > 0, gate
            self.status = self.asked_read == STATUS
            self.asked_read = None
        elif int(dut.s_axil_rvalid.value):
            value = int(dut.s_axil_rdata.value)
            assert int(dut.s_axil_rresp.value) == 0
            if self.status:
                open_gate = value >> 1 & 1
                assert self.gate in (None, open_gate)
                assert value == (int(self.busy) | open_gate << 1 | int(not self.busy and not open_gate) << 2)
            else:
                assert value == self.expected, f"{value:#x} instead of {self.expected}"
            if int(dut.s_axil_rready.value):
                self.answer = value

    def count(self, entered: bool, left: bool, out: int, last: int) -> None:
        """What the registers say from the next cycle on."""
        beats = self.case["BEATS"]
        empty = self.inside() == 0
        if entered:
            if len(self.taken) % beats == 0:
                self.single = 0
                if empty:
                    self.timed_from = self.cycle
            self.taken.append(self.cycle)
            self.offer = None
            if len(self.taken) % beats == 0:
                words = [self.rng.getrandbits(self.case["OUT_WIDTH"]) for _ in range(OUT_BEATS)]
                self.leaving.extend((word, int(place == OUT_BEATS - 1)) for place, word in enumerate(words))
        if left:
            self.given.append((self.cycle, out, last))
            self.leaving.popleft()
            self.core_offers = False
            if last:
                if self.timed_from is not None:
                    self.latency, self.timed_from = self.cycle - self.timed_from, None
                if self.frames:
                    self.interval = self.cycle - self.last_left
                self.last_left = self.cycle
                self.frames += 1

    async def write(self, offset: int, value: int, strobe: int = 15) -> None:
        self.asked_writes.append((offset, value, strobe))
        for _ in range(500):
            await self.step()
            if not self.asked_writes:
                return
        raise AssertionError("a write got no response")

    async def read(self, offset: int) -> int:
        self.asked_read, self.answer = offset, None
        for _ in range(500):
            await self.step()
            if self.answer is not None:
                return self.answer
        raise AssertionError("a read got no answer")

    async def steps(self, count: int) -> None:
        for _ in range(count):
            await self.step()

    async def idle(self) -> None:
        """Until the gate is closed and nothing is inside."""
        for _ in range(300):
            if await self.read(STATUS) == 4:
                return
        raise AssertionError("the design did not come to rest")


async def begun(dut: Any, seed: int, rate: float | None = None) -> Bench:
    bench = Bench(dut, load_case()["seed"] + seed, rate)
    await bench.reset()
    return bench


@cocotb.test()
async def is_closed_until_asked(dut: Any) -> None:
    bench = await begun(dut, 0)
    await bench.steps(50)
    assert [await bench.read(offset) for offset in (CONTROL, STATUS, FRAMES, LATENCY, INTERVAL)] == [0, 4, 0, 0, 0]
    for offset in (IDENTITY, VERSION, DESIGN, STATUS, FRAMES, LATENCY, INTERVAL):
        await bench.write(offset, 0xFFFFFFFF)
    await bench.write(CONTROL, 0xFFFFFFFF, 14)
    await bench.write(CONTROL, 0xFFFFFFFC)
    await bench.steps(50)
    assert not bench.taken
    assert await bench.read(CONTROL) == 0


@cocotb.test()
@cocotb.parametrize(seed=range(4))
async def lets_one_frame_in_for_each_start(dut: Any, seed: int) -> None:
    bench = await begun(dut, seed)
    for frames in range(1, 6):
        await bench.write(CONTROL, 2)
        await bench.idle()
        assert len(bench.taken) == frames * bench.case["BEATS"]
        assert await bench.read(FRAMES) == frames
        assert await bench.read(LATENCY) == bench.given[-1][0] - bench.taken[-bench.case["BEATS"]]
    assert [last for _, _, last in bench.given] == [0, 0, 1] * 5


@cocotb.test()
@cocotb.parametrize(seed=range(3))
async def holds_nothing_up_while_enabled(dut: Any, seed: int) -> None:
    bench = await begun(dut, seed, 1.0)
    bench.capacity = 1000
    await bench.write(CONTROL, 1)
    await bench.steps(10 * max(bench.case["BEATS"], OUT_BEATS) + 20 * seed)
    first, last = bench.taken[0], bench.taken[-1]
    assert bench.taken == list(range(first, last + 1)), "a cycle passed without a beat"
    assert last == bench.cycle - 1
    await bench.write(CONTROL, 0)
    bench.rates["source"] = 0.5
    await bench.idle()
    assert len(bench.taken) % bench.case["BEATS"] == 0
    frames = len(bench.taken) // bench.case["BEATS"]
    assert await bench.read(FRAMES) == frames
    await bench.steps(30)
    assert len(bench.taken) == frames * bench.case["BEATS"]


@cocotb.test()
@cocotb.parametrize(seed=range(10))
async def registers_say_what_happened(dut: Any, seed: int) -> None:
    bench = await begun(dut, 100 + seed)
    for _ in range(120):
        choice = bench.rng.random()
        if choice < 0.25:
            await bench.write(CONTROL, bench.rng.getrandbits(32), bench.rng.getrandbits(4))
        elif choice < 0.3:
            await bench.write(4 * bench.rng.randrange(8), bench.rng.getrandbits(32))
        elif choice < 0.9:
            await bench.read(4 * bench.rng.randrange(8))
        else:
            await bench.steps(bench.rng.randrange(40))
    await bench.write(CONTROL, 0)
    await bench.idle()
    assert bench.frames > 0
    frames = bench.frames
    await bench.steps(60)
    assert bench.frames == frames
    for offset in (FRAMES, LATENCY, INTERVAL):
        await bench.read(offset)
