"""What the next lever would give: the nearest faster design and what it lacks, or other formats and what they cost."""

from __future__ import annotations

from lepton_dse import registry
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Plan
from lepton_dse.schedule.stream import StreamGraph, stream_graph
from lepton_dse.search.folding import next_faster
from lepton_dse.sim.protocol import CostModel
from lepton_dse.targets import AnyTarget, FpgaTarget

__all__ = ["levers"]

_FORMATS = ("float32", "bfloat16", "int8", "w4a8")


def levers(plan: Plan, graph: Graph, lowered: LoweredGraph, target: AnyTarget) -> tuple[str, ...]:
    """Sentences, each about one change and what it would give.

    Parameters
    ----------
    plan : Plan
    graph : Graph
        The bundle's float graph.
    lowered : LoweredGraph
    target : AnyTarget
        The plan's target.
    """
    if isinstance(target, FpgaTarget):
        return _stream(plan, lowered, target)
    model: CostModel = registry.load(registry.Group.COST_MODELS, target.family)
    found = []
    for name in _FORMATS:
        report = model(graph, target, Precision.parse(name), 1)
        if name != plan.precision and report.feasible and plan.predicted.latency_s > 0:
            found.append(f"{name}: {plan.predicted.latency_s / report.latency_s:.2f} times as fast, bound by {report.bound_by}")
    return tuple(found)


def _stream(plan: Plan, lowered: LoweredGraph, target: FpgaTarget) -> tuple[str, ...]:
    streams = stream_graph(lowered)
    cycles = plan.predicted.cycles
    if not isinstance(streams, StreamGraph) or cycles is None:
        return tuple(str(violation) for violation in plan.predicted.violations)
    step = next_faster(streams, target, cycles.interval)
    if step is None:
        return (f"no folding in the space is faster than {cycles.interval} cycles: SIMD cannot exceed a stage's input channels",)
    bound, violations = step
    if not violations:
        return (f"{bound} cycles a frame fit the device: plan with --minimize throughput",)
    lacking = "; ".join(f"{violation.demand:g} {violation.unit} of {violation.bound:g}" for violation in violations)
    return (f"{bound} cycles a frame would need {lacking}",)
