"""What fibres find: each thing that may go wrong with a kernel under its own name, and nothing where nothing is wrong."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_dse.verify.cuda.program import FAULTS

PROGRAM = r"""
#include <cstdio>
#include <cstring>

#include "lepton/intrinsics.cuh"

using namespace lepton;

alignas(256) static uint32_t space[1024];
static uint32_t *const in = space + 256, *const out = space + 640;  // 256 words each, others around them

LEPTON_KERNEL(64) right() {
  LEPTON_SHARED(memory, 256);
  const uint32_t mine = threadIdx.x * 4, other = (63 - threadIdx.x) * 4;
  store_shared(memory, mine, load(in + threadIdx.x, true, 0u), true);
  __syncthreads();
  store(out + threadIdx.x, load_shared<uint32_t>(memory, other), threadIdx.x % 2 == 0);
}
LEPTON_KERNEL(64) write_beside_write() {
  LEPTON_SHARED(memory, 256);
  store_shared(memory, threadIdx.x % 32 * 4, uint32_t(threadIdx.x), true);
}
LEPTON_KERNEL(32) write_beside_write_in_a_warp() {
  LEPTON_SHARED(memory, 256);
  store_shared(memory, threadIdx.x / 2 * 4, uint32_t(threadIdx.x), true);
}
LEPTON_KERNEL(64) read_beside_write() {
  LEPTON_SHARED(memory, 256);
  store_shared(memory, threadIdx.x * 4, 0u, true);
  __syncthreads();
  store_shared(memory, threadIdx.x * 4, uint32_t(threadIdx.x), true);
  store(out + threadIdx.x, load_shared<uint32_t>(memory, (63 - threadIdx.x) * 4), true);
}
LEPTON_KERNEL(64) write_beside_read() {
  LEPTON_SHARED(memory, 256);
  store_shared(memory, threadIdx.x * 4, uint32_t(threadIdx.x), true);
  __syncthreads();
  store(out + threadIdx.x, load_shared<uint32_t>(memory, (threadIdx.x + 32) % 64 * 4), true);
  store_shared(memory, threadIdx.x * 4, 0u, true);
}
LEPTON_KERNEL(64) write_beside_reads_of_several_warps() {
  LEPTON_SHARED(memory, 256);
  store_shared(memory, 0, 5u, threadIdx.x == 0);
  __syncthreads();
  store(out + threadIdx.x, load_shared<uint32_t>(memory, 0), true);
  store_shared(memory, 0, 7u, threadIdx.x == 63);
}
LEPTON_KERNEL(32) unfinished_copy() {
  LEPTON_SHARED(memory, 512);
  copy_async(memory, threadIdx.x * 16, in + threadIdx.x * 4, true, true);
  commit_copies();
}
LEPTON_KERNEL(32) copy_read_too_early() {
  LEPTON_SHARED(memory, 512);
  copy_async(memory, threadIdx.x * 16, in + threadIdx.x * 4, true, true);
  commit_copies();
  __syncthreads();
  store(out + threadIdx.x, load_shared<uint32_t>(memory, (31 - threadIdx.x) * 16), true);
  await_copies<0>();
}
LEPTON_KERNEL(32) copies() {
  LEPTON_SHARED(memory, 512);
  copy_async(memory, threadIdx.x * 16, in + threadIdx.x * 4, threadIdx.x < 16, true);
  commit_copies();
  await_copies<0>();
  __syncthreads();
  store(out + threadIdx.x, load_shared<uint32_t>(memory, (31 - threadIdx.x) * 16), true);
}
LEPTON_KERNEL(32) unwritten() {
  LEPTON_SHARED(memory, 256);
  store_shared(memory, threadIdx.x * 4, 1u, threadIdx.x != 3);
  store(out + threadIdx.x, load_shared<uint32_t>(memory, threadIdx.x * 4), true);
}
LEPTON_KERNEL(32) outside_shared_load() {
  LEPTON_SHARED(memory, 128);
  store(out + threadIdx.x, load_shared<uint32_t>(memory, 128), threadIdx.x == 0);
}
LEPTON_KERNEL(32) outside_shared_store() {
  LEPTON_SHARED(memory, 128);
  store_shared(memory, 4 + threadIdx.x * 4, 1u, true);
}
LEPTON_KERNEL(32) outside_load() { store(out + threadIdx.x, load(in + 256 + threadIdx.x, threadIdx.x == 9, 0u), true); }
LEPTON_KERNEL(32) outside_before() { store(out + threadIdx.x, load(in - 8 + threadIdx.x, true, 0u), true); }
LEPTON_KERNEL(32) outside_store() { store(out + 225 + threadIdx.x, 1u, true); }
LEPTON_KERNEL(32) misaligned_load() {
  const Bytes8 read = load(reinterpret_cast<const Bytes8*>(in + 2 * threadIdx.x + 1), threadIdx.x == 4, Bytes8{{0, 0}});
  store(out + threadIdx.x, read.word[0], true);
}
LEPTON_KERNEL(32) misaligned_shared() {
  LEPTON_SHARED(memory, 1024);
  store_shared(memory, threadIdx.x * 16 + (threadIdx.x == 7 ? 4 : 0), Bytes16{{1, 2, 3, 4}}, true);
}
LEPTON_KERNEL(64) barrier_left_out() {
  if (threadIdx.x < 48) __syncthreads();
}
LEPTON_KERNEL(64) two_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
LEPTON_KERNEL(32) lane_leaves_out_a_shuffle() {
  if (threadIdx.x != 11) store(out + threadIdx.x, uint32_t(shuffle_xor(int(threadIdx.x), 1)), false);
}
LEPTON_KERNEL(32) two_shuffles() {
  if (threadIdx.x < 16) {
    shuffle_xor(1, 1);
  } else {
    shuffle_xor(2, 1);
  }
}
LEPTON_KERNEL(32) lane_loads_once_more() {
  uint32_t sum = load(in + threadIdx.x, true, 0u);
  if (threadIdx.x == 31) sum += load(in, true, 0u);
  if (sum == 1) sum = 0;
}
LEPTON_KERNEL(32) lanes_load_different_widths() {
  if (threadIdx.x < 16) {
    load(in + threadIdx.x, true, 0u);
  } else {
    load(reinterpret_cast<const uint16_t*>(in) + threadIdx.x, true, uint16_t(0));
  }
}
LEPTON_KERNEL(32) lanes_load_and_store() {
  if (threadIdx.x < 16) {
    load(in + threadIdx.x, true, 0u);
  } else {
    store(out + threadIdx.x, 0u, true);
  }
}
LEPTON_KERNEL(64) apart() {  // 4 bytes every 64, in 24 of 32 lanes; 16 bytes a lane; 2 bytes a lane
  load(in + threadIdx.x % 16 * 16, threadIdx.x % 32 < 24, 0u);
  load(reinterpret_cast<const Bytes16*>(in) + threadIdx.x, true, Bytes16());
  store(reinterpret_cast<uint16_t*>(out) + threadIdx.x, uint16_t(1), true);
}
LEPTON_KERNEL(32) conflicts() {  // words 0, 2, 4, ...: two in each bank that is used; then 16 bytes a lane; then one word for all
  LEPTON_SHARED(memory, 1024);
  store_shared(memory, threadIdx.x * 8, 1u, true);
  store_shared(memory, threadIdx.x * 16, Bytes16{{1, 2, 3, 4}}, true);
  __syncthreads();
  load_shared<uint32_t>(memory, 0);
}

struct Entry {
  const char* name;
  void (*kernel)();
  unsigned threads;
};
#define ENTRY(name, threads) {#name, name, threads}
static const Entry entries[] = {
    ENTRY(right, 64), ENTRY(write_beside_write, 64), ENTRY(write_beside_write_in_a_warp, 32), ENTRY(read_beside_write, 64),
    ENTRY(write_beside_read, 64), ENTRY(write_beside_reads_of_several_warps, 64), ENTRY(unfinished_copy, 32),
    ENTRY(copy_read_too_early, 32), ENTRY(copies, 32), ENTRY(unwritten, 32), ENTRY(outside_shared_load, 32),
    ENTRY(outside_shared_store, 32), ENTRY(outside_load, 32), ENTRY(outside_before, 32), ENTRY(outside_store, 32),
    ENTRY(misaligned_load, 32), ENTRY(misaligned_shared, 32), ENTRY(barrier_left_out, 64), ENTRY(two_barriers, 64),
    ENTRY(lane_leaves_out_a_shuffle, 32), ENTRY(two_shuffles, 32), ENTRY(lane_loads_once_more, 32),
    ENTRY(lanes_load_different_widths, 32), ENTRY(lanes_load_and_store, 32), ENTRY(apart, 64), ENTRY(conflicts, 32)};

int main(int argc, char** argv) {
  Machine& machine = Machine::instance();
  machine.watch = true;
  machine.order = *argv[2] == 'R' ? Order::reverse : *argv[2] == 'S' ? Order::shuffled : Order::forward;
  machine.register_buffer(in, 1024, "in");
  machine.register_buffer(out, 1024, "out");
  for (uint32_t index = 0; index < 256; ++index) in[index] = 1000 + index;
  for (const Entry& entry : entries) {
    if (argc < 3 || std::strcmp(entry.name, argv[1])) continue;
    machine.launch(Dim3(1), Dim3(entry.threads), entry.kernel);
    const Counters& c = machine.counters;
    const auto number = [](const char* name, uint64_t value) { std::printf("\"%s\": %d, ", name, int(value)); };
    std::printf("{");
    number("races", c.races), number("unwritten_reads", c.unwritten_reads), number("outside_shared", c.outside_shared);
    number("outside_global", c.outside_global), number("misaligned", c.misaligned), number("divergences", c.divergences);
    number("load_requests", c.load_requests), number("load_bytes", c.load_bytes), number("load_sectors", c.load_sectors);
    number("store_requests", c.store_requests), number("store_bytes", c.store_bytes), number("store_sectors", c.store_sectors);
    number("shared_loads", c.shared_load_requests), number("shared_load_passes", c.shared_load_passes);
    number("shared_stores", c.shared_store_requests), number("shared_store_passes", c.shared_store_passes);
    number("barriers", c.barriers);
    std::printf("\"faults\": %d, \"out\": [", int(c.faults()));
    for (int index = 0; index < 64; ++index) std::printf("%s%u", index ? ", " : "", out[index]);
    std::printf("]}\n");
  }
}
"""


@pytest.fixture(scope="module")
def binary(probe: Callable[[str], Path]) -> Path:
    return probe(PROGRAM)


def run(binary: Path, kernel: str, order: str) -> tuple[dict[str, Any], str]:
    done = subprocess.run([binary, kernel, order], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


ORDERS = ("FORWARD", "REVERSE", "SHUFFLED")


@pytest.mark.parametrize(
    ("kernel", "fault", "least"),
    [
        ("write_beside_write", "races", 32),
        ("write_beside_write_in_a_warp", "races", 16),
        ("read_beside_write", "races", 1),
        ("write_beside_read", "races", 32),
        ("write_beside_reads_of_several_warps", "races", 1),
        ("unfinished_copy", "races", 32),
        ("copy_read_too_early", "races", 1),
        ("unwritten", "unwritten_reads", 1),
        ("outside_shared_load", "outside_shared", 32),
        ("outside_shared_store", "outside_shared", 1),
        ("outside_load", "outside_global", 1),
        ("outside_before", "outside_global", 8),
        ("outside_store", "outside_global", 1),
        ("misaligned_load", "misaligned", 1),
        ("misaligned_shared", "misaligned", 1),
        ("barrier_left_out", "divergences", 1),
        ("two_barriers", "divergences", 1),
        ("lane_leaves_out_a_shuffle", "divergences", 1),
        ("two_shuffles", "divergences", 1),
        ("lane_loads_once_more", "divergences", 1),
        ("lanes_load_different_widths", "divergences", 1),
        ("lanes_load_and_store", "divergences", 1),
    ],
)
def test_each_fault_has_its_name(binary: Path, kernel: str, fault: str, least: int) -> None:
    for order in ORDERS:
        counted, said = run(binary, kernel, order)
        found = {name: counted[name] for name in FAULTS}
        assert counted["faults"] == found[fault] >= least, order
        assert set(found.values()) == {0, found[fault]}
        (line,) = said.splitlines()
        assert re.fullmatch(r"fault: [a-z0-9' ]+; line \d+, block 0 0 0, thread -?\d+", line)


@pytest.mark.parametrize("order", ORDERS)
def test_a_right_kernel_has_none(binary: Path, order: str) -> None:
    counted, said = run(binary, "right", order)
    assert (counted["faults"], said) == (0, "")
    assert counted["out"] == [1063 - index if index % 2 == 0 else 0 for index in range(64)]
    expected = {"load_requests": 2, "load_bytes": 256, "load_sectors": 8, "store_requests": 2, "store_bytes": 128}
    expected |= {"store_sectors": 8, "shared_loads": 2, "shared_load_passes": 2, "shared_stores": 2, "shared_store_passes": 2}
    assert {name: counted[name] for name in expected} == expected
    assert counted["barriers"] == 1


@pytest.mark.parametrize("order", ORDERS)
def test_copies_arrive_when_they_are_waited_for(binary: Path, order: str) -> None:
    counted, _ = run(binary, "copies", order)
    assert counted["faults"] == 0
    assert counted["out"][:32] == [1000 + 4 * (31 - index) if index >= 16 else 0 for index in range(32)]
    # 16 of 32 lanes read 16 bytes each; all write them, 8 lanes at a time.
    expected = {"load_requests": 1, "load_bytes": 256, "load_sectors": 8, "shared_stores": 1, "shared_store_passes": 4}
    assert {name: counted[name] for name in expected} == expected


@pytest.mark.parametrize("order", ORDERS)
def test_requests_and_sectors_by_hand(binary: Path, order: str) -> None:
    counted, _ = run(binary, "apart", order)
    # Each of two warps: 24 lanes in 16 sectors; 512 bytes in 16 sectors; 64 bytes in 2.
    assert counted["faults"] == 0
    assert (counted["load_requests"], counted["load_bytes"], counted["load_sectors"]) == (4, 2 * (24 * 4 + 512), 2 * (16 + 16))
    assert (counted["store_requests"], counted["store_bytes"], counted["store_sectors"]) == (2, 128, 4)


@pytest.mark.parametrize("order", ORDERS)
def test_passes_over_banks_by_hand(binary: Path, order: str) -> None:
    counted, _ = run(binary, "conflicts", order)
    assert counted["races"] > 0  # the two stores overlap
    assert (counted["shared_stores"], counted["shared_store_passes"]) == (2, 2 + 4)
    assert (counted["shared_loads"], counted["shared_load_passes"]) == (1, 1)
