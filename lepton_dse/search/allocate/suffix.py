"""Many variants of one lowered network on the same samples, each executed only from where it differs.

Lowering is deterministic and names are stable, so a tensor of a variant *is* the baseline's tensor where an operation of the same
name, attributes and output format reads tensors that are the same; constants are the same where their values are. Everything
else, and only that, is executed anew. The result equals the execution of the whole variant bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lepton_dse.compress.walk import samples_within
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.reference import fast
from lepton_dse.reference.engine import Array, steps

__all__ = ["Baseline", "Suffix"]

_CHUNK = 256  # samples a pass at most
_CHUNK_BYTES = 1 << 28
_HELD_BYTES = 1 << 30


class Baseline:
    """A lowered network, its samples, and as many of its intermediate values as memory allows.

    Parameters
    ----------
    graph : LoweredGraph
        With one input and one output.
    x : ndarray of float32, shape (N, ...)
    held_bytes : int
        Intermediate values that may be kept between variants.
    """

    def __init__(self, graph: LoweredGraph, x: Array, *, held_bytes: int = _HELD_BYTES) -> None:
        self.graph = graph
        self.x = x
        self.fixed = _fixed(graph)
        step = min(_CHUNK, samples_within(graph, len(x), _CHUNK_BYTES))
        self.chunks = [x[start : start + step] for start in range(0, len(x), step)]
        self._limit = held_bytes
        self._held: dict[tuple[int, str], Array] = {}
        self._bytes = 0
        self._built: tuple[object, Graph] | None = None

    def values(self, chunk: int, names: Sequence[str]) -> dict[str, Array]:
        """Values of tensors for a chunk of samples, from the values held and from nothing before them."""
        known = {name for index, name in self._held if index == chunk} | set(self.graph.inputs)
        inside = _between(self.graph, names, known, self.fixed)
        found = {name: self._value(chunk, name) for name in names if name in known}
        if not inside:
            return found
        key = (tuple(names), frozenset(known), len(self.chunks[chunk]))
        if self._built is None or self._built[0] != key:
            single = _part(self.graph, inside, [name for name in names if name not in known])
            self._built = key, single.with_batch(len(self.chunks[chunk]))
        part = self._built[1]
        feeds = {name: self._value(chunk, name) for name in part.inputs}
        for name, value in steps(part, feeds, fast.evaluate):
            if name in part.outputs:
                found[name] = value
                self._hold(chunk, name, value)
        return found

    def _value(self, chunk: int, name: str) -> Array:
        return self.chunks[chunk] if name in self.graph.inputs else self._held[chunk, name]

    def _hold(self, chunk: int, name: str, value: Array) -> None:
        if value.nbytes > self._limit:
            return
        self._held[chunk, name] = value
        self._bytes += value.nbytes
        while self._bytes > self._limit:
            oldest = next(iter(self._held))
            self._bytes -= self._held.pop(oldest).nbytes


class Suffix:
    """What of a variant is not the baseline's.

    Parameters
    ----------
    baseline : Baseline
    variant : LoweredGraph
        Of the same network.
    """

    def __init__(self, baseline: Baseline, variant: LoweredGraph) -> None:
        self.output = variant.outputs[0]
        fixed = _fixed(variant)
        same = _same(baseline.graph, variant)
        inside = _between(variant, [self.output], {name for name in same if name not in variant.constants}, fixed)
        self.ops = tuple(name for name in inside)
        self._part = _part(variant, inside, [self.output]) if inside else None
        self.needs: tuple[str, ...] = (self.output,) if self._part is None else self._part.inputs
        self._batched: dict[int, Graph] = {}

    def scores(self, values: Mapping[str, Array]) -> Array:
        """The variant's output for a chunk, from the baseline's values of the tensors that :attr:`needs` names."""
        if self._part is None:
            return values[self.output]
        count = len(values[self.needs[0]])
        if count not in self._batched:
            self._batched[count] = self._part.with_batch(count)
        part = self._batched[count]
        found = {name: value for name, value in steps(part, values, fast.evaluate) if name == self.output}
        return found[self.output]


def _fixed(graph: Graph) -> set[str]:
    """Tensors that constants alone determine; they have no batch."""
    fixed = set(graph.constants)
    for op in graph.ops:
        if fixed.issuperset(op.inputs):
            fixed.add(op.output)
    return fixed


def _same(baseline: Graph, variant: Graph) -> set[str]:
    """Tensors of a variant that hold what the baseline's tensors of the same name hold."""
    same = set()
    for name, tensor in variant.tensors.items():
        if baseline.tensors.get(name) != tensor:
            continue
        if name in variant.constants:
            if name in baseline.constants and np.array_equal(baseline.constants[name], variant.constants[name]):
                same.add(name)
        elif name in variant.inputs and name in baseline.inputs:
            same.add(name)
    for op in variant.ops:
        equal = baseline.producer(op.output) == op and baseline.tensors[op.output] == variant.tensors[op.output]
        if equal and same.issuperset(op.inputs):
            same.add(op.output)
    return same


def _between(graph: Graph, wanted: Iterable[str], known: set[str], fixed: set[str]) -> set[str]:
    """Names of the operations that make `wanted` out of `known` tensors; what is fixed is made from constants."""
    needed = {name for name in wanted if name not in known}
    inside = set()
    for op in reversed(graph.ops):
        if op.output in needed:
            inside.add(op.name)
            needed.update(name for name in op.inputs if name in fixed or name not in known)
    return inside


def _part(graph: Graph, inside: set[str], outputs: Sequence[str]) -> LoweredGraph:
    """Some operations of a lowered graph as a graph; what they read and do not make are its inputs."""
    operations = [op for op in graph.ops if op.name in inside]
    made = {op.output for op in operations}
    read = dict.fromkeys(name for op in operations for name in op.inputs)
    constants = {name: graph.constants[name] for name in read if name in graph.constants}
    inputs = [name for name in read if name not in made and name not in constants]
    tensors = [graph.tensors[name] for name in dict.fromkeys((*read, *made))]
    return LoweredGraph(graph.name, tensors, operations, inputs, outputs, constants)
