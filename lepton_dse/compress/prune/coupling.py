"""Which positions along which axes of which tensors live and die together, operation by operation.

A *slot* is one index along one axis of one tensor. An operation joins slots of its operands and result that must be removed
together, locks those that cannot be removed, and may demand that equally many go from each of several blocks (the groups of a
convolution). What follows from it for the whole network is :mod:`lepton_dse.compress.prune.dependencies`. The idea of finding
coupled parameters from the graph is that of G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune.sites import refusal
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op

__all__ = ["Coupling", "is_depthwise"]

Slots = NDArray[np.intp]
Axis = tuple[str, int]
Shape = tuple[int, ...]


def is_depthwise(graph: Graph, op: Op) -> bool:
    """Whether a convolution has several groups of one input channel each."""
    attributes = op.attributes
    return isinstance(attributes, ops.Conv) and attributes.groups > 1 and graph.tensors[op.inputs[1]].shape[1] == 1


class Coupling:
    """Slots of a graph and what its operations say of them.

    Parameters
    ----------
    graph : Graph
        A float graph.

    Attributes
    ----------
    joined : list of (ndarray, ndarray)
        Slots that go together, pair by pair.
    locks : list of (ndarray, str)
        Slots that stay, and why; the first reason given counts.
    balances : list of ndarray, shape (blocks, n)
        Blocks of slots from each of which equally many must go.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.joined: list[tuple[Slots, Slots]] = []
        self.locks: list[tuple[Slots, str]] = []
        self.balances: list[Slots] = []
        self.starts: dict[Axis, int] = {}
        self.count = 0
        for tensor in graph.tensors.values():
            for axis, extent in enumerate(tensor.shape):
                self.starts[tensor.name, axis] = self.count
                self.count += extent
        self._fixed: set[Axis] = set()
        for name in graph.inputs:
            self._lock_all(name, "an input of the graph")
        for name in graph.outputs:
            self._lock_all(name, "an output of the graph")
        for op in graph.ops:
            _RULES.get(type(op.attributes), _unknown)(self, op)

    def slots(self, name: str, axis: int) -> Slots:
        """Slots along an axis of a tensor."""
        start = self.starts[name, axis]
        return np.arange(start, start + self.shape(name)[axis])

    def shape(self, name: str) -> Shape:
        """Extents of a tensor."""
        return self.graph.tensors[name].shape

    # --- what rules say -------------------------------------------------------------------------------------------

    def join(self, first: Slots, second: Slots) -> None:
        """Slots that are removed together, pair by pair."""
        self.joined.append((first, second))

    def same(self, first: Axis, second: Axis) -> None:
        """Two axes of one extent that correspond index by index."""
        self.join(self.slots(*first), self.slots(*second))
        self._carry([first], second)

    def lock(self, name: str, axis: int, reason: str) -> None:
        """An axis that stays as it is."""
        self.locks.append((self.slots(name, axis), reason))
        self._fixed.add((name, axis))

    def _lock_all(self, name: str, reason: str) -> None:
        for axis in range(len(self.shape(name))):
            self.lock(name, axis, reason)

    def _carry(self, sources: list[Axis], result: Axis) -> None:
        """An axis made of axes that all stay stays too."""
        if all(source in self._fixed for source in sources):
            self._fixed.add(result)

    # --- rules ----------------------------------------------------------------------------------------------------

    def conv(self, op: Op) -> None:
        """Input channels join the weights' axis 1, output channels their axis 0; depthwise, both are one."""
        x, w, y = op.inputs[0], op.inputs[1], op.output
        attributes = op.attributes
        assert isinstance(attributes, ops.Conv)
        self._windowed(op, (0,))
        reason = refusal(self.graph, op)
        groups = attributes.groups
        grouped = groups > 1 and not is_depthwise(self.graph, op)
        if grouped and not reason and len([user for user in self.graph.ops for name in user.inputs if name == w]) > 1:
            reason = "a grouped convolution shares its weights"
        if reason:
            for name in (x, y):
                self.lock(name, 1, reason)
            self._lock_all(w, reason)
        elif grouped:
            self.balances += [self.slots(x, 1).reshape(groups, -1), self.slots(y, 1).reshape(groups, -1)]
        elif groups > 1:
            self.join(np.repeat(self.slots(x, 1), self.shape(y)[1] // groups), self.slots(y, 1))
            self._carry([(x, 1)], (y, 1))
        else:
            self.same((x, 1), (w, 1))
        self.same((w, 0), (y, 1))
        for bias in op.inputs[2:]:
            self.same((bias, 0), (y, 1))

    def matmul(self, op: Op) -> None:
        """Summed products join the weights' axis 0, outputs their axis 1."""
        x, w, y = op.inputs[0], op.inputs[1], op.output
        last = len(self.shape(y)) - 1
        reason = refusal(self.graph, op)
        if reason:
            for name in (*op.inputs, y):
                self._lock_all(name, reason)
            return
        self.same((x, len(self.shape(x)) - 1), (w, 0))
        self.same((w, 1), (y, last))
        for bias in op.inputs[2:]:
            self.same((bias, 0), (y, last))
        for axis in range(len(self.shape(x)) - 1):
            self.same((x, axis), (y, axis))

    def elementwise(self, op: Op) -> None:
        """Every axis of the first input is that of the result."""
        for axis in range(len(self.shape(op.output))):
            self.same((op.inputs[0], axis), (op.output, axis))

    def broadcast(self, op: Op) -> None:
        """Axes that are not repeated by broadcasting are those of the result."""
        rank = len(self.shape(op.output))
        for name in op.inputs:
            offset = rank - len(self.shape(name))
            for axis, extent in enumerate(self.shape(name)):
                if extent == self.shape(op.output)[axis + offset]:
                    self.same((name, axis), (op.output, axis + offset))

    def function(self, op: Op) -> None:
        """As a sum or an activation, unless the function has no finite value at 0, which a silenced channel is."""
        if getattr(op.attributes, "function", None) in _POLES:
            _unknown(self, op)
        elif isinstance(op.attributes, ops.Binary):
            self.broadcast(op)
        else:
            self.elementwise(op)

    def affine(self, op: Op) -> None:
        """Scale and shift go with the channels."""
        self.elementwise(op)
        for name in op.inputs[1:]:
            self.same((name, 0), (op.output, 1))

    def layer_norm(self, op: Op) -> None:
        """What is normalised together stays: an element that left would change the mean and the variance of the others."""
        self.elementwise(op)
        assert isinstance(op.attributes, ops.LayerNorm)
        for place, axis in enumerate(op.attributes.axes):
            for name in op.inputs[1:]:
                self.same((name, place), (op.output, axis))
            self.lock(op.output, axis, f"LayerNorm '{op.name}' normalises over it")

    def reduce(self, op: Op) -> None:
        """What is summed, averaged or compared stays; other axes pass."""
        assert isinstance(op.attributes, ops.Reduce)
        axes, keep, place = op.attributes.axes, op.attributes.keepdims, 0
        for axis in range(len(self.shape(op.inputs[0]))):
            if axis in axes:
                self.lock(op.inputs[0], axis, f"Reduce '{op.name}' goes over it")
                place += keep
            else:
                self.same((op.inputs[0], axis), (op.output, place))
                place += 1

    def picked(self, op: Op) -> None:
        """Axes that are taken whole and in order pass; others stay."""
        assert isinstance(op.attributes, ops.Slice)
        fields = zip(op.attributes.begin, op.attributes.extent, op.attributes.step, strict=True)
        for axis, (begin, extent, step) in enumerate(fields):
            if (begin, extent, step) == (0, self.shape(op.inputs[0])[axis], 1):
                self.same((op.inputs[0], axis), (op.output, axis))
            else:
                for name in (op.inputs[0], op.output):
                    self.lock(name, axis, f"Slice '{op.name}' picks along it")

    def pool(self, op: Op) -> None:
        """Batch and channels pass."""
        self._windowed(op, (0, 1))

    def softmax(self, op: Op) -> None:
        """What is normalised together stays: an element that left would change the others."""
        self.elementwise(op)
        assert isinstance(op.attributes, ops.Softmax)
        for axis in op.attributes.axes:
            self.lock(op.output, axis, f"Softmax '{op.name}' normalises over it")

    def argmax(self, op: Op) -> None:
        """The axis whose indices are the result stays."""
        assert isinstance(op.attributes, ops.ArgMax)
        chosen, keep = op.attributes.axis, op.attributes.keepdims
        self.lock(op.inputs[0], chosen, f"ArgMax '{op.name}' gives indices along it")
        for axis in range(len(self.shape(op.inputs[0]))):
            if axis != chosen:
                self.same((op.inputs[0], axis), (op.output, axis - (axis > chosen and not keep)))

    def local_response(self, op: Op) -> None:
        """Channels stay: each is divided by what its neighbours hold."""
        self.elementwise(op)
        self.lock(op.output, 1, f"LocalResponseNorm '{op.name}' mixes neighbouring channels")

    def pad(self, op: Op) -> None:
        """Constant elements that are added stay; an axis that is cropped, repeated or reflected stays whole."""
        x, y = op.inputs[0], op.output
        attributes = op.attributes
        assert isinstance(attributes, ops.Pad)
        reason = f"Pad '{op.name}' changes its extent"
        for axis, (begin, end) in enumerate(zip(attributes.begin, attributes.end, strict=True)):
            if begin == end == 0:
                self.same((x, axis), (y, axis))
            elif begin >= 0 and end >= 0 and attributes.mode is ops.PadMode.CONSTANT:
                grown = self.slots(y, axis)
                inner = slice(begin, begin + self.shape(x)[axis])
                self.join(self.slots(x, axis), grown[inner])
                self.locks.append((np.delete(grown, inner), reason))
                self._carry([(x, axis)], (y, axis))
            else:
                self.lock(x, axis, reason)
                self.lock(y, axis, reason)

    def concat(self, op: Op) -> None:
        """Along the joined axis each input has its own run of the result; other axes are all the same."""
        assert isinstance(op.attributes, ops.Concat)
        along, offset = op.attributes.axis, 0
        result = self.slots(op.output, along)
        for name in op.inputs:
            extent = self.shape(name)[along]
            self.join(self.slots(name, along), result[offset : offset + extent])
            offset += extent
            for axis in range(len(self.shape(name))):
                if axis != along:
                    self.same((name, axis), (op.output, axis))
        self._carry([(name, along) for name in op.inputs], (op.output, along))

    def transpose(self, op: Op) -> None:
        """Axes in another order."""
        assert isinstance(op.attributes, ops.Transpose)
        for axis, source in enumerate(op.attributes.permutation):
            self.same((op.inputs[0], source), (op.output, axis))

    def reshape(self, op: Op) -> None:
        """Axes that merge into one, or split from one, follow one of them: a flattened channel is a run of elements.

        Of several axes the longest that nothing has fixed yet is followed, and the others stay. With it a shuffle of channels,
        which splits, transposes and merges, loses the same places in each of its groups.
        """
        x, y = op.inputs[0], op.output
        for before, after in _segments(self.shape(x), self.shape(y)):
            if len(before) == len(after) == 1:
                self.same((x, before[0]), (y, after[0]))
            elif len(after) == 1:
                self._follow([(x, axis) for axis in before], (y, after[0]), op)
                self._carry([(x, axis) for axis in before], (y, after[0]))
            elif len(before) == 1:
                if (x, before[0]) in self._fixed:
                    self._fixed.update((y, axis) for axis in after)
                self._follow([(y, axis) for axis in after], (x, before[0]), op)
            else:
                for name, axes in ((x, before), (y, after)):
                    for axis in axes:
                        self.lock(name, axis, f"Reshape '{op.name}' regroups several axes")

    def _follow(self, factors: list[Axis], product: Axis, op: Op) -> None:
        """One axis whose index runs over those of several, row-major."""
        extents = [self.shape(name)[axis] for name, axis in factors]
        free = [place for place, factor in enumerate(factors) if factor not in self._fixed] or list(range(len(factors)))
        followed = max(free, key=lambda place: (extents[place], -place))
        index = np.arange(math.prod(extents)) // math.prod(extents[followed + 1 :]) % extents[followed]
        self.join(self.slots(*factors[followed])[index], self.slots(*product))
        for place, (name, axis) in enumerate(factors):
            if place != followed:
                self.lock(name, axis, f"Reshape '{op.name}' joins it with another axis")

    def _windowed(self, op: Op, passing: Shape) -> None:
        for axis in passing:
            self.same((op.inputs[0], axis), (op.output, axis))
        for axis in range(2, len(self.shape(op.output))):
            for name in (op.inputs[0], op.output):
                self.lock(name, axis, f"the window of {op.kind} '{op.name}' slides along it")


_POLES = (ops.BinaryFunction.DIVIDE, ops.BinaryFunction.POWER, ops.UnaryFunction.RECIPROCAL, ops.UnaryFunction.LOGARITHM)


def _unknown(coupling: Coupling, op: Op) -> None:
    for name in (*op.inputs, op.output):
        for axis in range(len(coupling.shape(name))):
            coupling.lock(name, axis, f"pruning does not look through {op.kind}")


def _segments(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Least runs of axes of two shapes with the same product, axes of extent 1 left out."""
    runs: list[tuple[list[int], list[int]]] = []
    sides = [[axis for axis, extent in enumerate(shape) if extent > 1] for shape in (before, after)]
    places, products, run = [0, 0], [1, 1], ([], [])  # type: tuple[list[int], list[int], tuple[list[int], list[int]]]
    while places[0] < len(sides[0]) or places[1] < len(sides[1]):
        side = 0 if products[0] <= products[1] and places[0] < len(sides[0]) else 1
        axis = sides[side][places[side]]
        places[side] += 1
        products[side] *= (before, after)[side][axis]
        run[side].append(axis)
        if products[0] == products[1]:
            runs.append(run)
            products, run = [1, 1], ([], [])
    return runs


_RULES: dict[type, Callable[[Coupling, Op], None]] = {
    ops.Conv: Coupling.conv,
    ops.MatMul: Coupling.matmul,
    ops.Affine: Coupling.affine,
    ops.Add: Coupling.broadcast,
    ops.Binary: Coupling.function,
    ops.Unary: Coupling.function,
    ops.Gelu: Coupling.elementwise,
    ops.Cast: Coupling.elementwise,
    ops.Clip: Coupling.elementwise,
    ops.LeakyRelu: Coupling.elementwise,
    ops.Sigmoid: Coupling.elementwise,
    ops.Tanh: Coupling.elementwise,
    ops.Softmax: Coupling.softmax,
    ops.LayerNorm: Coupling.layer_norm,
    ops.Reduce: Coupling.reduce,
    ops.Slice: Coupling.picked,
    ops.ArgMax: Coupling.argmax,
    ops.MaxPool: Coupling.pool,
    ops.AveragePool: Coupling.pool,
    ops.LocalResponseNorm: Coupling.local_response,
    ops.Pad: Coupling.pad,
    ops.Concat: Coupling.concat,
    ops.Reshape: Coupling.reshape,
    ops.Transpose: Coupling.transpose,
}
