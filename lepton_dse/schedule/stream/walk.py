"""A lowered graph read as stream stages.

Operations that only rename elements (Reshape, Transpose) cost nothing: they change the *layout*, the logical index of each
stream position, and the weights of a dense layer are stored in that order. A function of one element is a table, a Clip moves
back into the rounding before it where nothing else reads what lies between. What no stage can do comes back as violations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import evaluate
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.quantize import integer_bounds
from lepton_dse.plan import Violation
from lepton_dse.rtl_library import TABLE_BITS
from lepton_dse.schedule.stream.layers import (
    INPUT,
    AddLayer,
    ArgMaxLayer,
    ConcatLayer,
    DepthwiseLayer,
    IntArray,
    Layer,
    LookupLayer,
    MatrixLayer,
    PoolLayer,
    Rounding,
    StreamGraph,
    channels_last,
)
from lepton_dse.schedule.stream.stages import window_shape

__all__ = ["stream_graph"]

_ELSEWHERE = ("emit it as cpp", "choose another target family")


@dataclass(frozen=True)
class _Stream:
    """A tensor on a stream: its layout, elements per pixel, and the layer that it comes from."""

    tensor: Tensor
    layout: IntArray
    channels: int
    layer: int

    @property
    def pixels(self) -> int:
        return len(self.layout) // self.channels


def stream_graph(graph: LoweredGraph) -> StreamGraph | tuple[Violation, ...]:
    """Read a lowered graph as stream stages.

    The design starts behind the Quantize of the graph's only input and ends at the last integer tensor: a trailing Dequantize,
    and a Softmax behind it, stay with the host.

    Returns
    -------
    StreamGraph
        Or, if the graph is no such design, one violation for each operation at fault.
    """
    walk = _Walk(graph)
    walk.run()
    return tuple(walk.violations) if walk.violations else walk.found()


class _Walk:
    def __init__(self, graph: LoweredGraph) -> None:
        self.graph = graph
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []
        self.violations: list[Violation] = []
        self.start: _Stream | None = None
        self.streams: dict[str, _Stream] = {}
        self.lost: set[str] = set()
        """Tensors behind a refused operation."""
        self.reals: set[str] = set()
        self.last = ""

    def run(self) -> None:
        if len(self.graph.inputs) != 1 or len(self.graph.outputs) != 1:
            self.refuse("the model", "one input and one output make a stream", ("split the model",))
            return
        tail = self.host_tail()
        for op in self.graph.ops:
            if op.name in tail:
                continue
            varying = [name for name in op.inputs if name not in self.graph.constants]
            # What reads the result of a refused operation is not at fault.
            if self.lost.isdisjoint(varying):
                self.read(op, varying)
            if op.output not in self.streams and op.output not in self.reals:
                self.lost.add(op.output)
        if not self.violations and (self.last not in self.streams or self.streams[self.last].layer == INPUT):
            self.refuse("the model", "nothing in it computes on integers", ("quantize it with an integer format",))

    def read(self, op: Op, varying: list[str]) -> None:
        """One operation: the Quantize in front, a join, or one that takes a stream."""
        if isinstance(op.attributes, ops.Quantize) and varying == list(self.graph.inputs) and self.start is None:
            self.begin(self.graph.tensors[op.output])
        elif isinstance(op.attributes, ops.Dequantize) and op.inputs[0] in self.streams:
            self.reals.add(op.output)
        elif not self.reals.isdisjoint(varying):
            self.refuse(f"{op.kind} '{op.name}'", "it computes on reals", ("quantize it with an integer format", *_ELSEWHERE))
        elif not varying or any(name not in self.streams for name in varying):
            self.refuse(f"{op.kind} '{op.name}'", "its operands are not streams", _ELSEWHERE)
        elif isinstance(op.attributes, ops.AddRequantize | ops.Concat):
            self.join(op, [self.streams.get(name) for name in op.inputs])
        elif op.inputs[0] not in self.streams or len(varying) > 1:
            self.refuse(f"{op.kind} '{op.name}'", "its operands are not one stream", _ELSEWHERE)
        else:
            self.step(op, self.streams[op.inputs[0]])

    def host_tail(self) -> set[str]:
        """Trailing operations on reals, which the host performs on the last integer tensor; finds that tensor."""
        tail: set[str] = set()
        self.last = self.graph.outputs[0]
        while (op := self.graph.producer(self.last)) is not None and not self.graph.tensors[self.last].format.is_integer:
            if not isinstance(op.attributes, ops.Dequantize | ops.Softmax | ops.Reshape) or self.read_elsewhere(op):
                break
            tail.add(op.name)
            self.last = op.inputs[0]
        return tail

    def read_elsewhere(self, op: Op) -> bool:
        """Whether more than one operation reads the result of a real operation."""
        return len(self.graph.consumers(op.output)) > 1

    def found(self) -> StreamGraph:
        assert self.start is not None, "a walk without violations has both ends"
        end = self.streams[self.last]
        return StreamGraph(
            self.start.tensor,
            end.tensor,
            self.start.layout,
            end.layout,
            self.start.channels,
            tuple(self.layers),
            tuple(self.sources),
            end.layer,
        )

    def refuse(self, where: str, why: str, levers: tuple[str, ...]) -> None:
        self.violations.append(Violation(what=f"{where}: {why}", demand=1, bound=0, unit="stream module", levers=levers))

    def begin(self, tensor: Tensor) -> None:
        layout, channels = channels_last(tensor.shape)
        self.start = self.streams[tensor.name] = _Stream(tensor, layout, channels, INPUT)

    def renamed(self, stream: _Stream, output: Tensor, layout: IntArray | None = None) -> None:
        """The same stream under another tensor's name."""
        self.streams[output.name] = replace(stream, tensor=output, layout=stream.layout if layout is None else layout)

    def append(self, layer: Layer, sources: tuple[int, ...], output: Tensor, layout: IntArray, channels: int) -> None:
        """A layer, and the stream that it makes."""
        self.layers.append(layer)
        self.sources.append(sources)
        self.streams[output.name] = _Stream(output, layout, channels, len(self.layers) - 1)

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
                rounded = self.rounding(op, output.shape[1])
                if rounded is not None:
                    self.pool(op, op.attributes.window, stream, output, rounded)
            case ops.Requantize():
                self.requantize(op, stream, output)
            case ops.Clip():
                self.clip(op, op.attributes, stream, output)
            case ops.Lookup():
                self.table(op, stream, output)
            case ops.Reshape():
                self.renamed(stream, output)
            case ops.Transpose(permutation):
                index = np.arange(stream.tensor.elements).reshape(stream.tensor.shape)
                moved = index.transpose(permutation).reshape(-1)
                position = np.empty_like(moved)
                position[moved] = np.arange(moved.size)
                self.renamed(stream, output, position[stream.layout])
            case ops.ArgMax():
                self.argmax(op, stream, output)
            case _:
                self.refuse(f"{op.kind} '{op.name}'", "there is no stream module for it", _ELSEWHERE)

    def requantize(self, op: Op, stream: _Stream, output: Tensor) -> None:
        """Behind an accumulation it is part of that layer; elsewhere a table."""
        producer = self.graph.producer(stream.tensor.name)
        if producer is not None and isinstance(producer.attributes, ops.Conv | ops.MatMul | ops.SumPool):
            self.renamed(stream, output)
        else:
            self.table(op, stream, output)

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
        padded = any(window.pads_begin) or any(window.pads_end)
        try:
            if padded or window.taps > 1:
                window_shape(window, (extent[0], extent[1]), 1)
        except LeptonError as error:
            self.refuse(f"{op.kind} '{op.name}'", error.what, ("pad less", *_ELSEWHERE))
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
        depthwise = attributes.groups == stream.channels == output.shape[1] and attributes.groups > 1
        if attributes.groups != 1 and not depthwise:
            what = (
                f"{attributes.groups} groups for {stream.channels} channels and {output.shape[1]} outputs have no stream module"
            )
            self.refuse(f"{op.kind} '{op.name}'", what, ("use one group, or one group a channel", *_ELSEWHERE))
            return
        window = self.window(op, attributes.window, image[1]) if image else None
        rounded = self.rounding(op, output.shape[1])
        if image is None or window is None or rounded is None:
            return
        weights = np.asarray(self.graph.constants[op.inputs[1]], np.int64)
        weights = weights.reshape(weights.shape[0], weights.shape[1], *window.kernel).transpose(0, 2, 3, 1)
        if depthwise:
            self.weighted(DepthwiseLayer, op, image, window, weights[..., 0], attributes.pad_value, stream, rounded)
        else:
            self.weighted(MatrixLayer, op, image, window, weights, attributes.pad_value, stream, rounded)

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
        image, point = (len(stream.layout), (1, 1)), ops.Window.full((1, 1))
        self.weighted(MatrixLayer, op, image, point, weights[:, None, None, :], 0, stream, rounded)

    def weighted(
        self,
        kind: type[MatrixLayer | DepthwiseLayer],
        op: Op,
        image: tuple[int, tuple[int, int]],
        window: ops.Window,
        weights: IntArray,
        pad_value: int,
        stream: _Stream,
        rounded: tuple[Rounding, Tensor],
    ) -> None:
        """A layer that multiplies by constants."""
        output = self.graph.tensors[op.output]
        layer = kind(
            name=op.name,
            tensor=rounded[1].name,
            output_bits=rounded[1].format.bits,
            channels=image[0],
            extent=image[1],
            window=window,
            input_bits=stream.tensor.format.bits,
            pad_value=pad_value,
            weights=weights,
            bias=np.asarray(self.graph.constants[op.inputs[2]], np.int64),
            weight_bits=self.graph.tensors[op.inputs[1]].format.bits,
            accumulator_bits=output.format.bits,
            rounding=rounded[0],
        )
        self.append(layer, (stream.layer,), output, *channels_last(output.shape))

    def pool(self, op: Op, window: ops.Window, stream: _Stream, output: Tensor, rounded: tuple[Rounding, Tensor] | None) -> None:
        image = self.image(op, stream)
        flat = self.window(op, window, image[1]) if image else None
        if image is None or flat is None:
            return
        form = stream.tensor.format
        layer = PoolLayer(op.name, output.name, form.bits, *image, flat, form.bits, int(form.minimum), None)
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
        self.append(layer, (stream.layer,), output, *channels_last(output.shape))

    def join(self, op: Op, streams: list[_Stream | None]) -> None:
        """A sum, or channels one behind another."""
        given = [stream for stream in streams if stream is not None]
        output, where = self.graph.tensors[op.output], f"{op.kind} '{op.name}'"
        if len(given) < len(streams):
            self.refuse(where, "an operand is a constant", ("fold it into a bias", *_ELSEWHERE))
        elif isinstance(op.attributes, ops.AddRequantize):
            first, second = given
            if first.tensor.shape != second.tensor.shape or not np.array_equal(first.layout, second.layout):
                self.refuse(where, "its operands do not arrive in one order and shape", _ELSEWHERE)
                return
            bits = (first.tensor.format.bits, second.tensor.format.bits)
            channels = math.gcd(first.channels, second.channels)
            pixels = len(first.layout) // channels
            layer = AddLayer(op.name, output.name, output.format.bits, channels, pixels, bits, op.attributes)
            self.append(layer, (first.layer, second.layer), output, first.layout, channels)
        else:
            self.concat(op, given, output)

    def concat(self, op: Op, given: list[_Stream], output: Tensor) -> None:
        assert isinstance(op.attributes, ops.Concat), "joins are sums or this"
        where = f"{op.kind} '{op.name}'"
        rank = len(output.shape)
        if op.attributes.axis % rank != 1:
            self.refuse(where, "it does not join channels", ("join channels", *_ELSEWHERE))
            return
        if rank > 2 and any(not np.array_equal(stream.layout, channels_last(stream.tensor.shape)[0]) for stream in given):
            self.refuse(where, "its operands do not arrive pixel by pixel", _ELSEWHERE)
            return
        parts = tuple(stream.tensor.shape[1] for stream in given)
        layer = ConcatLayer(op.name, output.name, output.format.bits, parts, output.elements // output.shape[1])
        if rank > 2:
            layout, _ = channels_last(output.shape)
        else:
            starts = np.cumsum([0, *(len(stream.layout) for stream in given[:-1])])
            layout = np.concatenate([stream.layout + start for stream, start in zip(given, starts, strict=True)])
        self.append(layer, tuple(stream.layer for stream in given), output, layout, output.shape[1])

    def clip(self, op: Op, attributes: ops.Clip, stream: _Stream, output: Tensor) -> None:
        """Clamping and taking the maximum commute, so a clip moves back to the last rounding; else it is a table."""
        path = list(self.exclusive(stream.tensor.name))
        rounded = next((position for position in path if _rounds(self.layers[position])), None)
        if rounded is None:
            self.table(op, stream, output)
            return
        layer = self.layers[rounded]
        self.layers[rounded] = _clamped(layer, attributes)
        # The streams from there on carry clipped values, which only the last of them shares with the graph.
        for position in path[: path.index(rounded) + 1]:
            self.layers[position] = replace(self.layers[position], tensor="")
        # Behind a reshape or transpose the tensor's own order is not that of the stream.
        if np.array_equal(stream.layout, channels_last(output.shape)[0]):
            self.layers[stream.layer] = replace(self.layers[stream.layer], tensor=output.name)
        self.renamed(stream, output)

    def exclusive(self, tensor: str) -> Iterator[int]:
        """Layers from a tensor backwards up to one that rounds, as far as only max pools lie between and nothing else reads."""
        while len(self.graph.consumers(tensor)) == 1 and self.streams[tensor].layer != INPUT:
            op, position = self.graph.producer(tensor), self.streams[tensor].layer
            assert op is not None, "streams begin with a Quantize"
            if isinstance(op.attributes, ops.MaxPool):
                yield position
            elif _rounds(self.layers[position]) and not isinstance(op.attributes, ops.Reshape | ops.Transpose | ops.Clip):
                yield position
                return
            elif not isinstance(op.attributes, ops.Reshape | ops.Transpose | ops.Clip) or self.layers[position].name == op.name:
                return
            tensor = op.inputs[0]

    def table(self, op: Op, stream: _Stream, output: Tensor) -> None:
        """A function of each element, by its values for all elements that there are."""
        form, where = stream.tensor.format, f"{op.kind} '{op.name}'"
        if form.bits > TABLE_BITS:
            levers = (f"use activations of at most {TABLE_BITS} bits", *_ELSEWHERE)
            what = f"a table of {form.bits} bits is wider than {TABLE_BITS}"
            self.violations.append(
                Violation(what=f"{where}: {what}", demand=form.bits, bound=TABLE_BITS, unit="bits", levers=levers)
            )
            return
        constants = [np.asarray(self.graph.constants[name]) for name in op.inputs[1:]]
        if isinstance(op.attributes, ops.Requantize) and constants[0].size != 1:
            self.refuse(where, "its multiplier differs from channel to channel", _ELSEWHERE)
            return
        least, most = integer_bounds(form)
        elements = np.arange(least, most + 1, dtype=np.int64)
        tensors = [
            Tensor("elements", elements.shape, form, stream.tensor.quant),
            *(replace(self.graph.tensors[name]) for name in op.inputs[1:]),
        ]
        point = Op(op.name, op.attributes, tuple(tensor.name for tensor in tensors), "point")
        given = [elements.astype(form.numpy), *(value.reshape(-1) if value.size == 1 else value for value in constants)]
        values = evaluate(point, given, Tensor("point", elements.shape, output.format, output.quant), tensors)
        table = np.zeros(1 << form.bits, np.int64)
        table[elements & ((1 << form.bits) - 1)] = np.asarray(values, np.int64)
        layer = LookupLayer(op.name, output.name, output.format.bits, stream.channels, stream.pixels, form.bits, table)
        if not np.array_equal(stream.layout, channels_last(output.shape)[0]):
            layer = replace(layer, tensor="")
        self.append(layer, (stream.layer,), output, stream.layout, stream.channels)

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
            layer = ArgMaxLayer(op.name, output.name, bits, elements, stream.tensor.format.bits)
            self.append(layer, (stream.layer,), output, np.zeros(1, np.int64), 1)


def _rounds(layer: Layer) -> bool:
    """Whether a layer ends in a clamp that a clip can move into."""
    return isinstance(layer, AddLayer) or (
        isinstance(layer, MatrixLayer | DepthwiseLayer | PoolLayer) and layer.rounding is not None
    )


def _clamped(layer: Layer, clip: ops.Clip) -> Layer:
    if isinstance(layer, AddLayer):
        low, high = (int(min(max(bound, layer.sum.low), layer.sum.high)) for bound in (clip.low, clip.high))
        return replace(layer, sum=replace(layer.sum, low=low, high=high))
    assert isinstance(layer, MatrixLayer | DepthwiseLayer | PoolLayer), "only these round"
    rounding = layer.rounding
    assert rounding is not None, "chosen because it rounds"
    low, high = (int(min(max(bound, rounding.low), rounding.high)) for bound in (clip.low, clip.high))
    return replace(layer, rounding=replace(rounding, low=low, high=high))
