"""Operations as loop nests: loop bounds and one affine access per operand.

A convolution over spatial axes i reads, at iteration (n, g, m, o_i, c, k_i)::

    x[n, g*C/groups + c, o_i*stride_i + k_i*dilation_i - pad_i]
    w[g*M/groups + m, c, k_i]        y[n, g*M/groups + m, o_i]

Positions outside x stand for padding. A cost model needs no more than the nest; it never looks at the kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor

__all__ = ["POINTWISE", "Access", "Affine", "Loop", "LoopNest", "loop_nest"]


POINTWISE = (
    ops.Add
    | ops.AddRequantize
    | ops.Affine
    | ops.Binary
    | ops.Cast
    | ops.Clip
    | ops.Compare
    | ops.Dequantize
    | ops.Gelu
    | ops.LeakyRelu
    | ops.Lookup
    | ops.Quantize
    | ops.Requantize
    | ops.Sigmoid
    | ops.Tanh
    | ops.Unary
    | ops.Where
)
"""Kinds whose result at an index needs of each operand the element at that index, broadcast."""


@dataclass(frozen=True)
class Loop:
    """One loop: its name, trip count, and whether it is summed over (a reduction)."""

    name: str
    extent: int
    reduction: bool = False


@dataclass(frozen=True)
class Affine:
    """``offset + sum of coefficient * loop`` as one index."""

    terms: tuple[tuple[str, int], ...] = ()
    offset: int = 0

    def at(self, point: dict[str, int]) -> int:
        """Value of the index at an iteration."""
        return self.offset + sum(coefficient * point[name] for name, coefficient in self.terms)


@dataclass(frozen=True)
class Access:
    """How an operand is indexed: one affine index per axis of the tensor."""

    tensor: str
    indices: tuple[Affine, ...]


@dataclass(frozen=True)
class LoopNest:
    """Loops from outer to inner, the operands read, the result written, and whether each iteration is a multiply-accumulate.

    A view (Reshape) moves nothing and has no loops and no accesses.
    """

    loops: tuple[Loop, ...]
    reads: tuple[Access, ...]
    write: Access | None
    multiplies: bool = False

    @property
    def iterations(self) -> int:
        """Product of the loop bounds; 0 for a view."""
        return math.prod(loop.extent for loop in self.loops) if self.write else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates: the iterations of a contraction, 0 for other nests."""
        return self.iterations if self.multiplies else 0


def loop_nest(op: ops.Op, inputs: Sequence[Tensor], output: Tensor) -> LoopNest:
    """The loop nest of one operation over concrete tensors."""
    match op.attributes:
        case ops.Conv():
            return _conv(op.attributes, inputs, output)
        case ops.MatMul():
            return _matmul(inputs, output)
        case ops.MaxPool(window) | ops.AveragePool(window) | ops.SumPool(window):
            return _pool(window, inputs[0], output)
        case ops.Reshape():
            return LoopNest((), (), None)
        case ops.Transpose(permutation):
            loops = _output_loops(output)
            inverse = [permutation.index(axis) for axis in range(len(permutation))]
            read = Access(inputs[0].name, tuple(_index(f"d{axis}") for axis in inverse))
            return LoopNest(loops, (read,), _identity(output))
        case ops.Concat(axis):
            return _concat(axis, inputs, output)
        case ops.Pad(begin):
            indices = tuple(Affine(((f"d{axis}", 1),), -before) for axis, before in enumerate(begin))
            return LoopNest(_output_loops(output), (Access(inputs[0].name, indices),), _identity(output))
        case ops.ArgMax(axis, keepdims):
            return _reduce((axis,), keepdims, inputs[0], output)
        case ops.Reduce(axes=axes, keepdims=keepdims):
            return _reduce(axes, keepdims, inputs[0], output)
        case ops.LayerNorm(axes):
            along = tuple(_index(f"d{axis}") for axis in axes)
            reads = (_identity(inputs[0]), *(Access(tensor.name, along) for tensor in inputs[1:]))
            return LoopNest(_output_loops(output), reads, _identity(output))
        case ops.Slice(begin, _, step):
            places = tuple(
                Affine(((f"d{axis}", stride),), start) for axis, (start, stride) in enumerate(zip(begin, step, strict=True))
            )
            return LoopNest(_output_loops(output), (Access(inputs[0].name, places),), _identity(output))
        case ops.Gather(axis):
            return _gather(axis, inputs, output)
        case ops.LocalResponseNorm(size):
            return _local_response(size, inputs[0], output)
        case ops.Lookup():
            return LoopNest(_output_loops(output), (_identity(inputs[0]),), _identity(output))
        case ops.Affine():
            channel = (_index("d1"),)
            reads = (_identity(inputs[0]), *(Access(tensor.name, channel) for tensor in inputs[1:]))
            return LoopNest(_output_loops(output), reads, _identity(output))
        case _:
            return LoopNest(_output_loops(output), tuple(_broadcast(tensor, output) for tensor in inputs), _identity(output))


def _index(name: str) -> Affine:
    return Affine(((name, 1),))


def _output_loops(output: Tensor) -> tuple[Loop, ...]:
    return tuple(Loop(f"d{axis}", extent) for axis, extent in enumerate(output.shape))


def _identity(tensor: Tensor) -> Access:
    return Access(tensor.name, tuple(_index(f"d{axis}") for axis in range(len(tensor.shape))))


def _broadcast(tensor: Tensor, output: Tensor) -> Access:
    offset = len(output.shape) - len(tensor.shape)
    indices = (Affine() if extent == 1 else _index(f"d{axis + offset}") for axis, extent in enumerate(tensor.shape))
    return Access(tensor.name, tuple(indices))


def _window_index(window: ops.Window) -> tuple[Affine, ...]:
    return tuple(
        Affine(((f"o{axis}", stride), (f"k{axis}", dilation)), -pad)
        for axis, (stride, dilation, pad) in enumerate(zip(window.strides, window.dilations, window.pads_begin, strict=True))
    )


def _conv(attributes: ops.Conv, inputs: Sequence[Tensor], output: Tensor) -> LoopNest:
    x, w = inputs[0], inputs[1]
    groups, window = attributes.groups, attributes.window
    per_group, channels = w.shape[0] // groups, w.shape[1]
    spatial = range(len(window.kernel))
    loops = (
        Loop("n", x.shape[0]),
        Loop("g", groups),
        Loop("m", per_group),
        *(Loop(f"o{axis}", output.shape[2 + axis]) for axis in spatial),
        Loop("c", channels, True),
        *(Loop(f"k{axis}", window.kernel[axis], True) for axis in spatial),
    )
    out_channel = Affine((("g", per_group), ("m", 1)))
    reads = [
        Access(x.name, (_index("n"), Affine((("g", channels), ("c", 1))), *_window_index(window))),
        Access(w.name, (out_channel, _index("c"), *(_index(f"k{axis}") for axis in spatial))),
    ]
    if len(inputs) > 2:
        reads.append(Access(inputs[2].name, (out_channel,)))
    write = Access(output.name, (_index("n"), out_channel, *(_index(f"o{axis}") for axis in spatial)))
    return LoopNest(loops, tuple(reads), write, True)


def _matmul(inputs: Sequence[Tensor], output: Tensor) -> LoopNest:
    x, w = inputs[0], inputs[1]
    rows = x.shape[-2] if len(x.shape) > 1 else 1
    batch = output.shape[: len(output.shape) - (2 if len(x.shape) > 1 else 1)]
    loops = (
        *(Loop(f"b{axis}", extent) for axis, extent in enumerate(batch)),
        Loop("i", rows),
        Loop("j", w.shape[-1]),
        Loop("k", w.shape[-2], True),
    )

    def leading(shape: tuple[int, ...]) -> tuple[Affine, ...]:
        offset = len(batch) - len(shape)
        return tuple(Affine() if extent == 1 else _index(f"b{axis + offset}") for axis, extent in enumerate(shape))

    row = (_index("i"),) if len(x.shape) > 1 else ()
    reads = [
        Access(x.name, (*leading(x.shape[:-2]), *row, _index("k"))),
        Access(w.name, (*leading(w.shape[:-2]), _index("k"), _index("j"))),
    ]
    if len(inputs) > 2:
        reads.append(Access(inputs[2].name, (_index("j"),)))
    return LoopNest(loops, tuple(reads), Access(output.name, (*leading(batch), *row, _index("j"))), True)


def _pool(window: ops.Window, x: Tensor, output: Tensor) -> LoopNest:
    spatial = range(len(window.kernel))
    loops = (
        Loop("n", x.shape[0]),
        Loop("c", x.shape[1]),
        *(Loop(f"o{axis}", output.shape[2 + axis]) for axis in spatial),
        *(Loop(f"k{axis}", window.kernel[axis], True) for axis in spatial),
    )
    head = (_index("n"), _index("c"))
    write = Access(output.name, (*head, *(_index(f"o{axis}") for axis in spatial)))
    return LoopNest(loops, (Access(x.name, (*head, *_window_index(window))),), write)


def _concat(axis: int, inputs: Sequence[Tensor], output: Tensor) -> LoopNest:
    reads, offset = [], 0
    for tensor in inputs:
        indices = tuple(
            Affine(((f"d{position}", 1),), -offset if position == axis else 0) for position in range(len(tensor.shape))
        )
        reads.append(Access(tensor.name, indices))
        offset += tensor.shape[axis]
    return LoopNest(_output_loops(output), tuple(reads), _identity(output))


def _reduce(axes: tuple[int, ...], keepdims: bool, x: Tensor, output: Tensor) -> LoopNest:
    loops = tuple(Loop(f"d{position}", extent, position in axes) for position, extent in enumerate(x.shape))
    kept = [position for position in range(len(x.shape)) if keepdims or position not in axes]
    indices = tuple(Affine() if position in axes else _index(f"d{position}") for position in kept)
    return LoopNest(loops, (_identity(x),), Access(output.name, indices))


def _gather(axis: int, inputs: Sequence[Tensor], output: Tensor) -> LoopNest:
    """Which slices are read is known only when it runs; here they are the first ones, each once, as far as there are so many."""
    x, indices = inputs
    rank = len(indices.shape)
    strides = [math.prod(indices.shape[position + 1 :]) for position in range(rank)]
    among = Affine(tuple((f"d{axis + position}", stride) for position, stride in enumerate(strides)))
    before = (_index(f"d{position}") for position in range(axis))
    after = (_index(f"d{position + rank - 1}") for position in range(axis + 1, len(x.shape)))
    picked = Access(indices.name, tuple(_index(f"d{axis + position}") for position in range(rank)))
    return LoopNest(_output_loops(output), (Access(x.name, (*before, among, *after)), picked), _identity(output))


def _local_response(size: int, x: Tensor, output: Tensor) -> LoopNest:
    loops = (*_output_loops(output), Loop("s", size, True))
    before = (size - 1) // 2
    indices = [_index(f"d{axis}") for axis in range(len(x.shape))]
    indices[1] = Affine((("d1", 1), ("s", 1)), -before)
    return LoopNest(loops, (Access(x.name, tuple(indices)),), _identity(output))
