"""In which order the axes of a tensor lie in memory.

Images of convolutions and pools lie channels innermost (NHWC), so that the summed axis of a convolution is read in whole chunks;
everything else, and what a caller hands in and gets back, lies in row-major order of its axes.
"""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph

__all__ = ["Layout", "layouts"]

_IMAGES = ops.Conv | ops.MaxPool | ops.AveragePool | ops.SumPool | ops.LocalResponseNorm
_OWN_ORDER = ops.Reshape | ops.Transpose | ops.MatMul | ops.Expand | ops.Gather


@dataclass(frozen=True)
class Layout:
    """Axes of a tensor from the slowest to the fastest in memory."""

    order: tuple[int, ...]

    @classmethod
    def row_major(cls, rank: int) -> Layout:
        """Axes in their own order."""
        return cls(tuple(range(rank)))

    @classmethod
    def channels_last(cls, rank: int) -> Layout:
        """Axis 1 innermost."""
        return cls((0, *range(2, rank), 1))

    def strides(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Elements from one index of each axis to the next."""
        found = [0] * len(shape)
        step = 1
        for axis in reversed(self.order):
            found[axis] = step
            step *= shape[axis]
        return tuple(found)

    def same(self, other: Layout, shape: tuple[int, ...]) -> bool:
        """Whether elements of a shape lie alike in both: axes of one element move nothing."""
        return [a for a in self.order if shape[a] != 1] == [a for a in other.order if shape[a] != 1]

    def __str__(self) -> str:
        names = "NCHW" if len(self.order) == 4 else "NCDHW" if len(self.order) == 5 else "NCW" if len(self.order) == 3 else ""
        return "".join(names[axis] for axis in self.order) if names else ",".join(map(str, self.order))


def layouts(graph: Graph) -> dict[str, Layout]:
    """The layout of every tensor of a graph.

    A result lies channels innermost if a convolution or a pool makes or reads it, or if an operation that keeps axes makes it
    of one that does. Inputs and constants are row-major.
    """
    last: set[str] = set()
    for op in graph.ops:
        if len(graph.tensors[op.output].shape) < 3 or isinstance(op.attributes, _OWN_ORDER):
            continue
        kept = any(name in last and len(graph.tensors[name].shape) == len(graph.tensors[op.output].shape) for name in op.inputs)
        if isinstance(op.attributes, _IMAGES) or kept:
            last.add(op.output)
    for op in reversed(graph.ops):
        image = isinstance(op.attributes, _IMAGES) or op.output in last
        if not image or isinstance(op.attributes, _OWN_ORDER):
            continue
        rank = len(graph.tensors[op.output].shape)
        for name in op.inputs:
            producer = graph.producer(name)
            if producer is None or isinstance(producer.attributes, _OWN_ORDER):
                continue
            if len(graph.tensors[name].shape) == rank:
                last.add(name)
    fixed = {*graph.inputs, *graph.constants}
    found = {}
    for name, tensor in graph.tensors.items():
        rank = len(tensor.shape)
        found[name] = Layout.channels_last(rank) if name in last and name not in fixed else Layout.row_major(rank)
    return found
