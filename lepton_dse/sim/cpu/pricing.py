"""Time of a blocked product on the cores of a CPU, and the best of a list of blockings.

Symbols
-------
==================  ================================================================================================
g, m, n, k          products, rows, columns and depth that fall to the busiest core
mr, nv, lanes, ks   register tile: rows, vectors of `lanes` accumulators, and values of k that one instruction sums
P_core, f           multiply-accumulates a second of one core in the formats; clock
L, t_fma, w         loads a cycle; cycles from an accumulator to the next addition to it; instructions in flight
R                   architectural vector registers
e, w_L              seconds from one line that is brought into a set of the first cache to the next into the same set; loads in
                    flight; 0 where unknown
n_X, Z_X            lines of operand X that the first cache brings in; sets that a walk through X reaches (`walked_sets`)
b_1, b_l            bytes that a core reads and writes in its first level; bytes that cross from level l inwards
B_l, b_l            bandwidth of level l for all cores, and the most that one core draws
a                   cores at work
==================  ================================================================================================

A register tile takes for each step of ks values

    step = max(mr nv lanes ks / P_core,  (mr + nv + 2 max(0, mr nv + nv + 1 - R)) / (L f),  t_fma c / (c + w / i) / f)

(arithmetic; loads, accumulators beyond the registers among them; the chain of c = min(k, kc) / ks steps through one
accumulator, of which the first w / i, with i = mr nv + mr + nv + 2 instructions a step, run beside the tile before). Partial
tiles take as long as full ones. Adding to C costs 2 mr nv loads or stores a tile and block of k, packing one instruction an
element of A and one a vector of B. Level l > 1 moves the lines that level l - 1 brings in and writes back
(:mod:`lepton_dse.sim.cpu.misses`); caches of one core see its part of the product, shared ones the different parts of all
cores on them. Bytes take t_l = max(bytes of a core / b_l, bytes of all cores / B_l). Lines that meet in one set of the first
cache wait for one another, so t_2 is also at least

    sum of n_X e / Z_X  over C, operands that are read where they lie, and sources of packing

which exceeds the bytes only where rows lie a power of two apart. A line of A that was lost for want of ways is asked for again
every w_L / (mr + nv) steps: loads of the steps between find it on its way and wait for the same fill, as in any lockup-free
cache (D. Kroft, ISCA 1981). With bytes and lines of packing and its sources apart from the others,

    t = max(tiles, t_1, ..., t_last of all else) + max(instructions, t_1, ..., t_last of packing)

so within a phase transfers overlap arithmetic and each other: a roofline (S. Williams, A. Waterman and D. Patterson, CACM 52(4),
2009) with a roof for every level and the level's own traffic. The execution-cache-memory model (J. Treibig and G. Hager, PPAM
2009; H. Stengel et al., ICS 2015) adds the transfers up instead, as some processors need; the suite ``cpu-host`` shows how a
host behaves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lepton_dse.jit import kernel
from lepton_dse.sim.cpu.misses import Nest, level_misses, walked_sets

__all__ = ["Core", "Price", "Work", "arithmetic_s", "best_blocking", "price", "price_nest"]

_UNPACKED, _PACKED, _PREPACKED = 0, 1, 2


class Core(NamedTuple):
    """The numbers of a CPU that pricing looks at, for a pair of formats; arrays over the levels from inner to outer."""

    cores: float
    mac_per_s: float
    """Of one core; 0 where it lacks the formats."""
    clock: float
    load_ports: float
    fma_cycles: float
    window: float
    registers: float
    fill_s: float
    """e; 0 where unknown."""
    load_window: float
    """w_L; 0 where unknown."""
    lanes: float
    depth: float
    """ks."""
    sets: Any
    """Of one instance; 0 for main memory."""
    ways: Any
    line: Any
    shared_by: Any
    core_rate: Any
    """b_l, bytes a second."""
    rate: Any
    """B_l."""


class Work(NamedTuple):
    """A product as the kernels see it: A and B may be swapped beforehand so that lanes lie along the longer side."""

    groups: float
    m: float
    n: float
    k: float
    a_element: float
    b_element: float
    c_element: float
    c_step: float
    """Bytes from one row of C to the next."""
    other_bytes: float
    image: int
    """Which operand is an image read through windows: 1 A, 2 B, 0 neither."""
    fixed: int
    """Which operand is constant and so packed beforehand: 1 A, 2 B, 0 neither."""
    positions: float
    image_rows: float
    in_rows: float
    row_step: float
    row_extent: float
    row_bytes: float
    compulsory: float
    """Bytes of all operands and the result, each once."""


class Price(NamedTuple):
    """Seconds and what they are made of."""

    total_s: float
    compute_s: float
    """Of tiles and packing."""
    level_s: Any
    """t_l."""
    bytes_: Any
    """Bytes of all cores at each level."""


@kernel
def _ceil(value: float, step: float) -> float:
    return float(np.ceil(value / step - 1e-12))


@kernel
def arithmetic_s(core: Any, groups: float, m: float, n: float, k: float, rows: float, vectors: float, kc: float) -> float:
    """Time of the register tiles of one core, packing left out."""
    tiles = groups * _ceil(m, rows) * _ceil(n, vectors * core.lanes)
    spilled = max(0.0, rows * vectors + vectors + 1.0 - core.registers)
    steps = _ceil(min(k, kc), core.depth)
    chain = core.fma_cycles * steps / (steps + core.window / (rows * vectors + rows + vectors + 2.0))
    step = max((rows + vectors + 2.0 * spilled) / core.load_ports, chain) / core.clock
    if core.mac_per_s > 0.0:
        step = max(step, rows * vectors * core.lanes * core.depth / core.mac_per_s)
    update = 2.0 * rows * vectors / core.load_ports / core.clock
    return float(tiles * (_ceil(k, core.depth) * step + _ceil(k, kc) * update))


@kernel
def _part(work: Any, over_g: float, over_m: float, over_n: float) -> tuple[float, float, float]:
    """Products, rows and columns of the busiest core."""
    return np.ceil(work.groups / over_g), np.ceil(work.m / over_m), np.ceil(work.n / over_n)


@kernel
def price_nest(
    nest: Any, core: Any, groups: float, active: float, over_m: float, over_n: float, other_bytes: float, compulsory: float
) -> Price:
    """Price of a nest that each of the active cores runs `groups` times on its own part of the product.

    Parameters
    ----------
    nest : Nest
        The part of one core.
    core : Core
    groups, active, over_m, over_n : float
        Cores that split columns share A, cores that split rows share B.
    other_bytes : float
        Read once by all cores together.
    compulsory : float
        Bytes that every level moves at least.
    """
    vectors = nest.columns / core.lanes
    tiles_s = arithmetic_s(core, groups, nest.m, nest.n, nest.k, nest.rows, vectors, nest.kc)
    packing_s = 0.0
    count = len(core.rate)
    moved = np.zeros(count)
    packing = np.zeros(count)
    if nest.layout_a == _PACKED:
        elements = groups * nest.m * nest.k * (_ceil(nest.n, nest.nc) if nest.third != 1 else 1.0)
        packing_s += elements / core.clock
        packing[0] += 2.0 * elements * nest.a_element * active
    if nest.layout_b == _PACKED:
        elements = groups * nest.n * nest.k * (_ceil(nest.m, nest.mc) if nest.third != 0 else 1.0)
        packing_s += elements / core.lanes / core.clock
        packing[0] += 2.0 * elements * nest.b_element * active
    tiles = groups * _ceil(nest.m, nest.rows) * _ceil(nest.n, nest.columns)
    loads = tiles * _ceil(nest.k, core.depth) * core.depth * (nest.rows * nest.a_element + nest.columns * nest.b_element)
    updates = 2.0 * groups * nest.m * nest.n * nest.c_element * _ceil(nest.k, nest.kc)
    moved[0] = (loads + updates) * active + other_bytes
    together = nest.rows + vectors
    apart = together / max(together, core.load_window)
    filling_s = queue_s = 0.0
    for level in range(1, count):
        here = min(active, core.shared_by[level - 1])
        copies = (max(1.0, here / over_n), max(1.0, here / over_m), here)
        found = level_misses(nest, core.sets[level - 1], core.ways[level - 1], core.line[level - 1], copies, apart)
        # Every instance brings in its own lines; an outer level never sees more than an inner one asks for.
        size = core.line[level - 1] * groups * active / here
        moved[level] = (found.a + found.b + found.c + found.written - 2.0 * found.packed) * size + other_bytes
        packing[level] = (found.a_source + found.b_source + 2.0 * found.packed) * size
        if level == 1:
            of_a, of_b, of_c = walked_sets(nest, core.sets[0], core.line[0])
            each = core.fill_s * groups
            queue_s = found.c / of_c * each
            if nest.layout_a == _UNPACKED:
                queue_s += found.a / of_a * each
            if nest.layout_b == _UNPACKED:
                queue_s += found.b / of_b * each
            filling_s = (found.a_source / of_a + found.b_source / of_b) * each
        else:
            moved[level] = min(moved[level], moved[level - 1])
            packing[level] = min(packing[level], packing[level - 1])
    level_s = np.zeros(count)
    first, second, least = max(tiles_s, queue_s), max(packing_s, filling_s), 0.0
    for level in range(count):
        per_byte = max(1.0 / active / core.core_rate[level], 1.0 / core.rate[level])
        first = max(first, moved[level] * per_byte)
        second = max(second, packing[level] * per_byte)
        moved[level] = max(moved[level] + packing[level], compulsory)
        level_s[level] = moved[level] * per_byte
        if level == 1:
            level_s[level] = max(level_s[level], queue_s + filling_s)
        least = max(least, level_s[level])
    return Price(max(first + second, least), tiles_s + packing_s, level_s, moved)


@kernel
def price(work: Any, core: Any, split: Any, tile: Any, block: Any, order: Any, packed: int) -> Price:
    """Price of one blocking.

    Parameters
    ----------
    work : Work
    core : Core
    split : tuple of float
        How the cores are shared among products, rows and columns.
    tile : tuple of float
        mr and nv.
    block : tuple of float
        mc, nc and kc.
    order : tuple of int
        Block loops outermost first: 0 m, 1 n, 2 k.
    packed : int
        Whether the operand that is not constant is packed.
    """
    over_g, over_m, over_n = split
    rows, vectors = tile
    mc, nc, kc = block
    groups, m, n = _part(work, over_g, over_m, over_n)
    nest = Nest(
        m,
        n,
        work.k,
        rows,
        vectors * core.lanes,
        mc,
        nc,
        kc,
        work.a_element,
        work.b_element,
        work.c_element,
        work.k * work.a_element,
        work.n * work.b_element,
        work.c_step,
        _PREPACKED if work.fixed == 1 else (_PACKED if packed else _UNPACKED),
        _PREPACKED if work.fixed == 2 else (_PACKED if packed else _UNPACKED),
        order[0],
        order[1],
        order[2],
        1,
        work.image,
        work.positions,
        work.image_rows,
        work.in_rows,
        work.row_step,
        work.row_extent,
        work.row_bytes,
    )
    return price_nest(nest, core, groups, over_g * over_m * over_n, over_m, over_n, work.other_bytes, work.compulsory)


@kernel
def best_blocking(
    works: Any, core: Any, splits: Any, tiles: Any, blocks: Any, orders: Any
) -> tuple[float, int, int, int, int, int, int, int]:
    """The cheapest of a list: seconds; indices of orientation, split, tile, block and order; whether packed; candidates priced.

    Of equal times the one with the least transfers wins. For each orientation and split the register tile with the least
    arithmetic time is taken, of equals the first. Splits are gone through from the least bound on; those whose bound
    (arithmetic; every byte once) is no better than the best so far are passed over.

    Parameters
    ----------
    works : tuple of Work
        Orientations.
    core : Core
    splits : ndarray, shape (s, 3)
    tiles : ndarray, shape (t, 2)
        mr and nv.
    blocks : ndarray, shape (b, 3)
        Register tiles in mc, in nc (0 for all), and kc (0 for all).
    orders : ndarray of int64, shape (o, 3)
    """
    count = len(works) * len(splits)
    bound = np.empty(count)
    tile_of = np.empty(count, np.int64)
    for way in range(len(works)):
        work = works[way]
        for split in range(len(splits)):
            groups, m, n = _part(work, splits[split, 0], splits[split, 1], splits[split, 2])
            least = np.inf
            for tile in range(len(tiles)):
                time = arithmetic_s(core, groups, m, n, work.k, tiles[tile, 0], tiles[tile, 1], work.k)
                if time < least:
                    least = time
                    tile_of[way * len(splits) + split] = tile
            active = splits[split, 0] * splits[split, 1] * splits[split, 2]
            for level in range(len(core.rate)):
                least = max(least, work.compulsory / active / core.core_rate[level], work.compulsory / core.rate[level])
            bound[way * len(splits) + split] = least
    best = least_moving = np.inf
    where = (0, 0, 0, 0, 0, 0)
    looked_at = 0
    for place in np.argsort(bound):
        if bound[place] >= best:
            break
        way = place // len(splits)
        split = place - way * len(splits)
        work = works[way]
        tile = tile_of[place]
        rows, vectors = tiles[tile, 0], tiles[tile, 1]
        share = (splits[split, 0], splits[split, 1], splits[split, 2])
        groups, m, n = _part(work, splits[split, 0], splits[split, 1], splits[split, 2])
        all_rows, all_columns = _ceil(m, rows) * rows, _ceil(n, vectors * core.lanes) * vectors * core.lanes
        for block in range(len(blocks)):
            mc, nc, kc = blocks[block, 0] * rows, blocks[block, 1] * vectors * core.lanes, blocks[block, 2]
            # Blocks as large as the product are the same as those that say "all", which come first.
            if mc >= all_rows or nc >= all_columns or kc >= work.k:
                continue
            mc, nc, kc = mc or all_rows, nc or all_columns, kc or work.k
            one = mc == all_rows and nc == all_columns and kc == work.k
            for packed in range(2):
                for order in range(1 if one else len(orders)):
                    turn = (orders[order, 0], orders[order, 1], orders[order, 2])
                    cost = price(work, core, share, (rows, vectors), (mc, nc, kc), turn, packed)
                    looked_at += 1
                    moving = 0.0
                    for level in range(len(core.rate)):
                        moving += cost.level_s[level]
                    if cost.total_s < best or (cost.total_s == best and moving < least_moving):
                        best, least_moving = cost.total_s, moving
                        where = (way, split, tile, block, order, packed)
    return best, where[0], where[1], where[2], where[3], where[4], where[5], looked_at
