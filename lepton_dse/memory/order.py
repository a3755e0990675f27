"""The order of operations with the least memory: shortest paths through the sets of operations that are done.

What is live after a set of operations does not depend on the order in which they ran. Orders are paths through these sets, and
the one whose most costly step costs least is the least order (J. Ahn et al., "Ordering Chaos: Memory-Aware Scheduling of
Irregularly Wired Neural Networks for Edge Devices", MLSys 2020). Three things keep the sets few:

* A graph is divided where everything behind depends on everything before; each part is searched by itself, the most costly
  first, and only while it costs more than the others are known to.
* An operation, or a chain of them, that leaves no more live than before is run at once where no step of it exceeds what is
  needed anyway: live bytes are submodular in the set of operations done, so that whatever runs later finds no more of them.
* What is computed from constants alone is computed just before it is first read.

The model is that of :mod:`lepton_dse.memory.lives`: tensors of one view are one value; a value is live from the operation that
makes it to the last that reads it, inputs from the start, outputs to the end; an operation needs what is live before it and its
result, unless that takes the place of an operand that nothing else needs. Sizes are rounded up to the alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from lepton_dse.ir.graph import Graph
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory.arena import ALIGNMENT, check_alignment
from lepton_dse.memory.lives import givers, viewed

__all__ = ["Order", "least_order"]

_STEPS = 20_000
_WIDTH = 16  # sets of each size that an incomplete search keeps


@dataclass(frozen=True)
class Order:
    """An order of a graph's operations.

    Parameters
    ----------
    operations : tuple of int
        Indices into the graph's own order.
    live : int
        The most bytes that are needed at once.
    bound : int
        Bytes that no order is below.
    """

    operations: tuple[int, ...]
    live: int
    bound: int

    @property
    def proved(self) -> bool:
        """Whether no order needs less at once."""
        return self.live == self.bound

    @property
    def changed(self) -> bool:
        """Whether it is another order than the graph's own."""
        return self.operations != tuple(range(len(self.operations)))


def least_order(
    graph: Graph,
    *,
    bytes_of: Callable[[Tensor], int],
    alignment: int = ALIGNMENT,
    in_place: bool = True,
    steps: int = _STEPS,
) -> Order:
    """Look for the order in which the least is live at once.

    Parameters
    ----------
    graph : Graph
    bytes_of : callable
        Bytes that a tensor takes where it is stored.
    alignment : int
        Of each block.
    in_place : bool
        Whether an elementwise result may overwrite an operand.
    steps : int
        Times that an operation is looked at behind a set of others, at most: of complete searches, and as often again of those
        that take their place where that was not enough.

    Returns
    -------
    Order
        The graph's own where none is found that needs less. The same on every machine; graphs of one structure are searched once.

    Raises
    ------
    LeptonError
        If the alignment is not positive.
    """
    check_alignment(alignment)
    return _searched(_network(graph, bytes_of, alignment, in_place), steps)


@dataclass(frozen=True)
class _Network:
    """What memory knows of a graph: operations by index and the values that they read and make."""

    sizes: tuple[int, ...]
    kept: tuple[bool, ...]  # values that are outputs
    inputs: tuple[int, ...]  # values that are there from the start
    unread: int  # bytes of those that nothing needs: they are there in the first step alone
    reads: tuple[tuple[int, ...], ...]  # values, by operation
    takes: tuple[tuple[int, ...], ...]  # of these, by operation, whose place its result may take
    makes: tuple[int, ...]  # -1 for a view
    waits: tuple[tuple[int, ...], ...]  # operations, by operation


def _network(graph: Graph, bytes_of: Callable[[Tensor], int], alignment: int, in_place: bool) -> _Network:
    sizes = {name: bytes_of(tensor) for name, tensor in graph.tensors.items() if name not in graph.constants}
    value = {name: index for index, name in enumerate(graph.inputs)}
    root = list(graph.inputs)
    made: dict[str, int] = {}
    reads, takes, makes, waits = [], [], [], []
    for index, op in enumerate(graph.ops):
        moving = [name for name in dict.fromkeys(op.inputs) if name in value]
        reads.append(tuple(dict.fromkeys(value[name] for name in moving)))
        waits.append(tuple(dict.fromkeys(made[name] for name in moving if name in made)))
        places = [
            value[name]
            for name in (givers(graph, op, sizes) if in_place else ())
            if sizes[root[value[name]]] == sizes[name] and all(value[other] != value[name] for other in moving if other != name)
        ]
        shown = viewed(op, value)
        value[op.output] = len(root) if shown is None else value[shown]
        makes.append(len(root) if shown is None else -1)
        takes.append(tuple(places) if shown is None else ())
        if shown is None:
            root.append(op.output)
        made[op.output] = index
    kept = {value[name] for name in graph.outputs if name in value}
    rounded = [-(-sizes[name] // alignment) * alignment for name in root]
    needed = kept.union(*reads)
    return _Network(
        sizes=tuple(rounded),
        kept=tuple(index in kept for index in range(len(root))),
        inputs=tuple(range(len(graph.inputs))),
        unread=sum(rounded[index] for index in range(len(graph.inputs)) if index not in needed),
        reads=tuple(reads),
        takes=tuple(takes),
        makes=tuple(makes),
        waits=tuple(waits),
    )


class _State(NamedTuple):
    """Operations that are done and that could be next, as sets of bits, and the bytes that are live then."""

    done: int
    ready: int
    live: int


@dataclass(frozen=True)
class _Part:
    """Operations that all orders run in a row, in the graph's order; the state before, and what they need in that order."""

    order: tuple[int, ...]
    start: _State
    peak: int

    @property
    def members(self) -> int:
        """The operations as a set of bits."""
        return sum(1 << op for op in self.order)


Move = tuple[int, _State, tuple[int, ...]]
"""Bytes that are needed up to its end, the state behind, and the operations in between."""


@lru_cache(maxsize=256)
def _searched(network: _Network, steps: int) -> Order:
    own = tuple(range(len(network.reads)))
    live, search = _needed(network, own), _Search(network, steps)
    if live == search.bound:
        return Order(own, live, live)
    found = search.run()
    needed = _needed(network, found)
    return Order(found, needed, search.bound) if needed < live else Order(own, live, search.bound)


def _needed(network: _Network, order: Sequence[int]) -> int:
    """The most that is live at once in an order."""
    left = [0] * len(network.sizes)
    for reads in network.reads:
        for value in reads:
            left[value] += 1
    live = most = sum(network.sizes[value] for value in network.inputs)
    for step, op in enumerate(order):
        made, ends = network.makes[op], []
        for value in network.reads[op]:
            left[value] -= 1
            if not left[value] and not network.kept[value]:
                ends.append(value)
        size = network.sizes[made] if made >= 0 else 0
        most = max(most, live + (0 if any(value in ends for value in network.takes[op]) else size))
        live -= sum(network.sizes[value] for value in ends) + (0 if step else network.unread)
        live += size if made >= 0 and (left[made] or network.kept[made]) else 0
    return most


class _Search:
    """Orders of one network; `bound` is what no order is below, as far as is known.

    A value that is computed from constants alone is *late*: its operation is no step of its own but one with the first that reads
    the value. Where an input is not needed, the first step is another than the rest, and nothing is late.
    """

    def __init__(self, network: _Network, steps: int) -> None:
        self.network, self.steps, self.spare = network, steps, steps
        self.readers = [0] * len(network.sizes)
        for op, reads in enumerate(network.reads):
            for value in reads:
                self.readers[value] |= 1 << op
        self.maker = {made: op for op, made in enumerate(network.makes) if made >= 0}
        self.late = [
            value in self.maker and not network.reads[self.maker[value]] and readers != 0 and not network.unread
            for value, readers in enumerate(self.readers)
        ]
        self.nodes = [op for op, made in enumerate(network.makes) if made < 0 or not self.late[made]]
        self.waits = [0] * len(network.makes)
        self.next: list[list[int]] = [[] for _ in network.makes]
        self.before, self.behind = [0] * len(network.makes), [0] * len(network.makes)
        everything = sum(1 << op for op in self.nodes)
        for op in self.nodes:
            for other in network.waits[op]:
                if everything >> other & 1:
                    self.waits[op] |= 1 << other
                    self.next[other].append(op)
                    self.before[op] |= self.before[other] | 1 << other
        for op in reversed(self.nodes):
            for other in self.next[op]:
                self.behind[op] |= self.behind[other] | 1 << other
        self.bound = max([sum(network.sizes[value] for value in network.inputs), *self._least_steps()])

    def run(self) -> tuple[int, ...]:
        """All operations in the best order that is found, parts that need no other in the graph's."""
        parts, better = self._parts(), {}
        reached = self.bound
        for index in sorted(range(len(parts)), key=lambda index: -parts[index].peak):
            if parts[index].peak <= reached:
                break
            peak, bound, better[index] = self._least(parts[index], reached)
            if bound > reached:
                self.bound = bound
            reached = max(reached, peak)
        chosen = [part.order if part.peak <= reached else better[index] for index, part in enumerate(parts)]
        return tuple(self._with_late(op for order in chosen for op in order))

    def _least(self, part: _Part, floor: int) -> tuple[int, int, tuple[int, ...]]:
        """What a part needs in the best order that is found, a bound, and the order; less than `floor` counts as `floor`."""
        came: dict[int, tuple[int, tuple[int, ...]]] = {}
        known, closed, serial = {part.start.done: floor}, set(), count()
        goal, members = part.start.done | part.members, part.members
        heap = [(floor, 0, next(serial), part.start)]
        while heap and self.steps > 0:
            peak, _, _, state = heappop(heap)
            if state.done in closed:
                continue
            closed.add(state.done)
            if state.done == goal:
                return peak, peak, _way(came, part.start.done, goal)
            for needed, after, way in self._moves(state, peak, members):
                if needed < known.get(after.done, part.peak):
                    known[after.done] = needed
                    came[after.done] = state.done, way
                    heappush(heap, (needed, -after.done.bit_count(), next(serial), after))
        if not heap:
            return part.peak, part.peak, part.order
        bound = heap[0][0]
        self.steps, self.spare = self.spare, 0
        peak, order = self._good(part, bound)
        self.steps, self.spare = 0, self.steps
        return peak, bound, order

    def _good(self, part: _Part, floor: int) -> tuple[int, tuple[int, ...]]:
        """An order by way of a few of the sets of each size, those that need least; the graph's where that is no worse."""
        members = part.members
        sizes: list[dict[int, tuple[int, _State, tuple[int, ...]]]] = [{} for _ in range(len(part.order) + 1)]
        sizes[0][part.start.done] = floor, part.start, ()
        before = part.start.done.bit_count()
        for states in sizes[:-1]:
            for peak, state, order in sorted(states.values(), key=lambda entry: (entry[0], entry[1].live))[:_WIDTH]:
                for needed, after, way in self._moves(state, peak, members):
                    place = sizes[after.done.bit_count() - before]
                    if needed < part.peak and (after.done not in place or needed < place[after.done][0]):
                        place[after.done] = needed, after, (*order, *way)
                if self.steps <= 0:
                    return part.peak, part.order
        return next(((peak, order) for peak, _, order in sizes[-1].values()), (part.peak, part.order))

    def _moves(self, state: _State, peak: int, members: int) -> list[Move]:
        """What can run next: all of it, or alone what leaves no more live and needs no more than `peak` on its way."""
        found: list[Move] = []
        for op in _bits(state.ready & members):
            needed, after = self._step(state, op)
            way, last, now = [op], state, after
            free = needed <= peak
            while free and now.live > state.live:
                follower = next(_bits(now.ready & ~last.ready & members), -1)
                if follower < 0:
                    break
                more, behind = self._step(now, follower)
                free, last, now = more <= peak, now, behind
                way.append(follower)
            if free and now.live <= state.live:
                return [(peak, now, tuple(way))]
            found.append((max(needed, peak), after, (op,)))
        return found

    def _step(self, state: _State, op: int) -> tuple[int, _State]:
        """Bytes that are needed while an operation runs, and the state after it."""
        network, readers, sizes = self.network, self.readers, self.network.sizes
        self.steps -= 1
        done, ready, live = state
        bit, rest, taken = 1 << op, ~done, False
        needed = live if done else live + network.unread
        for value in network.reads[op]:
            left = readers[value] & rest
            if self.late[value] and left == readers[value]:
                live += sizes[value]
                needed += sizes[value]
            if left == bit and not network.kept[value]:
                live -= sizes[value]
                taken = taken or value in network.takes[op]
        made = network.makes[op]
        if made >= 0:
            needed += 0 if taken else sizes[made]
            live += sizes[made] if readers[made] or network.kept[made] else 0
        rest ^= bit
        ready ^= bit
        for other in self.next[op]:
            if not self.waits[other] & rest:
                ready |= 1 << other
        return needed, _State(done | bit, ready, live)

    def _parts(self) -> list[_Part]:
        """The operations, divided where each one behind waits for each one before."""
        everything = sum(1 << op for op in self.nodes)
        starts, first = set(), len(self.network.makes)  # the first operation that one of those behind does not wait for
        for op in reversed(self.nodes):
            apart = everything & ~self.before[op]
            first = min(first, (apart & -apart).bit_length() - 1)
            if first >= op:
                starts.add(op)
        live = sum(self.network.sizes[value] for value in self.network.inputs) - self.network.unread
        state = _State(0, sum(1 << op for op in self.nodes if not self.waits[op]), live)
        found: list[_Part] = []
        for op in self.nodes:
            needed, after = self._step(state, op)
            if op in starts:
                found.append(_Part((op,), state, needed))
            else:
                last = found[-1]
                found[-1] = _Part((*last.order, op), last.start, max(last.peak, needed))
            state = after
        return found

    def _least_steps(self) -> Iterator[int]:
        """What each operation needs in every order: what it reads and makes, and what is made before it and read behind it."""
        network, done = self.network, 0
        live = set(network.inputs)
        for op in self.nodes:
            live.update(network.reads[op])
            needed = 0
            for value in live:
                readers, maker = self.readers[value], self.maker.get(value)
                made = maker is None or (readers & self.before[op] if self.late[value] else self.before[op] >> maker & 1)
                if readers >> op & 1 or (made and (readers & self.behind[op] or network.kept[value])):
                    needed += network.sizes[value]
            own = network.makes[op]
            if own >= 0:
                taken = any(not network.kept[value] and not self.readers[value] & self.behind[op] for value in network.takes[op])
                needed += 0 if taken else network.sizes[own]
                live.add(own)
            done |= 1 << op
            live = {value for value in live if network.kept[value] or self.readers[value] & ~done}
            yield needed

    def _with_late(self, order: Iterable[int]) -> Iterator[int]:
        """An order with the operations of late values in it, each just before the first that reads its value."""
        done = 0
        for op in order:
            for value in self.network.reads[op]:
                if self.late[value] and not self.readers[value] & done:
                    yield self.maker[value]
            done |= 1 << op
            yield op


def _bits(members: int) -> Iterator[int]:
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest


def _way(came: Mapping[int, tuple[int, tuple[int, ...]]], start: int, goal: int) -> tuple[int, ...]:
    """The operations from one set to another."""
    found: list[int] = []
    while goal != start:
        goal, way = came[goal]
        found[:0] = way
    return tuple(found)
