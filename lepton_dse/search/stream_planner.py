"""Plans a streaming design: foldings by exact search, FIFO depths by simulation, the result counted and timed as built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lepton_dse import rtl_library as rtl
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.plan import CostReport, Evidence, SearchResult, Violation
from lepton_dse.schedule.layers import ArgMaxLayer, Chain, Layer, MatrixLayer, stream_chain
from lepton_dse.schedule.stream import Folding, StreamSchedule, stream_schedule
from lepton_dse.search.folding import FoldingSearch, FoldingSpace
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.sim.event_graph import Times
from lepton_dse.sim.stream import FRAMES, resource_violations, run_stream, stage_cycles, stream_report
from lepton_dse.targets.fpga import FpgaTarget

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
    checked = [family.value for family in rtl.Family]
    if target.fabric not in checked:
        what = f"resource formulas for the fabric {target.fabric} of {target.name}"
        levers = (f"choose a device of {' or '.join(checked)}",)
        return _refused(target, (Violation(what=what, demand=1, bound=0, unit="family", levers=levers),)), ()
    chain = stream_chain(graph)
    if not isinstance(chain, Chain):
        return _refused(target, chain), ()
    space = FoldingSpace(chain, target)
    found = _fitting(chain, space, space.search)
    if isinstance(found, FoldingSearch):
        return _refused(target, found.violations, found.result), ()
    design, result = found
    if objective == "latency":
        design, result = _least_latency(chain, space, design, result)
    foldings = tuple(stage.folding for stage in design.schedule.stages)
    return stream_report(design.schedule, graph, target, result, times=design.times), foldings


@dataclass(frozen=True)
class _Design:
    """A schedule and its simulation, which is costly enough to be done once."""

    schedule: StreamSchedule
    times: Times


def _fitting(
    chain: Chain, space: FoldingSpace, choose: Callable[..., FoldingSearch]
) -> tuple[_Design, SearchResult] | FoldingSearch:
    """The best design that fits as built, by one of the space's searches; that search's own answer where none does."""
    target = space.target
    search = choose()
    for share in _SHRINK:
        if share < 1:
            search = replace(choose(share=share), result=search.result)
        if not search.foldings:
            return search
        design = _sized(chain, search.foldings)
        violations = resource_violations(design.schedule.resources(rtl.Family(target.fabric)), target)
        if not violations:
            return design, _certified(design.schedule, search.result)
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


def _least_latency(chain: Chain, space: FoldingSpace, first: _Design, bound: SearchResult) -> tuple[_Design, SearchResult]:
    """The design of least simulated latency among that of least summed cycles and those with slower slowest stages."""
    best = first
    tried = {space.search().foldings}
    searches: list[Callable[..., FoldingSearch]] = [
        space.quickest,
        *(partial(space.search, slack=slack) for slack in _SLACKS[1:]),
    ]
    for choose in searches:
        foldings = choose().foldings
        if foldings in tried:
            continue
        tried.add(foldings)
        # The first frame alone has the latency, and deeper FIFOs never lengthen it: what is no better with the deepest
        # is not worth sizing.
        deepest = stream_schedule(chain, [replace(folding, fifo_depth=_MOST_DEPTH) for folding in foldings])
        if _simulated(deepest, 1).latency_cycles >= best.times.latency_cycles:
            continue
        found = _fitting(chain, space, choose)
        if not isinstance(found, FoldingSearch) and found[0].times.latency_cycles < best.times.latency_cycles:
            best = found[0]
    latency, lower = best.times.latency_cycles, max(bound.lower_bound - 1, 0)
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


def size_fifos(chain: Chain, foldings: Sequence[Folding]) -> StreamSchedule:
    """The least FIFO depths and window rows with which the design keeps the pace that unlimited ones would allow.

    Windows get the rows of one stride as slack, and whole frames where that is what holds back the pace. All FIFO depths
    double until the simulated interval is that of deep FIFOs; each depth, a power of two, and each window is then made
    smaller again as long as the interval stays.
    """
    return _sized(chain, foldings).schedule


def _sized(chain: Chain, foldings: Sequence[Folding]) -> _Design:
    least = [replace(folding, fifo_depth=_LEAST_DEPTH) for folding in foldings]
    design = _design(chain, least)
    pace = _slowest(design.schedule)
    if design.times.interval_cycles <= pace:
        return design
    deep = [replace(folding, fifo_depth=_MOST_DEPTH) for folding in foldings]
    interval = _design(chain, deep).times.interval_cycles
    if interval > pace:
        roomy = [_with_frame(layer, folding) for layer, folding in zip(chain.layers, deep, strict=True)]
        wider = _design(chain, roomy).times.interval_cycles
        if wider < interval:
            interval = wider
            least = [_with_frame(layer, folding) for layer, folding in zip(chain.layers, least, strict=True)]
            design = _design(chain, least)
    while design.times.interval_cycles > interval:
        least = [replace(folding, fifo_depth=min(2 * folding.fifo_depth, _MOST_DEPTH)) for folding in least]
        design = _design(chain, least)
    for index, original in enumerate(foldings):
        for smaller in (_shallower, _narrower):
            while (trial := smaller(least[index], original)) is not None:
                changed = [*least[:index], trial, *least[index + 1 :]]
                candidate = _design(chain, changed)
                if candidate.times.interval_cycles > interval:
                    break
                least, design = changed, candidate
    return design


def _with_frame(layer: Layer, folding: Folding) -> Folding:
    """A folding whose sliding window, if there is one, holds a frame beyond its own rows."""
    return folding if isinstance(layer, ArgMaxLayer) else replace(folding, buffer_rows=layer.extent[0])


def _shallower(folding: Folding, original: Folding) -> Folding | None:
    """Half the FIFO; None at the least."""
    return replace(folding, fifo_depth=folding.fifo_depth // 2) if folding.fifo_depth > _LEAST_DEPTH else None


def _narrower(folding: Folding, original: Folding) -> Folding | None:
    """Half the rows that a window was given beyond the original ones, and at last those; None where it was given none."""
    if folding.buffer_rows is None or folding.buffer_rows == original.buffer_rows:
        return None
    half = folding.buffer_rows // 2
    return replace(folding, buffer_rows=half if half > (original.buffer_rows or 0) else original.buffer_rows)


def _design(chain: Chain, foldings: Sequence[Folding]) -> _Design:
    schedule = stream_schedule(chain, foldings)
    return _Design(schedule, _simulated(schedule))


def _simulated(schedule: StreamSchedule, frames: int = FRAMES) -> Times:
    times = run_stream(schedule, frames)
    assert isinstance(times, Times), "a chain with FIFOs and whole windows does not deadlock"
    return times


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
