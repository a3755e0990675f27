"""The cycle of every beat of a streaming design, from its timed event graph.

Every module of ``rtl/`` declares processes and edges (:mod:`lepton_dse.rtl_library`). Joined into a :class:`Network`
they give one max-plus recurrence, in which cycle c is the interval that ends at clock edge c, cycle 0 the first after
reset, and a transfer happens in cycle c when valid and ready are both high at that edge::

    t_p[j] = max( t_p[j-1] + 1,
                  t_q[need[j]] + forward      over the edges q -> p,
                  t_c[release[j]] + backward  over the edges p -> c )

A source that follows a stall trace offers beat k in the first cycle after the taking of beat k - 1 whose bit is 1 and
holds it; a sink is ready in exactly the cycles whose bit is 1. Traces repeat cyclically. Nothing that a simulator or a
device shows enters the recurrence, so its result is a prediction.

A cycle of waiting processes is a :class:`Deadlock`: a value, found before anything is emitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lepton_dse.errors import LeptonError
from lepton_dse.jit import kernel
from lepton_dse.rtl_library.timing import (
    NONE,
    BoolArray,
    Channel,
    Edge,
    IntArray,
    ModuleTiming,
    Process,
    beat_tables,
)

__all__ = ["Deadlock", "Network", "NetworkBuilder", "Placed", "Times", "Wait", "chain", "simulate"]

Trace: TypeAlias = npt.ArrayLike


@dataclass(frozen=True, eq=False)
class Network:
    """Processes and edges of a whole design.

    Parameters
    ----------
    processes : tuple of Process
        All processes; a frame is one period of each.
    edges : tuple of Edge
        Positions refer to ``processes``.
    source : int
        The process whose consuming steps take the design's input beats.
    sink : int
        The process whose every step is one transfer at the design's output.
    """

    processes: tuple[Process, ...]
    edges: tuple[Edge, ...]
    source: int
    sink: int


@dataclass(frozen=True)
class Placed:
    """A module's place in a network under construction.

    Parameters
    ----------
    input_process, output_process : int
        Positions in the network's list of processes.
    output : Channel
        The module's output registers.
    taking : tuple of numpy.ndarray of bool
        For each input stream, the steps of the input process that take a beat from it.
    """

    input_process: int
    output_process: int
    output: Channel
    taking: tuple[BoolArray, ...]


class NetworkBuilder:
    """Collects modules and connections; forks and joins are several connections of one module.

    A join takes a beat of each input in the same step (lazy). A fork offers a beat to every consumer at once and frees
    its register when the last has taken it (eager); it must leave from a single register, since only then do the two
    edges say all there is to say: with more, a slow consumer would also hold back the others through the last one.
    """

    def __init__(self) -> None:
        self._processes: list[Process] = []
        self._edges: list[Edge] = []
        self._consumers: dict[int, int] = {}

    def add(self, timing: ModuleTiming) -> Placed:
        """Place a module; its tables must cover one frame (:meth:`ModuleTiming.repeated`).

        Parameters
        ----------
        timing : ModuleTiming
            What the module's declaration gives.
        """
        base = len(self._processes)
        self._processes += timing.processes
        self._edges += [
            Edge(e.producer + base, e.consumer + base, e.need, e.forward, e.release, e.backward) for e in timing.edges
        ]
        return Placed(base + timing.input_process, base + timing.output_process, timing.output, timing.taking)

    def connect(self, producer: Placed, consumer: Placed, stream: int = 0) -> None:
        """Lead a module's output to another's input.

        Parameters
        ----------
        producer, consumer : Placed
            What :meth:`add` returned.
        stream : int
            Which of the consumer's input streams.

        Raises
        ------
        LeptonError
            If the beats of a frame differ, or if a fork leaves from more than one register.
        """
        position = producer.output_process
        self._consumers[position] = self._consumers.get(position, 0) + 1
        if self._consumers[position] > 1 and producer.output != Channel.pipe(1):
            raise LeptonError(
                f"the output of {self._processes[position].name} forks behind {producer.output}",
                fix="put a stream_register between it and the fork",
            )
        need, release = beat_tables(
            self._processes[position],
            self._processes[consumer.input_process],
            consumer.taking[stream],
            producer.output.capacity,
        )
        self._edges.append(
            Edge(position, consumer.input_process, need, producer.output.forward, release, producer.output.backward)
        )

    def finish(self, source: Placed, last: Placed) -> Network:
        """Attach a sink to the last module and return the network.

        Parameters
        ----------
        source : Placed
            The module that takes the design's input.
        last : Placed
            The module whose output is the design's.

        Returns
        -------
        Network
            Independent of this builder's later use.
        """
        beats = int(np.count_nonzero(self._processes[last.output_process].produce))
        always = np.ones(beats, dtype=np.bool_)
        sink = len(self._processes)
        self._processes.append(Process("sink", always, np.zeros(beats, dtype=np.bool_)))
        self.connect(last, Placed(sink, sink, Channel.pipe(1), (always,)))
        return Network(tuple(self._processes), tuple(self._edges), source.input_process, sink)


def chain(timings: Sequence[ModuleTiming], input_beats: int) -> Network:
    """Join modules one behind another, with a source before and a sink after them.

    Parameters
    ----------
    timings : sequence of ModuleTiming
        In the order of the stream. A module whose period is less than a frame is repeated to fill it.
    input_beats : int
        Beats of one frame at the input of the first module.

    Returns
    -------
    Network
        Its processes are those of the modules in order, then the sink.

    Raises
    ------
    LeptonError
        If there is no module, or the beats of a frame are not a whole number of a module's periods.
    """
    if not timings:
        raise LeptonError("a chain needs at least one module")
    builder = NetworkBuilder()
    placed: list[Placed] = []
    beats = input_beats
    for timing in timings:
        times, rest = divmod(beats, timing.input_beats)
        if rest or times < 1:
            raise LeptonError(
                f"{beats} beats a frame are not a whole number of periods of {timing.input_beats} beats",
                where=timing.processes[timing.input_process].name,
                fix="check the foldings of the modules before it",
            )
        frame = timing.repeated(times)
        placed.append(builder.add(frame))
        if len(placed) > 1:
            builder.connect(placed[-2], placed[-1])
        beats = frame.output_beats
    return builder.finish(placed[0], placed[-1])


@dataclass(frozen=True)
class Wait:
    """One process of a deadlock.

    Parameters
    ----------
    process : str
        The process that waits.
    frame, step : int
        What it cannot fire.
    on : str
        The process that it waits for.
    on_frame, on_step : int
        The step that would let it go on.
    """

    process: str
    frame: int
    step: int
    on: str
    on_frame: int
    on_step: int

    def __str__(self) -> str:
        return (
            f"{self.process} (frame {self.frame}, step {self.step}) waits for "
            f"{self.on} (frame {self.on_frame}, step {self.on_step})"
        )


@dataclass(frozen=True)
class Deadlock:
    """A state from which no process can advance.

    Parameters
    ----------
    waits : tuple of Wait
        Every process that is not done, in the order of the network.
    """

    waits: tuple[Wait, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.waits))


@dataclass(frozen=True, eq=False)
class Times:
    """The cycle of every step.

    Parameters
    ----------
    network : Network
        What was simulated.
    frames : int
        How many frames.
    cycles : tuple of numpy.ndarray of int64, shapes (frames * steps,)
        For each process, the cycle in which each step fires.
    """

    network: Network
    frames: int
    cycles: tuple[IntArray, ...]

    @property
    def input_cycles(self) -> IntArray:
        """The cycle in which each input beat is accepted, int64, shape (frames * input beats,)."""
        consume = np.tile(self.network.processes[self.network.source].consume, self.frames)
        return self.cycles[self.network.source][consume]

    @property
    def output_cycles(self) -> IntArray:
        """The cycle in which each output beat is transferred, int64, shape (frames * output beats,)."""
        return self.cycles[self.network.sink]

    @property
    def latency_cycles(self) -> int:
        """Cycle of frame 0's last output transfer minus that of its first input transfer, from an empty pipeline.

        The difference of two clock edges: a single elastic register has latency 1.
        """
        last = self.network.processes[self.network.sink].steps - 1
        return int(self.output_cycles[last] - self.input_cycles[0])

    @property
    def interval_cycles(self) -> int:
        """Cycles from the last output of the last frame but one to the last output of the last frame.

        Raises
        ------
        LeptonError
            If fewer than three frames were simulated: the first interval may still hold the filling of the pipeline.
        """
        if self.frames < 3:
            raise LeptonError(f"{self.frames} frames show no steady state", fix="simulate at least 3 frames")
        last = self.network.processes[self.network.sink].steps
        return int(self.output_cycles[-1] - self.output_cycles[-1 - last])


@kernel
def _advance(
    steps: IntArray,
    total: IntArray,
    first: IntArray,
    dependency_first: IntArray,
    dependency_on: IntArray,
    dependency_table: IntArray,
    dependency_delay: IntArray,
    tables: IntArray,
    dependent_first: IntArray,
    dependents: IntArray,
    source: int,
    source_consume: BoolArray,
    source_gap: IntArray,
    sink: int,
    sink_gap: IntArray,
    times: IntArray,
    done: IntArray,
    wait_on: IntArray,
    wait_for: IntArray,
) -> None:
    # Each process runs until it blocks; it then sleeps until the very step that it waits for has fired. A process is
    # in the ring of runnable ones at most once, so the ring needs no more places than there are processes.
    count = len(steps)
    none = np.iinfo(np.int64).min
    ring = np.arange(count)
    queued = np.ones(count, dtype=np.bool_)
    head, waiting = 0, count
    accepted = np.int64(-1)
    while waiting > 0:
        p = ring[head]
        head = head + 1 if head + 1 < count else 0
        waiting -= 1
        queued[p] = False
        wait_on[p] = -1
        begin, end = dependency_first[p], dependency_first[p + 1]
        base = first[p]
        i = done[p]
        started = i
        frame = i // steps[p]
        j = i - frame * steps[p]
        now = times[base + i - 1] if i > 0 else np.int64(-1)
        while i < total[p]:
            now += 1
            for d in range(begin, end):
                index = tables[dependency_table[d] + j]
                if index != none:
                    q = dependency_on[d]
                    index += frame * steps[q]
                    if index >= done[q]:
                        # Its own progress counts too: a process may wait for an earlier step of itself.
                        if q == p and index < i:
                            now = max(now, times[base + index] + dependency_delay[d])
                            continue
                        wait_on[p] = q
                        wait_for[p] = index
                        break
                    if index >= 0:
                        now = max(now, times[first[q] + index] + dependency_delay[d])
            if wait_on[p] >= 0:
                break
            if p == source and source_consume[j]:
                offered = accepted + 1
                offered += source_gap[offered % len(source_gap)]
                now = max(now, offered)
                accepted = now
            if p == sink:
                now += sink_gap[now % len(sink_gap)]
            times[base + i] = now
            i += 1
            j += 1
            if j == steps[p]:
                j = 0
                frame += 1
        done[p] = i
        if i > started:
            for d in range(dependent_first[p], dependent_first[p + 1]):
                c = dependents[d]
                if wait_on[c] == p and wait_for[c] < i and not queued[c]:
                    place = head + waiting
                    ring[place if place < count else place - count] = c
                    waiting += 1
                    queued[c] = True


def _gaps(trace: Trace | None, name: str) -> IntArray:
    """Return, for each phase of a trace, the cycles until its next 1."""
    bits = np.ones(1, dtype=np.bool_) if trace is None else np.asarray(trace).astype(np.bool_).reshape(-1)
    ones = np.flatnonzero(bits)
    if len(ones) == 0:
        raise LeptonError(f"the {name} trace never lets a beat pass", fix="give it at least one 1")
    phases = np.arange(len(bits), dtype=np.int64)
    following = np.append(ones, ones[0] + len(bits))
    return following[np.searchsorted(ones, phases)].astype(np.int64) - phases


def simulate(
    network: Network, frames: int, source_trace: Trace | None = None, sink_trace: Trace | None = None
) -> Times | Deadlock:
    """Compute the cycle of every step of every process.

    Parameters
    ----------
    network : Network
        From :func:`chain` or :class:`NetworkBuilder`.
    frames : int
        Frames fed back to back.
    source_trace, sink_trace : array of 0 and 1, optional
        One bit a cycle from cycle 0 on, repeated cyclically; without one, the source always offers and the sink is
        always ready.

    Returns
    -------
    Times or Deadlock
        The schedule, or the waits of a state in which nothing can advance.

    Raises
    ------
    LeptonError
        If ``frames`` is less than 1, a trace holds no 1, or an edge's table does not fit its process.
    """
    if frames < 1:
        raise LeptonError(f"cannot simulate {frames} frames", fix="simulate at least 1")
    processes = network.processes
    incoming: list[list[tuple[int, IntArray, int]]] = [[] for _ in processes]
    dependents: list[set[int]] = [set() for _ in processes]
    for edge in network.edges:
        producer, consumer = processes[edge.producer], processes[edge.consumer]
        if len(edge.need) != consumer.steps or len(edge.release) != producer.steps:
            raise LeptonError(
                f"the edge from {producer.name} to {consumer.name} has tables of {len(edge.need)} and "
                f"{len(edge.release)} entries for {consumer.steps} and {producer.steps} steps"
            )
        incoming[edge.consumer].append((edge.producer, np.where(edge.need < 0, NONE, edge.need), edge.forward))
        dependents[edge.producer].add(edge.consumer)
        if np.any(edge.release != NONE):
            incoming[edge.producer].append((edge.consumer, edge.release, edge.backward))
            dependents[edge.consumer].add(edge.producer)
    steps = np.array([p.steps for p in processes], dtype=np.int64)
    total = steps * frames
    first = np.concatenate([[0], np.cumsum(total)]).astype(np.int64)
    flat = [dependency for group in incoming for dependency in group]
    sizes = np.array([len(table) for _, table, _ in flat], dtype=np.int64)
    times = np.zeros(int(first[-1]), dtype=np.int64)
    done = np.zeros(len(processes), dtype=np.int64)
    wait_on = np.full(len(processes), -1, dtype=np.int64)
    wait_for = np.full(len(processes), -1, dtype=np.int64)
    _advance(
        steps,
        total,
        first,
        np.concatenate([[0], np.cumsum([len(group) for group in incoming])]).astype(np.int64),
        np.array([on for on, _, _ in flat], dtype=np.int64),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array([delay for _, _, delay in flat], dtype=np.int64),
        np.concatenate([table for _, table, _ in flat]).astype(np.int64),
        np.concatenate([[0], np.cumsum([len(group) for group in dependents])]).astype(np.int64),
        np.array([c for group in dependents for c in sorted(group)], dtype=np.int64),
        network.source,
        np.ascontiguousarray(processes[network.source].consume),
        _gaps(source_trace, "source"),
        network.sink,
        _gaps(sink_trace, "sink"),
        times,
        done,
        wait_on,
        wait_for,
    )
    if np.any(done < total):
        return Deadlock(
            tuple(
                Wait(
                    processes[p].name,
                    int(done[p] // steps[p]),
                    int(done[p] % steps[p]),
                    processes[wait_on[p]].name,
                    int(wait_for[p] // steps[wait_on[p]]),
                    int(wait_for[p] % steps[wait_on[p]]),
                )
                for p in np.flatnonzero(done < total)
            )
        )
    return Times(network, frames, tuple(times[first[p] : first[p + 1]] for p in range(len(processes))))
