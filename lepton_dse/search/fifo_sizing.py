"""The least FIFO depths and window rows with which a streaming design keeps the pace that unlimited ones would allow.

A design is simulated with FIFOs that never fill and a source that offers a frame no faster than the pace: the most words that
wait anywhere are depths with which the pace is kept, since a source that offers earlier only makes every step earlier. From
there each depth is made as small as it can be while the others stay: to the word, so that one less anywhere slows the design
or stops it for good, or nearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lepton_dse.schedule.stream import Folding, Layer, StreamGraph, StreamSchedule, stream_schedule
from lepton_dse.schedule.stream.layers import WindowedLayer
from lepton_dse.sim.event_graph import Deadlock, Network, Times, simulate
from lepton_dse.sim.stream import FRAMES, cycles_by_stage, network_of, run_stream

__all__ = ["MOST_DEPTH", "Design", "deepened", "design_of", "least_depths", "size_fifos", "sized"]

MOST_DEPTH = 16384
"""Words of the deepest FIFO that is planned for: what one block memory can address in every family."""
_LEAST_DEPTH = 2  # a FIFO of one word passes a beat every other cycle
_BANK = 16  # words of the smallest memory in look-up tables: ecp5's; fewer words take no less of any family


@dataclass(frozen=True)
class Design:
    """A schedule and its simulation, which is costly enough to be done once."""

    schedule: StreamSchedule
    times: Times | Deadlock

    @property
    def interval(self) -> float:
        """Cycles between frames; without end where the design stops."""
        return self.times.interval_cycles if isinstance(self.times, Times) else np.inf

    @property
    def latency(self) -> float:
        """Cycles of the first frame; without end where the design stops."""
        return self.times.latency_cycles if isinstance(self.times, Times) else np.inf


def design_of(streams: StreamGraph, foldings: Sequence[Folding], frames: int = FRAMES) -> Design:
    """The design of some foldings, simulated."""
    schedule = stream_schedule(streams, foldings)
    return Design(schedule, run_stream(schedule, frames))


def deepened(streams: StreamGraph, foldings: Sequence[Folding]) -> list[Folding]:
    """Foldings with FIFOs that never fill."""
    return [_with_depth(streams, position, folding, MOST_DEPTH) for position, folding in enumerate(foldings)]


def size_fifos(streams: StreamGraph, foldings: Sequence[Folding]) -> StreamSchedule:
    """The schedule of some foldings with the least FIFOs, to the word; see :func:`sized`."""
    return sized(streams, foldings, exact=True).schedule


def sized(streams: StreamGraph, foldings: Sequence[Folding], *, exact: bool = False) -> Design:
    """The design of some foldings with the least FIFO depths, and window rows, that keep its pace.

    Windows get the rows of one stride as slack, and whole frames where that is what holds back the pace.

    Parameters
    ----------
    streams : StreamGraph
    foldings : sequence of Folding
        Their own depths do not count.
    exact : bool
        As of :func:`least_depths`.

    Returns
    -------
    Design
        Of the deepest FIFOs that there are where even these stop it.
    """
    least = [_with_depth(streams, position, folding, _LEAST_DEPTH) for position, folding in enumerate(foldings)]
    design = design_of(streams, least)
    pace = max(cycles_by_stage(design.schedule))
    if design.interval > pace:
        least, design = _enough(streams, foldings, pace)
    if isinstance(design.times, Deadlock):
        return design
    chosen, design = least_depths(streams, least, design, exact=exact)
    for position, original in enumerate(foldings):
        while (trial := _narrower(chosen[position], original)) is not None:
            candidate = design_of(streams, [*chosen[:position], trial, *chosen[position + 1 :]])
            if candidate.interval > design.interval:
                break
            chosen, design = [*chosen[:position], trial, *chosen[position + 1 :]], candidate
    return design


def _enough(streams: StreamGraph, foldings: Sequence[Folding], pace: int) -> tuple[list[Folding], Design]:
    """Foldings with depths that keep the least interval that there is."""
    deep = deepened(streams, foldings)
    design = design_of(streams, deep)
    if design.interval > pace:
        roomy = [_with_frame(layer, folding) for layer, folding in zip(streams.layers, deep, strict=True)]
        wider = design_of(streams, roomy)
        if wider.interval < design.interval:
            deep, design = roomy, wider
    if isinstance(design.times, Deadlock):
        return deep, design
    target = design.interval
    found = _waiting(streams, deep, int(target))
    design = design_of(streams, found)
    while design.interval > target:
        found = [_scaled(folding) for folding in found]
        design = design_of(streams, found)
    return found, design


def _waiting(streams: StreamGraph, deep: Sequence[Folding], interval: int) -> list[Folding]:
    """Foldings whose depths are the most words that wait in each FIFO when frames are offered every `interval` cycles."""
    schedule = stream_schedule(streams, deep)
    network = network_of(schedule)
    beats = schedule.input_beats
    trace = np.zeros(interval, np.bool_)
    trace[np.arange(beats) * interval // beats] = True
    times = simulate(network, FRAMES, trace)
    assert isinstance(times, Times), "FIFOs that never fill stop nothing"
    most = _most_waiting(network, times)
    depths = iter(most)
    found = []
    next(depths)  # the FIFO at the input stands as it is
    for folding in deep:
        feeds = tuple(min(max(next(depths) + 1, _LEAST_DEPTH), MOST_DEPTH) if depth else 0 for depth in folding.feed_depths)
        depth = min(max(next(depths) + 1, _LEAST_DEPTH), MOST_DEPTH)
        found.append(replace(folding, fifo_depth=depth, feed_depths=feeds))
    return found


def _most_waiting(network: Network, times: Times) -> list[int]:
    """For each FIFO in order the most words that it holds at once."""
    found = []
    of_writer = {edge.producer: edge.consumer for edge in network.edges if network.processes[edge.producer].name == _WRITER}
    of_fifo = {edge.producer: edge for edge in network.edges if network.processes[edge.producer].name == _FIFO}
    for position, process in enumerate(network.processes):
        if process.name == _WRITER:
            written, read = times.cycles[position], times.cycles[of_writer[position]]
        elif process.name == _FIFO:
            edge = of_fifo[position]
            written, read = times.cycles[position], times.cycles[edge.consumer][np.tile(edge.need >= 0, times.frames)]
        else:
            continue
        # The place of word k is free a cycle after it left; what has been written by then waits, but for the k before it.
        found.append(int((np.searchsorted(written, read, side="right") - np.arange(len(read))).max()))
    return found


_WRITER, _FIFO = "stream_fifo.writer", "stream_fifo"


def least_depths(
    streams: StreamGraph, foldings: Sequence[Folding], design: Design, *, exact: bool = True
) -> tuple[list[Folding], Design]:
    """Each FIFO as shallow as it can be while the others stay and the interval does not grow, the deepest first.

    Parameters
    ----------
    streams : StreamGraph
    foldings : sequence of Folding
    design : Design
        Of these foldings.
    exact : bool
        To the word; else deep FIFOs to a sixteenth of their depth, and those that one bank of look-up tables holds in every
        family stay as they are, since fewer words cost no less: a fraction of the simulations.

    Returns
    -------
    list of Folding
    Design
        Of the foldings returned.
    """
    chosen, best = list(foldings), design
    before: list[Folding] = []
    # Intervals of a few frames are not quite monotone in the depths of other FIFOs: what shrank later is tried once more.
    while chosen != before:
        before = chosen
        for place in sorted(_places(chosen), key=lambda place: -place.depth(before)):
            least = _LEAST_DEPTH if place.operand is None else 0
            low, high = least - 1, place.depth(chosen)
            if not exact and high <= _BANK:
                continue
            trial = high - 1 if exact else (low + high) // 2
            while high - low > (1 if exact else max(1, high // 16)) and (exact or high > _BANK):
                candidate = design_of(streams, place.at(chosen, trial))
                if candidate.interval <= best.interval:
                    high, chosen, best = trial, place.at(chosen, trial), candidate
                else:
                    low = trial
                trial = least if low < least and high <= 2 * _LEAST_DEPTH else (low + high) // 2
        if not exact:
            break
    return chosen, best


@dataclass(frozen=True)
class _Place:
    """A FIFO: behind a stage, or in front of an operand."""

    position: int
    operand: int | None

    def depth(self, foldings: Sequence[Folding]) -> int:
        folding = foldings[self.position]
        return folding.fifo_depth if self.operand is None else folding.feed_depth(self.operand)

    def at(self, foldings: Sequence[Folding], depth: int) -> list[Folding]:
        """The foldings with this FIFO at a depth."""
        folding = foldings[self.position]
        if self.operand is None:
            changed = replace(folding, fifo_depth=depth)
        else:
            feeds = list(folding.feed_depths)
            feeds[self.operand] = depth
            changed = replace(folding, feed_depths=tuple(feeds) if any(feeds) else ())
        return [*foldings[: self.position], changed, *foldings[self.position + 1 :]]


def _places(foldings: Sequence[Folding]) -> list[_Place]:
    found = []
    for position, folding in enumerate(foldings):
        found.append(_Place(position, None))
        found += [_Place(position, operand) for operand, depth in enumerate(folding.feed_depths) if depth]
    return found


def _with_depth(streams: StreamGraph, position: int, folding: Folding, depth: int) -> Folding:
    """A folding with every FIFO of a depth: that behind the stage, and those of operands that others take too."""
    operands = range(len(streams.sources[position]))
    feeds = tuple(depth if streams.forked(position, operand) else 0 for operand in operands)
    return replace(folding, fifo_depth=depth, feed_depths=feeds if any(feeds) else ())


def _scaled(folding: Folding) -> Folding:
    """A folding with every FIFO twice as deep."""
    feeds = tuple(min(2 * depth, MOST_DEPTH) for depth in folding.feed_depths)
    return replace(folding, fifo_depth=min(2 * folding.fifo_depth, MOST_DEPTH), feed_depths=feeds)


def _with_frame(layer: Layer, folding: Folding) -> Folding:
    """A folding whose sliding window, if there is one, holds a frame beyond its own rows."""
    return replace(folding, buffer_rows=layer.extent[0]) if isinstance(layer, WindowedLayer) else folding


def _narrower(folding: Folding, original: Folding) -> Folding | None:
    """Half the rows that a window was given beyond the original ones, and at last those; None where it was given none."""
    if folding.buffer_rows is None or folding.buffer_rows == original.buffer_rows:
        return None
    half = folding.buffer_rows // 2
    return replace(folding, buffer_rows=half if half > (original.buffer_rows or 0) else original.buffer_rows)
