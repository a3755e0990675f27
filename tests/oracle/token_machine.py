"""A naive machine that moves tokens through registers and counters, one clock cycle after another.

It is written from what the modules do, not from their timed event graphs: each stage keeps the state that its Verilog
keeps, answers whether it is ready from that state and from its successor's ready, and is clocked. Slow on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence

Trace = Sequence[int]


class Stage:
    """One module: a stream in, a stream out."""

    def valid(self) -> bool:
        """Whether a beat stands at the output; depends on the state alone."""
        raise AssertionError("each stage says so itself")

    def ready(self, downstream: bool) -> bool:
        """Whether a beat would be taken now."""
        raise AssertionError("each stage says so itself")

    def clock(self, offered: bool, downstream: bool) -> None:
        """Move to the next cycle."""
        raise AssertionError("each stage says so itself")


class Registers(Stage):
    """Elastic registers in a row; each moves on when the next is empty or moving on."""

    def __init__(self, count: int) -> None:
        self.full = [False] * count

    def valid(self) -> bool:
        return self.full[-1]

    def _free(self, downstream: bool) -> list[bool]:
        free = [False] * len(self.full)
        after = downstream
        for place in reversed(range(len(self.full))):
            free[place] = not self.full[place] or after
            after = free[place]
        return free

    def ready(self, downstream: bool) -> bool:
        return self._free(downstream)[0]

    def clock(self, offered: bool, downstream: bool) -> None:
        free = self._free(downstream)
        before = [offered, *self.full]
        self.full = [before[place] if free[place] else self.full[place] for place in range(len(self.full))]


class Fifo(Stage):
    """A FIFO that looks at its count alone."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.count = 0

    def valid(self) -> bool:
        return self.count > 0

    def ready(self, downstream: bool) -> bool:
        return self.count < self.depth

    def clock(self, offered: bool, downstream: bool) -> None:
        write = offered and self.ready(downstream)
        read = self.valid() and downstream
        self.count += int(write) - int(read)


class Stepper(Stage):
    """A counter of steps, some of which take a beat and some of which fill the output register."""

    def __init__(self, consume: Sequence[bool], produce: Sequence[bool]) -> None:
        self.consume = list(consume)
        self.produce = list(produce)
        self.step = 0
        self.full = False

    def valid(self) -> bool:
        return self.full

    def _able(self, downstream: bool) -> bool:
        return not self.produce[self.step] or not self.full or downstream

    def ready(self, downstream: bool) -> bool:
        return self.consume[self.step] and self._able(downstream)

    def clock(self, offered: bool, downstream: bool) -> None:
        fire = self._able(downstream) and (offered or not self.consume[self.step])
        if self.full and downstream:
            self.full = False
        if fire:
            self.full = self.full or self.produce[self.step]
            self.step = (self.step + 1) % len(self.consume)


class MatrixVector(Stage):
    """A step counter that feeds a pipeline of tokens, which end in an accumulator with an output register."""

    def __init__(self, folds: int, words: int, registers: int) -> None:
        self.folds, self.words = folds, words
        self.position = 0
        self.pipe: list[bool | None] = [None] * registers  # None is empty, True the last word of a sum
        self.full = False

    def valid(self) -> bool:
        return self.full

    def _free(self, downstream: bool) -> list[bool]:
        after = self.pipe[-1] is not True or not self.full or downstream
        free = []
        for token in reversed(self.pipe):
            after = token is None or after
            free.append(after)
        return free[::-1]

    def ready(self, downstream: bool) -> bool:
        return self.position < self.words and self._free(downstream)[0]

    def clock(self, offered: bool, downstream: bool) -> None:
        free = self._free(downstream)
        able = self.pipe[-1] is not True or not self.full or downstream
        complete = self.pipe[-1] is True and able
        if self.full and downstream:
            self.full = False
        if complete:
            self.full = True
        token: bool | None = None
        if free[0] and (offered or self.position >= self.words):
            token = self.position % self.words == self.words - 1
            self.position = (self.position + 1) % (self.words * self.folds)
        before = [token, *self.pipe]
        self.pipe = [before[place] if free[place] else self.pipe[place] for place in range(len(self.pipe))]


class Window(Stage):
    """A store of pixels by coordinates, from which the taps of a window are read."""

    def __init__(
        self, folds: int, image: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
        dilation: tuple[int, int], padding: tuple[int, int], output: tuple[int, int], buffer: int,
    ) -> None:  # fmt: skip
        self.folds, self.image, self.stride, self.padding, self.output = folds, image, stride, padding, output
        self.buffer = buffer
        self.taps = [
            (oh, oh * stride[0] - padding[0] + kh * dilation[0], ow * stride[1] - padding[1] + kw * dilation[1], fold)
            for oh in range(output[0])
            for ow in range(output[1])
            for kh in range(kernel[0])
            for kw in range(kernel[1])
            for fold in range(folds)
        ]
        self.written = 0
        self.frame, self.tap = 0, 0
        self.full = False

    def _start(self) -> int:
        """Index of the first word of the window's top row, counted from the beginning of time."""
        top = self.frame * self.image[0] + self.taps[self.tap][0] * self.stride[0] - self.padding[0]
        return top * self.image[1] * self.folds

    def _present(self) -> bool:
        _, y, x, fold = self.taps[self.tap]
        if not (0 <= y < self.image[0] and 0 <= x < self.image[1]):
            return True
        return self.written > ((self.frame * self.image[0] + y) * self.image[1] + x) * self.folds + fold

    def valid(self) -> bool:
        return self.full

    def ready(self, downstream: bool) -> bool:
        return self.written - self._start() < self.buffer

    def clock(self, offered: bool, downstream: bool) -> None:
        write = offered and self.ready(downstream)
        fire = (not self.full or downstream) and self._present()
        if self.full and downstream:
            self.full = False
        if fire:
            self.full = True
            self.tap += 1
            if self.tap == len(self.taps):
                self.tap = 0
                self.frame += 1
        self.written += int(write)


class ForkJoin(Stage):
    """A register whose beats go eagerly into several branches, and a register where they meet again."""

    def __init__(self, branches: Sequence[Sequence[Stage]]) -> None:
        self.branches = [list(branch) for branch in branches]
        self.full = False
        self.given = [False] * len(branches)
        self.out = False

    def valid(self) -> bool:
        return self.out

    def _readies(self, downstream: bool) -> list[list[bool]]:
        join = (not self.out or downstream) and all(branch[-1].valid() for branch in self.branches)
        return [readies(branch, join) for branch in self.branches]

    def _emptied(self, downstream: bool) -> bool:
        ready = self._readies(downstream)
        return all(given or r[0] for given, r in zip(self.given, ready, strict=True))

    def ready(self, downstream: bool) -> bool:
        return not self.full or self._emptied(downstream)

    def clock(self, offered: bool, downstream: bool) -> None:
        ready = self._readies(downstream)
        take = self.ready(downstream)
        emptied = self._emptied(downstream)
        join = (not self.out or downstream) and all(branch[-1].valid() for branch in self.branches)
        for number, branch in enumerate(self.branches):
            offer = self.full and not self.given[number]
            if self.full:
                self.given[number] = self.given[number] or ready[number][0]
            clock_all(branch, offer, ready[number])
        if self.full and emptied:
            self.given = [False] * len(self.branches)
        if take:
            self.full = offered
        if not self.out or downstream:
            self.out = join


def readies(stages: Sequence[Stage], downstream: bool) -> list[bool]:
    """Return the ready at each stage's input and, last, at the end."""
    result = [downstream]
    for stage in reversed(stages):
        result.append(stage.ready(result[-1]))
    return result[::-1]


def clock_all(stages: Sequence[Stage], offered: bool, ready: Sequence[bool]) -> None:
    """Clock stages that stand in a row, all from the state before the edge."""
    offers = [offered, *(stage.valid() for stage in stages)]
    for place, stage in enumerate(stages):
        stage.clock(offers[place], ready[place + 1])


def run(
    stages: Sequence[Stage], inputs: int, outputs: int, source: Trace, sink: Trace, limit: int
) -> tuple[list[int], list[int]] | None:
    """Return the cycles of the input and output beats; None if they are not through after ``limit`` cycles."""
    taken: list[int] = []
    sent: list[int] = []
    offering = False
    for cycle in range(limit):
        offering = len(taken) < inputs and (offering or bool(source[cycle % len(source)]))
        ready = readies(stages, bool(sink[cycle % len(sink)]))
        if stages[-1].valid() and ready[-1]:
            sent.append(cycle)
        accepted = offering and ready[0]
        clock_all(stages, offering, ready)
        if accepted:
            taken.append(cycle)
            offering = False
        if len(taken) == inputs and len(sent) >= outputs:
            return taken, sent[:outputs]
    return None
