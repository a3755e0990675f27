"""The TPU cost model: for each distinct operation the best tiling of a declared list, and the report of the model.

The list: for each extent its whole and the powers of two times what suits it (an array's columns for N, its rows for K, output
rows and images of a convolution for M, eight values of M otherwise), and, where accumulators limit the stream, equal shares;
every way to split the arrays over groups, M and N whose factors are less than four or four to seven times a power of two; both
orders of the loops over M and N. The result is the best of that list under the closed form of :mod:`lepton_dse.sim.tpu.pricing`,
not a proven optimum. A product of one column (a depthwise convolution, a matrix by a vector) may also run on the vector unit, two
operations a multiply-accumulate. The list depends on the product and the number of arrays alone, and grows with the latter, so
more memory, bandwidth or arrays never cost time.

An operation that is no contraction runs on the vector unit, one operation an iteration, and its bytes cross the on-chip memory
twice. Operations run one after another; only a Clip that its producer absorbs is fused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.memory import arena_bytes
from lepton_dse.numerics.formats import FLOAT32, Precision
from lepton_dse.plan import CostReport, Mapping, OpCost, Unroll, Violation
from lepton_dse.search.sequence import Priced, price_each
from lepton_dse.sim.energy import operation_energy
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.report import assemble, compulsory_bytes, no_arithmetic, sizes_in, stored_format
from lepton_dse.sim.systolic import folds
from lepton_dse.sim.tpu import Chip, Price, Product, Tiling, best_tiling, price, product_of
from lepton_dse.targets import AnyTarget, TpuTarget

__all__ = ["COST_MODEL", "BestPrice", "candidates", "chip_of", "search_product", "tpu_cost", "vector_rate"]

ARITHMETIC, LAUNCH, VECTOR = "arithmetic", "launch", "vector"
SPACE = "tiles of N, K by powers of two of the array, of M by rows and images or powers of two; splits of arrays; loop orders"
_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class BestPrice:
    """The best tiling of a product, its price, and how many were looked at."""

    tiling: Tiling
    price: Price
    fits: bool
    evaluated: int


@dataclass(frozen=True)
class _Device:
    """A target and a pair of formats, as numbers."""

    target: TpuTarget
    precision: Precision
    chip: Chip
    rate: float
    """Multiply-accumulates a second of the arrays; 0 where they lack the formats."""
    vector: float
    launch: float
    mac_energy: float | None


def vector_rate(target: TpuTarget) -> float:
    """Elementwise operations a second: as published, at most the greatest plain rate; that rate where nothing is published."""
    plain = target.peak(Precision(FLOAT32, FLOAT32)) or max(target.peaks, key=lambda entry: entry.mac_per_s.value)
    published = target.vector_op_per_s
    return plain.mac_per_s.value if published is None else min(published.value, plain.mac_per_s.value)


def chip_of(target: TpuTarget, precision: Precision) -> Chip:
    """The numbers that pricing looks at, for a pair of formats."""
    rows, columns, arrays = (int(entry.value) for entry in (target.array_rows, target.array_columns, target.array_count))
    peak = target.peak(precision)
    slowest = min(level.bandwidth_byte_per_s.value for level in target.levels[1:])
    return Chip(
        rows=rows,
        columns=columns,
        arrays=arrays,
        step_s=0.0 if peak is None else float(rows) * columns * arrays / peak.mac_per_s.value,
        capacity=target.levels[0].capacity_bytes.value,
        inner_s=1.0 / target.levels[0].bandwidth_byte_per_s.value,
        outer_s=1.0 / slowest,
        accumulators=_UNLIMITED if target.accumulator_rows is None else int(target.accumulator_rows.value),
        resident=target.activations_on_chip,
        tile_s=0.0 if target.weight_tile_s is None else target.weight_tile_s.value,
    )


def candidates(product: Product, chip: Chip) -> tuple[Any, Any, Any, Any]:
    """Tiles of M, N and K, largest first, and splits of the arrays, as int64 arrays; the declared list."""
    if chip.resident:
        ms = {product.m, folds(product.m, folds(product.m, chip.accumulators))}
        ns, ks = {product.n}, {product.k}
    else:
        image = product.rows * product.positions
        ms = {product.m, *_doubled(8, product.m)} if image == 1 else {product.m}
        if image > 1:
            ms |= {*_doubled(product.positions, min(image, product.m)), *_doubled(image, product.m)}
        ns = {product.n, *_doubled(chip.columns, product.n)}
        ks = {product.k, *_doubled(chip.rows, product.k)}
        if chip.accumulators < product.m:
            ms |= {folds(product.m, folds(product.m, chip.accumulators)), *_doubled(8, chip.accumulators)}
    shares = _shares(chip.arrays)
    splits = [
        (g, m, n)
        for g in shares
        if g <= product.groups
        for m in shares
        if m <= product.m and g * m <= chip.arrays
        for n in shares
        if n <= folds(product.n, chip.columns) and g * m * n <= chip.arrays
    ]
    found_m, found_n, found_k = (np.array(sorted(found, reverse=True), np.int64) for found in (ms, ns, ks))
    return found_m, found_n, found_k, np.array(splits, np.int64)


def _doubled(unit: int, limit: int) -> list[int]:
    """`unit` times the powers of two, below `limit`."""
    found = []
    while unit < limit:
        found.append(unit)
        unit *= 2
    return found


def _shares(arrays: int) -> list[int]:
    """1, 2, 3 and four to seven times the powers of two, up to `arrays`; the list for fewer arrays is its beginning."""
    found = {1, 2, 3} | {factor << shift for shift in range(max(1, arrays.bit_length())) for factor in (4, 5, 6, 7)}
    return sorted(share for share in found if share <= arrays)


def search_product(product: Product, chip: Chip) -> BestPrice:
    """The best tiling of a product on a chip.

    Raises
    ------
    LeptonError
        If an extent is below 1.
    """
    if min(product.groups, product.m, product.n, product.k) < 1:
        shape = f"{product.groups} x ({product.m} x {product.k} by {product.k} x {product.n})"
        raise LeptonError(f"a product of {shape}", fix="every extent is at least 1")
    tiling, fits, evaluated = best_tiling(product, chip, *candidates(product, chip))
    m, n, k, over_groups, over_m, over_n = (int(value) for value in tiling[:-1])
    tiling = Tiling(m, n, k, over_groups, over_m, over_n, bool(tiling.n_outer))
    return BestPrice(tiling, price(product, chip, tiling), bool(fits), int(evaluated))


def tpu_cost(graph: Graph, target: AnyTarget, precision: Precision, batch: int) -> CostReport:
    """Predicted cost of one pass over a batch.

    Parameters
    ----------
    graph : Graph
        Float graph.
    target : TpuTarget
    precision : Precision
        Formats of weights and activations.
    batch : int
        Samples a pass, at least 1.

    Raises
    ------
    LeptonError
        If the target is no TPU, or the graph cannot take the batch.
    """
    if not isinstance(target, TpuTarget):
        raise LeptonError(f"{target.name} is no TPU", fix="choose a target of the tpu family")
    graph = graph.with_batch(batch)
    peak, known = target.peak(precision), target.energy_j_per_mac.get(str(precision))
    device = _Device(
        target,
        precision,
        chip_of(target, precision),
        0.0 if peak is None else peak.mac_per_s.value,
        vector_rate(target),
        target.launch_s.value,
        None if known is None else known.value,
    )
    violations: list[Violation] = [] if peak is not None else [no_arithmetic(target, precision)]
    sequence = price_each(graph, lambda op, absorbed: _priced(graph, op, device, absorbed))
    violations += [*sequence.violations, *_live_activations(graph, device)]
    search = sequence.certificate(f"best of {sequence.evaluated}: {SPACE}")
    outer = target.levels[-1]
    main = (outer.name, outer.capacity_bytes.value)
    return assemble(graph, target, precision, batch, sequence.ops, main_memory=main, violations=violations, search=search)


COST_MODEL: CostModel = tpu_cost


def _priced(graph: Graph, op: Op, device: _Device, absorbed: bool) -> Priced:
    """One operation; the bound of its time is the roofline, or the vector unit's time where it runs there."""
    nest = graph.nest(op)
    if absorbed or nest.write is None or nest.iterations == 0:
        return Priced(_cost(op.name, op.kind, nest.macs, device, 0.0, "idle", (0.0, 0.0)), 0, 0.0)
    vector = _vector_cost(graph, op, device, nest.macs, nest.iterations)
    if not nest.multiplies:
        return Priced(vector, 0, vector.latency_s)
    product = product_of(graph, op, nest, device.precision)
    found = search_product(product, device.chip)
    cost = found.price
    times = {
        ARITHMETIC: cost.arrays_s,
        device.target.levels[0].name: cost.inner_s,
        device.target.levels[-1].name: cost.outer_s,
        LAUNCH: device.launch,
    }
    arrays = _cost(
        op.name,
        op.kind,
        nest.macs,
        device,
        device.launch + cost.total_s,
        max(times, key=times.__getitem__),
        (cost.inner_bytes, cost.outer_bytes),
        _mapping(product, device, found),
    )
    weights = product.groups * product.k * product.n * product.w_element
    moved = weights if device.chip.resident else compulsory_bytes(graph, op, device.precision)
    least = device.launch + max(nest.macs / device.rate if device.rate else 0.0, moved * device.chip.outer_s)
    violation = None if found.fits else _tile_violation(op.name, device, cost)
    if product.n == 1 and device.rate and not device.chip.resident and vector.latency_s < arrays.latency_s:
        return Priced(vector, found.evaluated, least)
    return Priced(arrays, found.evaluated, least, violation)


def _vector_cost(graph: Graph, op: Op, device: _Device, macs: int, iterations: int) -> OpCost:
    moved = compulsory_bytes(graph, op, device.precision)
    inner, outer = 2.0 * moved, moved
    if device.chip.resident:
        fixed = [name for name in dict.fromkeys(op.inputs) if name in graph.constants]
        outer = sum(graph.tensors[name].elements * stored_format(graph, name, device.precision).bits / 8 for name in fixed)
    times = {
        VECTOR: (2.0 * macs or float(iterations)) / device.vector,
        ARITHMETIC: macs / device.rate if device.rate else 0.0,
        device.target.levels[0].name: inner * device.chip.inner_s,
        device.target.levels[-1].name: outer * device.chip.outer_s,
    }
    slowest = max(times, key=times.__getitem__)
    bound_by = LAUNCH if device.launch > times[slowest] else slowest
    return _cost(op.name, op.kind, macs, device, device.launch + times[slowest], bound_by, (inner, outer))


def _cost(
    name: str,
    kind: str,
    macs: int,
    device: _Device,
    latency: float,
    bound_by: str,
    moved: tuple[float, float],
    mapping: Mapping | None = None,
) -> OpCost:
    levels = device.target.levels
    traffic = {level.name: moved[1] for level in levels} | {levels[0].name: moved[0]}
    return OpCost(
        name=name,
        kind=kind,
        macs=macs,
        latency_s=latency,
        energy_j=operation_energy(macs, device.mac_energy, levels, traffic),
        bound_by=bound_by,
        utilization=macs / device.rate / latency if device.rate and latency > 0 else 0.0,
        traffic_bytes=traffic,
        mapping=mapping or Mapping(),
    )


def _mapping(product: Product, device: _Device, found: BestPrice) -> Mapping:
    """Loops G, M, N, K of the product: what lies along the array, how arrays share it, tiles on chip, order of tiles."""
    tiling, chip = found.tiling, device.chip
    shares = (("G", tiling.over_groups), ("M", tiling.over_m), ("N", tiling.over_n))
    spatial = [Unroll(loop="K", factor=min(product.k, chip.rows), axis="rows")]
    spatial.append(Unroll(loop="N", factor=min(product.n, chip.columns), axis="columns"))
    spatial += [Unroll(loop=loop, factor=share, axis="arrays") for loop, share in shares if share > 1]
    tiles = {device.target.levels[0].name: {"M": tiling.m, "N": tiling.n, "K": tiling.k}}
    return Mapping(spatial=tuple(spatial), tiles=tiles, order=("G", "N", "M", "K") if tiling.n_outer else ("G", "M", "N", "K"))


def _tile_violation(name: str, device: _Device, cost: Price) -> Violation:
    level = device.target.levels[0]
    levers = ("use narrower formats", "use a smaller batch", f"choose a device with more {level.name}")
    return Violation(
        what=f"smallest tile of {name} in {level.name} of {device.target.name}",
        demand=cost.held_bytes,
        bound=level.capacity_bytes.value,
        unit="B",
        levers=levers,
    )


def _live_activations(graph: Graph, device: _Device) -> list[Violation]:
    """That activations which must stay on chip do not fit there."""
    if not device.chip.resident:
        return []
    demand, level = arena_bytes(graph, bytes_of=sizes_in(graph, device.precision)), device.target.levels[0]
    if demand <= level.capacity_bytes.value:
        return []
    levers = ("use narrower formats", "use a smaller batch", "choose a device that keeps activations in main memory")
    what = f"live activations in {level.name} of {device.target.name}"
    return [Violation(what=what, demand=demand, bound=level.capacity_bytes.value, unit="B", levers=levers)]
