"""The layers of a streaming design: a lowered graph read as a chain of stream stages.

Streams are channels-last: pixel after pixel, and the channels of a pixel side by side or in folds. Operations that only
rename elements (Reshape, Transpose) cost nothing: they change the *layout*, the logical index of each stream position,
and the weights of a dense layer are stored in that order. What a chain cannot do comes back as violations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.plan import Violation

__all__ = ["ArgMaxLayer", "Chain", "Layer", "MatrixLayer", "PoolLayer", "Rounding", "channels_last", "stream_chain"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Rounding:
    """Requantisation of an accumulator stream: ``clamp(((acc * M[c] + 2**(shift-1)) >> shift) + zero, low, high)``."""

    multipliers: IntArray
    """One per channel."""
    shift: int
    zero: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class _Windowed:
    """A layer that sees its input image through a window."""

    name: str
    channels: int
    extent: tuple[int, int]
    """Input pixels: rows, columns."""
    window: ops.Window

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
class MatrixLayer(_Windowed):
    """A convolution (one group) or dense layer with its requantisation.

    A dense layer is a convolution whose input is one pixel.
    """

    outputs: int
    weights: IntArray
    """Shape (outputs, kernel height, kernel width, channels), channels in stream order."""
    bias: IntArray
    weight_bits: int
    input_bits: int
    accumulator_bits: int
    output_bits: int
    pad_value: int
    rounding: Rounding
    tensor: str
    """The graph's tensor that the stage's output stream carries; empty where a later clip moved into the stage."""

    @property
    def out_channels(self) -> int:
        """Channels of each output pixel."""
        return self.outputs


@dataclass(frozen=True, eq=False)
class PoolLayer(_Windowed):
    """A max pool, or an average pool as an exact sum with its requantisation."""

    input_bits: int
    output_bits: int
    pad_value: int
    rounding: Rounding | None
    """None for a max pool."""
    tensor: str
    """As for a matrix layer."""
    sum_bits: int = 0
    sum_start: int = 0
    """What a sum begins with: ``-taps * z``."""

    @property
    def out_channels(self) -> int:
        """Channels of each output pixel."""
        return self.channels


@dataclass(frozen=True, eq=False)
class ArgMaxLayer:
    """Index of the greatest of `channels` elements."""

    name: str
    channels: int
    input_bits: int
    output_bits: int
    tensor: str

    @property
    def out_channels(self) -> int:
        """One index."""
        return 1

    @property
    def pixels(self) -> int:
        """One output a frame."""
        return 1


Layer = MatrixLayer | PoolLayer | ArgMaxLayer


@dataclass(frozen=True, eq=False)
class Chain:
    """Stages in order, and how the streams at both ends relate to tensors.

    Parameters
    ----------
    input, output : Tensor
        The integer tensors at the design's input and output.
    input_layout, output_layout : ndarray of int64
        Row-major index (within one sample) of each stream position.
    layers : tuple of Layer
    """

    input: Tensor
    output: Tensor
    input_layout: IntArray
    output_layout: IntArray
    input_channels: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class _Stream:
    """State of the walk: the tensor on the stream, its layout, and elements per pixel."""

    tensor: Tensor
    layout: IntArray
    channels: int


def stream_chain(graph: LoweredGraph) -> Chain | tuple[Violation, ...]:
    """Read a lowered graph as a chain of stream stages.

    The chain starts behind the Quantize of the graph's only input and ends at the last integer tensor: a trailing
    Dequantize, and a Softmax behind it, stay with the host.

    Returns
    -------
    Chain
        Or, if the graph is no such chain, one violation for each operation at fault.
    """
    walk = _Walk(graph)
    walk.run()
    return tuple(walk.violations) if walk.violations else walk.chain()


class _Walk:
    def __init__(self, graph: LoweredGraph) -> None:
        self.graph = graph
        self.layers: list[Layer] = []
        self.violations: list[Violation] = []
        self.start: _Stream | None = None
        self.stream: _Stream | None = None

    def run(self) -> None:
        operations = list(self.graph.ops)
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            self.refuse("the model", "one input and one output make a stream", ("split the model",))
            return
        tail = self.host_tail(operations)
        for index, op in enumerate(operations):
            if op.name in tail:
                continue
            if isinstance(op.attributes, ops.Quantize) and index == 0:
                self.begin(self.graph.tensors[op.output])
            elif (
                self.stream is None
                or op.inputs[0] != self.stream.tensor.name
                or any(name not in self.graph.constants for name in op.inputs[1:])
            ):
                self.refuse(f"{op.kind} '{op.name}'", "its operands are not one stream", _ELSEWHERE)
            elif len(self.graph.consumers(op.output)) > 1:
                self.refuse(f"{op.kind} '{op.name}'", "its result has several readers", _ELSEWHERE)
            else:
                self.step(op, self.stream)
        if not self.violations and not self.layers:
            self.refuse("the model", "nothing in it computes on integers", ("quantize it with an integer format",))

    def host_tail(self, operations: list[Op]) -> set[str]:
        """Trailing operations on reals, which the host performs on the last integer tensor."""
        tail: set[str] = set()
        for op in reversed(operations):
            if not isinstance(op.attributes, ops.Dequantize | ops.Softmax | ops.Reshape):
                break
            if isinstance(op.attributes, ops.Reshape) and self.graph.tensors[op.output].format.is_integer:
                break
            tail.add(op.name)
        return tail

    def chain(self) -> Chain:
        assert self.start is not None, "a walk without violations has both ends"
        assert self.stream is not None, "a walk without violations has both ends"
        return Chain(
            self.start.tensor,
            self.stream.tensor,
            self.start.layout,
            self.stream.layout,
            self.start.channels,
            tuple(self.layers),
        )

    def refuse(self, where: str, why: str, levers: tuple[str, ...]) -> None:
        self.violations.append(Violation(what=f"{where}: {why}", demand=1, bound=0, unit="stream module", levers=levers))

    def begin(self, tensor: Tensor) -> None:
        layout, channels = channels_last(tensor.shape)
        self.start = self.stream = _Stream(tensor, layout, channels)

    def step(self, op: Op, stream: _Stream) -> None:
        output = self.graph.tensors[op.output]
        match op.attributes:
            case ops.Conv():
                self.conv(op, op.attributes, stream, output)
            case ops.MatMul():
                self.dense(op, stream, output)
            case ops.MaxPool(window):
                self.pool(op, window, stream, output, None)
            case ops.SumPool():
                self.sum_pool(op, op.attributes, stream)
            case ops.Requantize():
                self.stream = replace(stream, tensor=output)
            case ops.Clip():
                self.clip(op, op.attributes, stream, output)
            case ops.Reshape():
                self.stream = replace(stream, tensor=output)
            case ops.Transpose(permutation):
                index = np.arange(stream.tensor.elements).reshape(stream.tensor.shape)
                moved = index.transpose(permutation).reshape(-1)
                position = np.empty_like(moved)
                position[moved] = np.arange(moved.size)
                self.stream = replace(stream, tensor=output, layout=position[stream.layout])
            case ops.ArgMax():
                self.argmax(op, stream, output)
            case _:
                self.refuse(f"{op.kind} '{op.name}'", "there is no stream module for it", _ELSEWHERE)

    def image(self, op: Op, stream: _Stream) -> tuple[int, tuple[int, int]] | None:
        """Channels and extent of a stream that carries an image pixel by pixel; one spatial axis becomes one row."""
        shape = stream.tensor.shape
        expected, channels = channels_last(shape)
        if len(shape) not in (3, 4) or not np.array_equal(stream.layout, expected):
            self.refuse(f"{op.kind} '{op.name}'", "its input does not arrive pixel by pixel", _ELSEWHERE)
            return None
        return channels, ((1, shape[2]) if len(shape) == 3 else (shape[2], shape[3]))

    def window(self, op: Op, window: ops.Window, extent: tuple[int, int]) -> ops.Window | None:
        if len(window.kernel) == 1:
            window = ops.Window(
                (1, *window.kernel), (1, *window.strides), (1, *window.dilations), (0, *window.pads_begin), (0, *window.pads_end)
            )
        where = f"{op.kind} '{op.name}'"
        if any(dilation != 1 for dilation in window.dilations):
            self.refuse(where, "dilated windows have no stream module", ("train it without dilation", *_ELSEWHERE))
            return None
        positions = window.output_extent(extent)
        if any((count - 1) * stride > size for count, stride, size in zip(positions, window.strides, extent, strict=True)):
            self.refuse(where, "a window lies wholly in the padding", ("pad less", *_ELSEWHERE))
            return None
        return window

    def rounding(self, op: Op, channels: int) -> tuple[Rounding, Tensor] | None:
        """The Requantize behind an accumulation, with one multiplier a channel."""
        following = self.graph.consumers(op.output)[0]
        attributes = following.attributes
        assert isinstance(attributes, ops.Requantize), "lowering puts a Requantize behind every accumulation"
        values = np.asarray(self.graph.constants[following.inputs[1]], np.int64)
        # One multiplier, or one for each channel; per-pixel divisors have extents behind the channel axis.
        if values.size != 1 and (values.size != channels or values.shape[min(1, values.ndim - 1)] != channels):
            self.refuse(
                f"{op.kind} '{op.name}'",
                "its divisor differs from pixel to pixel",
                ("count the padding in averages", *_ELSEWHERE),
            )
            return None
        multipliers = np.broadcast_to(values.reshape(-1), (channels,))
        found = Rounding(multipliers, attributes.shift, attributes.zero, attributes.low, attributes.high)
        return found, self.graph.tensors[following.output]

    def conv(self, op: Op, attributes: ops.Conv, stream: _Stream, output: Tensor) -> None:
        image = self.image(op, stream)
        if attributes.groups != 1:
            self.refuse(f"{op.kind} '{op.name}'", "grouped convolutions have no stream module", _ELSEWHERE)
            return
        window = self.window(op, attributes.window, image[1]) if image else None
        rounded = self.rounding(op, output.shape[1])
        if image is None or window is None or rounded is None:
            return
        weights = np.asarray(self.graph.constants[op.inputs[1]], np.int64)
        weights = weights.reshape(weights.shape[0], weights.shape[1], *window.kernel).transpose(0, 2, 3, 1)
        self.matrix(op, image, window, weights, attributes.pad_value, stream, output, rounded)
        layout, channels = channels_last(output.shape)
        self.stream = _Stream(output, layout, channels)

    def dense(self, op: Op, stream: _Stream, output: Tensor) -> None:
        shape = stream.tensor.shape
        if stream.tensor.elements != shape[-1]:
            self.refuse(
                f"{op.kind} '{op.name}'", f"it multiplies {stream.tensor.elements // shape[-1]} rows a sample", _ELSEWHERE
            )
            return
        rounded = self.rounding(op, output.shape[-1])
        if rounded is None:
            return
        weights = np.asarray(self.graph.constants[op.inputs[1]], np.int64)[stream.layout].T
        image = (len(stream.layout), (1, 1))
        self.matrix(op, image, ops.Window.full((1, 1)), weights[:, None, None, :], 0, stream, output, rounded)
        self.stream = _Stream(output, np.arange(output.elements), output.elements)

    def matrix(
        self,
        op: Op,
        image: tuple[int, tuple[int, int]],
        window: ops.Window,
        weights: IntArray,
        pad_value: int,
        stream: _Stream,
        output: Tensor,
        rounded: tuple[Rounding, Tensor],
    ) -> None:
        self.layers.append(
            MatrixLayer(
                name=op.name,
                channels=image[0],
                extent=image[1],
                window=window,
                outputs=len(weights),
                weights=weights,
                bias=np.asarray(self.graph.constants[op.inputs[2]], np.int64),
                weight_bits=self.graph.tensors[op.inputs[1]].format.bits,
                input_bits=stream.tensor.format.bits,
                accumulator_bits=output.format.bits,
                output_bits=rounded[1].format.bits,
                pad_value=pad_value,
                rounding=rounded[0],
                tensor=rounded[1].name,
            )
        )

    def pool(self, op: Op, window: ops.Window, stream: _Stream, output: Tensor, rounded: tuple[Rounding, Tensor] | None) -> None:
        image = self.image(op, stream)
        flat = self.window(op, window, image[1]) if image else None
        if image is None or flat is None:
            return
        bits = stream.tensor.format.bits
        layer = PoolLayer(op.name, image[0], image[1], flat, bits, bits, int(stream.tensor.format.minimum), None, output.name)
        if rounded is not None:
            assert isinstance(op.attributes, ops.SumPool), "only sums are rounded"
            layer = replace(
                layer,
                pad_value=op.attributes.offset,
                rounding=rounded[0],
                tensor=rounded[1].name,
                output_bits=rounded[1].format.bits,
                sum_bits=output.format.bits,
                sum_start=-flat.taps * op.attributes.offset,
            )
        self.layers.append(layer)
        layout, channels = channels_last(output.shape)
        self.stream = _Stream(output, layout, channels)

    def sum_pool(self, op: Op, attributes: ops.SumPool, stream: _Stream) -> None:
        output = self.graph.tensors[op.output]
        rounded = self.rounding(op, output.shape[1])
        if rounded is not None:
            self.pool(op, attributes.window, stream, output, rounded)

    def clip(self, op: Op, attributes: ops.Clip, stream: _Stream, output: Tensor) -> None:
        """Clamping and taking the maximum commute, so a clip moves back to the last rounding."""
        for index in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[index]
            if not isinstance(layer, ArgMaxLayer) and layer.rounding is not None:
                rounding = layer.rounding
                low, high = (int(min(max(bound, rounding.low), rounding.high)) for bound in (attributes.low, attributes.high))
                self.layers[index] = replace(layer, rounding=replace(rounding, low=low, high=high))
                # The streams from there on carry clipped values, which only the last of them shares with the graph.
                self.layers[index:] = [replace(entry, tensor="") for entry in self.layers[index:]]
                # Behind a reshape or transpose the tensor's own order is not that of the stream.
                if np.array_equal(stream.layout, channels_last(output.shape)[0]):
                    self.layers[-1] = replace(self.layers[-1], tensor=output.name)
                self.stream = replace(stream, tensor=output)
                return
        self.refuse(
            f"{op.kind} '{op.name}'", "no rounding comes before it that could clamp", ("clip the data instead", *_ELSEWHERE)
        )

    def argmax(self, op: Op, stream: _Stream, output: Tensor) -> None:
        attributes = op.attributes
        assert isinstance(attributes, ops.ArgMax), "dispatched by kind"
        elements = stream.tensor.elements
        if stream.tensor.shape[attributes.axis] != elements or not np.array_equal(stream.layout, np.arange(elements)):
            self.refuse(f"{op.kind} '{op.name}'", "it does not reduce one whole vector in order", _ELSEWHERE)
        elif attributes.last:
            self.refuse(f"{op.kind} '{op.name}'", "ties go to the last index", ("let ties go to the first", *_ELSEWHERE))
        else:
            bits = max(1, (elements - 1).bit_length())
            self.layers.append(ArgMaxLayer(op.name, elements, stream.tensor.format.bits, bits, output.name))
            self.stream = _Stream(output, np.zeros(1, np.int64), 1)


_ELSEWHERE = ("emit it as cpp", "choose another target family")


def channels_last(shape: tuple[int, ...]) -> tuple[IntArray, int]:
    """Layout that streams a (1, C, ...) tensor pixel by pixel, and the elements per pixel; vectors stream in order."""
    index = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    if len(shape) < 3:
        return index.reshape(-1), index.size
    return np.moveaxis(index[0], 0, -1).reshape(-1), shape[1]
