"""The streaming schedule: one instance of an RTL module after another, with parameters, memory images, and what leads where.

The simulator prices exactly this list of instances and links, and the emitter writes exactly this list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_dse import rtl_library as rtl
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.plan import Plan
from lepton_dse.schedule.stream.instances import Folding, Instance
from lepton_dse.schedule.stream.layers import INPUT, OUTPUT, StreamGraph
from lepton_dse.schedule.stream.stages import Stage, fifo, fork, stage_of

__all__ = ["Link", "StreamSchedule", "foldings_of", "stream_schedule"]


@dataclass(frozen=True)
class Link:
    """The way of a stream from one instance to another.

    Parameters
    ----------
    source : int
        Position among the design's instances.
    copy : int
        Of a fork's consumers; 0 for any other module.
    sink : int
        Position among the instances, or :data:`~lepton_dse.schedule.stream.layers.OUTPUT`.
    stream : int
        Of the sink's input streams.
    """

    source: int
    copy: int
    sink: int
    stream: int


@dataclass(frozen=True, eq=False)
class StreamSchedule:
    """A whole streaming design.

    Parameters
    ----------
    streams : StreamGraph
        The layers and the tensors at both ends.
    instances : tuple of Instance
        Each behind those that it takes a stream from; the first takes the design's input.
    links : tuple of Link
        By sink, its streams in order; that to the design's output is the last.
    stages : tuple of Stage
        One a layer.
    input_lanes, output_lanes : int
        Elements of a word at either end.
    input_bits, output_bits : int
        Bits of an element at either end.
    """

    streams: StreamGraph
    instances: tuple[Instance, ...]
    links: tuple[Link, ...]
    stages: tuple[Stage, ...]
    input_lanes: int
    output_lanes: int
    input_bits: int
    output_bits: int

    @property
    def input_beats(self) -> int:
        """Words a frame at the input."""
        return len(self.streams.input_layout) // self.input_lanes

    @property
    def output_beats(self) -> int:
        """Words a frame at the output."""
        return len(self.streams.output_layout) // self.output_lanes

    def lanes_behind(self, position: int) -> int:
        """Elements of a word behind a stage, or at the input."""
        return self.input_lanes if position == INPUT else self.stages[position].lanes

    def resources(self, family: rtl.Family) -> rtl.Resources:
        """Estimated primitives of the whole design."""
        return sum((instance.resources(family) for instance in self.instances), rtl.Resources())


def foldings_of(plan: Plan, streams: StreamGraph) -> tuple[Folding, ...]:
    """The foldings that a plan decides for the layers of a design."""
    return tuple(Folding.from_plan(plan.op(layer.name)) for layer in streams.layers)


def stream_schedule(streams: StreamGraph, foldings: Sequence[Folding], *, head_depth: int = 2) -> StreamSchedule:
    """Instances for every layer, and the links between them.

    Parameters
    ----------
    streams : StreamGraph
    foldings : sequence of Folding
        One a layer; ``simd`` divides the layer's input channels and ``pe`` its output channels.
    head_depth : int
        Words of the FIFO in front of the first stage.

    Raises
    ------
    InvalidPlanError
        If there is not one folding a layer, or a folding does not divide.
    """
    if len(foldings) != len(streams.layers):
        raise InvalidPlanError(f"{len(foldings)} foldings for {len(streams.layers)} layers", fix="plan again")
    bits = streams.input.format.bits
    lanes = {INPUT: foldings[streams.readers[INPUT][0].layer].simd}
    stages: list[Stage] = []
    builder = _Builder()
    head = builder.chain([fifo("input_fifo", lanes[INPUT] * bits, head_depth)], None)
    builder.offer(INPUT, head, lanes[INPUT] * bits, len(streams.readers[INPUT]))
    for position, (layer, folding) in enumerate(zip(streams.layers, foldings, strict=True)):
        readers = streams.readers[position]
        alone = len(readers) == 1 and readers[0].layer != OUTPUT
        try:
            arriving = tuple(lanes[source] for source in streams.sources[position])
            stage = stage_of(f"l{position}", layer, folding, arriving, foldings[readers[0].layer].simd if alone else None)
        except LeptonError as error:
            raise InvalidPlanError(error.what, where=layer.name, fix=error.fix or "plan again") from error
        stages.append(stage)
        lanes[position] = stage.lanes
        last = builder.stage(stage, streams.sources[position])
        builder.offer(position, last, stage.lanes * layer.output_bits, len(readers))
    source, copy = builder.take(streams.last)
    builder.links.append(Link(source, copy, OUTPUT, 0))
    return StreamSchedule(
        streams,
        tuple(builder.instances),
        tuple(builder.links),
        tuple(stages),
        lanes[INPUT],
        lanes[streams.last],
        bits,
        streams.layers[streams.last].output_bits,
    )


class _Builder:
    """Instances and links as they are strung together."""

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.links: list[Link] = []
        self.offered: dict[int, tuple[int, int]] = {}
        """For each layer the instance that its stream leaves from, and the next free copy."""

    def chain(self, instances: Sequence[Instance], source: tuple[int, int] | None) -> int:
        """Append instances one behind another, the first behind a source; returns the last one's position."""
        for instance in instances:
            self.instances.append(instance)
            if source is not None:
                self.links.append(Link(*source, len(self.instances) - 1, 0))
            source = (len(self.instances) - 1, 0)
        return len(self.instances) - 1

    def offer(self, layer: int, position: int, width: int, readers: int) -> None:
        """A layer's stream, through a fork where several take it."""
        if readers > 1:
            name = "input_fork" if layer == INPUT else f"l{layer}_fork"
            position = self.chain([fork(name, width, readers)], (position, 0))
        self.offered[layer] = (position, 0)

    def take(self, layer: int) -> tuple[int, int]:
        """Where a layer's stream is to be had; the next one who asks gets the next copy."""
        position, copy = self.offered[layer]
        self.offered[layer] = (position, copy + 1)
        return position, copy

    def stage(self, stage: Stage, sources: Sequence[int]) -> int:
        """Append a stage; returns the position of its FIFO."""
        ends: list[tuple[int, int]] = []
        for feed, source in zip(stage.feeds, sources, strict=True):
            taken = self.take(source)
            ends.append((self.chain(feed, taken), 0) if feed else taken)
        joins = max(1, len(ends) - 1)
        before, *others = ends
        for number, instance in enumerate(stage.body[:joins]):
            self.instances.append(instance)
            position = len(self.instances) - 1
            self.links.append(Link(*before, position, 0))
            if others:
                self.links.append(Link(*others[number], position, 1))
            before = (position, 0)
        return self.chain(stage.body[joins:], before)
