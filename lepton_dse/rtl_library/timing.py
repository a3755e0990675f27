"""How a module of ``rtl/`` behaves in time, as data.

A module is a small *timed event graph*: processes that fire their steps in a fixed order, at most one a cycle, and
edges that make a step wait for a step of another process. Which step waits for which never depends on the data, so the
cycle of every beat follows from the tables alone (:mod:`lepton_dse.sim.event_graph` computes it).

Symbols: ``t_p[j]`` is the cycle in which step j of process p fires. A table is given for one period of the process; the
index of a later period is the tabled index plus the number of periods times the length of the other process's period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lepton_dse.errors import LeptonError

__all__ = ["NONE", "BoolArray", "Channel", "Edge", "IntArray", "ModuleTiming", "Process", "beat_tables", "single"]

BoolArray: TypeAlias = npt.NDArray[np.bool_]
IntArray: TypeAlias = npt.NDArray[np.int64]

NONE = int(np.iinfo(np.int64).min)
"""The entry of a ``release`` table that constrains nothing (smaller indices than 0 mean an earlier period)."""


@dataclass(frozen=True, eq=False)
class Process:
    """Steps that fire in order, at most one a cycle, repeated for ever.

    Parameters
    ----------
    name : str
        Names the process in reports of deadlock.
    consume : numpy.ndarray of bool, shape (steps,)
        Whether step j takes one beat from the module's input stream.
    produce : numpy.ndarray of bool, shape (steps,)
        Whether step j emits one beat on the module's output stream.
    """

    name: str
    consume: BoolArray
    produce: BoolArray

    @property
    def steps(self) -> int:
        """The number of steps in one period."""
        return len(self.consume)


@dataclass(frozen=True, eq=False)
class Edge:
    """Precedence between two processes of one network: data forwards, free space backwards.

    ``t_consumer[j] >= t_producer[need[j]] + forward`` and ``t_producer[i] >= t_consumer[release[i]] + backward``.

    Parameters
    ----------
    producer, consumer : int
        Positions of the two processes in the list that the edge belongs to.
    need : numpy.ndarray of int64, shape (steps of the consumer,)
        The producer's step that step j waits for; negative for none.
    forward : int
        Cycles from that step until step j may fire.
    release : numpy.ndarray of int64, shape (steps of the producer,)
        The consumer's step that must have fired before step i; negative for a step of an earlier period, ``NONE`` for
        no constraint at all.
    backward : int
        Cycles from that step until step i may fire.
    """

    producer: int
    consumer: int
    need: IntArray
    forward: int
    release: IntArray
    backward: int


@dataclass(frozen=True)
class Channel:
    """What stands between the step that emits a beat and the step that takes it.

    Beat k: ``t_take[k] >= t_emit[k] + forward`` and ``t_emit[k] >= t_take[k - capacity] + backward``.

    Parameters
    ----------
    forward : int
        Cycles until an emitted beat can be taken.
    capacity : int
        Beats it holds.
    backward : int
        Cycles until the place of a taken beat can be filled: 0 where ready looks through (elastic registers), 1 where
        ready is registered.
    """

    forward: int
    capacity: int
    backward: int

    @classmethod
    def pipe(cls, registers: int) -> Channel:
        """Return the channel made of elastic registers, each ready when empty or being emptied."""
        return cls(registers, registers, 0)

    @classmethod
    def fifo(cls, depth: int) -> Channel:
        """Return the channel of a FIFO whose ready and valid come from its registered count."""
        return cls(1, depth, 1)


@dataclass(frozen=True, eq=False)
class ModuleTiming:
    """The timed event graph of one module.

    Parameters
    ----------
    processes : tuple of Process
        The module's processes.
    edges : tuple of Edge
        Edges between them; positions refer to ``processes``.
    input_process, output_process : int
        The process whose consuming steps take the input beats, and the one whose producing steps emit the output beats.
    output : Channel
        The registers between an emitting step and the module's output port.
    further : tuple of numpy.ndarray of bool, each of shape (steps of the input process,)
        For each input stream beyond the first, whether step j of the input process takes one beat from it.
    """

    processes: tuple[Process, ...]
    edges: tuple[Edge, ...]
    input_process: int
    output_process: int
    output: Channel
    further: tuple[BoolArray, ...] = ()

    @property
    def taking(self) -> tuple[BoolArray, ...]:
        """For each input stream, whether step j of the input process takes one beat from it."""
        return (self.processes[self.input_process].consume, *self.further)

    @property
    def input_beats(self) -> int:
        """Beats taken in one period."""
        return int(np.count_nonzero(self.processes[self.input_process].consume))

    @property
    def output_beats(self) -> int:
        """Beats emitted in one period."""
        return int(np.count_nonzero(self.processes[self.output_process].produce))

    def repeated(self, times: int) -> ModuleTiming:
        """Return the same behaviour with ``times`` periods written as one.

        A matrix-vector unit's period is one vector; a frame is as many vectors as an image has pixels.

        Parameters
        ----------
        times : int
            At least 1.

        Returns
        -------
        ModuleTiming
            Processes of ``times`` as many steps.

        Raises
        ------
        LeptonError
            If ``times`` is less than 1.
        """
        if times < 1:
            raise LeptonError(f"a module's period cannot be repeated {times} times", fix="repeat it at least once")
        if times == 1:
            return self
        processes = tuple(
            Process(process.name, np.tile(process.consume, times), np.tile(process.produce, times)) for process in self.processes
        )
        edges = tuple(
            Edge(
                edge.producer,
                edge.consumer,
                _tile(edge.need, times, self.processes[edge.producer].steps, edge.need >= 0),
                edge.forward,
                _tile(edge.release, times, self.processes[edge.consumer].steps, edge.release != NONE),
                edge.backward,
            )
            for edge in self.edges
        )
        further = tuple(np.tile(taken, times) for taken in self.further)
        return ModuleTiming(processes, edges, self.input_process, self.output_process, self.output, further)


def _tile(table: IntArray, times: int, stride: int, bound: BoolArray) -> IntArray:
    shifted = table[None, :] + np.where(bound[None, :], np.arange(times, dtype=np.int64)[:, None] * stride, 0)
    return np.ascontiguousarray(shifted.reshape(-1))


def beat_tables(producer: Process, consumer: Process, taken: BoolArray, capacity: int) -> tuple[IntArray, IntArray]:
    """Pair the k-th emitted beat with the k-th taken one.

    Parameters
    ----------
    producer, consumer : Process
        They must emit and take equally many beats in a period.
    taken : numpy.ndarray of bool, shape (consumer.steps,)
        Whether step j of the consumer takes one of these beats.
    capacity : int
        Beats between them; the emission of beat k waits for the taking of beat k - capacity.

    Returns
    -------
    need : numpy.ndarray of int64, shape (consumer.steps,)
        As in :class:`Edge`.
    release : numpy.ndarray of int64, shape (producer.steps,)
        As in :class:`Edge`.

    Raises
    ------
    LeptonError
        If the numbers of beats differ.
    """
    emits = np.flatnonzero(producer.produce)
    takes = np.flatnonzero(taken)
    if len(emits) != len(takes) or len(emits) == 0:
        raise LeptonError(
            f"{producer.name} emits {len(emits)} beats a frame but {consumer.name} takes {len(takes)}",
            fix="give both the same number of beats a frame, at least one",
        )
    need = np.full(consumer.steps, -1, dtype=np.int64)
    need[takes] = emits
    release = np.full(producer.steps, NONE, dtype=np.int64)
    period, beat = np.divmod(np.arange(len(takes), dtype=np.int64) - capacity, len(takes))
    release[emits] = takes[beat] + period * consumer.steps
    return need, release


def single(name: str, consume: npt.ArrayLike, produce: npt.ArrayLike, output: Channel) -> ModuleTiming:
    """Return the timing of a module that is one process.

    Parameters
    ----------
    name : str
        The process's name.
    consume, produce : array of bool, shape (steps,)
        As in :class:`Process`.
    output : Channel
        As in :class:`ModuleTiming`.
    """
    process = Process(name, np.asarray(consume, dtype=np.bool_), np.asarray(produce, dtype=np.bool_))
    return ModuleTiming((process,), (), 0, 0, output)
