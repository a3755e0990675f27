"""Each operation of a graph as PyTorch computes it, and rounding that gradients pass through."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op

__all__ = ["apply", "fake_quantize", "straight_through"]

Tensor = torch.Tensor


def straight_through(x: Tensor, y: Tensor) -> Tensor:
    """The value of `y` with the gradient of `x` (Y. Bengio et al., arXiv:1308.3432)."""
    return x + (y - x).detach()


def fake_quantize(x: Tensor, beta: Tensor, zero: int, low: float, high: float) -> Tensor:
    """``beta (clamp(round(x / beta) + zero, low, high) - zero)``, with gradients for x and beta.

    x gets the straight-through gradient inside the range and none outside; beta that of learned step sizes (S. Esser et al.,
    "Learned Step Size Quantization", ICLR 2020).
    """
    ratio = x / beta
    if not torch.is_grad_enabled():
        return ratio.clamp_(low - zero, high - zero).round_().mul_(beta)
    clamped = torch.clamp(ratio, low - zero, high - zero)
    return straight_through(clamped, torch.round(clamped)) * beta


def apply(op: Op, inputs: Sequence[Tensor]) -> Tensor:
    """The result of one operation of a float graph.

    Raises
    ------
    InvalidModelError
        For an operation that has no gradient, or none here.
    """
    x = inputs[0]
    match op.attributes:
        case ops.Conv(window, groups):
            return _conv(x, inputs[1], inputs[2] if len(inputs) > 2 else None, window, groups)
        case ops.MatMul():
            product = x @ inputs[1]
            return product + inputs[2] if len(inputs) > 2 else product
        case ops.Affine():
            shape = (-1, *[1] * (x.ndim - 2))
            return x * inputs[1].reshape(shape) + inputs[2].reshape(shape)
        case ops.Add():
            return x + inputs[1]
        case ops.Clip(low, high):
            return torch.clamp(x, low, high)
        case ops.LeakyRelu(alpha):
            return functional.leaky_relu(x, alpha)
        case ops.Sigmoid():
            return torch.sigmoid(x)
        case ops.Tanh():
            return torch.tanh(x)
        case ops.Softmax(axes):
            return _softmax(x, axes)
        case ops.MaxPool(window):
            return _max_pool(x, window)
        case ops.AveragePool():
            return _average(x, op.attributes)
        case ops.LocalResponseNorm(size, alpha, beta, bias):
            before = (size - 1) // 2
            squares = functional.pad(x * x, (*[0, 0] * (x.ndim - 2), before, size - 1 - before))
            total = sum(squares[:, start : start + x.shape[1]] for start in range(size))
            return x / (bias + alpha / size * total) ** beta
        case ops.Pad(begin, end, mode, value):
            return _pad(x, begin, end, mode, value)
        case ops.Concat(axis):
            return torch.cat(list(inputs), dim=axis)
        case ops.Reshape(shape):
            return x.reshape(shape)
        case ops.Transpose(permutation):
            return x.permute(permutation)
        case _:
            raise InvalidModelError(
                f"{op.kind} cannot be trained", where=op.name, fix="train the network up to the operation before it"
            )


def _conv(x: Tensor, w: Tensor, b: Tensor | None, window: ops.Window, groups: int) -> Tensor:
    functions = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
    rank = len(window.kernel)
    if rank not in functions:
        raise InvalidModelError(f"a convolution over {rank} axes cannot be trained", fix="use one to three axes")
    padding: Sequence[int] = window.pads_begin
    if window.pads_begin != window.pads_end:
        x, padding = functional.pad(x, _sides(window)), (0,) * rank
    return functions[rank](x, w, b, window.strides, tuple(padding), window.dilations, groups)


def _max_pool(x: Tensor, window: ops.Window) -> Tensor:
    functions = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
    padded = functional.pad(x, _sides(window), value=-torch.inf)
    rank = len(window.kernel)
    if rank not in functions:
        return _windows(x, window, -torch.inf).amax(dim=_taps(x))
    pooled: Tensor = functions[rank](padded, window.kernel, window.strides, 0, window.dilations)
    return pooled


def _sides(window: ops.Window) -> list[int]:
    """Padding in PyTorch's order, the last axis first."""
    pairs = list(zip(window.pads_begin, window.pads_end, strict=True))
    return list(itertools.chain.from_iterable(reversed(pairs)))


def _windows(x: Tensor, window: ops.Window, fill: float) -> Tensor:
    """Every window of x, shape (N, C, *T, *K)."""
    x = functional.pad(x, _sides(window), value=fill)
    for axis, (size, stride, dilation) in enumerate(zip(window.kernel, window.strides, window.dilations, strict=True), 2):
        x = x.unfold(axis, (size - 1) * dilation + 1, stride)
        x = x[..., ::dilation]
    return x


def _taps(x: Tensor) -> tuple[int, ...]:
    return tuple(range(x.ndim, 2 * x.ndim - 2))


def _average(x: Tensor, pool: ops.AveragePool) -> Tensor:
    window = pool.window
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    if pool.count_include_pad:
        overhang = pool.overhang or (0,) * len(window.kernel)
        ends = tuple(after - over for after, over in zip(window.pads_end, overhang, strict=True))
        inner = ops.Window(window.kernel, window.strides, window.dilations, window.pads_begin, ends)
        counted = functional.pad(counted, _sides(inner), value=1.0)
        window = ops.Window(window.kernel, window.strides, window.dilations, (0,) * len(ends), overhang)
    total = _windows(x, pool.window, 0.0).sum(dim=_taps(x))
    return total / _windows(counted, window, 0.0).sum(dim=_taps(x))


def _softmax(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    shifted = x - x.amax(dim=axes, keepdim=True)
    powers = torch.exp(shifted)
    return powers / powers.sum(dim=axes, keepdim=True)


def _pad(x: Tensor, begin: tuple[int, ...], end: tuple[int, ...], mode: ops.PadMode, value: float) -> Tensor:
    if mode is ops.PadMode.CONSTANT:
        pairs = list(zip(begin, end, strict=True))
        return functional.pad(x, list(itertools.chain.from_iterable(reversed(pairs))), value=value)
    for axis, (before, after) in enumerate(zip(begin, end, strict=True)):
        extent = x.shape[axis]
        places = torch.arange(-max(before, 0), extent + max(after, 0))
        mirrored = extent - 1 - (places.abs() - (extent - 1)).abs()
        grown = x.index_select(axis, mirrored if mode is ops.PadMode.REFLECT else places.clamp(0, extent - 1))
        crop = [slice(None)] * x.ndim
        crop[axis] = slice(max(-before, 0), len(places) - max(-after, 0))
        x = grown[tuple(crop)]
    return x
