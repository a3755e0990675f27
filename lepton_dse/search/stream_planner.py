"""Plans a streaming design: foldings by exact search, FIFO depths by simulation, the result counted and timed as built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lepton_dse import rtl_library as rtl
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.plan import CostReport, Evidence, SearchResult, Violation
from lepton_dse.schedule.stream import (
    DepthwiseLayer,
    Folding,
    MatrixLayer,
    StreamGraph,
    StreamSchedule,
    needed_shares,
    stream_graph,
)
from lepton_dse.search.fifo_sizing import Design, deepened, design_of, sized
from lepton_dse.search.folding import FoldingSearch, FoldingSpace
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.sim.event_graph import Deadlock
from lepton_dse.sim.stream import cycles_by_stage, resource_violations, stream_report
from lepton_dse.targets.fpga import FpgaTarget

__all__ = ["PLANNER", "plan_stream"]

_SHRINK = (1.0, 0.97, 0.93, 0.88, 0.8)  # parts of the device to plan with until the design as built fits
_SLACKS = (1.0, 1.25, 1.5, 2.0, 3.0)


def plan(request: PlanRequest) -> PlanDraft:
    """Plan a streaming design; the registered planner of the fpga family."""
    assert isinstance(request.target, FpgaTarget), "planners are registered by family"
    report, foldings = plan_stream(request.graph, request.target, request.objective)
    streams = stream_graph(request.graph)
    layers = streams.layers if isinstance(streams, StreamGraph) and foldings else ()
    entries = []
    for layer, folding in zip(layers, foldings, strict=True):
        bits = layer.weight_bits if isinstance(layer, MatrixLayer | DepthwiseLayer) else request.precision.weights.bits
        precision = Precision(NumberFormat(FormatKind.INT, bits), request.precision.activations)
        entries.append(folding.to_plan(layer.name, str(precision)))
    return PlanDraft(report, tuple(entries))


PLANNER: Planner = plan


def plan_stream(graph: LoweredGraph, target: FpgaTarget, objective: str) -> tuple[CostReport, tuple[Folding, ...]]:
    """Foldings and predicted cost of a lowered graph on an FPGA.

    Parameters
    ----------
    graph : LoweredGraph
    target : FpgaTarget
    objective : {"throughput", "latency"}
        Least initiation interval, proven; or least latency, the best of a few simulated designs, bounded from below by
        what the slowest stage alone takes for as much of a frame as the last result waits for.

    Returns
    -------
    CostReport
        Not feasible, with violations, where nothing fits.
    tuple of Folding
        One a layer; empty where nothing fits.
    """
    checked = [family.value for family in rtl.Family]
    if target.fabric not in checked:
        what = f"resource formulas for the fabric {target.fabric} of {target.name}"
        levers = (f"choose a device of {' or '.join(checked)}",)
        return _refused(target, (Violation(what=what, demand=1, bound=0, unit="family", levers=levers),)), ()
    streams = stream_graph(graph)
    if not isinstance(streams, StreamGraph):
        return _refused(target, streams), ()
    space = FoldingSpace(streams, target)
    found = _fitting(streams, space, space.search)
    if isinstance(found, FoldingSearch):
        return _refused(target, found.violations, found.result), ()
    design, result = found
    if isinstance(design.times, Deadlock):
        return stream_report(design.schedule, graph, target, result, times=design.times), ()
    if objective == "latency":
        design, result = _least_latency(streams, space, design, result)
    foldings = tuple(stage.folding for stage in design.schedule.stages)
    return stream_report(design.schedule, graph, target, result, times=design.times), foldings


def _fitting(
    streams: StreamGraph, space: FoldingSpace, choose: Callable[..., FoldingSearch]
) -> tuple[Design, SearchResult] | FoldingSearch:
    """The best design that fits as built, by one of the space's searches; that search's own answer where none does."""
    target = space.target
    search = choose()
    for share in _SHRINK:
        if share < 1:
            search = replace(choose(share=share), result=search.result)
        if not search.foldings:
            return search
        design = sized(streams, search.foldings)
        if isinstance(design.times, Deadlock):
            return design, search.result
        violations = resource_violations(design.schedule.resources(rtl.Family(target.fabric)), target)
        if not violations:
            return design, _certified(design.schedule, search.result)
    return FoldingSearch((), search.result, violations)


def _certified(schedule: StreamSchedule, bound: SearchResult) -> SearchResult:
    """The certificate of a design as built: its slowest stage against the bound of the whole space."""
    reached = max(cycles_by_stage(schedule))
    optimal = reached == bound.lower_bound
    return bound.model_copy(update={"best": reached, "gap": (reached - bound.lower_bound) / reached, "optimal": optimal})


def _least_latency(streams: StreamGraph, space: FoldingSpace, first: Design, bound: SearchResult) -> tuple[Design, SearchResult]:
    """The design of least simulated latency among that of least summed cycles and those with slower slowest stages."""
    best = first
    tried = {space.search().foldings}
    searches: list[Callable[..., FoldingSearch]] = [
        space.quickest,
        *(partial(space.search, slack=slack) for slack in _SLACKS[1:]),
    ]
    candidates = []
    for choose in searches:
        foldings = choose().foldings
        if foldings not in tried:
            tried.add(foldings)
            # The first frame alone has the latency. FIFOs that never fill shorten it, but for the cycle of each that lies in
            # block memory.
            deepest = design_of(streams, deepened(streams, foldings), 1)
            fifos = sum(instance.module.name == "stream_fifo" for instance in deepest.schedule.instances)
            candidates.append((deepest.latency - fifos, choose))
    for least, choose in sorted(candidates, key=lambda candidate: candidate[0]):
        if least >= best.latency:
            break
        found = _fitting(streams, space, choose)
        if not isinstance(found, FoldingSearch) and found[0].latency < best.latency:
            best = found[0]
    latency, lower = int(best.latency), space.first_frame(needed_shares(streams))
    result = SearchResult(
        objective="latency in cycles",
        space=f"{bound.space}; best of {len(tried)} simulated designs",
        evaluated=bound.evaluated,
        best=latency,
        lower_bound=lower,
        gap=(latency - lower) / latency,
        optimal=latency == lower,
    )
    return best, result


def _refused(target: FpgaTarget, violations: tuple[Violation, ...], search: SearchResult | None = None) -> CostReport:
    return CostReport(
        target=target.name,
        feasible=False,
        latency_s=0,
        throughput_per_s=0,
        energy_j=None,
        peak_bytes=0,
        traffic_bytes={},
        resources={},
        bound_by=violations[0].what,
        evidence=Evidence.UNCHECKED,
        violations=violations,
        search=search,
    )
