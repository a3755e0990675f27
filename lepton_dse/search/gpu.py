"""The cost model of GPUs: for every operation the cheapest kernel of a declared list, and the report of the model.

A convolution or matrix product takes the cheapest tile, pipeline depth and split that :mod:`lepton_dse.sim.gpu.gemm` knows,
or the kernel without tensor cores; every other operation is one streaming kernel. The whole list is gone through (a candidate
whose bound from below is no better is passed over), so the choice is the best of that list *under the closed form*; it says
nothing of kernels outside it.

Operations of one shape are priced once. Activations are taken to pass between kernels in the plan's formats: a kernel writes
its result in the format that the next one reads, and the graph's inputs arrive in it. Operands start in main memory.

Zeros in weights widen the list: 2 of 4 along the summed axis add the sparse mode of the tensor cores where the device has one in
the formats asked for; zeros anywhere add a product of compressed rows where such kernels were published, for a product with
weights and a convolution of one tap, in float32 and float16 (:mod:`lepton_dse.sim.gpu.sparsity`). The cheapest wins, the dense
kernels among them, so zeros never lengthen an operation. The energy of arithmetic is that of dense weights, for want of figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import FLOAT32, Precision
from lepton_dse.plan import CostReport, Mapping, OpCost, SearchResult, Unroll, Zeros
from lepton_dse.sim.energy import operation_energy
from lepton_dse.sim.gpu.gemm import PARTS, STAGES, Choice, Constants, Machine, Product, cheapest
from lepton_dse.sim.gpu.machine import constants_of, machine_of
from lepton_dse.sim.gpu.raster import WIDEST
from lepton_dse.sim.gpu.sparsity import two_of_four, unstructured_time
from lepton_dse.sim.gpu.streaming import SOFTMAX_ROW, row_passes, streaming_time
from lepton_dse.sim.gpu.tiles import SPLITS, generation, tiles
from lepton_dse.sim.protocol import CostModel
from lepton_dse.sim.report import absorbed_ops, assemble, compulsory_bytes, no_arithmetic, stored_format
from lepton_dse.sim.zeros import zeros_of
from lepton_dse.targets import AnyTarget, GpuTarget
from lepton_dse.targets.gpu import SparseCores

__all__ = ["COST_MODEL", "Device", "device_of", "gpu_cost", "product_of"]

LAUNCH = "launch"
_SPECIAL = {"Softmax": 2.0, "Sigmoid": 2.0, "Tanh": 2.0, "Gelu": 2.0, "LocalResponseNorm": 2.0}
"""Special functions for each element of the result: an exponential, and a reciprocal or a logarithm."""
_NO_TENSOR_CORES = -1
_UNSTRUCTURED = ("float32", "float16")
"""Formats of the published products of compressed rows (Gale et al.)."""


@dataclass(frozen=True)
class Device:
    """Everything about the device and the formats that pricing an operation needs."""

    target: GpuTarget
    machine: Machine
    constants: Constants
    precision: Precision
    bits: tuple[float, float]
    """Bits in which activations and weights stand in shared memory."""
    sparse: SparseCores | None
    """The tensor cores' mode for zeros in 2 of 4 weights, in these formats."""


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
    skips: bool = False
    """Whether the kernel skips zeros of its weights."""


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
    device, known = device_of(target, precision)
    absorbed = absorbed_ops(graph)
    seen: dict[object, _Price] = {}
    costs, candidates = [], 0
    for op in graph.ops:
        zeros = zeros_of(graph, op)
        key = (_shape_key(graph, op), zeros)
        price = _FREE if op.name in absorbed else seen.get(key)
        if price is None:
            price = seen[key] = _price(graph, op, device, zeros)
            candidates += price.evaluated
        costs.append(_op_cost(graph, op, price, device, zeros))
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
        counted=True,
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


def device_of(target: GpuTarget, precision: Precision) -> tuple[Device, bool]:
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
    sparse = target.sparse_cores(precision)
    return Device(target, machine, constants, precision, (bits, weight_bits), sparse), known


def _shape_key(graph: Graph, op: Op) -> object:
    """What an operation's price depends on: kind, attributes, shapes, formats, and which operands are weights."""
    operands = tuple(
        (graph.tensors[name].shape, graph.tensors[name].format, name in graph.constants) for name in (*op.inputs, op.output)
    )
    return op.attributes, operands, len(set(op.inputs))


def _price(graph: Graph, op: Op, device: Device, zeros: Zeros | None) -> _Price:
    nest = graph.nest(op)
    if nest.write is None:
        return _FREE
    if not nest.multiplies:
        return _streaming_price(graph, op, nest.iterations, device)
    problem = product_of(graph, op, device.precision, device.bits)
    found = [_product_price(problem, device)]
    if zeros is not None and zeros.two_of_four and device.sparse is not None:
        found.append(_two_of_four_price(problem, device, device.sparse))
    if zeros is not None and str(device.precision) in _UNSTRUCTURED and _is_plain_product(op):
        found.append(_unstructured_price(problem, 1 - zeros.share, device))
    best = min(found, key=lambda price: price.latency)
    return replace(best, evaluated=sum(price.evaluated for price in found))


def _is_plain_product(op: Op) -> bool:
    """Whether the operation is a product with its input as it stands: no convolution of several taps, strides or groups."""
    if not isinstance(op.attributes, ops.Conv):
        return True
    window = op.attributes.window
    moves = (*window.kernel, *window.strides, op.attributes.groups)
    return set(moves) == {1} and not any((*window.pads_begin, *window.pads_end))


def _product_price(problem: Product, device: Device) -> _Price:
    table = tiles(generation(device.target.compute_capability.value))
    choice = cheapest(problem, table, np.array(SPLITS, np.float64), device.machine, device.constants)
    times = dict(zip(PARTS, (choice.arithmetic, choice.port, choice.l2, choice.memory, choice.latency), strict=True))
    ideal = problem.m * problem.n * problem.k * problem.products / device.machine.mac_per_s
    return _Price(
        choice.time,
        ideal,
        _bound_by(times, choice.time, device),
        choice.memory_bytes,
        choice.l2_bytes,
        _mapping(choice, problem, table),
        int(choice.evaluated),
    )


def _two_of_four_price(problem: Product, device: Device, mode: SparseCores) -> _Price:
    """The cheapest tiled kernel of the sparse mode; what it multiplies is half, at the dense peak."""
    fewer, faster = two_of_four(problem, device.machine, mode.rate.value, mode.reached.value)
    tiled = device.constants._replace(gemv_rows=0.0)
    price = _product_price(fewer, replace(device, machine=faster, constants=tiled))
    half = problem.m * problem.n * problem.k * problem.products / 2 / device.machine.mac_per_s
    return replace(price, arithmetic=half, skips=True)


def _unstructured_price(problem: Product, density: float, device: Device) -> _Price:
    time, arithmetic, memory, moved = unstructured_time(problem, density, device.machine, device.constants)
    bound_by = _bound_by({"arithmetic": arithmetic, "memory": memory}, time, device)
    ideal = problem.m * problem.n * problem.k * problem.products * density / device.machine.mac_per_s
    return _Price(time, ideal, bound_by, moved, moved, Mapping(order=("n", "k", "m")), 1, skips=True)


def _bound_by(times: dict[str, float], total: float, device: Device) -> str:
    slowest = max(times, key=times.__getitem__)
    return _named(slowest, device.target) if times[slowest] > total / 2 else LAUNCH


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


def _streaming_price(graph: Graph, op: Op, iterations: int, device: Device) -> _Price:
    elements = max(graph.tensors[name].elements for name in (*op.inputs, op.output))
    moved = compulsory_bytes(graph, op, device.precision)
    if isinstance(op.attributes, ops.Softmax | ops.LayerNorm):
        x = graph.tensors[op.inputs[0]]
        bits = stored_format(graph, x.name, device.precision).bits
        row = float(math.prod(x.shape[axis] for axis in op.attributes.axes))
        moved += (row_passes(row, SOFTMAX_ROW) - 1.0) * x.elements * bits / 8
    special = _SPECIAL.get(op.kind, 0.0) * graph.tensors[op.output].elements
    time, arithmetic, port, memory = streaming_time(
        float(iterations), special, moved, float(elements), device.machine, device.constants
    )
    bound_by = _bound_by({"arithmetic": arithmetic, "port": port, "memory": memory}, time, device)
    return _Price(time, iterations / device.machine.fma_per_s, bound_by, moved, moved, Mapping(), 1)


def _named(part: str, target: GpuTarget) -> str:
    """A part of a kernel's time as reports name it: levels by the hardware model's own names."""
    if part == "memory":
        return target.levels[-1].name
    return target.levels[max(0, len(target.levels) - 2)].name if part == "l2" else part


def _op_cost(graph: Graph, op: Op, price: _Price, device: Device, zeros: Zeros | None) -> OpCost:
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
        zeros=zeros.model_copy(update={"skipped": True}) if zeros is not None and price.skips else zeros,
    )


def _space(target: GpuTarget) -> str:
    """The declared list, for people."""
    name = generation(target.compute_capability.value)
    count = len(tiles(name))
    return (
        f"for every matrix product: {count} tiles ({name}), 2 to {STAGES} stages, "
        f"splits of the sum by {', '.join(map(str, SPLITS))}, "
        f"raster widths of 1 to {WIDEST:.0f} tiles in powers of two along either axis, and a kernel without tensor cores "
        "for few rows; for zeros the sparse mode of the tensor cores and compressed rows; under the closed form"
    )
