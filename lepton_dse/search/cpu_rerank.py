"""The best blockings of one contraction under the closed form, ranked again by the exact cache simulator.

The simulator walks the part of one core, rows cut to whole blocks so that no more than `limit` multiply-accumulates are walked
and lines scaled back, with a shared cache cut to its share of the cores on it. A convolution is walked as the product that
im2col would make explicit. It takes about a second for a hundred million accesses, too slow for a network: no cost model or
planner calls it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.cpu import BLOCKS, ORDERS, Choice, search_work, splits_of
from lepton_dse.sim.cache import ORDERS as NEST_ORDERS
from lepton_dse.sim.cache import Blocking, Cache, Hierarchy, Layout, matrix_problem, simulate
from lepton_dse.sim.cpu import Core, Price, Work, core_of, price, work_of
from lepton_dse.targets import CpuTarget

__all__ = ["Ranked", "rerank"]


@dataclass(frozen=True)
class Ranked:
    """A blocking with its time under the closed form and under the simulator's traffic."""

    block: tuple[int, int, int]
    order: tuple[int, int, int]
    packed: bool
    closed_s: float
    simulated_s: float


def rerank(
    graph: Graph, op: Op, target: CpuTarget, precision: Precision, *, keep: int = 16, limit: int = 1 << 25
) -> tuple[Ranked, ...]:
    """The `keep` best blockings of the chosen orientation, split and register tile, fastest under the simulator first.

    Parameters
    ----------
    graph : Graph
    op : Op
        Its nest multiplies.
    target : CpuTarget
    precision : Precision
    keep : int
        At least 1.
    limit : int
        Multiply-accumulates walked for each, at least 1; one block of rows is always walked.

    Raises
    ------
    LeptonError
        If the operation is no contraction, or a number is below 1.
    """
    if not graph.nest(op).multiplies:
        raise LeptonError(f"{op.kind} is no contraction", where=op.name, fix="choose a convolution or a matrix product")
    if keep < 1 or limit < 1:
        raise LeptonError(f"keep {keep} and limit {limit}", fix="both are at least 1")
    core = core_of(target, precision)
    works = work_of(graph, op, precision)
    choice = search_work(works, core, splits_of(int(core.cores)))
    work = works[choice.swapped]
    found = sorted(_candidates(work, core, choice), key=lambda entry: entry[0])[:keep]
    ranked = [
        Ranked(block, order, packed, seconds, _simulated_s(work, core, choice, block, order, packed, limit))
        for seconds, block, order, packed in found
    ]
    return tuple(sorted(ranked, key=lambda entry: (entry.simulated_s, entry.closed_s)))


def _part(work: Work, choice: Choice) -> tuple[int, int]:
    return math.ceil(work.m / choice.split[1]), math.ceil(work.n / choice.split[2])


def _closed(
    work: Work, core: Core, choice: Choice, block: tuple[int, int, int], order: tuple[int, int, int], packed: bool
) -> Price:
    split = (float(choice.split[0]), float(choice.split[1]), float(choice.split[2]))
    tile = (float(choice.tile[0]), choice.tile[1] / core.lanes)
    return price(work, core, split, tile, (float(block[0]), float(block[1]), float(block[2])), order, int(packed))


def _candidates(work: Work, core: Core, choice: Choice) -> list[tuple[float, tuple[int, int, int], tuple[int, int, int], bool]]:
    m, n = _part(work, choice)
    rows, columns = choice.tile
    whole = (math.ceil(m / rows) * rows, math.ceil(n / columns) * columns, int(work.k))
    found = {}
    for high, wide, deep in BLOCKS:
        block = (
            min(int(high) * rows or whole[0], whole[0]),
            min(int(wide) * columns or whole[1], whole[1]),
            min(int(deep) or whole[2], whole[2]),
        )
        for turn in ORDERS:
            order = (int(turn[0]), int(turn[1]), int(turn[2]))
            for packed in (False, True):
                cost = _closed(work, core, choice, block, order, packed)
                found[block, order, packed] = float(cost.total_s)
    return [(seconds, *key) for key, seconds in found.items()]


def _simulated_s(
    work: Work,
    core: Core,
    choice: Choice,
    block: tuple[int, int, int],
    order: tuple[int, int, int],
    packed: bool,
    limit: int,
) -> float:
    m, n = _part(work, choice)
    k, groups, active = int(work.k), math.ceil(work.groups / choice.split[0]), math.prod(choice.split)
    fitting = max(1, limit // (n * k * block[0])) * block[0]
    walked = min(m, fitting)
    own = Layout.PACKED if packed else Layout.UNPACKED
    blocking = Blocking(
        choice.tile[0],
        int(choice.tile[1] / core.lanes),
        int(core.lanes),
        *block,
        Layout.PREPACKED if work.fixed == 1 else own,
        Layout.PREPACKED if work.fixed == 2 else own,
        next(name for name in NEST_ORDERS if tuple("mnp".index(loop) for loop in name) == order),
    )
    caches = []
    for level in range(len(core.rate) - 1):
        sharers = min(float(active), float(core.shared_by[level]))
        ways, line = int(core.ways[level]), int(core.line[level])
        sets = max(1, int(core.sets[level] / sharers))
        caches.append(Cache(sets * ways * line, ways, line))
    problem = matrix_problem(walked, n, k, element=math.ceil(max(work.a_element, work.b_element, work.c_element)))
    counts = simulate(Hierarchy(caches), problem, blocking)
    closed = _closed(work, core, choice, block, order, packed)
    total = float(max(closed.compute_s, closed.level_s[0]))
    for level, (cache, count) in enumerate(zip(caches, counts, strict=True), start=1):
        moved = (count.lines + count.write_backs) * cache.line_bytes * (m / walked) * groups
        per_byte = max(1.0 / core.core_rate[level], active / core.rate[level])
        total = max(total, float(moved * per_byte))
    return total
