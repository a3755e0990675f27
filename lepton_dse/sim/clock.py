"""The clock that a streaming design reaches: a band around its longest path between registers.

Every module declares the longest paths between its ends (:class:`~lepton_dse.rtl_library.Path`), and a design joins ends: valid
and data run forwards, ready backwards, and memories stand beside the modules. The longest path of the whole is the longest way
through this graph, which has no cycle, since ready never decides valid. In seconds a path is a sum over what it counts::

    register_s + level_s * levels + chain_s * chains + carry_s * carry + out_s * outs + lookup_s * lookups
        + block_s * blocks + product_s * products + load_s * log2(loads)

The band is that sum times the least and the greatest ratio that placed designs showed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from lepton_dse import rtl_library as rtl
from lepton_dse.plan import ClockBand
from lepton_dse.rtl_library import End
from lepton_dse.schedule.stream import Instance, StreamSchedule
from lepton_dse.schedule.stream.layers import OUTPUT
from lepton_dse.targets.fpga import FabricTiming, FpgaTarget

__all__ = ["Way", "fmax_band", "longest_way", "path_seconds"]


class Way(NamedTuple):
    """A way from a register to an end."""

    seconds: float
    through: tuple[str, ...]
    """Instances, in order."""


def path_seconds(depth: rtl.Depth, timing: FabricTiming) -> float:
    """Seconds of what lies between the registers at both ends."""
    return (
        timing.level_s.value * depth.levels
        + timing.chain_s.value * depth.chains
        + timing.carry_s.value * depth.carry
        + timing.out_s.value * depth.outs
        + timing.lookup_s.value * depth.lookups
        + timing.block_s.value * depth.blocks
        + timing.product_s.value * depth.products
        + timing.load_s.value * math.log2(depth.loads)
    )


def fmax_band(schedule: StreamSchedule, target: FpgaTarget) -> ClockBand | None:
    """The clocks between which a design's greatest is expected, and the instances that bound it.

    Parameters
    ----------
    schedule : StreamSchedule
    target : FpgaTarget

    Returns
    -------
    ClockBand or None
        None where the hardware model has no timing of its fabric.
    """
    if target.timing is None:
        return None
    way = longest_way(schedule, rtl.Family(target.fabric), target.timing)
    period = target.timing.register_s.value + way.seconds
    return ClockBand(
        low_hz=1 / (period * target.timing.slower.value),
        high_hz=1 / (period * target.timing.faster.value),
        through=way.through,
    )


def longest_way(schedule: StreamSchedule, family: rtl.Family, timing: FabricTiming) -> Way:
    """The way between two registers of a design that takes longest, the registers themselves not counted."""
    design = _Design(schedule, family, timing)
    ways = [way for position in range(len(schedule.instances)) for way in design.complete(position)]
    return max(ways, key=lambda way: way.seconds)


class _Design:
    """A design as a graph of ends; every way is found once."""

    def __init__(self, schedule: StreamSchedule, family: rtl.Family, timing: FabricTiming) -> None:
        self.instances, self.timing, self.family = schedule.instances, timing, family
        self.sources: dict[int, list[int]] = defaultdict(list)
        self.sinks: dict[int, list[int]] = defaultdict(list)
        for link in schedule.links:
            if link.sink != OUTPUT:
                self.sources[link.sink].append(link.source)
                self.sinks[link.source].append(link.sink)
        self.paths = [instance.module.paths(instance.parameters, family) for instance in schedule.instances]
        self.known: dict[tuple[int, End], Way | None] = {}

    def complete(self, position: int) -> Iterator[Way]:
        """The longest ways that end in registers of an instance or of its memories."""
        way = self.leaving(position, End.REGISTER)
        if way is not None:
            yield way
        way = self.leaving(position, End.ADDRESS)
        if way is not None:
            for rom in _memories(self.instances[position]):
                yield Way(way.seconds + self.within(rom, End.INPUT, End.REGISTER), way.through)

    def leaving(self, position: int, end: End) -> Way | None:
        """The longest way to an end of an instance; None where none leads there from a register."""
        if (position, end) not in self.known:
            found = None
            for path in self.paths[position]:
                if path.end is end:
                    before = self.arriving(position, path.start)
                    if before is not None:
                        seconds = before.seconds + path_seconds(path.depth, self.timing)
                        if found is None or seconds > found.seconds:
                            found = Way(seconds, (*before.through, self.instances[position].name))
            self.known[position, end] = found
        return self.known[position, end]

    def arriving(self, position: int, start: End) -> Way | None:
        """The longest way to where paths of an instance start; None where it starts outside the design."""
        match start:
            case End.REGISTER:
                return Way(0.0, ())
            case End.INPUT:
                ways = [self.leaving(source, End.OUTPUT) for source in self.sources[position]]
            case End.READY_IN:
                ways = [self.leaving(sink, End.READY_OUT) for sink in self.sinks[position]]
            case _:
                ways = [Way(self.within(rom, End.REGISTER, End.OUTPUT), ()) for rom in _memories(self.instances[position])]
        return max((way for way in ways if way is not None), key=lambda way: way.seconds, default=None)

    def within(self, rom: rtl.Rom, start: End, end: End) -> float:
        """Seconds from one end of a memory to another."""
        paths = rtl.MODULES["rom"].paths(rom, self.family)
        return max(path_seconds(path.depth, self.timing) for path in paths if (path.start, path.end) == (start, end))


def _memories(instance: Instance) -> list[rtl.Rom]:
    """The first slice of each memory: all have the same depth, and none is wider."""
    slices = [(memory.depth, rtl.rom_slices(memory.width, memory.depth)[0]) for memory in instance.memories]
    return [rtl.Rom(part.width, depth, "", part.style) for depth, part in slices]
