"""The cost model of GPUs: for every operation the cheapest kernel of a declared list, and the report of the model.

A convolution or matrix product takes the cheapest tile, pipeline depth and split that :mod:`lepton_dse.sim.gpu.gemm` knows,
or the kernel without tensor cores; every other operation is one streaming kernel. The whole list is gone through (a candidate
whose bound from below is no better is passed over), so the choice is the best of that list *under the closed form*; it says
nothing of kernels outside it.

Operations of one shape are priced once. Activations are taken to pass between kernels in the plan's formats: a kernel writes
its result in the format that the next one reads, and the graph's inputs arrive in it. Operands start in main memory. Zeros in
weights save no time (:mod:`lepton_dse.sim.gpu.sparsity` prices the forms that do).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import FLOAT32, Precision
from lepton_dse.plan import CostReport, Mapping, OpCost, SearchResult, Unroll
from lepton_dse.sim.energy import operation_energy
from lepton_dse.sim.gpu.gemm import PARTS, STAGES, Choice, Constants, Machine, Product, cheapest
from lepton_dse.sim.gpu.machine import constants_of, machine_of
from lepton_dse.sim.gpu.raster import WIDEST
from lepton_dse.sim.gpu.streaming import SOFTMAX_ROW, row_passes, streaming_time
from lepton_dse.sim.gpu.tiles import SPLITS, generation, tiles
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.report import absorbed_ops, assemble, compulsory_bytes, no_arithmetic, stored_format
from lepton_dse.targets import AnyTarget, GpuTarget

__all__ = ["COST_MODEL", "gpu_cost", "product_of"]

LAUNCH = "launch"
_SPECIAL = {"Softmax": 2.0, "Sigmoid": 2.0, "Tanh": 2.0, "LocalResponseNorm": 2.0}
"""Special functions for each element of the result: an exponential, and a reciprocal or a logarithm."""
_NO_TENSOR_CORES = -1


@dataclass(frozen=True)
class _Device:
    """Everything about the device and the formats that pricing an operation needs."""

    target: GpuTarget
    machine: Machine
    constants: Constants
    precision: Precision
    bits: tuple[float, float]
    """Bits in which activations and weights stand in shared memory."""


@dataclass(frozen=True)
class _Price:
    """What one kernel costs."""

    latency: float
    arithmetic: float
    bound_by: str
    memory_bytes: float
    inner_bytes: float
    mapping: Mapping
    evaluated: int


_FREE = _Price(0.0, 0.0, LAUNCH, 0.0, 0.0, Mapping(), 0)


def gpu_cost(graph: Graph, target: AnyTarget, precision: Precision, batch: int) -> CostReport:
    """Predicted cost of one pass over a batch on a GPU.

    Parameters
    ----------
    graph : Graph
        Float graph.
    target : AnyTarget
        Of family ``gpu``.
    precision : Precision
        Formats of weights and activations. A device without such arithmetic gives a violation, and times as if its CUDA cores
        did the work at the rate of their own format.
    batch : int
        Samples a pass, at least 1.

    Raises
    ------
    LeptonError
        If the target is no GPU, or the graph cannot take the batch.
    """
    if not isinstance(target, GpuTarget):
        raise LeptonError(f"{target.name} is no GPU", fix="cost it with the model of its own family")
    graph = graph.with_batch(batch)
    device, known = _device(target, precision)
    absorbed = absorbed_ops(graph)
    seen: dict[object, _Price] = {}
    costs, candidates = [], 0
    for op in graph.ops:
        key = _shape_key(graph, op)
        price = _FREE if op.name in absorbed else seen.get(key)
        if price is None:
            price = seen[key] = _price(graph, op, device)
            candidates += price.evaluated
        costs.append(_op_cost(graph, op, price, device))
    best = sum(cost.latency_s for cost in costs)
    memory = target.levels[-1]
    return assemble(
        graph,
        target,
        precision,
        batch,
        costs,
        main_memory=(memory.name, memory.capacity_bytes.value),
        violations=() if known else (no_arithmetic(target, precision),),
        search=SearchResult(
            objective="latency",
            space=_space(target),
            evaluated=candidates,
            best=best,
            lower_bound=best,
            gap=0.0,
            optimal=True,
        ),
    )


COST_MODEL: CostModel = gpu_cost


def product_of(graph: Graph, op: Op, precision: Precision, bits: tuple[float, float]) -> Product:
    """A convolution or matrix product of a graph as :class:`Product`.

    A convolution is the product of the patches (a row for each position of the result, summed over channels and taps) with the
    filters, one product a group. Batch axes that the weights share become rows.

    Parameters
    ----------
    graph : Graph
    op : Op
        A Conv or a MatMul.
    precision : Precision
        Formats in memory.
    bits : (float, float)
        Bits of activations and weights in shared memory.
    """
    x, w, y = (graph.tensors[name] for name in (op.inputs[0], op.inputs[1], op.output))
    if isinstance(op.attributes, ops.Conv):
        count = op.attributes.groups
        m, n, k = y.elements // y.shape[1], y.shape[1] // count, math.prod(w.shape[1:])
    else:
        k, n = w.shape[-2], w.shape[-1]
        count = math.prod(w.shape[:-2])
        m = y.elements // (n * count)
    stored = {
        name: stored_format(graph, name, precision).bits * graph.tensors[name].elements / 8 for name in (*op.inputs, op.output)
    }
    result = float(stored_format(graph, op.output, precision).bits)
    others = compulsory_bytes(graph, op, precision) - stored[op.inputs[0]]
    weights = stored[op.inputs[1]] if op.inputs[1] != op.inputs[0] else 0.0
    return Product(
        float(m), float(n), float(k), float(count), *bits, result, stored[x.name], weights, max(others - weights, 0.0), 0.0
    )


def _device(target: GpuTarget, precision: Precision) -> tuple[_Device, bool]:
    """The device as kernels in some formats see it, and whether it has arithmetic for them."""
    machine = machine_of(target, precision)
    known = machine is not None
    computed = precision
    if machine is None:
        plain = Precision(FLOAT32, FLOAT32)
        computed = plain if target.peak(plain) else Precision.parse(target.peaks[0].format)
        machine = machine_of(target, computed)
        if machine is None:
            raise LeptonError(f"{target.name} has no arithmetic at all", fix="describe its peaks")
    peak = target.peak(computed)
    bits = float(8 if peak is None else Precision.parse(peak.format).activations.bits)
    widened = precision.weights.is_integer and precision.activations.is_float  # weights alone are narrow in shared memory
    weight_bits = float(max(4, precision.weights.bits)) if widened else bits
    constants = constants_of(target.constants(precision))
    return _Device(target, machine, constants, precision, (bits, weight_bits)), known


def _shape_key(graph: Graph, op: Op) -> object:
    """What an operation's price depends on: kind, attributes, shapes, formats, and which operands are weights."""
    operands = tuple(
        (graph.tensors[name].shape, graph.tensors[name].format, name in graph.constants) for name in (*op.inputs, op.output)
    )
    return op.attributes, operands, len(set(op.inputs))


def _price(graph: Graph, op: Op, device: _Device) -> _Price:
    nest = graph.nest(op)
    if nest.write is None:
        return _FREE
    if nest.multiplies:
        return _product_price(product_of(graph, op, device.precision, device.bits), device)
    return _streaming_price(graph, op, nest.iterations, device)


def _product_price(problem: Product, device: _Device) -> _Price:
    table = tiles(generation(device.target.compute_capability.value))
    choice = cheapest(problem, table, np.array(SPLITS, np.float64), device.machine, device.constants)
    times = dict(zip(PARTS, (choice.arithmetic, choice.port, choice.l2, choice.memory, choice.latency), strict=True))
    slowest = max(times, key=times.__getitem__)
    ideal = problem.m * problem.n * problem.k * problem.products / device.machine.mac_per_s
    bound_by = _named(slowest, device.target) if times[slowest] > choice.time / 2 else LAUNCH
    return _Price(
        choice.time,
        ideal,
        bound_by,
        choice.memory_bytes,
        choice.l2_bytes,
        _mapping(choice, problem, table),
        int(choice.evaluated),
    )


def _mapping(choice: Choice, problem: Product, table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Mapping:
    """The chosen kernel over the loops m, n and k of the matrix product."""
    if choice.tile == _NO_TENSOR_CORES:
        return Mapping(order=("m", "n", "k"))
    rows, columns = (int(size) for size in table[choice.tile, :2])
    depth = int(1024 / max(problem.a_bits, problem.b_bits))
    spatial = [Unroll(loop="m", factor=math.ceil(problem.m / rows), axis="ctas")]
    spatial.append(Unroll(loop="n", factor=math.ceil(problem.n / columns), axis="ctas"))
    if choice.split > 1:
        spatial.append(Unroll(loop="k", factor=int(choice.split), axis="ctas"))
    sizes = {"cta": {"m": rows, "n": columns, "k": depth}, "pipeline": {"k": depth * int(choice.stages)}}
    return Mapping(spatial=tuple(spatial), tiles=sizes, order=("m", "n", "k"))


def _streaming_price(graph: Graph, op: Op, iterations: int, device: _Device) -> _Price:
    elements = max(graph.tensors[name].elements for name in (*op.inputs, op.output))
    moved = compulsory_bytes(graph, op, device.precision)
    if isinstance(op.attributes, ops.Softmax):
        x = graph.tensors[op.inputs[0]]
        bits = stored_format(graph, x.name, device.precision).bits
        row = float(math.prod(x.shape[axis] for axis in op.attributes.axes))
        moved += (row_passes(row, SOFTMAX_ROW) - 1.0) * x.elements * bits / 8
    special = _SPECIAL.get(op.kind, 0.0) * graph.tensors[op.output].elements
    time, arithmetic, port, memory = streaming_time(
        float(iterations), special, moved, float(elements), device.machine, device.constants
    )
    times = {"arithmetic": arithmetic, "port": port, "memory": memory}
    slowest = max(times, key=times.__getitem__)
    bound_by = _named(slowest, device.target) if times[slowest] > time / 2 else LAUNCH
    return _Price(time, iterations / device.machine.fma_per_s, bound_by, moved, moved, Mapping(), 1)


def _named(part: str, target: GpuTarget) -> str:
    """A part of a kernel's time as reports name it: levels by the hardware model's own names."""
    if part == "memory":
        return target.levels[-1].name
    return target.levels[max(0, len(target.levels) - 2)].name if part == "l2" else part


def _op_cost(graph: Graph, op: Op, price: _Price, device: _Device) -> OpCost:
    macs = graph.nest(op).macs
    levels = device.target.levels
    traffic = {level.name: price.inner_bytes for level in levels[:-1]} | {levels[-1].name: price.memory_bytes}
    mac_energy = device.target.energy_j_per_mac.get(str(device.precision))
    mac_j = None if mac_energy is None else mac_energy.value
    return OpCost(
        name=op.name,
        kind=op.kind,
        macs=macs,
        latency_s=price.latency,
        energy_j=operation_energy(macs, mac_j, levels, traffic),
        bound_by=price.bound_by,
        utilization=price.arithmetic / price.latency if price.latency > 0 else 0.0,
        traffic_bytes=traffic,
        mapping=price.mapping,
    )


def _space(target: GpuTarget) -> str:
    """The declared list, for people."""
    name = generation(target.compute_capability.value)
    count = len(tiles(name))
    return (
        f"for every matrix product: {count} tiles ({name}), 2 to {STAGES} stages, "
        f"splits of the sum by {', '.join(map(str, SPLITS))}, "
        f"raster widths of 1 to {WIDEST:.0f} tiles in powers of two along either axis, and a kernel without tensor cores "
        "for few rows; under the closed form"
    )
