"""One layer as instances of RTL modules::

    operand: [FIFO behind a fork] -> [narrowing] -> [sliding window] \\
                                                                     -> unit -> [requantize] -> [widening] -> FIFO -> [fork]
    operand: [FIFO behind a fork] -> [narrowing]                     /

A FIFO with registered ready ends every stage, so that no path of ready signals crosses a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from lepton_dse import rtl_library as rtl
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.numerics.quantize import MULTIPLIER_BITS
from lepton_dse.schedule.stream.instances import Folding, Instance, Memory, MemoryPort
from lepton_dse.schedule.stream.layers import (
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
    WindowedLayer,
)

__all__ = ["Stage", "fifo", "fork", "stage_of", "window_shape"]

_SHALLOW = 128  # words from which a memory is worth a block RAM


@dataclass(frozen=True, eq=False)
class Stage:
    """One layer as instances.

    Parameters
    ----------
    layer : Layer
    folding : Folding
    feeds : tuple of tuple of Instance
        What stands in front of each operand, in stream order.
    body : tuple of Instance
        Behind them, in stream order; its FIFO is the last. The first takes the first two feeds, or the only one, and of more
        feeds each is taken by one instance more, beside what comes from the one before it.
    lanes : int
        Elements of a word behind the FIFO.
    """

    layer: Layer
    folding: Folding
    feeds: tuple[tuple[Instance, ...], ...]
    body: tuple[Instance, ...]
    lanes: int

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All of them, each behind those that it takes a stream from."""
        return (*(instance for feed in self.feeds for instance in feed), *self.body)


def stage_of(prefix: str, layer: Layer, folding: Folding, lanes: tuple[int, ...], wanted: int | None = None) -> Stage:
    """The stage of a layer.

    Parameters
    ----------
    prefix : str
        Of the instances' names.
    layer : Layer
    folding : Folding
    lanes : tuple of int
        Elements of a word of each stream that arrives.
    wanted : int, optional
        Lanes that the only stage behind takes. Words are widened before the FIFO and narrowed behind it: a stage that takes its
        input in bursts and then works on it would otherwise find the FIFO full of narrow words, and wait for them to be put
        together one a cycle.

    Raises
    ------
    LeptonError
        If the folding does not divide the layer's channels, or a module cannot be built so.
    """
    outputs = layer.outputs if isinstance(layer, MatrixLayer) else folding.pe
    if layer.lanes_limit % folding.simd or outputs % folding.pe:
        raise LeptonError(
            f"a folding of {folding.pe} by {folding.simd} does not divide {layer.out_channels} by {layer.lanes_limit}"
        )
    if folding.feed_depths and len(folding.feed_depths) != len(lanes):
        raise LeptonError(f"{len(folding.feed_depths)} depths for {len(lanes)} operands")
    feeds = tuple(
        _feed(f"{prefix}_in{number}" if len(lanes) > 1 else f"{prefix}_in", operand.bits, have, folding, number)
        for number, (operand, have) in enumerate(zip(layer.operands, lanes, strict=True))
    )
    body, given = _unit(prefix, layer, folding)
    if wanted is not None and given % wanted:
        body += _converters(f"{prefix}_out", layer.output_bits, given, wanted)
        given = wanted
    body.append(fifo(f"{prefix}_fifo", given * layer.output_bits, folding.fifo_depth))
    return Stage(layer, folding, feeds, tuple(body), given)


def _feed(prefix: str, bits: int, lanes: int, folding: Folding, operand: int) -> tuple[Instance, ...]:
    depth = folding.feed_depth(operand)
    before = [fifo(f"{prefix}_fifo", lanes * bits, depth)] if depth else []
    return (*before, *_converters(prefix, bits, lanes, folding.simd))


def _unit(prefix: str, layer: Layer, folding: Folding) -> tuple[list[Instance], int]:
    """The instances that compute a layer, and the lanes that they give."""
    simd = folding.simd
    match layer:
        case MatrixLayer():
            rounding = _rounding(prefix, layer.rounding, layer.accumulator_bits, layer.output_bits, folding.pe)
            return [*_window(prefix, layer, folding), _matrix(prefix, layer, folding), rounding], folding.pe
        case DepthwiseLayer():
            rounding = _rounding(prefix, layer.rounding, layer.accumulator_bits, layer.output_bits, simd)
            return [*_window(prefix, layer, folding), _depthwise(prefix, layer, folding), rounding], simd
        case PoolLayer():
            return [*_window(prefix, layer, folding), *_pool(prefix, layer, folding)], simd
        case ArgMaxLayer():
            greatest = rtl.Argmax(layer.input_bits, simd, layer.channels // simd, layer.output_bits)
            return [_instance(f"{prefix}_argmax", "argmax", greatest)], 1
        case LookupLayer():
            entries = rtl.Lookup(layer.input_bits, layer.output_bits, simd)
            table = Memory(MemoryPort.TABLE, len(layer.table), 1, layer.output_bits, lambda: layer.table, simd)
            return [_instance(f"{prefix}_lookup", "lookup", entries, (table,))], simd
        case AddLayer():
            return [_instance(f"{prefix}_add", "add_requantize", _addition(layer, simd))], simd
        case ConcatLayer():
            return _concatenation(prefix, layer, simd), simd


def _instance(name: str, module: str, parameters: rtl.Parameters, memories: tuple[Memory, ...] = ()) -> Instance:
    return Instance(name, rtl.MODULES[module], parameters, memories)


def fifo(name: str, width: int, depth: int) -> Instance:
    """A FIFO of `depth` words of `width` bits."""
    return _instance(name, "stream_fifo", rtl.StreamFifo(width, depth, _style(depth)))


def fork(name: str, width: int, copies: int) -> Instance:
    """The register behind a FIFO whose words several stages take."""
    return _instance(name, "stream_fork", rtl.StreamFork(width, copies))


def _converters(prefix: str, bits: int, lanes: int, wanted: int) -> list[Instance]:
    """Width converters from one number of lanes to another; two over the common divisor where neither divides the other."""
    found = []
    common = math.gcd(lanes, wanted)
    steps = [lanes, wanted] if common in (lanes, wanted) else [lanes, common, wanted]
    for index, (have, want) in enumerate(pairwise(steps)):
        if have != want:
            parameters = rtl.WidthConverter(element=bits, in_lanes=have, out_lanes=want)
            found.append(_instance(f"{prefix}{index}", "width_converter", parameters))
    return found


def _style(depth: int) -> rtl.MemoryStyle:
    return rtl.MemoryStyle.BLOCK if depth >= _SHALLOW else rtl.MemoryStyle.DISTRIBUTED


def window_shape(window: ops.Window, extent: tuple[int, int], folds: int) -> rtl.WindowShape:
    """The geometry of a window over an image.

    Raises
    ------
    LeptonError
        If the module's counters cannot follow it.
    """
    out_rows, out_columns = window.output_extent(extent)
    return rtl.WindowShape(
        folds=folds,
        rows=extent[0],
        cols=extent[1],
        kh=window.kernel[0],
        kw=window.kernel[1],
        sh=window.strides[0],
        sw=window.strides[1],
        dh=window.dilations[0],
        dw=window.dilations[1],
        pt=window.pads_begin[0],
        pl=window.pads_begin[1],
        oh=out_rows,
        ow=out_columns,
    )


def _window(prefix: str, layer: WindowedLayer, folding: Folding) -> list[Instance]:
    """The sliding window, where the stream's own order is not already that of one window after another."""
    window, columns = layer.window, layer.extent[1]
    padded = any(window.pads_begin) or any(window.pads_end)
    pointwise = window.taps == 1 and window.strides == (1, 1)
    whole = window.kernel == layer.extent and layer.pixels == 1
    if not padded and (pointwise or whole):
        return []
    shape = window_shape(window, layer.extent, layer.channels // folding.simd)
    if folding.buffer_rows is None:
        buffer = max(shape.recommended_buffer, shape.minimum_buffer)
    else:
        buffer = shape.minimum_buffer + folding.buffer_rows * columns * shape.folds
    parameters = rtl.SlidingWindow(
        **vars(shape), element=layer.input_bits, lanes=folding.simd, pad=layer.pad_value, buffer=buffer, style=_style(buffer)
    )
    return [_instance(f"{prefix}_window", "sliding_window", parameters)]


def _matrix(prefix: str, layer: MatrixLayer, folding: Folding) -> Instance:
    pe, simd = folding.pe, folding.simd
    nf, folds = layer.outputs // pe, layer.channels // simd
    sf = layer.window.taps * folds
    parameters = rtl.MatrixVectorUnit(
        a_width=layer.input_bits,
        w_width=layer.weight_bits,
        acc_width=layer.accumulator_bits,
        pe=pe,
        simd=simd,
        nf=nf,
        sf=sf,
        mult=folding.multiplier,
        style=_style(sf),
    )

    def image() -> IntArray:
        # Word nf * SF + (tap * folds + fold) holds PE rows of SIMD columns, column fastest.
        return layer.weights.reshape(nf, pe, layer.window.taps, folds, simd).transpose(0, 2, 3, 1, 4)

    weights = Memory(MemoryPort.WEIGHTS, nf * sf, pe * simd, layer.weight_bits, image)
    bias = Memory(MemoryPort.BIAS, nf, pe, layer.accumulator_bits, lambda: layer.bias)
    return _instance(f"{prefix}_matrix", "matrix_vector_unit", parameters, (weights, bias))


def _depthwise(prefix: str, layer: DepthwiseLayer, folding: Folding) -> Instance:
    simd, folds, taps = folding.simd, layer.channels // folding.simd, layer.window.taps
    parameters = rtl.DepthwiseUnit(
        a_width=layer.input_bits,
        w_width=layer.weight_bits,
        acc_width=layer.accumulator_bits,
        lanes=simd,
        folds=folds,
        taps=taps,
        mult=folding.multiplier,
    )
    # Word tap * folds + fold holds the weights of SIMD channels.
    weights = Memory(MemoryPort.WEIGHTS, taps * folds, simd, layer.weight_bits, lambda: layer.weights.reshape(-1, taps).T)
    bias = Memory(MemoryPort.BIAS, folds, simd, layer.accumulator_bits, lambda: layer.bias)
    return _instance(f"{prefix}_depthwise", "depthwise_unit", parameters, (weights, bias))


def _addition(layer: AddLayer, lanes: int) -> rtl.AddRequantize:
    total = layer.sum
    return rtl.AddRequantize(
        a_width=layer.input_bits[0],
        b_width=layer.input_bits[1],
        zero_a=total.zero_a,
        zero_b=total.zero_b,
        multiplier_a=total.multiplier_a,
        multiplier_b=total.multiplier_b,
        m_width=MULTIPLIER_BITS,
        shift=total.shift,
        out_width=layer.output_bits,
        zero=total.zero,
        low=total.low,
        high=total.high,
        lanes=lanes,
    )


def _concatenation(prefix: str, layer: ConcatLayer, lanes: int) -> list[Instance]:
    """One module for each part behind the first, in a row."""
    found, before = [], layer.channels[0] // lanes
    for number, count in enumerate(layer.channels[1:]):
        joined = rtl.StreamConcat(lanes * layer.output_bits, before, count // lanes)
        found.append(_instance(f"{prefix}_concat{number}", "stream_concat", joined))
        before += count // lanes
    return found


def _rounding(prefix: str, rounding: Rounding, accumulator_bits: int, output_bits: int, lanes: int) -> Instance:
    multipliers: IntArray = rounding.multipliers
    uniform = bool((multipliers == multipliers[0]).all())
    folds = 1 if uniform else len(multipliers) // lanes
    parameters = rtl.Requantize(
        acc_width=accumulator_bits,
        m_width=MULTIPLIER_BITS,
        shift=rounding.shift,
        out_width=output_bits,
        zero=rounding.zero,
        low=rounding.low,
        high=rounding.high,
        pe=lanes,
        nf=folds,
    )
    memory = Memory(MemoryPort.MULTIPLIERS, folds, lanes, MULTIPLIER_BITS, lambda: multipliers[: folds * lanes])
    return _instance(f"{prefix}_requantize", "requantize", parameters, (memory,))


def _pool(prefix: str, layer: PoolLayer, folding: Folding) -> list[Instance]:
    lanes, folds = folding.simd, layer.channels // folding.simd
    if layer.rounding is None:
        peak = rtl.MaxPool(element=layer.input_bits, lanes=lanes, folds=folds, taps=layer.window.taps)
        return [_instance(f"{prefix}_max", "max_pool", peak)]
    average = rtl.AveragePool(
        element=layer.input_bits,
        lanes=lanes,
        folds=folds,
        taps=layer.window.taps,
        sum_width=layer.sum_bits,
        init=layer.sum_start,
    )
    return [
        _instance(f"{prefix}_sum", "average_pool", average),
        _rounding(prefix, layer.rounding, layer.sum_bits, layer.output_bits, lanes),
    ]
