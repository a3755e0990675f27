"""The layers of a streaming design, and which stream each of them takes.

Streams are channels-last: pixel after pixel, and the channels of a pixel side by side or in folds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor

__all__ = [
    "INPUT",
    "OUTPUT",
    "AddLayer",
    "ArgMaxLayer",
    "ConcatLayer",
    "DepthwiseLayer",
    "IntArray",
    "Layer",
    "LookupLayer",
    "MatrixLayer",
    "Operand",
    "PoolLayer",
    "Reader",
    "Rounding",
    "StreamGraph",
    "WindowedLayer",
    "channels_last",
]

IntArray = NDArray[np.int64]

INPUT = -1
"""Stands for the design's input among the sources of a layer."""
OUTPUT = -1
"""Stands for the design's output among the readers of a layer."""


@dataclass(frozen=True)
class Rounding:
    """Requantisation of an accumulator stream: ``clamp(((acc * M[c] + 2**(shift-1)) >> shift) + zero, low, high)``."""

    multipliers: IntArray
    """One per channel."""
    shift: int
    zero: int
    low: int
    high: int


@dataclass(frozen=True)
class Operand:
    """A stream that a layer takes.

    Parameters
    ----------
    elements : int
        A frame.
    channels : int
        Elements of a pixel.
    bits : int
        Of an element.
    """

    elements: int
    channels: int
    bits: int


@dataclass(frozen=True, eq=False)
class _Layer:
    """What every layer has.

    Parameters
    ----------
    name : str
        Of the operation.
    tensor : str
        The graph's tensor that the stage's output stream carries; empty where a later clip moved into the stage.
    output_bits : int
        Of an element of the output stream.
    """

    name: str
    tensor: str
    output_bits: int


@dataclass(frozen=True, eq=False)
class _Windowed(_Layer):
    """A layer that sees its input image through a window."""

    channels: int
    extent: tuple[int, int]
    """Input pixels: rows, columns."""
    window: ops.Window
    input_bits: int
    pad_value: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The image."""
        return (Operand(self.channels * math.prod(self.extent), self.channels, self.input_bits),)

    @property
    def lanes_limit(self) -> int:
        """What the lanes of its streams divide."""
        return self.channels

    @property
    def out_extent(self) -> tuple[int, int]:
        """Output pixels: rows, columns."""
        rows, columns = self.window.output_extent(self.extent)
        return rows, columns

    @property
    def pixels(self) -> int:
        """Output pixels a frame."""
        return math.prod(self.out_extent)


@dataclass(frozen=True, eq=False)
class _Weighted(_Windowed):
    """A layer that multiplies by constants, and its requantisation."""

    weights: IntArray
    """Of shape (outputs, kernel height, kernel width, channels); without the last axis where each channel has its own."""
    bias: IntArray
    weight_bits: int
    accumulator_bits: int
    rounding: Rounding


@dataclass(frozen=True, eq=False)
class MatrixLayer(_Weighted):
    """A convolution (one group) or dense layer, channels of its weights in stream order.

    A dense layer is a convolution whose input is one pixel.
    """

    @property
    def outputs(self) -> int:
        """Rows of the matrix."""
        return len(self.weights)

    @property
    def out_channels(self) -> int:
        """Channels of each output pixel."""
        return self.outputs


@dataclass(frozen=True, eq=False)
class DepthwiseLayer(_Weighted):
    """A convolution of each channel with weights of its own."""

    @property
    def out_channels(self) -> int:
        """Channels of each output pixel."""
        return self.channels


@dataclass(frozen=True, eq=False)
class PoolLayer(_Windowed):
    """A max pool, or an average pool as an exact sum with its requantisation."""

    rounding: Rounding | None
    """None for a max pool."""
    sum_bits: int = 0
    sum_start: int = 0
    """What a sum begins with: ``-taps * z``."""

    @property
    def out_channels(self) -> int:
        """Channels of each output pixel."""
        return self.channels


@dataclass(frozen=True, eq=False)
class ArgMaxLayer(_Layer):
    """Index of the greatest of `channels` elements."""

    channels: int
    input_bits: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        """One vector."""
        return (Operand(self.channels, self.channels, self.input_bits),)

    @property
    def lanes_limit(self) -> int:
        """What the lanes of its input divide."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """One index."""
        return 1

    @property
    def pixels(self) -> int:
        """One output a frame."""
        return 1


@dataclass(frozen=True, eq=False)
class LookupLayer(_Layer):
    """A function of each element, as a table."""

    channels: int
    pixels: int
    input_bits: int
    table: IntArray
    """Entries by the element's bits taken as an unsigned number: those of 0 upwards, then those of the least upwards."""

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The argument."""
        return (Operand(self.channels * self.pixels, self.channels, self.input_bits),)

    @property
    def lanes_limit(self) -> int:
        """What the lanes of its streams divide."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """As many as come in."""
        return self.channels


@dataclass(frozen=True, eq=False)
class AddLayer(_Layer):
    """Sum of two streams of different scales with one rounding."""

    channels: int
    pixels: int
    input_bits: tuple[int, int]
    sum: ops.AddRequantize

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Both addends."""
        return tuple(Operand(self.channels * self.pixels, self.channels, bits) for bits in self.input_bits)

    @property
    def lanes_limit(self) -> int:
        """What the lanes of its streams divide."""
        return self.channels

    @property
    def out_channels(self) -> int:
        """Channels of each output pixel."""
        return self.channels


@dataclass(frozen=True, eq=False)
class ConcatLayer(_Layer):
    """The channels of several streams one behind another, pixel by pixel."""

    channels: tuple[int, ...]
    pixels: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The parts."""
        return tuple(Operand(count * self.pixels, count, self.output_bits) for count in self.channels)

    @property
    def lanes_limit(self) -> int:
        """What the lanes of its streams divide."""
        return math.gcd(*self.channels)

    @property
    def out_channels(self) -> int:
        """Those of all together."""
        return sum(self.channels)


WindowedLayer = MatrixLayer | DepthwiseLayer | PoolLayer
Layer = MatrixLayer | DepthwiseLayer | PoolLayer | ArgMaxLayer | LookupLayer | AddLayer | ConcatLayer


@dataclass(frozen=True)
class Reader:
    """Where a stream goes: an operand of a layer, or the design's output.

    Parameters
    ----------
    layer : int
        Position, or :data:`OUTPUT`.
    operand : int
        Of the layer.
    """

    layer: int
    operand: int = 0


@dataclass(frozen=True, eq=False)
class StreamGraph:
    """Layers in topological order, and how the streams at both ends relate to tensors.

    Parameters
    ----------
    input, output : Tensor
        The integer tensors at the design's input and output.
    input_layout, output_layout : ndarray of int64
        Row-major index (within one sample) of each stream position.
    input_channels : int
        Elements of a pixel of the input.
    layers : tuple of Layer
    sources : tuple of tuple of int
        For each layer the layer that each of its operands comes from, or :data:`INPUT`.
    last : int
        The layer whose stream is the design's output.
    """

    input: Tensor
    output: Tensor
    input_layout: IntArray
    output_layout: IntArray
    input_channels: int
    layers: tuple[Layer, ...]
    sources: tuple[tuple[int, ...], ...]
    last: int

    @cached_property
    def readers(self) -> dict[int, tuple[Reader, ...]]:
        """Who takes the stream of each layer, and of :data:`INPUT`."""
        found: dict[int, list[Reader]] = {position: [] for position in range(INPUT, len(self.layers))}
        for position, sources in enumerate(self.sources):
            for operand, source in enumerate(sources):
                found[source].append(Reader(position, operand))
        found[self.last].append(Reader(OUTPUT))
        return {position: tuple(entries) for position, entries in found.items()}

    def forked(self, position: int, operand: int) -> bool:
        """Whether others take the stream of an operand too."""
        return len(self.readers[self.sources[position][operand]]) > 1


def channels_last(shape: tuple[int, ...]) -> tuple[IntArray, int]:
    """Layout that streams a (1, C, ...) tensor pixel by pixel, and the elements per pixel; vectors stream in order."""
    index = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    if len(shape) < 3:
        return index.reshape(-1), index.size
    return np.moveaxis(index[0], 0, -1).reshape(-1), shape[1]
