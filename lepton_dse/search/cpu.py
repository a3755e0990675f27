"""The CPU cost model: for each distinct operation the best blocking of a declared list, and the report of the model.

The list: output positions or output channels along the register rows; every way to share the cores among products, rows and
columns whose factors are 1, 2, 3 or four to seven times a power of two; the register tile of a fixed list with the least
arithmetic time; blocks of whole extents or of fixed numbers of register tiles and of 128 or 512 steps of K; two orders of the
block loops; the operand that is no constant packed or not. Constants are packed beforehand. The result is the best of that list
under the closed form of :mod:`lepton_dse.sim.cpu.pricing`, not a proven optimum; :mod:`lepton_dse.search.cpu_rerank` looks at
the best sixteen of one operation with the exact cache simulator, and no cost model calls it. The list does not depend on caches
or bandwidths and grows with the cores, so more of any of them never costs time.

An operation that is no contraction streams: each byte once through every level, its loads through the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import FLOAT32, Precision
from lepton_dse.plan import CostReport, Mapping, OpCost, Unroll, Violation
from lepton_dse.search.sequence import Priced, price_each
from lepton_dse.sim.cpu import Core, Price, Work, best_blocking, core_of, price, work_of
from lepton_dse.sim.energy import operation_energy
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.report import assemble, compulsory_bytes, no_arithmetic, stored_format
from lepton_dse.targets import AnyTarget, CpuTarget

__all__ = ["BLOCKS", "COST_MODEL", "ORDERS", "TILES", "Choice", "cpu_cost", "search_work", "splits_of"]

ARITHMETIC, LAUNCH = "arithmetic", "launch"
SPACE = "orientations, splits of cores, blocks of register tiles, loop orders, packing; the register tile of least arithmetic"
TILES: Any = np.array(
    sorted(
        ((float(rows), float(vectors)) for rows in (1, 2, 3, 4, 6, 8, 12, 14, 24, 28) for vectors in (1, 2, 3, 4, 8)),
        key=lambda tile: (-tile[0] * tile[1], tile),
    )
)
"""mr and nv; larger tiles first, since they load less."""
BLOCKS: Any = np.array([(m, n, k) for k in (0, 128, 512) for m in (0, 4, 32, 256) for n in (0, 4, 32, 256)], np.float64)
"""Register tiles in mc and nc, and kc; 0 stands for all."""
ORDERS: Any = np.array([(1, 2, 0), (0, 2, 1)], np.int64)
"""jc pc ic, and ic pc jc."""
_NAMES = ("m", "n", "k")


@dataclass(frozen=True)
class Choice:
    """A blocking of the list with its price."""

    seconds: float
    swapped: bool
    split: tuple[int, int, int]
    """Cores over products, rows, columns."""
    tile: tuple[int, int]
    """mr, and nr in elements."""
    block: tuple[int, int, int]
    order: tuple[int, int, int]
    packed: bool
    evaluated: int
    price: Price


@dataclass(frozen=True)
class _Device:
    target: CpuTarget
    precision: Precision
    core: Core
    splits: Any
    other_rate: float
    launch: float
    mac_energy: float | None


def splits_of(cores: int) -> Any:
    """Shares of cores over products, rows and columns, as an array; the list for fewer cores is part of it."""
    shares = [1, 2, 3, *(factor << shift for shift in range(cores.bit_length()) for factor in (4, 5, 6, 7))]
    usable = sorted(share for share in shares if share <= cores)
    found = [(g, m, n) for g in usable for m in usable for n in usable if g * m * n <= cores]
    return np.array(found, np.float64)


def search_work(works: tuple[Work, Work], core: Core, splits: Any) -> Choice:
    """The best blocking of a product in either orientation."""
    fitting = splits[(splits[:, 0] <= works[0].groups) & (splits[:, 1:].prod(axis=1) <= works[0].m * works[0].n)]
    seconds, way, split, tile, block, order, packed, looked_at = best_blocking(works, core, fitting, TILES, BLOCKS, ORDERS)
    work = works[way]
    over = (float(fitting[split, 0]), float(fitting[split, 1]), float(fitting[split, 2]))
    rows, vectors = float(TILES[tile, 0]), float(TILES[tile, 1])
    columns = vectors * core.lanes
    m, n = np.ceil(work.m / over[1]), np.ceil(work.n / over[2])
    blocks = (
        BLOCKS[block, 0] * rows or np.ceil(m / rows) * rows,
        BLOCKS[block, 1] * columns or np.ceil(n / columns) * columns,
        BLOCKS[block, 2] or work.k,
    )
    turn = (int(ORDERS[order, 0]), int(ORDERS[order, 1]), int(ORDERS[order, 2]))
    cost = price(work, core, over, (rows, vectors), blocks, turn, packed)
    return Choice(
        float(seconds),
        bool(way),
        (int(over[0]), int(over[1]), int(over[2])),
        (int(rows), int(columns)),
        (int(blocks[0]), int(blocks[1]), int(blocks[2])),
        turn,
        bool(packed),
        int(looked_at),
        cost,
    )


def cpu_cost(graph: Graph, target: AnyTarget, precision: Precision, batch: int) -> CostReport:
    """Predicted cost of one pass over a batch.

    Parameters
    ----------
    graph : Graph
        Float graph.
    target : CpuTarget
    precision : Precision
        Formats of weights and activations.
    batch : int
        Samples a pass, at least 1.

    Raises
    ------
    LeptonError
        If the target is no CPU, or the graph cannot take the batch.
    """
    if not isinstance(target, CpuTarget):
        raise LeptonError(f"{target.name} is no CPU", fix="choose a target of the cpu family")
    graph = graph.with_batch(batch)
    plain = target.peak(Precision(FLOAT32, FLOAT32)) or max(target.peaks, key=lambda entry: entry.mac_per_s.value)
    known = target.energy_j_per_mac.get(str(precision))
    device = _Device(
        target,
        precision,
        core_of(target, precision),
        splits_of(int(target.core_count.value)),
        plain.mac_per_s.value,
        target.launch_s.value,
        None if known is None else known.value,
    )
    violations: tuple[Violation, ...] = () if target.peak(precision) is not None else (no_arithmetic(target, precision),)
    sequence = price_each(graph, lambda op, absorbed: _priced(graph, op, device, absorbed))
    search = sequence.certificate(f"best of {sequence.evaluated} under the closed form: {SPACE}")
    outer = target.levels[-1]
    main = (outer.name, outer.capacity_bytes.value)
    return assemble(graph, target, precision, batch, sequence.ops, main_memory=main, violations=violations, search=search)


COST_MODEL: CostModel = cpu_cost


def _priced(graph: Graph, op: Op, device: _Device, absorbed: bool) -> Priced:
    """One operation; the bound of its time is the roofline."""
    nest = graph.nest(op)
    levels = device.target.levels
    if absorbed or nest.write is None or nest.iterations == 0:
        return Priced(_cost(op, nest.macs, device, 0.0, "idle", [0.0] * len(levels)), 0, 0.0)
    moved = compulsory_bytes(graph, op, device.precision)
    rate = device.core.mac_per_s * device.core.cores if nest.multiplies else device.other_rate
    work = nest.iterations / rate if rate else 0.0
    least = device.launch + max(work, *(moved / level.bandwidth_byte_per_s.value for level in levels))
    if nest.multiplies:
        found = search_work(work_of(graph, op, device.precision), device.core, device.splits)
        times = {ARITHMETIC: float(found.price.compute_s)}
        times |= {level.name: float(time) for level, time in zip(levels, found.price.level_s, strict=True)}
        bound_by = max(times, key=times.__getitem__)
        bound_by = LAUNCH if device.launch > found.seconds else bound_by
        bytes_ = [float(value) for value in found.price.bytes_]
        cost = _cost(op, nest.macs, device, device.launch + found.seconds, bound_by, bytes_, _mapping(found, device))
        return Priced(cost, found.evaluated, least)
    bits = stored_format(graph, op.inputs[0], device.precision).bits if op.inputs else 0
    bytes_ = [max(moved, nest.iterations * bits / 8), *([moved] * (len(levels) - 1))]
    times = {level.name: value / level.bandwidth_byte_per_s.value for level, value in zip(levels, bytes_, strict=True)}
    total = max(work, *times.values())
    bound_by = ARITHMETIC if work >= total else max(times, key=times.__getitem__)
    bound_by = LAUNCH if device.launch > total else bound_by
    return Priced(_cost(op, nest.macs, device, device.launch + total, bound_by, bytes_), 0, least)


def _cost(
    op: Op, macs: int, device: _Device, latency: float, bound_by: str, bytes_: list[float], mapping: Mapping | None = None
) -> OpCost:
    levels = device.target.levels
    traffic = {level.name: value for level, value in zip(levels, bytes_, strict=True)}
    rate = device.core.mac_per_s * device.core.cores
    return OpCost(
        name=op.name,
        kind=op.kind,
        macs=macs,
        latency_s=latency,
        energy_j=operation_energy(macs, device.mac_energy, levels, traffic),
        bound_by=bound_by,
        utilization=macs / rate / latency if rate and latency > 0 else 0.0,
        traffic_bytes=traffic,
        mapping=mapping or Mapping(),
    )


def _mapping(found: Choice, device: _Device) -> Mapping:
    """Loops g, m, n, k of the product, m being output channels where it is swapped."""
    spatial = [Unroll(loop=loop, factor=share, axis="cores") for loop, share in zip("gmn", found.split, strict=True) if share > 1]
    spatial.append(Unroll(loop="n", factor=int(device.core.lanes), axis="simd"))
    sizes = {"registers": dict(zip("mn", found.tile, strict=True)), "block": dict(zip("mnk", found.block, strict=True))}
    return Mapping(spatial=tuple(spatial), tiles=sizes, order=("g", *(_NAMES[loop] for loop in found.order)))
