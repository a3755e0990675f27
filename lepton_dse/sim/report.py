"""From the cost of each operation to the report of a model: totals, memory, what binds, and how the figures are known.

A family's cost model prices one operation; everything that does not depend on the family stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lepton_dse.compress.groups import absorbed_clip
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Gather, Op, Slice
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import arena_bytes, packed_bytes
from lepton_dse.numerics.formats import INT32, NumberFormat, Precision
from lepton_dse.plan import CostReport, ErrorBand, Evidence, OpCost, SearchResult, Violation
from lepton_dse.sim.zeros import zeros_of
from lepton_dse.targets import AnyTarget

__all__ = [
    "absorbed_ops",
    "assemble",
    "compulsory_bytes",
    "no_arithmetic",
    "peak_bytes",
    "sizes_in",
    "stored_format",
]


def absorbed_ops(graph: Graph) -> frozenset[str]:
    """Names of the Clips that cost nothing, because the operation before them applies them to its result."""
    return frozenset(clip.name for op in graph.ops if (clip := absorbed_clip(graph, op)) is not None)


def assemble(
    graph: Graph,
    target: AnyTarget,
    precision: Precision,
    batch: int,
    ops: Sequence[OpCost],
    *,
    main_memory: tuple[str, float],
    violations: Sequence[Violation] = (),
    search: SearchResult | None = None,
    counted: bool = False,
) -> CostReport:
    """The report of one pass over a batch.

    Parameters
    ----------
    graph : Graph
        With its batch applied.
    target : AnyTarget
    precision : Precision
    batch : int
        Samples a pass.
    ops : sequence of OpCost
        In the graph's order, all with the same levels.
    main_memory : (str, float)
        Name and bytes of the level that must hold the model.
    violations : sequence of Violation
        What the family found besides.
    search : SearchResult, optional
        Certificate of the mapping search.
    counted : bool
        Whether the costs say already which zeros their weights have; elsewhere nothing skips them, and they are counted here.
    """
    if not counted:
        zeros = {op.name: entry for op in graph.ops if (entry := zeros_of(graph, op)) is not None}
        ops = [op.model_copy(update={"zeros": zeros[op.name]}) if op.name in zeros else op for op in ops]
    peak = peak_bytes(graph, sizes_in(graph, precision))
    found = list(violations)
    level, capacity = main_memory
    if peak > capacity:
        levers = ("use narrower formats", "prune the model", "choose a device with more memory")
        found.append(Violation(what=f"{level} of {target.name}", demand=peak, bound=capacity, unit="B", levers=levers))
    latency = sum(op.latency_s for op in ops)
    energies = [op.energy_j for op in ops if op.energy_j is not None]
    by_bound: dict[str, float] = {}
    for op in ops:
        by_bound[op.bound_by] = by_bound.get(op.bound_by, 0.0) + op.latency_s
    levels = dict.fromkeys(name for op in ops for name in op.traffic_bytes)
    skips = any(op.zeros is not None and op.zeros.skipped for op in ops)
    band = None if skips else target.band(precision)  # no suite covers sparse kernels
    return CostReport(
        target=target.name,
        feasible=not found,
        latency_s=latency,
        throughput_per_s=batch / latency if latency > 0 else 0.0,
        energy_j=sum(energies) if len(energies) == len(ops) else None,
        peak_bytes=peak,
        traffic_bytes={name: sum(op.traffic_bytes.get(name, 0.0) for op in ops) for name in levels},
        resources={},
        bound_by=max(by_bound, key=by_bound.__getitem__),
        evidence=Evidence.UNCHECKED if band is None else Evidence.BANDED,
        band=None if band is None else ErrorBand(suite=band.suite, mape_pct=band.mape_pct.value),
        violations=tuple(found),
        search=search,
        ops=tuple(ops),
    )


def no_arithmetic(target: AnyTarget, precision: Precision) -> Violation:
    """That a device does not compute in the formats asked for."""
    levers = ("choose another format", "choose another target")
    return Violation(what=f"{precision} arithmetic of {target.name}", demand=1, bound=0, unit="unit", levers=levers)


def compulsory_bytes(graph: Graph, op: Op, precision: Precision) -> float:
    """Bytes of all operands and the result, each once, of what is picked from as many as are picked: what any schedule moves."""
    names = [*dict.fromkeys(op.inputs), op.output]
    elements = {name: graph.tensors[name].elements for name in names}
    if isinstance(op.attributes, Gather | Slice):
        elements[op.inputs[0]] = min(elements[op.inputs[0]], elements[op.output])
    return sum(count * stored_format(graph, name, precision).bits for name, count in elements.items()) / 8


def stored_format(graph: Graph, name: str, precision: Precision) -> NumberFormat:
    """How a tensor is stored: as asked; vectors beside integer weights as accumulators, indices as they are."""
    tensor = graph.tensors[name]
    if not tensor.format.is_float:
        return tensor.format
    if name not in graph.constants:
        return precision.activations
    return INT32 if len(tensor.shape) < 2 and precision.weights.is_integer else precision.weights


def sizes_in(graph: Graph, precision: Precision) -> Callable[[Tensor], int]:
    """Packed bytes of each tensor of the graph in the formats in which it is stored."""
    return lambda tensor: packed_bytes(replace(tensor, format=stored_format(graph, tensor.name, precision)))


def peak_bytes(graph: Graph, bytes_of: Callable[[Tensor], int]) -> int:
    """Memory of a network: all its constants, and the arena of its memory map (:mod:`lepton_dse.memory`)."""
    constants = sum(bytes_of(graph.tensors[name]) for name in graph.constants)
    return constants + arena_bytes(graph, bytes_of=bytes_of)
