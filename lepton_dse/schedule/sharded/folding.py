"""Steps that repeat, as loops: the blocks of a deep network are alike but for their weights.

A loop is a run of consecutive steps, `count` rounds of one length. Step k of every round is the same operation on tensors of the
same shapes, formats and layouts, and each of its operands is one of

=======  ============================================================================================================
own      made by step j of the same round
carried  made by step j of the round before, and by what stands before the loop in the first round
stacked  a constant of each round, which nothing else reads: all of them are one tensor with a new first axis
fixed    the same in every round, made before the loop
=======  ============================================================================================================

Behind a loop nothing of it is read but what its last round would carry on. What an operation takes from the scale of a tensor
(Quantize, Dequantize) is an attribute: rounds whose scales differ are not alike.

Of all loops the one that leaves out most steps is taken, of equal ones that which carries least, and then those of the steps
before it and behind it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lepton_dse.ir import ops
from lepton_dse.schedule.sharded.program import Compute, ShardedProgram, Step, operands_of, result_of

__all__ = ["Carried", "Fixed", "FoldedProgram", "Loop", "Own", "Source", "Stacked", "fold"]

_ROUNDS = 4  # fewer are written out
_SAVED = 16  # steps that a loop must leave out at least


@dataclass(frozen=True)
class Own:
    """The result of a step of the same round."""

    step: int


@dataclass(frozen=True)
class Carried:
    """An entry of :attr:`Loop.carried`."""

    position: int


@dataclass(frozen=True)
class Stacked:
    """The round's own part of an entry of :attr:`Loop.stacked`."""

    position: int


@dataclass(frozen=True)
class Fixed:
    """A shard that was there before the loop."""

    shard: str


T = TypeVar("T")
Source = Own | Carried | Stacked | Fixed


@dataclass(frozen=True)
class Loop:
    """Rounds of steps.

    Parameters
    ----------
    rounds : tuple of tuple of Step
        The steps of every round, as they stand in the program.
    sources : tuple of tuple of Source
        Where the operands of each step of a round come from.
    carried : tuple of (str, int)
        What goes from round to round: a shard for the first one, and the step whose result the next one reads.
    stacked : tuple of tuple of str
        Shards of constants, one for each round.
    """

    rounds: tuple[tuple[Step, ...], ...]
    sources: tuple[tuple[Source, ...], ...]
    carried: tuple[tuple[str, int], ...]
    stacked: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        """Number of rounds."""
        return len(self.rounds)

    @property
    def body(self) -> tuple[Step, ...]:
        """The steps of the first round."""
        return self.rounds[0]

    def operands(self, step: int, made: Sequence[T], carried: Sequence[T], parts: Sequence[T], fixed: Mapping[str, T]) -> list[T]:
        """What a step of a round reads.

        Parameters
        ----------
        step : int
        made : sequence
            What the steps of the round before it gave.
        carried, parts : sequence
            What :attr:`carried` and :attr:`stacked` are in this round.
        fixed : mapping of str
            What was there before the loop, by shard.
        """
        found = []
        for source in self.sources[step]:
            match source:
                case Own(place):
                    found.append(made[place])
                case Carried(position):
                    found.append(carried[position])
                case Stacked(position):
                    found.append(parts[position])
                case Fixed(shard):
                    found.append(fixed[shard])
        return found

    def results(self, step: int) -> tuple[str, ...]:
        """What a step gives, round by round."""
        return tuple(result_of(steps[step]) for steps in self.rounds)


@dataclass(frozen=True)
class FoldedProgram:
    """A sharded program whose repeated steps are loops.

    Parameters
    ----------
    program : ShardedProgram
    parts : tuple of Step or Loop
        In order.
    """

    program: ShardedProgram
    parts: tuple[Step | Loop, ...]

    @property
    def loops(self) -> tuple[Loop, ...]:
        """The loops in order."""
        return tuple(part for part in self.parts if isinstance(part, Loop))


def fold(program: ShardedProgram) -> FoldedProgram:
    """A program with its repeated steps as loops.

    Parameters
    ----------
    program : ShardedProgram
    """
    finder = _Finder(program)

    def parts(begin: int, end: int) -> list[Step | Loop]:
        found = finder.best(begin, end)
        if found is None:
            return list(program.steps[begin:end])
        first, loop = found
        return [*parts(begin, first), loop, *parts(first + loop.count * len(loop.body), end)]

    return FoldedProgram(program, tuple(parts(0, len(program.steps))))


class _Finder:
    """The loops among the steps of a program."""

    def __init__(self, program: ShardedProgram) -> None:
        self._program = program
        self._steps = program.steps
        self._made = {result_of(step): position for position, step in enumerate(self._steps)}
        self._readers: dict[str, list[int]] = {}
        for position, step in enumerate(self._steps):
            for name in operands_of(step):
                self._readers.setdefault(name, []).append(position)
        for name in program.outputs.values():
            self._readers.setdefault(name, []).append(len(self._steps))
        numbers: dict[object, int] = {}
        self._kinds = np.array([numbers.setdefault(self._likeness(step), len(numbers)) for step in self._steps], np.int64)

    def _likeness(self, step: Step) -> object:
        """What two steps share that differ in names alone."""
        operands = [self._program.shards[name] for name in operands_of(step)]
        result = self._program.shards[result_of(step)]
        forms = tuple((shard.tensor.shape, shard.tensor.format, shard.layout) for shard in (*operands, result))
        if not isinstance(step, Compute):
            return dataclasses.replace(step, source="", result=""), forms
        scale = None
        if isinstance(step.op.attributes, ops.Quantize | ops.Dequantize):
            scale = (result if isinstance(step.op.attributes, ops.Quantize) else operands[0]).tensor.quant
        return step.op.attributes, scale, forms

    def best(self, begin: int, end: int) -> tuple[int, Loop] | None:
        """The first step and the loop that leaves out most of some steps."""
        best: tuple[tuple[int, int, int], Loop] | None = None
        for saved, period, first, length in sorted(self._runs(begin, end), key=lambda run: (-run[0], run[1:])):
            if best is not None and saved <= -best[0][0]:
                break
            for start in range(first, first + length):
                rounds = (first + length - start) // period + 1
                if rounds < _ROUNDS or (best is not None and period * (rounds - 1) < -best[0][0]):
                    break
                loop = self._loop(start, period, rounds)
                if loop is None or period * (loop.count - 1) < _SAVED:
                    continue
                rank = (-period * (loop.count - 1), len(loop.carried), start)
                if best is None or rank < best[0]:
                    best = rank, loop
        return None if best is None else (best[0][2], best[1])

    def _runs(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Steps saved at most, period, first step, and how many steps are like the one a period later, of every such run."""
        for period in range(1, (end - begin) // _ROUNDS + 1):
            same = self._kinds[begin : end - period] == self._kinds[begin + period : end]
            edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
            for first, last in edges.reshape(-1, 2).tolist():
                rounds = (last - first) // period
                if rounds >= _ROUNDS - 1:
                    yield period * rounds, period, begin + first, last - first

    def _loop(self, first: int, period: int, rounds: int) -> Loop | None:
        """The longest loop of that period from there on, of at most so many rounds."""
        if self._columns(first, period, _ROUNDS) is None:
            return None
        columns = self._columns(first, period, rounds)
        assert columns is not None  # the first rounds are alike
        operands = [column for row in columns for column in row]
        rounds = min(rounds, *map(len, operands))
        made = [self._place(names[1], first) for names in operands]
        for names, at in zip(operands, made, strict=True):
            if at is None and names[0] != names[1]:
                shared = (turn for turn in range(rounds) if not self._own(names[turn], first + turn * period, period))
                rounds = next(shared, rounds)
        going = {at for at in made if at is not None and at < period}
        last = [[self._last(first + turn * period + place, first, period) for place in range(period)] for turn in range(rounds)]
        earlier = list(itertools.accumulate(map(max, last), max, initial=-1))
        for count in range(rounds, _ROUNDS - 1, -1):
            lost = max((turn for place, turn in enumerate(last[count - 1]) if place not in going), default=-1)
            loop = self._built(first, period, count, columns) if max(earlier[count - 1], lost) < count else None
            if loop is not None:
                return loop
        return None

    def _columns(self, first: int, period: int, rounds: int) -> list[list[tuple[str, ...]]] | None:
        """The operands of each step of a round, round by round as long as they come from the same place; None for too few."""
        found = []
        for place in range(first, first + period):
            steps = [operands_of(self._steps[place + turn * period]) for turn in range(rounds)]
            found.append([names[: self._alike(names, first, period)] for names in zip(*steps, strict=True)])
            if any(len(names) < _ROUNDS for names in found[-1]):
                return None
        return found

    def _own(self, name: str, begin: int, period: int) -> bool:
        """Whether a constant is read in one round alone."""
        return all(begin <= reader < begin + period for reader in self._readers[name])

    def _last(self, step: int, first: int, period: int) -> int:
        """The round in which a step's result is last read."""
        return (self._readers[result_of(self._steps[step])][-1] - first) // period

    def _alike(self, names: Sequence[str], first: int, period: int) -> int:
        """For how many rounds an operand comes from the same place."""
        places, constants = [self._place(name, first) for name in names], self._program.constants
        second = places[1]

        def holds(turn: int) -> bool:
            if second is None:
                return names[turn] == names[0] or (names[0] != names[1] and names[0] in constants and names[turn] in constants)
            if turn == 0 and second < period:
                return places[0] is None
            return places[turn] == second + (turn - 1) * period

        return next((turn for turn in range(len(names)) if not holds(turn)), len(names))

    def _place(self, name: str, first: int) -> int | None:
        """How far behind the first step of a loop a shard is made; None for what was there before."""
        at = self._made.get(name, -1)
        return at - first if at >= first else None

    def _built(self, first: int, period: int, count: int, columns: Sequence[Sequence[tuple[str, ...]]]) -> Loop | None:
        carried: dict[tuple[str, int], int] = {}
        stacked: dict[tuple[str, ...], int] = {}

        def source(column: tuple[str, ...]) -> Source:
            names = column[:count]
            at = self._place(names[1], first)
            if at is None:
                return Fixed(names[0]) if names[0] == names[1] else Stacked(stacked.setdefault(names, len(stacked)))
            if at >= period:
                return Own(at - period)
            return Carried(carried.setdefault((names[0], at), len(carried)))

        sources = tuple(tuple(source(column) for column in row) for row in columns)
        names = [name for column in stacked for name in column]
        if len(set(names)) < len(names) or not set(names).isdisjoint(shard for shard, _ in carried):
            return None
        rounds = tuple(self._steps[first + turn * period : first + (turn + 1) * period] for turn in range(count))
        return Loop(rounds, sources, tuple(carried), tuple(stacked))
