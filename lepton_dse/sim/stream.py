"""The streaming simulator: cycles of a design from its timed event graph, and the cost report that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lepton_dse import rtl_library as rtl
from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir.graph import Graph
from lepton_dse.plan import CostReport, CycleReport, Evidence, OpCost, SearchResult, Violation
from lepton_dse.schedule.stream import DepthwiseLayer, Instance, MatrixLayer, Stage, StreamSchedule
from lepton_dse.schedule.stream.layers import OUTPUT
from lepton_dse.schedule.stream.stalls import StallCase, stall_bits
from lepton_dse.sim.clock import fmax_band
from lepton_dse.sim.event_graph import Deadlock, Network, NetworkBuilder, Placed, Times, simulate
from lepton_dse.sim.fabric import stage_energy
from lepton_dse.sim.zeros import zeros_of
from lepton_dse.targets.fpga import FpgaTarget

__all__ = [
    "FRAMES",
    "cycles_by_stage",
    "network_of",
    "resource_violations",
    "run_stream",
    "stage_cycles",
    "stall_case",
    "stream_report",
]

FRAMES = 5
"""Frames of a prediction: enough for the interval to repeat behind the filling of the pipeline."""


def network_of(schedule: StreamSchedule) -> Network:
    """The timed event graph of a design, joined as its links say."""
    builder = NetworkBuilder()
    placed: list[Placed] = []
    beats: list[int] = []
    arriving: dict[int, list[int]] = {0: [schedule.input_beats]}
    into: dict[int, list[int]] = {}
    for link in schedule.links:
        into.setdefault(link.sink, []).append(link.source)
    for position, instance in enumerate(schedule.instances):
        assert instance.module.timing is not None, "only stream modules are in a schedule"
        timing = instance.module.timing(instance.parameters)
        taken = arriving.get(position) or [beats[source] for source in into[position]]
        frame = timing.repeated(taken[0] // timing.input_beats)
        placed.append(builder.add(frame))
        for stream, source in enumerate(into.get(position, ())):
            builder.connect(placed[source], placed[-1], stream)
        beats.append(frame.output_beats)
    (last,) = into[OUTPUT]
    return builder.finish(placed[0], placed[last])


def run_stream(schedule: StreamSchedule, frames: int = FRAMES, case: StallCase | None = None) -> Times | Deadlock:
    """Cycle of every step of a design, without stalls or under the traces of `case`."""
    network = network_of(schedule)
    source, sink = (case.source, case.sink) if case is not None else (None, None)
    return simulate(network, frames, source, sink)


def stall_case(schedule: StreamSchedule, seed: int, frames: int) -> StallCase:
    """Seeded traces with the predicted cycle of every beat at both ends.

    Parameters
    ----------
    schedule : StreamSchedule
    seed : int
        0 stalls nothing.
    frames : int
        Frames streamed back to back.

    Raises
    ------
    InvalidPlanError
        If the design stops for good, whatever its ends do.
    """
    source, sink = stall_bits(seed)
    network = network_of(schedule)
    times = simulate(network, frames, source, sink)
    if isinstance(times, Deadlock):
        raise InvalidPlanError(f"the FIFOs of the plan are too shallow: {times.waits[0]}", fix="deepen them, or plan again")
    return StallCase(seed, frames, source, sink, times.input_cycles, times.output_cycles)


def stage_cycles(stage: Stage, input_beats: Sequence[int]) -> tuple[int, int]:
    """Steps that a stage's busiest process takes for a frame of `input_beats` words of each operand, and the words it emits.

    No schedule of the stage can take fewer cycles a frame, since a process takes one step a cycle.
    """
    fed = [_busiest(feed, beats) for feed, beats in zip(stage.feeds, input_beats, strict=True)]
    cycles, beats = _busiest(stage.body, fed[0][1])
    return max(cycles, *(busy for busy, _ in fed)), beats


def _busiest(instances: Sequence[Instance], beats: int) -> tuple[int, int]:
    """Steps of the busiest process of instances behind one another, and the words that leave the last."""
    busiest = 0
    for instance in instances:
        assert instance.module.pace is not None, "only stream modules are stages"
        pace = instance.module.pace(instance.parameters)
        periods = beats // pace.input_beats
        busiest = max(busiest, pace.steps * periods)
        beats = pace.output_beats * periods
    return busiest, beats


def cycles_by_stage(schedule: StreamSchedule) -> list[int]:
    """Cycles a frame of the busiest process of every stage."""
    found = []
    for stage, sources in zip(schedule.stages, schedule.streams.sources, strict=True):
        pairs = zip(stage.layer.operands, sources, strict=True)
        beats = [operand.elements // schedule.lanes_behind(source) for operand, source in pairs]
        found.append(stage_cycles(stage, beats)[0])
    return found


def resource_violations(resources: rtl.Resources, target: FpgaTarget) -> tuple[Violation, ...]:
    """What a design needs beyond the usable part of the device."""
    levers = {
        "LUT": ("fold more", "use narrower weights", "choose a larger device"),
        "FF": ("fold more", "choose a larger device"),
        "DSP": ("fold more", "build products from LUTs", "use narrower weights"),
        "BRAM18": ("prune the model", "use narrower weights", "choose a device with more block RAM"),
    }
    usable = target.resources()
    return tuple(
        Violation(what=f"{name} of {target.name}", demand=demand, bound=usable[name], unit=name, levers=levers[name])
        for name, demand in _amounts(resources).items()
        if demand > usable[name]
    )


def _amounts(resources: rtl.Resources) -> dict[str, float]:
    return {"LUT": resources.lut, "FF": resources.ff, "DSP": resources.dsp, "BRAM18": resources.bram18}


def stream_report(
    schedule: StreamSchedule,
    graph: Graph,
    target: FpgaTarget,
    search: SearchResult | None = None,
    violations: Iterable[Violation] = (),
    times: Times | Deadlock | None = None,
) -> CostReport:
    """Predicted cost of a streaming design, its cycles from a simulation of :data:`FRAMES` frames.

    Parameters
    ----------
    schedule : StreamSchedule
    graph : Graph
        The lowered graph; its operations carry the multiply-accumulates.
    target : FpgaTarget
    search : SearchResult, optional
        How the foldings were found.
    violations : iterable of Violation
        Found before; those of resources and of deadlock are added.
    times : Times or Deadlock, optional
        The result of :func:`run_stream` where there is one already.
    """
    resources = schedule.resources(rtl.Family(target.fabric))
    found = [*violations, *resource_violations(resources, target)]
    by_stage = cycles_by_stage(schedule)
    slowest = max(range(len(by_stage)), key=by_stage.__getitem__)
    times = run_stream(schedule) if times is None else times
    if isinstance(times, Deadlock):
        what = f"deadlock: {times.waits[0]}"
        levers = ("deepen the FIFOs", "give the sliding windows more rows", "take more elements at once")
        found.append(Violation(what=what, demand=1, bound=0, unit="free word", levers=levers))
        latency = interval = 0
    else:
        latency, interval = times.latency_cycles, times.interval_cycles
    clock = target.clock_hz.value
    ends = len(schedule.streams.input_layout) * schedule.input_bits + len(schedule.streams.output_layout) * schedule.output_bits
    memories = [memory for instance in schedule.instances for memory in instance.memories]
    memory_bits = sum(memory.copies * memory.depth * memory.width for memory in memories)
    ops = tuple(
        OpCost(
            name=stage.layer.name,
            kind=graph.op(stage.layer.name).kind,
            macs=graph.nest(graph.op(stage.layer.name)).macs,
            latency_s=cycles / clock,
            energy_j=_stage_energy(stage, graph, target),
            bound_by="arithmetic" if isinstance(stage.layer, MatrixLayer | DepthwiseLayer) else "stream",
            utilization=cycles / max(interval, cycles, 1),
            traffic_bytes={},
            mapping=stage.folding.mapping,
            zeros=zeros_of(graph, graph.op(stage.layer.name)),
        )
        for stage, cycles in zip(schedule.stages, by_stage, strict=True)
    )
    energies = [op.energy_j for op in ops if op.energy_j is not None]
    return CostReport(
        target=target.name,
        feasible=not found,
        latency_s=latency / clock,
        throughput_per_s=clock / interval if interval else 0.0,
        energy_j=sum(energies) if energies else None,
        peak_bytes=memory_bits / 8,
        traffic_bytes={"stream": ends / 8},
        resources=_amounts(resources),
        bound_by=schedule.stages[slowest].layer.name,
        evidence=Evidence.EXECUTED,
        violations=tuple(found),
        search=search,
        cycles=CycleReport(
            latency=latency,
            interval=interval,
            clock_hz=clock,
            slowest=schedule.stages[slowest].layer.name,
            band=fmax_band(schedule, target),
        ),
        ops=ops,
    )


def _stage_energy(stage: Stage, graph: Graph, target: FpgaTarget) -> float | None:
    if target.energy is None:
        return None
    op, layer = graph.op(stage.layer.name), stage.layer
    entering = sum(operand.elements * operand.bits for operand in layer.operands)
    moved = (entering + graph.tensors[op.output].elements * layer.output_bits) / 8
    widths = None
    if isinstance(layer, MatrixLayer | DepthwiseLayer):
        widths = (layer.weight_bits, layer.input_bits, layer.accumulator_bits)
    return stage_energy(target.energy, graph.nest(op).macs, widths, moved)
