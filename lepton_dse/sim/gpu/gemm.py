"""Matrix products and convolutions as matrix products on tensor cores, one closed form for a tiled kernel.

Symbols (bytes, seconds and counts as float64; extents up to 2^53 are exact)
---------------------------------------------------------------------------
=============  ===========================================================================================================
m, n, k, b     rows, columns, summed length and number of products; operands are A (m, k), B (k, n) and C (m, n)
tm, tn, tk     tile of a CTA; ``tk`` is 128 bytes of the wider operand where the tile names none
s              split of the summed axis over CTAs; each step of a CTA sums ``tk`` products
mt, nt, kt     ``ceil(m / tm), ceil(n / tn), ceil(ceil(k / tk) / s)``
N              CTAs: ``b mt nt s``
z, o           pipeline stages, and CTAs that one of the S multiprocessors holds (:mod:`.occupancy`)
q              CTAs on the busiest multiprocessor, ``ceil(N / S)``; W waves, ``ceil(q / o)``
P, D, L        peak products a second of the device, bytes a second of main memory and of L2
beta, sigma    share of P that a kernel reaches within the first ``t_b`` seconds, and thereafter (power and clock limits)
mu, lambda     share of D and of L that kernels reach
=============  ===========================================================================================================

Times of the parts::

    t_mma  = w / beta               where w = q kt tm tn tk S / P, while that is below t_b
           = t_b + (w - beta t_b) / sigma                          thereafter
    t_port = q kt v / min(port f, min(q, o) z v / t_mem)           v = bytes of one step's tiles; Little's law on the right
    t_L2   = (loads + C) / (lambda L)                              loads = all tiles of all CTAs, clusters sharing one operand
    t_mem  = (A' + B' + C') / (mu D)                               primes: with re-reads by raster order (:mod:`.raster`),
                                                                   less what an earlier run of the kernel left in L2
    t_step = W kt tau                                              latency of a step that nothing overlaps
    t      = t_launch + t_over + W t_cta + (q - 1) t_next + t_store + t_split [s > 1]
             + (t_mma^p + t_port^p + t_L2^p + t_mem^p + t_step^p)^(1/p)

The last tile of a multiprocessor is written when nothing else is left to do: t_store = its bytes / (store rate times f).
A split adds ``t_split`` and the partial sums, 4 bytes each, once written and once read through L2. For few rows or
columns there is also a kernel without tensor cores:
``t_launch + t_over + t_cta + max(t_mem, t_L2, products / rate of the CUDA cores, ceil(k bytes / 2048) t_lat)``.

Every part is a maximum over, or a sum of, amounts over rates, so that no part beats a roofline; more multiprocessors at the
same rate each, more bandwidth, a larger L2 or more shared memory never lengthen any of them.

Sources: tiles, stages, split and raster as in CUTLASS (V. Thakkar et al., github.com/NVIDIA/cutlass, documentation "Efficient
GEMM"); waves and their tails as in "Matrix Multiplication Background User's Guide" (NVIDIA, deep learning performance
documentation); latency times bandwidth after J. Little, Operations Research 9(3), 1961. The p-norm, the two clock regimes and
the additive overheads are this project's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lepton_dse.jit import kernel
from lepton_dse.schedule.gpu.occupancy import occupancy
from lepton_dse.sim.gpu.raster import operand_bytes

__all__ = [
    "PARTS",
    "STAGES",
    "Choice",
    "Constants",
    "Machine",
    "Product",
    "Tile",
    "cheapest",
    "cheapest_of_each",
    "gemv_time",
    "product_floor",
    "product_time",
]

PARTS = ("arithmetic", "port", "l2", "memory", "latency")
"""Names of the parts of a kernel's time, in the order of :class:`Choice`'s fields."""
STAGES = 5
"""Most stages of the software pipeline that a candidate may use."""
_GEMV_PASS = 2048.0  # bytes that 128 threads read at 16 each
_STEP_BITS = 1024.0
_L2_SHARE_OF_RASTER = 0.5  # the other half holds what streams through
_BLOCK_RESERVE = 4096.0  # shared memory that barriers and the epilogue's staging keep


class Machine(NamedTuple):
    """What the kernels see of a device, for one pair of formats."""

    sm_count: float
    clock_hz: float
    mac_per_s: float
    """Peak of the unit that multiplies, dense, whole device."""
    fma_per_s: float
    """Multiply-accumulates a second of the CUDA cores, whole device."""
    special_per_s: float
    """Special functions (exponential, reciprocal root) a second, whole device."""
    memory_byte_per_s: float
    l2_bytes: float
    l2_byte_per_s: float
    shared_bytes: float
    registers: float
    threads: float
    ctas: float
    port_bytes_per_clock: float
    """Bytes a clock that one multiprocessor takes in from L2."""
    cluster: float
    """CTAs that may share the loads of one operand."""
    accumulators: float
    """32-bit accumulators of a multiprocessor outside its registers (tensor memory); 0 where registers hold them."""
    launch_s: float


class Constants(NamedTuple):
    """What kernels reach of a device, beyond its data sheet; symbols in the module's docstring."""

    overhead_s: float
    boost_share: float
    sustained_share: float
    boost_s: float
    memory_share: float
    l2_share: float
    cta_s: float
    next_cta_s: float
    store_bytes_per_clock: float
    """Bytes a clock at which the last CTA of a multiprocessor writes its tile, after everything else."""
    step_s: float
    memory_latency_s: float
    split_s: float
    overlap_exponent: float
    resident_share: float
    """Share of L2 that keeps data from one run of a kernel to the next."""
    resident_exponent: float
    split_limit: float
    """Widest split of the summed axis that the library offers; 1 for none."""
    gemv_rows: float
    """Most rows (or columns) for which the library offers a kernel without tensor cores."""
    quantize_s: float
    """Fixed time of quantising the activations before a product, where a measurement includes it."""
    quantize_per_s: float
    """Elements a second of that pass."""
    code_s: float
    """Fetching the code of a tensor-core kernel from main memory, where a measurement flushes L2 before each kernel."""


class Product(NamedTuple):
    """One matrix product, or several of one shape."""

    m: float
    n: float
    k: float
    products: float
    """How many of them."""
    a_bits: float
    b_bits: float
    c_bits: float
    a_bytes: float
    """All of A, of all products, each element once."""
    b_bytes: float
    c_bytes: float
    resident: float
    """Share of the operands that L2 still holds from the run before, or keeps of the result; 0 for a cold start."""
    flushed: float = 0.0
    """1 where a flush of L2 removed the kernel's code as well; 0 where kernels have run before."""


class Tile(NamedTuple):
    """One tile: rows and columns of a CTA, its threads and the registers of each."""

    rows: float
    columns: float
    threads: float
    registers: float
    depth: float
    """Elements of the summed axis in a step; 0 for 128 bytes of the wider operand."""


class Choice(NamedTuple):
    """The cheapest candidate and its parts; `tile` is -1 for the kernel without tensor cores, -2 where nothing fits."""

    time: float
    tile: int
    split: float
    stages: float
    resident_ctas: float
    ctas: float
    arithmetic: float
    port: float
    l2: float
    memory: float
    latency: float
    memory_bytes: float
    l2_bytes: float
    evaluated: int


@kernel
def _work_time(work: float, boost: float, sustained: float, boost_s: float) -> float:
    """Seconds for `work` seconds at peak: at the boost share first, at the sustained share after `boost_s`."""
    time = work / boost
    if time <= boost_s:
        return time
    return boost_s + (work - boost * boost_s) / sustained


@kernel
def _counts(problem: Product, tile: Tile, split: float) -> tuple[float, float, float, float]:
    """Tiles along m and n, steps of a CTA, and the summed length of a step."""
    depth = tile.depth if tile.depth > 0.0 else _STEP_BITS / max(problem.a_bits, problem.b_bits)
    steps = np.ceil(np.ceil(problem.k / depth) / split)
    return np.ceil(problem.m / tile.rows), np.ceil(problem.n / tile.columns), steps, depth


@kernel
def _fixed(
    problem: Product, tile: Tile, split: float, waves: float, busiest: float, machine: Machine, constants: Constants
) -> float:
    """Everything of a kernel's time that adds to its parts."""
    fixed = machine.launch_s + constants.overhead_s + waves * constants.cta_s + (busiest - 1.0) * constants.next_cta_s
    fixed += problem.flushed * constants.code_s
    fixed += tile.rows * tile.columns * problem.c_bits / 8.0 / (constants.store_bytes_per_clock * machine.clock_hz)
    if split > 1.0:
        partial = 8.0 * split * problem.m * problem.n * problem.products
        fixed += constants.split_s + partial / (constants.l2_share * machine.l2_byte_per_s)
    return fixed


@kernel
def product_floor(
    problem: Product, tile: Tile, split: float, resident_ctas: float, machine: Machine, constants: Constants
) -> float:
    """A cheap bound from below on :func:`product_time`: the fixed times and the arithmetic or the compulsory traffic."""
    mt, nt, steps, depth = _counts(problem, tile, split)
    busiest = np.ceil(problem.products * mt * nt * split / machine.sm_count)
    work = busiest * steps * tile.rows * tile.columns * depth * machine.sm_count / machine.mac_per_s
    arithmetic = _work_time(work, constants.boost_share, constants.sustained_share, constants.boost_s)
    moved = (problem.a_bytes + problem.b_bytes + problem.c_bytes) * (1.0 - problem.resident)
    memory = moved / (constants.memory_share * machine.memory_byte_per_s)
    waves = np.ceil(busiest / resident_ctas)
    return _fixed(problem, tile, split, waves, busiest, machine, constants) + max(arithmetic, memory)


@kernel
def product_time(
    problem: Product,
    tile: Tile,
    split: float,
    stages: float,
    resident_ctas: float,
    machine: Machine,
    constants: Constants,
) -> tuple[float, float, float, float, float, float, float, float]:
    """Time of one tiled kernel; see the module's docstring.

    Parameters
    ----------
    problem : Product
    tile : Tile
    split, stages : float
        Parts of the summed axis, and pipeline stages.
    resident_ctas : float
        CTAs that one multiprocessor holds with these stages, at least 1.
    machine : Machine
    constants : Constants

    Returns
    -------
    tuple of float
        Seconds: total, arithmetic, port, l2, memory, latency. Then bytes from main memory and from L2.
    """
    mt, nt, steps, depth = _counts(problem, tile, split)
    ctas = problem.products * mt * nt * split
    busiest = np.ceil(ctas / machine.sm_count)
    waves = np.ceil(busiest / resident_ctas)
    work = busiest * steps * tile.rows * tile.columns * depth * machine.sm_count / machine.mac_per_s
    arithmetic = _work_time(work, constants.boost_share, constants.sustained_share, constants.boost_s)

    a_step, b_step = tile.rows * problem.a_bits * depth / 8.0, tile.columns * problem.b_bits * depth / 8.0
    in_flight = min(busiest, resident_ctas) * stages * (a_step + b_step)
    port_rate = min(machine.port_bytes_per_clock * machine.clock_hz, in_flight / constants.memory_latency_s)
    port = busiest * steps * (a_step + b_step) / port_rate

    shared_a = a_step * mt * np.ceil(nt / machine.cluster) + b_step * mt * nt
    shared_b = a_step * mt * nt + b_step * nt * np.ceil(mt / machine.cluster)
    l2_bytes = problem.products * split * steps * min(shared_a, shared_b) + problem.c_bytes
    l2 = l2_bytes / (constants.l2_share * machine.l2_byte_per_s)

    a, b = problem.a_bytes / problem.products, problem.b_bytes / problem.products
    cache = _L2_SHARE_OF_RASTER * machine.l2_bytes
    read_again = operand_bytes(mt, nt, a, b, min(mt * nt, machine.sm_count * resident_ctas), cache) - a - b
    once = (problem.a_bytes + problem.b_bytes + problem.c_bytes) * (1.0 - problem.resident)
    memory_bytes = once + problem.products * read_again
    memory = memory_bytes / (constants.memory_share * machine.memory_byte_per_s)

    latency = waves * steps * constants.step_s
    longest = max(arithmetic, port, l2, memory, latency)
    p = constants.overlap_exponent
    total = (
        (arithmetic / longest) ** p
        + (port / longest) ** p
        + (l2 / longest) ** p
        + (memory / longest) ** p
        + (latency / longest) ** p
    )
    time = _fixed(problem, tile, split, waves, busiest, machine, constants) + longest * total ** (1.0 / p)
    return time, arithmetic, port, l2, memory, latency, memory_bytes, l2_bytes


@kernel
def gemv_time(problem: Product, machine: Machine, constants: Constants) -> tuple[float, float, float, float, float]:
    """Time of the kernel without tensor cores, and its arithmetic, L2, memory and latency parts.

    A CTA of 128 threads reads 16 bytes a thread at a time and sums along k; one reading waits for memory.
    """
    moved = problem.a_bytes + problem.b_bytes + problem.c_bytes
    arithmetic = problem.m * problem.n * problem.k * problem.products / min(machine.fma_per_s, machine.mac_per_s)
    l2 = moved / (constants.l2_share * machine.l2_byte_per_s)
    memory = moved * (1.0 - problem.resident) / (constants.memory_share * machine.memory_byte_per_s)
    latency = np.ceil(problem.k * problem.b_bits / 8.0 / _GEMV_PASS) * constants.memory_latency_s
    fixed = machine.launch_s + constants.overhead_s + constants.cta_s
    return fixed + max(arithmetic, l2, memory, latency), arithmetic, l2, memory, latency


@kernel
def cheapest(
    problem: Product,
    tiles: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    splits: np.ndarray[tuple[int], np.dtype[np.float64]],
    machine: Machine,
    constants: Constants,
) -> Choice:
    """The cheapest of all tiles, stages and splits, and of the kernel without tensor cores.

    Parameters
    ----------
    problem : Product
    tiles : ndarray of float64, shape (T, 4)
        Rows as :class:`Tile`.
    splits : ndarray of float64, shape (S,)
        Increasing, beginning with 1. A split is a candidate while the tiles alone are fewer than twice the multiprocessors.
    machine : Machine
    constants : Constants

    Returns
    -------
    Choice
        Ties go to the earlier candidate.
    """
    best = Choice(np.inf, -2, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    evaluated = 0
    depth = _STEP_BITS / max(problem.a_bits, problem.b_bits)
    most_steps = np.ceil(problem.k / depth)
    if min(problem.m, problem.n) <= constants.gemv_rows:
        evaluated += 1
        time, arithmetic, l2, memory, latency = gemv_time(problem, machine, constants)
        moved = problem.a_bytes + problem.b_bytes + problem.c_bytes
        resident = moved * (1.0 - problem.resident)
        best = Choice(time, -1, 1.0, 1.0, 1.0, machine.sm_count, arithmetic, 0.0, l2, memory, latency, resident, moved, 0)
    for index in range(tiles.shape[0]):
        tile = Tile(tiles[index, 0], tiles[index, 1], tiles[index, 2], tiles[index, 3], 0.0)
        step_bytes = (tile.rows * problem.a_bits + tile.columns * problem.b_bits) * depth / 8.0
        of_product = np.ceil(problem.m / tile.rows) * np.ceil(problem.n / tile.columns) * problem.products
        held_before = 0.0
        for fewer in range(STAGES - 1):
            stages = float(STAGES - fewer)
            held = occupancy(
                machine.registers,
                machine.shared_bytes,
                machine.threads,
                machine.ctas,
                tile.registers,
                stages * step_bytes + _BLOCK_RESERVE,
                tile.threads,
            )
            if machine.accumulators > 0.0:
                held = min(held, np.floor(machine.accumulators / (tile.rows * tile.columns)))
            if held <= held_before:
                continue  # with more stages as many CTAs fit
            held_before = held
            for split in splits:
                if split > 1.0 and (split > constants.split_limit or split > most_steps or of_product >= 2.0 * machine.sm_count):
                    break
                evaluated += 1
                if product_floor(problem, tile, split, held, machine, constants) >= best.time:
                    continue
                time, arithmetic, port, l2, memory, latency, memory_bytes, l2_bytes = product_time(
                    problem, tile, split, stages, held, machine, constants
                )
                if time < best.time:
                    ctas = of_product * split
                    best = Choice(
                        time, index, split, stages, held, ctas, arithmetic, port, l2, memory, latency, memory_bytes, l2_bytes, 0
                    )
    return Choice(
        best.time,
        best.tile,
        best.split,
        best.stages,
        best.resident_ctas,
        best.ctas,
        best.arithmetic,
        best.port,
        best.l2,
        best.memory,
        best.latency,
        best.memory_bytes,
        best.l2_bytes,
        evaluated,
    )


@kernel
def cheapest_of_each(
    problems: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    tiles: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    splits: np.ndarray[tuple[int], np.dtype[np.float64]],
    machine: Machine,
    constants: Constants,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Times of :func:`cheapest` for many products.

    Parameters
    ----------
    problems : ndarray of float64, shape (N, 12)
        Rows as :class:`Product`.
    tiles, splits, machine, constants
        As for :func:`cheapest`.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    times = np.empty(problems.shape[0])
    for index in range(problems.shape[0]):
        row = problems[index]
        problem = Product(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], row[11])
        times[index] = cheapest(problem, tiles, splits, machine, constants).time
    return times
