"""Plans a streaming design: foldings by exact search, FIFO depths by simulation, the result counted and timed as built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lepton_dse import rtl_library as rtl
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.plan import CostReport, Evidence, SearchResult, Violation
from lepton_dse.schedule.layers import Chain, MatrixLayer, stream_chain
from lepton_dse.schedule.stream import Folding, StreamSchedule, stream_schedule
from lepton_dse.search.folding import FoldingSearch, search_foldings
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.sim.event_graph import Times
from lepton_dse.sim.stream import resource_violations, run_stream, stage_cycles, stream_report
from lepton_dse.targets.schema import FpgaTarget

__all__ = ["PLANNER", "plan_stream", "size_fifos"]

_LEAST_DEPTH = 2  # a FIFO of one word passes a beat every other cycle
_MOST_DEPTH = 4096
_SHRINK = (1.0, 0.97, 0.93, 0.88, 0.8)  # parts of the device to plan with until the design as built fits
_SLACKS = (1.0, 1.25, 1.5, 2.0, 3.0)


def plan(request: PlanRequest) -> PlanDraft:
    """Plan a streaming design; the registered planner of the fpga family."""
    assert isinstance(request.target, FpgaTarget), "planners are registered by family"
    report, foldings = plan_stream(request.graph, request.target, request.objective)
    chain = stream_chain(request.graph)
    layers = chain.layers if isinstance(chain, Chain) and foldings else ()
    entries = []
    for layer, folding in zip(layers, foldings, strict=True):
        bits = layer.weight_bits if isinstance(layer, MatrixLayer) else request.precision.weights.bits
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
        the least interval, since the slowest stage alone takes that long.

    Returns
    -------
    CostReport
        Not feasible, with violations, where nothing fits.
    tuple of Folding
        One a layer; empty where nothing fits.
    """
    chain = stream_chain(graph)
    if not isinstance(chain, Chain):
        return _refused(target, chain), ()
    found = _fitting(chain, target, 1.0)
    if isinstance(found, FoldingSearch):
        return _refused(target, found.violations, found.result), ()
    schedule, result = found
    if objective == "latency":
        schedule, result = _least_latency(chain, target, found)
    foldings = tuple(stage.folding for stage in schedule.stages)
    return stream_report(schedule, graph, target, result), foldings


def _fitting(chain: Chain, target: FpgaTarget, slack: float) -> tuple[StreamSchedule, SearchResult] | FoldingSearch:
    """The best design that fits as built; the search's own answer where none does."""
    search = search_foldings(chain, target, slack=slack)
    for share in _SHRINK:
        if share < 1:
            search = replace(search_foldings(chain, target, share=share, slack=slack), result=search.result)
        if not search.foldings:
            return search
        schedule = size_fifos(chain, search.foldings)
        violations = resource_violations(schedule.resources(rtl.Family(target.fabric)), target)
        if not violations:
            return schedule, _certified(schedule, search.result)
    return FoldingSearch((), search.result, violations)


def _certified(schedule: StreamSchedule, bound: SearchResult) -> SearchResult:
    """The certificate of a design as built: its slowest stage against the bound of the whole space."""
    reached = _slowest(schedule)
    optimal = reached == bound.lower_bound
    return bound.model_copy(update={"best": reached, "gap": (reached - bound.lower_bound) / reached, "optimal": optimal})


def _slowest(schedule: StreamSchedule) -> int:
    busiest, beats = 0, schedule.input_beats
    for stage in schedule.stages:
        cycles, beats = stage_cycles(stage, beats)
        busiest = max(busiest, cycles)
    return busiest


def _least_latency(
    chain: Chain, target: FpgaTarget, first: tuple[StreamSchedule, SearchResult]
) -> tuple[StreamSchedule, SearchResult]:
    """The design of least simulated latency among those with slower slowest stages, which free resources for the others."""
    best, bound = first
    best_latency = _latency(best)
    count = 1
    for slack in _SLACKS[1:]:
        found = _fitting(chain, target, slack)
        if isinstance(found, FoldingSearch):
            continue
        count += 1
        latency = _latency(found[0])
        if latency < best_latency:
            best, best_latency = found[0], latency
    lower = max(bound.lower_bound - 1, 0)
    result = SearchResult(
        objective="latency in cycles",
        space=f"{bound.space}; best of {count} simulated designs",
        evaluated=bound.evaluated,
        best=best_latency,
        lower_bound=lower,
        gap=(best_latency - lower) / best_latency,
        optimal=best_latency == lower,
    )
    return best, result


def _latency(schedule: StreamSchedule) -> int:
    times = run_stream(schedule)
    assert isinstance(times, Times), "sized designs do not deadlock"
    return times.latency_cycles


def size_fifos(chain: Chain, foldings: Sequence[Folding]) -> StreamSchedule:
    """The least FIFO depths, a power of two each, with which the design keeps the pace of its slowest stage.

    All depths double until the simulated interval is that of deep FIFOs; each is then halved again as long as the
    interval stays.
    """
    depths = [_LEAST_DEPTH] * len(foldings)
    schedule = _with_depths(chain, foldings, depths)
    pace = _slowest(schedule)
    if _interval(schedule) <= pace:
        return schedule
    deep = _interval(_with_depths(chain, foldings, [_MOST_DEPTH] * len(foldings)))
    while _interval(schedule) > deep:
        depths = [min(2 * depth, _MOST_DEPTH) for depth in depths]
        schedule = _with_depths(chain, foldings, depths)
    for index in range(len(depths)):
        while depths[index] > _LEAST_DEPTH:
            trial = [*depths[:index], depths[index] // 2, *depths[index + 1 :]]
            shallower = _with_depths(chain, foldings, trial)
            if _interval(shallower) > deep:
                break
            depths, schedule = trial, shallower
    return schedule


def _with_depths(chain: Chain, foldings: Sequence[Folding], depths: Sequence[int]) -> StreamSchedule:
    sized = [replace(folding, fifo_depth=depth) for folding, depth in zip(foldings, depths, strict=True)]
    return stream_schedule(chain, sized)


def _interval(schedule: StreamSchedule) -> int:
    times = run_stream(schedule)
    assert isinstance(times, Times), "a chain with FIFOs and whole windows does not deadlock"
    return times.interval_cycles


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
