"""Plans for GPUs: for every contraction the tile that is cheapest among those that can be emitted, priced as that very kernel.

The rest of a plan is that of the processors. Times of contractions are those of the closed form (:mod:`lepton_dse.sim.gpu.gemm`)
for the emitted tile, its estimated registers and the blocks that a multiprocessor then holds. The constants of the form were
fitted to vendors' libraries, so nothing has confirmed the absolute times of these kernels; :func:`lepton_dse.cost` prices the
library's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Items
from dataclasses import dataclass, field

from lepton_dse.errors import LeptonError
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport, Evidence, OpCost, OpPlan, SearchResult
from lepton_dse.schedule.gpu import (
    Blocks,
    Contraction,
    Engine,
    GpuProgram,
    Limits,
    Operand,
    Packed4,
    Problem,
    Tile,
    Windows,
    arena,
    default_tile,
    estimated_registers,
    gpu_program,
    planned_blocks,
    tiles_of,
)
from lepton_dse.search.gpu import device_of
from lepton_dse.search.processor_planner import PLANNER as PROCESSOR_PLANNER
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.sim.gpu.gemm import Constants, Machine, Product, product_time
from lepton_dse.sim.gpu.gemm import Tile as PricedTile
from lepton_dse.sim.gpu.machine import limits_of
from lepton_dse.sim.gpu.streaming import streaming_time
from lepton_dse.targets import GpuTarget

__all__ = ["PLANNER", "PricedKernel", "TileChooser", "kernel_time", "priced_kernel"]


@dataclass
class TileChooser:
    """Chooses the cheapest tile of each contraction, and remembers what it costs."""

    capability: float
    limits: Limits
    machine: Machine
    constants: Constants
    evaluated: int = 0
    chosen: dict[str, tuple[Tile, float]] = field(default_factory=dict)
    known: dict[tuple[Problem, Engine], tuple[Tile, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, target: GpuTarget, precision: Precision) -> TileChooser:
        """For a device and formats.

        Raises
        ------
        LeptonError
            If the device has no arithmetic at all.
        """
        device, _ = device_of(target, precision)
        return cls(target.compute_capability.value, limits_of(target), device.machine, device.constants)

    def __call__(self, op: Op, problem: Problem, engine: Engine) -> Tile:
        """The cheapest tile of the declared lists; ties go to the earlier one."""
        key = (problem, engine)
        if key not in self.known:
            self.known[key] = self._cheapest(problem, engine)
        self.chosen[op.name] = self.known[key]
        return self.known[key][0]

    def _cheapest(self, problem: Problem, engine: Engine) -> tuple[Tile, float]:
        best: tuple[Tile, float] | None = None
        for tile in tiles_of(problem, engine, self.capability):
            self.evaluated += 1
            kernel = Contraction(problem.a, problem.b, problem.products, engine, tile, (), problem.swapped)
            time = kernel_time(kernel, self.capability, self.limits, self.machine, self.constants)
            if time is not None and (best is None or time < best[1]):
                best = tile, time
        if best is None:
            raise LeptonError("no tile fits a multiprocessor", fix=f"not even {default_tile(problem, engine, self.capability)}")
        return best


@dataclass(frozen=True)
class PricedKernel:
    """A contraction as the closed form sees it, whatever the constants: product, tile, stages, and blocks held at once."""

    product: Product
    tile: PricedTile
    stages: float
    held: float

    def time(self, machine: Machine, constants: Constants, resident: float = 0.0) -> float:
        """Seconds; `resident` is the share of the operands and the result that L2 holds from an earlier run."""
        product = self.product._replace(resident=resident)
        return float(product_time(product, self.tile, 1.0, self.stages, self.held, machine, constants)[0])


def priced_kernel(kernel: Contraction, capability: float, limits: Limits) -> PricedKernel | None:
    """A contraction for the closed form; None where a multiprocessor holds no block of it."""
    registers = estimated_registers(kernel, capability)
    held = planned_blocks(kernel, capability, limits)
    if not held:
        return None
    tile = kernel.tile
    depth = tile.pitch / kernel.engine.element_bytes
    priced = PricedTile(float(tile.rows), float(tile.columns), float(tile.threads), float(registers), depth)
    return PricedKernel(_product(kernel), priced, float(tile.stages), float(held))


def kernel_time(kernel: Contraction, capability: float, limits: Limits, machine: Machine, constants: Constants) -> float | None:
    """Seconds of a contraction under the closed form; None where a multiprocessor holds no block of it."""
    priced = priced_kernel(kernel, capability, limits)
    return None if priced is None else priced.time(machine, constants)


def plan(request: PlanRequest) -> PlanDraft:
    """The processors' plan with emittable tiles, and their times."""
    target = request.target
    if not isinstance(target, GpuTarget):
        raise LeptonError(f"{target.name} is no GPU", fix="plan it with the planner of its own family")
    draft = PROCESSOR_PLANNER(request)
    if not device_of(target, request.precision)[1]:
        return draft
    chooser = TileChooser.of(target, request.precision)
    try:
        program = gpu_program(request.graph, chooser.capability, chooser, chooser.limits)
    except LeptonError:  # a network that can be priced though no kernels can be written for it, which emission says
        return draft
    entries = tuple(_mapped(entry, chooser.chosen) for entry in draft.ops)
    copies = _copies(program, chooser.machine, chooser.constants)
    return PlanDraft(_priced(draft.predicted, chooser, copies), entries, arena(program))


PLANNER: Planner = plan


def _mapped(entry: OpPlan, chosen: Items[str, tuple[Tile, float]]) -> OpPlan:
    if entry.op not in chosen:
        return entry
    return entry.model_copy(update={"mapping": chosen[entry.op][0].mapping})


def _copies(program: GpuProgram, machine: Machine, constants: Constants) -> dict[str, float]:
    """Seconds that changes of layout take, by the operation that they come before."""
    found: dict[str, float] = {}
    waiting = 0.0
    for kernel in program.kernels:
        if kernel.reordered:
            elements = float(kernel.result.tensor.elements)
            waiting += float(streaming_time(elements, 0.0, 2.0 * kernel.result.bytes, elements, machine, constants)[0])
        else:
            found[kernel.name], waiting = waiting, 0.0
    return found


def _priced(report: CostReport, chooser: TileChooser, copies: Items[str, float]) -> CostReport:
    """The report with the times of the emitted contractions, and of the changes of layout before each kernel."""
    priced = (_repriced(cost, chooser) for cost in report.ops)
    costs = tuple(cost.model_copy(update={"latency_s": cost.latency_s + copies.get(cost.name, 0.0)}) for cost in priced)
    latency = sum(cost.latency_s for cost in costs)
    if not latency:
        return report
    samples = report.throughput_per_s * report.latency_s
    search = SearchResult(
        objective="latency",
        space="tiles that the CUDA emitter writes",
        evaluated=chooser.evaluated,
        best=latency,
        lower_bound=latency,
        gap=0.0,
        optimal=True,
    )
    changes = {
        "ops": costs,
        "latency_s": latency,
        "throughput_per_s": samples / latency,
        "evidence": Evidence.UNCHECKED,
        "band": None,
        "search": search,
    }
    return report.model_copy(update=changes)


def _repriced(cost: OpCost, chooser: TileChooser) -> OpCost:
    if cost.name not in chooser.chosen:
        return cost
    tile, time = chooser.chosen[cost.name]
    share = cost.utilization * cost.latency_s / time if time else 0.0
    return cost.model_copy(update={"latency_s": time, "utilization": share, "mapping": tile.mapping})


def _product(kernel: Contraction) -> Product:
    """A kernel as the closed form prices it; what is left out is neither moved nor multiplied.

    Of zero blocks every tile of columns is taken to have its share.
    """
    bits = 8.0 * kernel.engine.element_bytes
    depth = float(kernel.a.depth if kernel.engine.skips else kernel.depth)
    if isinstance(kernel.b, Blocks):
        depth *= kernel.b.stored / (len(kernel.b.lists) * kernel.steps)
    results = float(kernel.rows) * kernel.columns * kernel.products
    stored = _stored_bytes(kernel.a, kernel.products), _stored_bytes(kernel.b, kernel.products)
    sizes = (float(kernel.rows), float(kernel.columns), depth, float(kernel.products))
    return Product(*sizes, bits, bits, bits, *stored, results * kernel.engine.element_bytes, 0.0)


def _stored_bytes(operand: Operand, products: int) -> float:
    match operand:
        case Windows():
            return float(operand.images * operand.height * operand.width * operand.channels * operand.element_bytes)
        case Packed4():
            return operand.rows * operand.stride / 2 * (products if operand.batch else 1)
        case Blocks():
            return float(operand.stored * operand.extent * operand.pitch)
        case _:
            return float(math.prod((operand.rows, operand.depth, operand.element_bytes, products if operand.batch else 1)))
