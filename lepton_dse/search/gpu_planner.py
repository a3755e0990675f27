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
from lepton_dse.plan import CostReport, Evidence, OpCost, OpPlan, SearchResult
from lepton_dse.schedule.gpu import (
    Blocks,
    Contraction,
    Engine,
    Limits,
    Operand,
    Packed4,
    Problem,
    Tile,
    Windows,
    default_tile,
    estimated_registers,
    gpu_program,
    resident_blocks,
    tiles_of,
)
from lepton_dse.search.gpu import device_of
from lepton_dse.search.processor_planner import PLANNER as PROCESSOR_PLANNER
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.sim.gpu.gemm import Constants, Machine, Product, product_time
from lepton_dse.sim.gpu.gemm import Tile as PricedTile
from lepton_dse.sim.gpu.machine import limits_of
from lepton_dse.targets import GpuTarget

__all__ = ["PLANNER"]


@dataclass
class _Chooser:
    """Chooses tiles, and remembers what each kernel costs."""

    capability: float
    limits: Limits
    machine: Machine
    constants: Constants
    evaluated: int = 0
    chosen: dict[str, tuple[Tile, float]] = field(default_factory=dict)
    known: dict[tuple[Problem, Engine], tuple[Tile, float]] = field(default_factory=dict)

    def __call__(self, op: Op, problem: Problem, engine: Engine) -> Tile:
        key = (problem, engine)
        if key not in self.known:
            self.known[key] = self._cheapest(problem, engine)
        self.chosen[op.name] = self.known[key]
        return self.known[key][0]

    def _cheapest(self, problem: Problem, engine: Engine) -> tuple[Tile, float]:
        best: tuple[Tile, float] | None = None
        product = _product(problem, engine)
        for tile in tiles_of(problem, engine, self.capability):
            self.evaluated += 1
            kernel = Contraction(problem.a, problem.b, problem.products, engine, tile, (), problem.swapped)
            registers = estimated_registers(kernel, self.capability)
            held = resident_blocks(kernel, registers, self.limits)
            if not held:
                continue
            depth = tile.pitch / engine.element_bytes
            priced = PricedTile(float(tile.rows), float(tile.columns), float(tile.threads), float(registers), depth)
            stages = float(tile.stages)
            time = float(product_time(product, priced, 1.0, stages, float(held), self.machine, self.constants)[0])
            if best is None or time < best[1]:
                best = tile, time
        if best is None:
            raise LeptonError("no tile fits a multiprocessor", fix=f"not even {default_tile(problem, engine, self.capability)}")
        return best


def plan(request: PlanRequest) -> PlanDraft:
    """The processors' plan with emittable tiles, and their times."""
    target = request.target
    if not isinstance(target, GpuTarget):
        raise LeptonError(f"{target.name} is no GPU", fix="plan it with the planner of its own family")
    draft = PROCESSOR_PLANNER(request)
    device, known = device_of(target, request.precision)
    if not known:
        return draft
    chooser = _Chooser(target.compute_capability.value, limits_of(target), device.machine, device.constants)
    gpu_program(request.graph, chooser.capability, chooser, chooser.limits)
    entries = tuple(_mapped(entry, chooser.chosen) for entry in draft.ops)
    return PlanDraft(_priced(draft.predicted, chooser), entries)


PLANNER: Planner = plan


def _mapped(entry: OpPlan, chosen: Items[str, tuple[Tile, float]]) -> OpPlan:
    if entry.op not in chosen:
        return entry
    return entry.model_copy(update={"mapping": chosen[entry.op][0].mapping})


def _priced(report: CostReport, chooser: _Chooser) -> CostReport:
    """The report with the times of the emitted contractions."""
    costs = tuple(_repriced(cost, chooser) for cost in report.ops)
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


def _repriced(cost: OpCost, chooser: _Chooser) -> OpCost:
    if cost.name not in chooser.chosen:
        return cost
    tile, time = chooser.chosen[cost.name]
    share = cost.utilization * cost.latency_s / time if time else 0.0
    return cost.model_copy(update={"latency_s": time, "utilization": share, "mapping": tile.mapping})


def _product(problem: Problem, engine: Engine) -> Product:
    """A problem as the closed form prices it; what is skipped counts where it is stored, and multiplied at twice the rate."""
    bits = 8.0 * engine.element_bytes
    depth = problem.a.depth if engine.skips else max(problem.a.depth, problem.b.depth)
    results = float(problem.a.rows) * problem.b.rows * problem.products
    stored = _stored_bytes(problem.a, problem.products), _stored_bytes(problem.b, problem.products)
    sizes = (float(problem.a.rows), float(problem.b.rows), float(depth), float(problem.products))
    return Product(*sizes, bits, bits, bits, *stored, results * engine.element_bytes, 0.0)


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
