"""Operations on reals as standard ONNX operators, one rule a kind.

Where onnxruntime takes less than the standard says, the rule writes what both take: padding as wide as a pooling window
becomes a Pad of its own, a normalisation over an even number of channels is spelt out, a softmax over several axes is one over
their product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from lepton_dse.emit.onnx import arithmetic
from lepton_dse.emit.onnx.writer import ModelWriter
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor

__all__ = ["average_over_taps", "clip", "pads_natively", "tap_counts", "write_real"]

Rule = Callable[[ModelWriter, Any, list[str], Sequence[Tensor], Tensor, str], object]


def write_real(
    writer: ModelWriter, op: Op, inputs: Sequence[str], tensors: Sequence[Tensor], result: Tensor, output: str = ""
) -> str:
    """Write an operation whose operands and result are real (or are only moved); returns the result's name.

    Parameters
    ----------
    writer : ModelWriter
    op : Op
    inputs : sequence of str
        Names in the model of the operands.
    tensors : sequence of Tensor
        Their descriptions in the graph.
    result : Tensor
        Description of the result.
    output : str
        Name that the result is to have; a fresh one by default.

    Raises
    ------
    LeptonError
        If ONNX has no operator for it.
    """
    rule = _RULES.get(type(op.attributes))
    if rule is None:
        raise LeptonError(f"ONNX has no operator on reals for {op.kind}", where=op.name)
    output = output or writer.fresh(f"{op.name}/{op.kind}")
    rule(writer, op.attributes, list(inputs), tensors, result, output)
    return output


def _window(window: ops.Window, *, pads: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"kernel_shape": window.kernel, "strides": window.strides}
    if set(window.dilations) != {1}:  # onnxruntime's integer pools do not know the attribute at all
        found["dilations"] = window.dilations
    if pads:
        found["pads"] = (*window.pads_begin, *window.pads_end)
    return found


def _conv(writer: ModelWriter, conv: ops.Conv, inputs: list[str], _: Sequence[Tensor], __: Tensor, output: str) -> None:
    writer.add("Conv", inputs, output, group=conv.groups, **_window(conv.window))


def _matmul(writer: ModelWriter, _: ops.MatMul, inputs: list[str], tensors: Sequence[Tensor], __: Tensor, output: str) -> None:
    if len(inputs) == 3 and all(len(tensor.shape) == 2 for tensor in tensors[:2]):
        writer.add("Gemm", inputs, output)
    elif len(inputs) == 3:
        writer.add("Add", [writer.add("MatMul", inputs[:2]), inputs[2]], output)
    else:
        writer.add("MatMul", inputs, output)


def _affine(writer: ModelWriter, _: ops.Affine, inputs: list[str], tensors: Sequence[Tensor], __: Tensor, output: str) -> None:
    channel = (tensors[0].shape[1], *(1,) * (len(tensors[0].shape) - 2))
    shaped = []
    for name, tensor in zip(inputs[1:], tensors[1:], strict=True):
        value = writer.graph.constants.get(tensor.name)
        if value is not None and tensor.format.is_float:
            shaped.append(writer.reals(f"{tensor.name}/per_channel", value.reshape(channel)))
        else:
            shaped.append(writer.reshape(name, channel, fixed=True))
    writer.add("Add", [writer.add("Mul", [inputs[0], shaped[0]]), shaped[1]], output)


def _add(writer: ModelWriter, _: ops.Add, inputs: list[str], __: Sequence[Tensor], ___: Tensor, output: str) -> None:
    writer.add("Add", inputs, output)


def _clip(writer: ModelWriter, bounds: ops.Clip, inputs: list[str], _: Sequence[Tensor], __: Tensor, output: str) -> None:
    clip(writer, inputs[0], bounds.low, bounds.high, output)


def clip(writer: ModelWriter, x: str, low: float, high: float, output: str = "") -> str:
    """Relu where that is what the bounds mean, else Clip with those bounds that are finite."""
    if low == 0 and math.isinf(high):
        return writer.add("Relu", [x], output)
    low_name = writer.reals("low", low) if math.isfinite(low) else ""
    high_name = writer.reals("high", high) if math.isfinite(high) else ""
    return writer.add("Clip", [x, low_name, high_name] if high_name else [x, low_name] if low_name else [x], output)


def _leaky_relu(writer: ModelWriter, leaky: ops.LeakyRelu, inputs: list[str], *rest: Any) -> None:
    writer.add("LeakyRelu", inputs, rest[-1], alpha=leaky.alpha)


def _sigmoid(writer: ModelWriter, _: ops.Sigmoid, inputs: list[str], *rest: Any) -> None:
    writer.add("Sigmoid", inputs, rest[-1])


def _tanh(writer: ModelWriter, _: ops.Tanh, inputs: list[str], *rest: Any) -> None:
    writer.add("Tanh", inputs, rest[-1])


def _softmax(
    writer: ModelWriter, softmax: ops.Softmax, inputs: list[str], tensors: Sequence[Tensor], result: Tensor, output: str
) -> None:
    """One axis as it is; the last ones joined by Flatten; others spelt out.

    No Reshape or Transpose stands before it: onnxruntime moves a DequantizeLinear behind one, and mistypes it in opset 21.
    """
    shape, axes = tensors[0].shape, sorted(set(softmax.axes))
    if len(axes) == 1:
        writer.add("Softmax", inputs, output, axis=axes[0])
    elif axes == list(range(axes[0], len(shape))):
        flat = writer.add("Softmax", [writer.add("Flatten", inputs, axis=axes[0])], axis=1)
        writer.reshape(flat, shape, fixed=writer.is_fixed(result.name), output=output)
    else:
        along = writer.indices("axes", axes)
        peak = writer.add("ReduceMax", [inputs[0], along], keepdims=1)
        raised = writer.add("Exp", [writer.add("Sub", [inputs[0], peak])])
        writer.add("Div", [raised, writer.add("ReduceSum", [raised, along], keepdims=1)], output)


def _argmax(writer: ModelWriter, argmax: ops.ArgMax, inputs: list[str], *rest: Any) -> None:
    options = {"axis": argmax.axis, "keepdims": int(argmax.keepdims), "select_last_index": int(argmax.last)}
    writer.add("ArgMax", inputs, rest[-1], **options)


def pads_natively(window: ops.Window) -> bool:
    """Whether a pooling operator takes the window's pads: onnxruntime wants each less than the kernel."""
    pads = zip(window.pads_begin, window.pads_end, window.kernel, strict=True)
    return all(begin < size and end < size for begin, end, size in pads)


def _padded(writer: ModelWriter, x: str, begin: Sequence[int], end: Sequence[int], value: float) -> str:
    """Constant padding of the axes behind batch and channel."""
    pads = writer.indices("pads", (0, 0, *begin, 0, 0, *end))
    return writer.add("Pad", [x, pads, writer.reals("padding", value)], mode="constant")


def _max_pool(writer: ModelWriter, pool: ops.MaxPool, inputs: list[str], *rest: Any) -> None:
    window, x, native = pool.window, inputs[0], pads_natively(pool.window)
    if not native:
        x = _padded(writer, x, window.pads_begin, window.pads_end, -math.inf)
    writer.add("MaxPool", [x], rest[-1], **_window(window, pads=native))


def _average_pool(
    writer: ModelWriter, pool: ops.AveragePool, inputs: list[str], tensors: Sequence[Tensor], _: Tensor, output: str
) -> None:
    window, x = pool.window, inputs[0]
    zeros = (0,) * len(window.kernel)
    overhang = pool.overhang or zeros
    plain = not any((*window.pads_begin, *window.pads_end))
    if plain and window.kernel == tensors[0].shape[2:]:
        writer.add("GlobalAveragePool", [x], output)
    elif plain or (pads_natively(window) and not pool.count_include_pad):
        writer.add("AveragePool", [x], output, count_include_pad=0, **_window(window))
    elif pads_natively(window) and not any(overhang):
        writer.add("AveragePool", [x], output, count_include_pad=1, **_window(window))
    elif pool.count_include_pad:
        # What counts becomes part of the tensor, and what does not stays padding.
        real_end = tuple(end - over for end, over in zip(window.pads_end, overhang, strict=True))
        rest = ops.Window(window.kernel, window.strides, window.dilations, zeros, overhang)
        x = _padded(writer, x, window.pads_begin, real_end, 0.0)
        writer.add("AveragePool", [x], output, count_include_pad=0, **_window(rest))
    else:
        counts = tap_counts(window, tensors[0].shape, overhang, count_include_pad=False)
        with np.errstate(divide="ignore"):  # a window without a tap has no mean: infinity times 0 is that
            factor = window.taps / counts
        writer.add("Mul", [average_over_taps(writer, x, window), writer.reals("taps", factor)], output)


def average_over_taps(writer: ModelWriter, x: str, window: ops.Window) -> str:
    """Mean over all taps of each window, padding being 0 and counted."""
    if any((*window.pads_begin, *window.pads_end)):
        x = _padded(writer, x, window.pads_begin, window.pads_end, 0.0)
    return writer.add("AveragePool", [x], count_include_pad=0, **_window(window, pads=False))


def tap_counts(
    window: ops.Window, shape: Sequence[int], overhang: Sequence[int], *, count_include_pad: bool
) -> NDArray[np.float64]:
    """Taps of each window that count, shape (1, 1, *T): those inside the tensor, or inside its padding less the overhang."""
    counts = np.ones((), np.float64)
    for axis, positions in enumerate(window.output_extent(tuple(shape[2:]))):
        begin, end = 0, shape[2 + axis]
        if count_include_pad:
            begin, end = -window.pads_begin[axis], end + window.pads_end[axis] - overhang[axis]
        first = np.arange(positions) * window.strides[axis] - window.pads_begin[axis]
        taps = first[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        counts = np.multiply.outer(counts, ((taps >= begin) & (taps < end)).sum(axis=1).astype(np.float64))
    return counts[None, None]


def _local_response_norm(
    writer: ModelWriter, norm: ops.LocalResponseNorm, inputs: list[str], tensors: Sequence[Tensor], result: Tensor, output: str
) -> None:
    """LRN on four axes and an odd number of channels, which is what onnxruntime takes; else spelt out."""
    shape, fixed, x = tensors[0].shape, writer.is_fixed(result.name), inputs[0]
    if norm.size % 2 and len(shape) == 4:
        writer.add("LRN", [x], output, size=norm.size, alpha=norm.alpha, beta=norm.beta, bias=norm.bias)
        return
    before = (norm.size - 1) // 2
    planes = (shape[0], 1, shape[1], math.prod(shape[2:]))
    squares = writer.reshape(writer.add("Mul", [x, x]), planes, fixed=fixed)
    padded = writer.add(
        "Pad", [squares, writer.indices("pads", (0, 0, before, 0, 0, 0, norm.size - 1 - before, 0)), writer.reals("padding", 0)]
    )
    mean = writer.add("AveragePool", [padded], kernel_shape=(norm.size, 1))
    scaled = writer.add("Mul", [writer.reshape(mean, shape, fixed=fixed), writer.reals("alpha", norm.alpha)])
    power = writer.add("Pow", [writer.add("Add", [scaled, writer.reals("bias", norm.bias)]), writer.reals("beta", norm.beta)])
    writer.add("Div", [x, power], output)


def _pad(writer: ModelWriter, pad: ops.Pad, inputs: list[str], tensors: Sequence[Tensor], _: Tensor, output: str) -> None:
    """What grows first, what crops behind it: both in one node would be read in another order."""
    x = inputs[0]
    grown = tuple(max(amount, 0) for amount in (*pad.begin, *pad.end))
    cropped = tuple(min(amount, 0) for amount in (*pad.begin, *pad.end))
    if not any(grown) and not any(cropped):
        writer.add("Identity", [x], output)
        return
    if any(grown):
        operands = [x, writer.indices("pads", grown)]
        if pad.mode is ops.PadMode.CONSTANT:
            operands.append(_like(writer, pad.value, tensors[0]))
        x = writer.add("Pad", operands, "" if any(cropped) else output, mode=pad.mode.value)
    if any(cropped):
        writer.add("Pad", [x, writer.indices("pads", cropped), _like(writer, 0, tensors[0])], output, mode="constant")


def _like(writer: ModelWriter, value: float, tensor: Tensor) -> str:
    """A padding value of the type of what is padded; integers are padded as reals unless they are indices."""
    if tensor.format.is_integer and tensor.format.bits > 16:
        kind = TensorProto.INT64 if tensor.format.bits > 32 else TensorProto.INT32
        return writer.constant("padding", np.asarray(int(value)), int(kind))
    return writer.reals("padding", value)


def _concat(writer: ModelWriter, concat: ops.Concat, inputs: list[str], *rest: Any) -> None:
    writer.add("Concat", inputs, rest[-1], axis=concat.axis)


def _reshape(
    writer: ModelWriter, reshape: ops.Reshape, inputs: list[str], _: Sequence[Tensor], result: Tensor, output: str
) -> None:
    writer.reshape(inputs[0], reshape.shape, fixed=writer.is_fixed(result.name), output=output)


def _transpose(writer: ModelWriter, transpose: ops.Transpose, inputs: list[str], *rest: Any) -> None:
    writer.add("Transpose", inputs, rest[-1], perm=transpose.permutation)


_RULES: dict[type, Rule] = {
    ops.Conv: _conv,
    ops.MatMul: _matmul,
    ops.Affine: _affine,
    ops.Add: _add,
    ops.Clip: _clip,
    ops.LeakyRelu: _leaky_relu,
    ops.Sigmoid: _sigmoid,
    ops.Tanh: _tanh,
    ops.Softmax: _softmax,
    ops.ArgMax: _argmax,
    ops.MaxPool: _max_pool,
    ops.AveragePool: _average_pool,
    ops.LocalResponseNorm: _local_response_norm,
    ops.Pad: _pad,
    ops.Concat: _concat,
    ops.Reshape: _reshape,
    ops.Transpose: _transpose,
    **arithmetic.RULES,
}
