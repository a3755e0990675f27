"""Each operation of a graph as PyTorch computes it, and rounding that gradients pass through."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import BOOL

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
        case ops.Binary(function):
            return _BINARY[function](x, inputs[1])
        case ops.Unary(function):
            return _UNARY[function](x)
        case ops.Compare(relation):
            return _RELATIONS[relation](x, inputs[1])
        case ops.Where():
            return torch.where(x, inputs[1], inputs[2])
        case ops.Gelu(approximate):
            return functional.gelu(x, approximate="tanh" if approximate else "none")
        case ops.Cast(to):
            return x != 0 if to == BOOL else x.to(getattr(torch, str(to)))
        case ops.LayerNorm(axes, epsilon):
            return _layer_norm(x, inputs[1], inputs[2], axes, epsilon)
        case ops.Reduce(function, axes, keepdims):
            return _REDUCTIONS[function](x, axes, keepdims)
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
        case ops.Expand(shape):
            return x.expand(shape)
        case ops.Slice():
            return _slice(x, op.attributes)
        case ops.Gather(axis):
            index = inputs[1].long()
            picked = x.index_select(axis, torch.where(index < 0, index + x.shape[axis], index).reshape(-1))
            return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        case _:
            raise InvalidModelError(
                f"{op.kind} cannot be trained", where=op.name, fix="train the network up to the operation before it"
            )


_BINARY: dict[ops.BinaryFunction, Callable[[Tensor, Tensor], Tensor]] = {
    ops.BinaryFunction.SUBTRACT: torch.sub,
    ops.BinaryFunction.MULTIPLY: torch.mul,
    ops.BinaryFunction.DIVIDE: torch.div,
    ops.BinaryFunction.POWER: torch.pow,
    ops.BinaryFunction.MINIMUM: torch.minimum,
    ops.BinaryFunction.MAXIMUM: torch.maximum,
}
_UNARY: dict[ops.UnaryFunction, Callable[[Tensor], Tensor]] = {
    ops.UnaryFunction.NEGATE: torch.neg,
    ops.UnaryFunction.ABSOLUTE: torch.abs,
    ops.UnaryFunction.SQUARE_ROOT: torch.sqrt,
    ops.UnaryFunction.RECIPROCAL: torch.reciprocal,
    ops.UnaryFunction.EXPONENTIAL: torch.exp,
    ops.UnaryFunction.LOGARITHM: torch.log,
    ops.UnaryFunction.ERROR_FUNCTION: torch.erf,
}
_RELATIONS: dict[ops.Relation, Callable[[Tensor, Tensor], Tensor]] = {
    ops.Relation.EQUAL: torch.eq,
    ops.Relation.LESS: torch.lt,
    ops.Relation.LESS_OR_EQUAL: torch.le,
    ops.Relation.GREATER: torch.gt,
    ops.Relation.GREATER_OR_EQUAL: torch.ge,
}
_REDUCTIONS: dict[ops.ReduceFunction, Callable[[Tensor, tuple[int, ...], bool], Tensor]] = {
    ops.ReduceFunction.SUM: torch.sum,
    ops.ReduceFunction.MEAN: torch.mean,
    ops.ReduceFunction.MINIMUM: torch.amin,
    ops.ReduceFunction.MAXIMUM: torch.amax,
}


def _layer_norm(x: Tensor, scale: Tensor, shift: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    kept = [extent if axis in axes else 1 for axis, extent in enumerate(x.shape)]
    centred = x - x.mean(dim=axes, keepdim=True)
    variance = (centred * centred).mean(dim=axes, keepdim=True)
    return centred / torch.sqrt(variance + epsilon) * scale.reshape(kept) + shift.reshape(kept)


def _slice(x: Tensor, picked: ops.Slice) -> Tensor:
    for axis, (begin, extent, step) in enumerate(zip(picked.begin, picked.extent, picked.step, strict=True)):
        x = x.index_select(axis, begin + step * torch.arange(extent))
    return x


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
