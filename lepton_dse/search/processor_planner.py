"""Plans for processors that run kernels from memory: the sequential schedule, priced by the family's cost model."""

from __future__ import annotations

from lepton_dse import registry
from lepton_dse.plan import CostReport, OpPlan
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.sim.protocol import CostModel

__all__ = ["PLANNER"]


def plan(request: PlanRequest) -> PlanDraft:
    """Every operation at its bundle's precision, in sequential order, mapped as the registered cost model chose and priced it."""
    model: CostModel = registry.load(registry.Group.COST_MODELS, request.target.family)
    predicted: CostReport = model(request.bundle.graph, request.target, request.precision, 1)
    graph = request.bundle.graph
    mappings = {cost.name: cost.mapping for cost in predicted.ops}
    entries = []
    for op in graph.ops:
        precision = request.precision
        scale = request.bundle.scales.get(op.inputs[1]) if len(op.inputs) > 1 else None
        if scale is not None and op.inputs[1] in graph.constants:
            precision = type(precision)(scale.format, precision.activations)
        entries.append(OpPlan(op=op.name, precision=str(precision), mapping=mappings[op.name]))
    return PlanDraft(predicted, tuple(entries))


PLANNER: Planner = plan
