"""Plans for processors that run kernels from memory: the sequential schedule, priced by the family's cost model."""

from __future__ import annotations

from lepton_dse.plan import OpPlan
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.sim.mixed import formats_of, mixed_cost

__all__ = ["PLANNER"]


def plan(request: PlanRequest) -> PlanDraft:
    """Every operation in its bundle's formats, in sequential order, mapped as the registered cost model chose and priced it."""
    predicted = mixed_cost(request.bundle, request.target, default=request.precision)
    formats = formats_of(request.bundle, request.precision)
    mappings = {cost.name: cost.mapping for cost in predicted.ops}
    graph = request.bundle.graph
    entries = (OpPlan(op=op.name, precision=str(formats[op.name]), mapping=mappings[op.name]) for op in graph.ops)
    return PlanDraft(predicted, tuple(entries))


PLANNER: Planner = plan
