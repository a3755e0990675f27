"""GPU kernels: against brute-force counters, by hand on a machine of ones, and never better for worse hardware."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import Precision
from lepton_dse.schedule.gpu.occupancy import occupancy
from lepton_dse.sim.gpu.banks import conflict_degree, tile_words
from lepton_dse.sim.gpu.gemm import (
    Constants,
    Machine,
    Product,
    Tile,
    cheapest,
    cheapest_of_each,
    gemv_time,
    product_floor,
    product_time,
)
from lepton_dse.sim.gpu.machine import constants_of, machine_of
from lepton_dse.sim.gpu.raster import operand_bytes, raster_bytes
from lepton_dse.sim.gpu.sparsity import two_of_four, unstructured_time
from lepton_dse.sim.gpu.streaming import (
    attention_time,
    quantize_time,
    quantize_time_of_each,
    row_passes,
    streaming_time,
)
from lepton_dse.sim.gpu.tiles import SPLITS, generation, tiles
from lepton_dse.targets import GpuTarget, load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import gpu_kernels as oracle

SPLIT_TABLE = np.array(SPLITS, np.float64)
EXTENTS = st.one_of(st.integers(1, 300), st.integers(1, 1 << 40))
GPUS = ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm", "nvidia-b200-sxm", "nvidia-jetson-orin-nano")


def device(name: str, form: str = "float16") -> tuple[Machine, Constants, np.ndarray[Any, np.dtype[np.float64]]]:
    target = load_target(name)
    assert isinstance(target, GpuTarget)
    precision = Precision.parse(form)
    machine = machine_of(target, precision)
    assert machine is not None
    return machine, constants_of(target.constants(precision)), tiles(generation(target.compute_capability.value))


def product(m: int, n: int, k: int, products: int = 1, bits: float = 16.0, resident: float = 0.0) -> Product:
    size = bits / 8
    a, b, c = (float(products) * p * q * size for p, q in ((m, k), (k, n), (m, n)))
    return Product(float(m), float(n), float(k), float(products), bits, bits, bits, a, b, c, resident)


ONES = Machine(4.0, 1.0, 4.0, 4.0, 4.0, 1.0, 0.0, 1.0, 1e9, 1e9, 1e9, 1.0, 1.0, 1.0, 0.0, 0.5)
PLAIN = Constants(0, 1, 1, 0, 1, 1, 0, 0, 1e9, 0, 1e-9, 0, 1, 1, 1, 1, 1, 0, 1, 0)


# --- occupancy, waves, banks, raster --------------------------------------------------------------------------------


@given(
    st.integers(1, 255),
    st.integers(0, 100_000),
    st.integers(1, 1024),
    st.integers(1, 32),
    st.sampled_from([(65536, 233472, 2048), (65536, 102400, 1536), (65536, 65536, 1024)]),
)
def test_occupancy_is_what_placing_ctas_finds(
    of_thread: int, shared: int, threads: int, most: int, sm: tuple[int, int, int]
) -> None:
    found = occupancy(float(sm[0]), float(sm[1]), float(sm[2]), float(most), float(of_thread), float(shared), float(threads))
    expected = oracle.occupancy(sm[0], sm[1], sm[2], most, of_thread, shared, threads, 1024 if shared else 0)
    assert found == expected


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 5))
def test_waves_and_the_busiest_multiprocessor(ctas: int, multiprocessors: int, resident: int) -> None:
    assert math.ceil(ctas / multiprocessors) == oracle.busiest(ctas, multiprocessors)
    assert math.ceil(math.ceil(ctas / multiprocessors) / resident) == oracle.waves(ctas, multiprocessors, resident)


@given(st.sampled_from([1, 2, 4]), st.data())
def test_bank_conflicts_are_those_of_the_banks(width: int, data: st.DataObject) -> None:
    words = [word * width for word in data.draw(st.lists(st.integers(0, 200), min_size=32, max_size=32))]
    assert conflict_degree(np.array(words), width) == oracle.conflict_passes(words, width)


def test_known_layouts() -> None:
    lanes = np.arange(32)
    # A column of 32-word rows lies in one bank; a pitch of 33 spreads it; lanes that share a word do not conflict.
    assert conflict_degree(tile_words(lanes, np.zeros(32, np.int64), 32)) == 32
    assert conflict_degree(tile_words(lanes, np.zeros(32, np.int64), 33)) == 1
    assert conflict_degree(np.zeros(32, np.int64)) == 1
    assert conflict_degree(tile_words(lanes, np.zeros(32, np.int64), 2)) == 2
    # ldmatrix: eight rows of 16 bytes each; XOR of the chunk with the row makes them free of conflicts in 128-byte rows.
    rows, columns = lanes % 8, np.zeros(32, np.int64)
    assert conflict_degree(tile_words(rows, columns, 32), 4) == 8
    assert conflict_degree(tile_words(rows, columns, 32, swizzle=3), 4) == 1


@given(st.integers(0, 3), st.integers(1, 4), st.integers(1, 16))
def test_a_swizzle_only_permutes_a_row(bits: int, wide: int, rows: int) -> None:
    pitch = (4 << bits) * wide
    row, column = (axis.ravel() for axis in np.meshgrid(np.arange(rows), np.arange(pitch), indexing="ij"))
    words = tile_words(row, column, pitch, swizzle=bits)
    assert sorted(words.tolist()) == list(range(rows * pitch))
    assert (words // pitch == row).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conflict_degree(np.zeros(31, np.int64)), "31 lanes"),
        (lambda: conflict_degree(np.zeros(32, np.int64), 3), "3 words"),
        (lambda: conflict_degree(np.full(32, 1), 2), "aligned"),
        (lambda: tile_words(np.zeros(1, np.int64), np.array([8]), 8), "outside a row"),
        (lambda: tile_words(np.zeros(1, np.int64), np.array([0]), 24, swizzle=2), "swizzle"),
        (lambda: two_of_four(product(1, 1, 1), ONES, 1.0, 0.5), "sparse rate"),
        (lambda: two_of_four(product(1, 1, 1), ONES, 2.0, 1.5), "sparse rate"),
        (lambda: unstructured_time(product(1, 1, 1), 1.1, ONES, PLAIN), "density"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, message: str) -> None:
    with pytest.raises(LeptonError, match=message):
        call()


@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 60),
    st.integers(0, 60),
    st.integers(1, 5),
)
def test_raster_reads_what_a_walk_reads(x: int, y: int, width: int, in_flight: int, cache: int, panel: int) -> None:
    read = oracle.raster_panels(x, y, width, in_flight, float(panel), 1.0, float(cache))
    found = raster_bytes(float(x), float(y), float(x * panel), float(y), float(width), float(in_flight), float(cache))
    assert found == read["x"] * panel + read["y"]


@given(st.integers(1, 500), st.integers(1, 500), st.floats(1, 1e6), st.floats(1, 1e6), st.integers(1, 300), st.floats(0, 1e6))
def test_more_in_flight_or_more_cache_never_reads_more(x: int, y: int, a: float, b: float, in_flight: int, cache: float) -> None:
    base = operand_bytes(float(x), float(y), a, b, float(in_flight), cache)
    assert base >= a + b
    assert operand_bytes(float(x), float(y), a, b, in_flight + 1.0, cache) <= base
    assert operand_bytes(float(x), float(y), a, b, float(in_flight), cache * 2) <= base
    assert operand_bytes(float(x), float(y), a, b, float(in_flight), 1e300) == a + b


# --- matrix products ------------------------------------------------------------------------------------------------


def test_a_product_by_hand() -> None:
    """Four multiprocessors, one product and one byte a second each; 6 CTAs of 16 x 16, two of them on the busiest."""
    problem = product(32, 48, 64)  # one step of 64 elements of 16 bits
    time, arithmetic, port, l2, memory, latency, memory_bytes, l2_bytes = product_time(
        problem, Tile(16, 16, 128, 32, 0), 1.0, 2.0, 1.0, ONES, PLAIN
    )
    assert arithmetic == 2 * 16 * 16 * 64  # the busiest of four, at one a second
    assert port == 2 * (16 + 16) * 128
    assert l2_bytes == 6 * (16 + 16) * 128 + 32 * 48 * 2
    assert l2 == l2_bytes
    # No cache: 4 CTAs in flight, the best raster reads A (4096 B) twice and B (6144 B) once, or the other way round.
    assert memory_bytes == min(2 * 4096 + 6144, 4096 + 2 * 6144) + 3072
    assert memory == memory_bytes
    assert latency == 0
    store = 16 * 16 * 2 / 1e9
    assert time == pytest.approx(0.5 + store + arithmetic + port + l2 + memory)  # exponent 1: nothing overlaps


@pytest.mark.parametrize(
    ("rate", "k", "seconds"),
    [
        (2560.0, 64, 6.4 / 0.5),  # 64 x 16 x 16 products on one multiprocessor at 2560 a second, all within the first 100 s
        (256.0, 64, 100 + (64 - 50) / 0.25),  # 100 s do half of what the peak would
        (256.0, 192, 100 + (192 - 50) / 0.25),
    ],
)
def test_clock_regimes_by_hand(rate: float, k: int, seconds: float) -> None:
    constants = PLAIN._replace(boost_share=0.5, sustained_share=0.25, boost_s=100.0)
    machine = ONES._replace(mac_per_s=4 * rate)
    assert product_time(product(16, 16, k), Tile(16, 16, 128, 32, 0), 1.0, 2.0, 1.0, machine, constants)[1] == seconds


def test_a_gemv_by_hand() -> None:
    constants = PLAIN._replace(memory_latency_s=7.0)
    problem = product(1, 10, 2000)
    time, arithmetic, l2, memory, latency = gemv_time(problem, ONES, constants)
    moved = (2000 + 20000 + 10) * 2
    assert (arithmetic, l2, memory, latency) == (20000 / 4, moved, moved, 2 * 7.0)
    assert time == 0.5 + moved


@settings(max_examples=40, deadline=None)
@given(EXTENTS, EXTENTS, EXTENTS, st.sampled_from(GPUS), st.sampled_from([1.0, 3.0, 64.0]))
def test_the_choice_is_the_least_of_the_whole_list(m: int, n: int, k: int, name: str, products: float) -> None:
    """Passing over candidates by their bound changes nothing, and the bound is one."""
    machine, constants, table = device(name)
    problem = product(m, n, k, int(products))
    choice = cheapest(problem, table, SPLIT_TABLE, machine, constants)
    best = gemv_time(problem, machine, constants)[0] if min(m, n) <= constants.gemv_rows else math.inf
    for row in table:
        tile = Tile(*row, 0.0)
        for stages in (2.0, 3.0, 4.0, 5.0):
            step = (tile.rows + tile.columns) * 128.0
            held = occupancy(
                machine.registers,
                machine.shared_bytes,
                machine.threads,
                machine.ctas,
                tile.registers,
                stages * step + 4096,
                tile.threads,
            )
            if machine.accumulators:
                held = min(held, machine.accumulators // (tile.rows * tile.columns))
            if held < 1:
                continue
            count = math.ceil(m / tile.rows) * math.ceil(n / tile.columns) * products
            for split in SPLITS:
                if split > 1 and (split > constants.split_limit or split > math.ceil(k / 64) or count >= 2 * machine.sm_count):
                    break
                time = product_time(problem, tile, float(split), stages, held, machine, constants)[0]
                assert product_floor(problem, tile, float(split), held, machine, constants) <= time * (1 + 1e-12)
                best = min(best, time)
    assert choice.time == best


@settings(max_examples=60, deadline=None)
@given(EXTENTS, EXTENTS, EXTENTS, st.sampled_from(GPUS), st.floats(1.01, 8), st.integers(1, 5))
def test_better_hardware_is_never_slower(m: int, n: int, k: int, name: str, factor: float, more: int) -> None:
    machine, constants, table = device(name)
    problem = product(m, n, k)
    base = cheapest(problem, table, SPLIT_TABLE, machine, constants).time
    grown = machine.sm_count + more
    better = [
        machine._replace(memory_byte_per_s=machine.memory_byte_per_s * factor),
        machine._replace(l2_byte_per_s=machine.l2_byte_per_s * factor),
        machine._replace(l2_bytes=machine.l2_bytes * factor),
        machine._replace(shared_bytes=machine.shared_bytes * factor),
        machine._replace(registers=machine.registers * factor),
        machine._replace(port_bytes_per_clock=machine.port_bytes_per_clock * factor),
        machine._replace(mac_per_s=machine.mac_per_s * factor),
        machine._replace(
            sm_count=grown,
            mac_per_s=machine.mac_per_s * grown / machine.sm_count,
            fma_per_s=machine.fma_per_s * grown / machine.sm_count,
        ),
    ]
    for entry in better:
        assert cheapest(problem, table, SPLIT_TABLE, entry, constants).time <= base * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(EXTENTS, EXTENTS, EXTENTS, st.sampled_from(GPUS), st.integers(1, 3))
def test_no_roofline_is_beaten_and_more_work_takes_no_less(m: int, n: int, k: int, name: str, more: int) -> None:
    machine, constants, table = device(name)
    problem = product(m, n, k)
    time = cheapest(problem, table, SPLIT_TABLE, machine, constants).time
    moved = problem.a_bytes + problem.b_bytes + problem.c_bytes
    bound = machine.launch_s + max(m * n * k / machine.mac_per_s, moved / machine.memory_byte_per_s)
    assert math.isfinite(time)
    assert time >= bound * (1 - 1e-12)
    for larger in ((m + more, n, k), (m, n + more, k), (m, n, k + more)):
        assert cheapest(product(*larger), table, SPLIT_TABLE, machine, constants).time >= time * (1 - 1e-12)


@given(EXTENTS, EXTENTS, EXTENTS, st.floats(0, 1))
def test_what_l2_holds_saves_time(m: int, n: int, k: int, resident: float) -> None:
    machine, constants, table = device("nvidia-l40s")
    cold, warm = (
        cheapest(product(m, n, k, resident=held), table, SPLIT_TABLE, machine, constants).time for held in (0.0, resident)
    )
    assert warm <= cold


@given(EXTENTS, EXTENTS, EXTENTS)
def test_a_flush_costs_tensor_core_kernels_their_code(m: int, n: int, k: int) -> None:
    machine, constants, table = device("nvidia-a100-sxm-80gb")
    tiled = constants._replace(gemv_rows=0.0)  # no kernel without tensor cores to turn to
    before = cheapest(product(m, n, k), table, SPLIT_TABLE, machine, tiled)
    after = cheapest(product(m, n, k)._replace(flushed=1.0), table, SPLIT_TABLE, machine, tiled)
    assert after.time == pytest.approx(before.time + tiled.code_s, rel=1e-9)
    either = cheapest(product(m, n, k)._replace(flushed=1.0), table, SPLIT_TABLE, machine, constants)
    assert either.time <= after.time


def test_a_batch_of_problems_is_each_problem() -> None:
    machine, constants, table = device("nvidia-h100-sxm")
    generator = np.random.default_rng(3)
    problems = [product(*(int(size) for size in 2 ** generator.uniform(0, 14, 3))) for _ in range(50)]
    many = cheapest_of_each(np.array(problems), table, SPLIT_TABLE, machine, constants)
    assert many.tolist() == [cheapest(problem, table, SPLIT_TABLE, machine, constants).time for problem in problems]


def test_interpreted_equals_compiled() -> None:
    script = """
import json, numpy as np
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.gpu.gemm import Product, cheapest
from lepton_dse.sim.gpu.machine import constants_of, machine_of
from lepton_dse.sim.gpu.streaming import attention_time, streaming_time
from lepton_dse.sim.gpu.tiles import SPLITS, generation, tiles
from lepton_dse.targets import load_target
found = []
for name in ("nvidia-a100-sxm-80gb", "nvidia-b200-sxm"):
    target = load_target(name)
    precision = Precision.parse("int8")
    machine, constants = machine_of(target, precision), constants_of(target.constants(precision))
    for m, n, k in ((1, 64, 100), (17, 3000, 4096), (5000, 4096, 777)):
        problem = Product(float(m), float(n), float(k), 1.0, 8.0, 8.0, 8.0, float(m * k), float(n * k), float(m * n), 0.25)
        table = tiles(generation(target.compute_capability.value))
        found += [float(part) for part in cheapest(problem, table, np.array(SPLITS, float), machine, constants)]
    found += [float(part) for part in streaming_time(1e6, 1e5, 4e6, 1e6, machine, constants)]
    found += [float(part) for part in attention_time(32.0, 1000.0, 1000.0, 128.0, 16.0, machine, constants)]
print(json.dumps(found))
"""
    runs = []
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
        runs.append(json.loads(run.stdout))
    assert runs[0] == runs[1]


# --- streaming kernels, attention, sparsity -------------------------------------------------------------------------


def test_a_streaming_kernel_by_hand() -> None:
    constants = PLAIN._replace(memory_share=0.5, cta_s=0.25)
    time, arithmetic, port, memory = streaming_time(2048.0, 10.0, 8192.0, 5000.0, ONES, constants)
    assert arithmetic == max(2048 / 4, 10 / 4)
    assert port == 2 * 8192 * 1024 / 5000  # 5 CTAs on 4 multiprocessors, full ones of 1,024 elements
    assert memory == 8192 / 0.5
    assert time == 0.5 + 0.25 + max(arithmetic, port, memory)
    assert row_passes(100.0, 100.0) == 1
    assert row_passes(101.0, 100.0) == 2
    quick = PLAIN._replace(quantize_s=3.0, quantize_per_s=10.0)
    assert quantize_time(100.0, 0.0, ONES, quick) == 3 + 5 * 100  # memory of one byte a second binds
    assert quantize_time(100.0, 1.0, ONES, quick) == 3 + 10
    many = quantize_time_of_each(np.array([100.0, 100.0]), np.array([0.0, 1.0]), ONES, quick)
    assert many.tolist() == [503, 13]


@given(
    st.floats(0, 1e18),
    st.floats(0, 1e18),
    st.floats(1, 1e18),
    st.floats(1, 1e15),
    st.sampled_from(GPUS),
    st.floats(1, 10),
    st.integers(1, 9),
)
def test_streaming_keeps_to_the_roofline(
    work: float, special: float, moved: float, elements: float, name: str, factor: float, more: int
) -> None:
    machine, constants, _ = device(name)
    time = streaming_time(work, special, moved, elements, machine, constants)[0]
    assert time >= machine.launch_s + max(work / machine.fma_per_s, moved / machine.memory_byte_per_s)
    assert streaming_time(work, special, moved * factor, elements * factor, machine, constants)[0] >= time * (1 - 1e-12)
    wider = machine.sm_count + more
    for entry in (
        machine._replace(memory_byte_per_s=machine.memory_byte_per_s * factor),
        machine._replace(sm_count=wider, fma_per_s=machine.fma_per_s * wider / machine.sm_count),
    ):
        assert streaming_time(work, special, moved, elements, entry, constants)[0] <= time * (1 + 1e-12)


@given(
    st.integers(1, 1 << 20), st.integers(1, 1 << 20), st.integers(1, 1 << 20), st.sampled_from([64, 128]), st.sampled_from(GPUS)
)
def test_attention_keeps_to_the_roofline(heads: int, queries: int, keys: int, width: int, name: str) -> None:
    machine, constants, _ = device(name)
    sizes = (float(heads), float(queries), float(keys), float(width), 16.0)
    time = attention_time(*sizes, machine, constants)[0]
    moved = heads * (2 * queries + 2 * keys) * width * 2
    products = 2 * heads * queries * keys * width
    assert time >= machine.launch_s + max(products / machine.mac_per_s, moved / machine.memory_byte_per_s) * (1 - 1e-12)
    longer = attention_time(sizes[0], sizes[1], sizes[2] * 2, sizes[3], sizes[4], machine, constants)[0]
    assert longer >= time


@given(st.integers(64, 1 << 14), st.integers(64, 1 << 14), st.integers(64, 1 << 14), st.floats(0, 1))
def test_zeros_save_less_than_their_share(m: int, n: int, k: int, reached: float) -> None:
    machine, constants, table = device("nvidia-a100-sxm-80gb")
    problem = product(m, n, k)
    dense = cheapest(problem, table, SPLIT_TABLE, machine, constants).time
    fewer, faster = two_of_four(problem, machine, 2.0, reached)
    sparse = cheapest(fewer, table, SPLIT_TABLE, faster, constants).time
    assert dense / 2 <= sparse <= dense
    assert fewer.b_bytes == problem.b_bytes * 0.5625  # half the weights, and 2 bits beside each of 16
    times = [unstructured_time(problem, density, machine, constants)[0] for density in (0.0, 0.5, 1.0)]
    assert times == sorted(times)
    assert times[0] > 0


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.sampled_from([2, 4, 8, 16]), st.floats(0, 1), st.randoms())
def test_sparse_storage_is_that_of_weights_written_one_by_one(
    n: int, runs: int, count: int, bits: int, share: float, random: Random
) -> None:
    k = 4 * runs
    weights = [[[0 if random.random() < share else 1 for _ in range(k)] for _ in range(n)] for _ in range(count)]
    problem = product(3, n, k)._replace(products=float(count), b_bits=float(bits), b_bytes=n * k * count * bits / 8)
    fewer, faster = two_of_four(problem, ONES, 2.0, 0.5)
    dense = n * k * count * bits / 8
    assert fewer.b_bytes == min(oracle.bytes_of_runs(n, k, count, bits), dense)
    assert fewer._replace(b_bytes=problem.b_bytes) == problem
    assert faster == ONES._replace(mac_per_s=1.5 * ONES.mac_per_s)
    kept = sum(map(sum, (row for matrix in weights for row in matrix)))
    moved = unstructured_time(problem, kept / (n * k * count), ONES, PLAIN)[3]
    listed = oracle.bytes_of_compressed_rows(weights, bits)
    assert moved == pytest.approx(problem.a_bytes + problem.c_bytes + listed, rel=1e-12)


def test_compressed_rows_by_hand() -> None:
    """Rates of one and 4 for the CUDA cores: 3 x 8 weights, a quarter kept, times 2 columns."""
    problem = product(2, 3, 8)._replace(a_bytes=16.0, b_bytes=24.0, c_bytes=6.0)
    time, arithmetic, memory, moved = unstructured_time(problem, 0.25, ONES, PLAIN)
    assert arithmetic == pytest.approx(2 * 6 / (0.27 * 4))
    assert moved == 16 + 6 + 24 / 4 + 4 * (6 + 4)
    assert memory == moved / PLAIN.memory_share
    assert time == ONES.launch_s + PLAIN.overhead_s + PLAIN.cta_s + max(arithmetic, memory)
    for density in (-0.1, 1.1, math.nan):
        with pytest.raises(LeptonError, match="density"):
            unstructured_time(problem, density, ONES, PLAIN)
    for rate, reached in ((1.0, 0.5), (2.0, 1.5), (2.0, -0.1)):
        with pytest.raises(LeptonError, match="sparse rate"):
            two_of_four(problem, ONES, rate, reached)


def test_tiles_are_declared_once_in_both_orientations() -> None:
    for name in ("ampere", "hopper", "blackwell"):
        shapes = [tuple(row[:2]) for row in tiles(name).tolist()]
        assert len(set(shapes)) == len(shapes)
        assert {(columns, rows) for rows, columns in shapes} == set(shapes)
    assert [generation(version) for version in (7.0, 8.9, 9.0, 10.0, 12.0)] == [
        "ampere",
        "ampere",
        "hopper",
        "blackwell",
        "blackwell",
    ]
