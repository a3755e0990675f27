"""Matrix products, convolutions and windows.

Real sums are taken in float32, products of narrower floats being exact there. Integer sums are taken in the type of the result,
at least 32 bits wide: it counts modulo a power of two, so that whatever fits it at the end is exact. Integers of up to 8 bits
with a sign are multiplied as they are stored, others widened first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.types import element_type, is_float, tensor_type, width
from lepton_dse.ir import ops
from lepton_dse.ir.tensors import Tensor

__all__ = ["RULES", "accumulator", "scales_channels", "sum_windows", "taps_counted"]

_HIGHEST = "[HIGHEST, HIGHEST]"
_BYTES = ("f8E4M3FN", "f8E5M2")


def accumulator(output: Tensor) -> str:
    """The integer type that sums are taken in."""
    kind = element_type(output.format)
    return kind if kind in ("i64", "ui64") else "i32" if kind != "ui32" else kind


def _operands(body: Body, x: Value, w: Value, output: Tensor) -> tuple[Value, Value, str]:
    """Both operands in one type, and the type of the sum."""
    if is_float(x.kind):
        sums = "f64" if "f64" in (x.kind, w.kind) else "f32"
        if x.kind == w.kind and x.kind not in _BYTES and not body.widen:
            return x, w, sums
        kind = "bf16" if x.kind in _BYTES and w.kind in _BYTES and not body.widen else sums  # which holds every float of 8 bits
        return body.convert(x, kind), body.convert(w, kind), sums
    sums = accumulator(output)
    if x.kind == w.kind == "i8" and sums == "i32" and not body.widen:
        return x, w, sums
    return body.convert(x, sums), body.convert(w, sums), sums


def _biased(body: Body, total: Value, inputs: list[Value], axis: int) -> Value:
    if len(inputs) < 3:
        return total
    bias = body.convert(inputs[2], total.kind)
    return body.apply("add", total, body.broadcast(bias, total.shape, [axis]))


def _matmul(body: Body, _: ops.MatMul, inputs: list[Value], __: Sequence[Tensor], output: Tensor) -> Value:
    x, w, sums = _operands(body, inputs[0], inputs[1], output)
    vector = len(x.shape) == 1
    if vector:
        x = body.reshape(x, (1, *x.shape))
    if len(w.shape) == 2:
        batch, batching, rows = x.shape[:-2], "", len(x.shape) - 1
        contracting = f"[{rows}] x [0]"
    else:
        batch = tuple(np.broadcast_shapes(x.shape[:-2], w.shape[:-2]))
        x, w = body.broadcast(x, (*batch, *x.shape[-2:])), body.broadcast(w, (*batch, *w.shape[-2:]))
        shared, rows = list(range(len(batch))), len(batch) + 1
        batching, contracting = f"batching_dims = {shared} x {shared}, ", f"[{rows}] x [{rows - 1}]"
    shape = (*batch, x.shape[-2], w.shape[-1])
    text = (
        f"stablehlo.dot_general {x.name}, {w.name}, {batching}contracting_dims = {contracting}, precision = {_HIGHEST}"
        f" : ({x.type}, {w.type}) -> {tensor_type(shape, sums)}"
    )
    total = body.emit(text, shape, sums)
    if vector:
        total = body.reshape(total, (*batch, w.shape[-1]))
    return _biased(body, total, inputs, len(total.shape) - 1)


def scales_channels(attributes: ops.Conv, x: tuple[int, ...], w: tuple[int, ...]) -> bool:
    """Whether a convolution multiplies each channel by a number: compilers make a dense one of it where it is written as such."""
    window = attributes.window
    plain = window.taps == 1 and set(window.strides) == {1} and not any((*window.pads_begin, *window.pads_end))
    return plain and attributes.groups == x[1] == w[0]


def _conv(body: Body, attributes: ops.Conv, inputs: list[Value], _: Sequence[Tensor], output: Tensor) -> Value:
    x, w, sums = _operands(body, inputs[0], inputs[1], output)
    window, spatial = attributes.window, len(attributes.window.kernel)
    if scales_channels(attributes, x.shape, w.shape):
        factors = body.broadcast(body.convert(body.reshape(w, (w.shape[0],)), sums), x.shape, [1])
        return _biased(body, body.apply("multiply", body.convert(x, sums), factors), inputs, 1)
    begin, end = window.pads_begin, window.pads_end
    if attributes.pad_value:  # the operation itself pads with zero alone
        x = body.pad(x, attributes.pad_value, (0, 0, *begin), (0, 0, *end))
        begin = end = (0,) * spatial
    axes = ", ".join(map(str, range(spatial)))
    ones, pads = [1] * spatial, [list(pair) for pair in zip(begin, end, strict=True)]
    precision = "#stablehlo<precision HIGHEST>"
    text = (
        f"stablehlo.convolution({x.name}, {w.name}) dim_numbers = [b, f, {axes}]x[o, i, {axes}]->[b, f, {axes}], "
        f"window = {{stride = {list(window.strides)}, pad = {pads}, lhs_dilate = {ones}, rhs_dilate = {list(window.dilations)}}} "
        f"{{batch_group_count = 1 : i64, feature_group_count = {attributes.groups} : i64, "
        f"precision_config = [{precision}, {precision}]}} : ({x.type}, {w.type}) -> {tensor_type(output.shape, sums)}"
    )
    return _biased(body, body.emit(text, output.shape, sums), inputs, 1)


# --- windows --------------------------------------------------------------------------------------------------------


def _windows(body: Body, operation: str, x: Value, window: ops.Window, initial: float) -> Value:
    start = body.splat(initial, (), x.kind)
    shape = (*x.shape[:2], *window.output_extent(x.shape[2:]))
    pads = [[0, 0], [0, 0], *(list(pair) for pair in zip(window.pads_begin, window.pads_end, strict=True))]

    def along(values: tuple[int, ...]) -> str:
        return f"array<i64: {', '.join(map(str, (1, 1, *values)))}>"

    text = (
        f'"stablehlo.reduce_window"({x.name}, {start.name}) <{{base_dilations = {along((1,) * len(window.kernel))}, '
        f"padding = dense<{pads}> : tensor<{len(pads)}x2xi64>, window_dilations = {along(window.dilations)}, "
        f"window_dimensions = {along(window.kernel)}, window_strides = {along(window.strides)}}}> "
        f"{body.region(operation, x.kind)} : ({x.type}, {start.type}) -> {tensor_type(shape, x.kind)}"
    )
    return body.emit(text, shape, x.kind)


def sum_windows(body: Body, x: Value, window: ops.Window) -> Value:
    """The sum of each window, padding being 0."""
    return _windows(body, "add", x, window, 0)


def _max_pool(body: Body, attributes: ops.MaxPool, inputs: list[Value], *_: Any) -> Value:
    x = inputs[0]
    if is_float(x.kind):
        return _windows(body, "maximum", body.real(x), attributes.window, -math.inf)
    least = 0 if x.kind[0] == "u" or x.kind == "i1" else -(1 << (width(x.kind) - 1))
    return _windows(body, "maximum", x, attributes.window, least)


def _sum_pool(body: Body, attributes: ops.SumPool, inputs: list[Value], _: Sequence[Tensor], output: Tensor) -> Value:
    x = inputs[0]
    x = body.real(x) if is_float(x.kind) else body.convert(x, accumulator(output))
    if attributes.offset:
        x = body.apply("subtract", x, body.like(x, attributes.offset))
    return sum_windows(body, x, attributes.window)


def _average_pool(body: Body, attributes: ops.AveragePool, inputs: list[Value], *_: Any) -> Value:
    """Integers are divided towards zero, as their conversion to integers is."""
    x = inputs[0]
    x = body.real(x) if is_float(x.kind) else body.convert(x, "i64")
    total = sum_windows(body, x, attributes.window)
    taps = np.asarray(taps_counted(attributes, x.shape[2:]))
    count = body.constant(taps.reshape(1, 1, *taps.shape), x.kind)
    return body.apply("divide", total, body.broadcast(count, total.shape))


def taps_counted(attributes: ops.AveragePool, extent: tuple[int, ...]) -> Any:
    """By what the sum of each window is divided."""
    window = attributes.window
    overhang = attributes.overhang or (0,) * len(window.kernel)
    counts: Any = np.ones((), np.int64)
    for axis, size in enumerate(extent):
        begin, end = window.pads_begin[axis], window.pads_end[axis]
        low, high = (-begin, size + end - overhang[axis]) if attributes.count_include_pad else (0, size)
        places = np.arange(
            (size + begin + end - (window.kernel[axis] - 1) * window.dilations[axis] - 1) // window.strides[axis] + 1
        )
        taps = places[:, None] * window.strides[axis] - begin + np.arange(window.kernel[axis]) * window.dilations[axis]
        counts = np.multiply.outer(counts, np.count_nonzero((taps >= low) & (taps < high), axis=1))
    return counts


RULES: dict[type, Any] = {
    ops.MatMul: _matmul,
    ops.Conv: _conv,
    ops.MaxPool: _max_pool,
    ops.SumPool: _sum_pool,
    ops.AveragePool: _average_pool,
}
