"""How far real results may be from the reference's, which add in another order or call another library.

=============  =========================================================================================================
n              terms of a sum, the bias included
u              2**-24, the rounding of float32
=============  =========================================================================================================

A sum of n products, in any order, is within ``gamma_n sum |x| |w|`` of the exact one, ``gamma_n = n u / (1 - n u)`` (N. J.
Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 2002, section 3.1); two such sums differ by at most twice
that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import evaluate as define
from lepton_dse.ir.tensors import Tensor
from lepton_dse.reference import fast
from lepton_dse.reference.engine import Array, steps

__all__ = ["LIBRARY_BOUND", "different", "each_operation", "local_bound", "sums_reals"]

LIBRARY_BOUND = 2e-6
"""Bound on float results behind exp, tanh or pow, which libraries round differently: absolute up to 1, relative beyond."""
_LIBRARY = (ops.Softmax, ops.Sigmoid, ops.Tanh, ops.LocalResponseNorm, ops.Gelu, ops.Unary)
_ROUNDING = 2.0**-24


def sums_reals(graph: LoweredGraph, op: Op) -> bool:
    """Whether an operation adds products, or the values of a window, of real numbers."""
    real = graph.tensors[op.inputs[0]].format.is_float
    if isinstance(op.attributes, ops.Reduce):
        return real and op.attributes.function in (ops.ReduceFunction.SUM, ops.ReduceFunction.MEAN)
    return real and isinstance(op.attributes, ops.Conv | ops.MatMul | ops.AveragePool | ops.LayerNorm)


def _calls_library(op: Op) -> bool:
    power = isinstance(op.attributes, ops.Binary) and op.attributes.function is ops.BinaryFunction.POWER
    return power or isinstance(op.attributes, _LIBRARY)


def different(graph: LoweredGraph, name: str, expected: Array, observed: Array) -> NDArray[np.bool_]:
    """Elements of a result that differ: in any bit, or beyond the bound where the library's functions came before."""
    if graph.tensors[name].format.is_float and any(_calls_library(op) for op in graph.ops):
        return ~(_apart(expected, observed) <= LIBRARY_BOUND)
    found: NDArray[np.bool_] = expected != observed
    return found


def each_operation(graph: LoweredGraph, x: NDArray[np.float32], recorded: Mapping[str, Array]) -> Iterator[tuple[str, int, str]]:
    """Every recorded result beside what the reference computes from the operands that were recorded.

    Parameters
    ----------
    graph : LoweredGraph
    x : ndarray of float32
        The input that was run, one batch of the graph.
    recorded : mapping of str to ndarray
        Values by tensor; what is not among them is computed.

    Yields
    ------
    str, int, str
        The tensor, its elements beyond their bound, and the first of them for a person.
    """
    judged: list[tuple[str, int, str]] = []

    def evaluate(op: Op, inputs: list[Array], output: Tensor, tensors: list[Tensor]) -> Array:
        expected = fast.evaluate(op, inputs, output, tensors)
        if output.name not in recorded:
            return expected
        observed = recorded[output.name].reshape(expected.shape)
        wrong = ~(_apart(expected, observed) <= local_bound(graph, op, inputs, output, tensors))  # NaN is beyond any bound
        text = ""
        if wrong.any():
            index = tuple(int(axis[0]) for axis in np.nonzero(wrong))
            text = f"element {list(index)} is {observed[index]}, expected {expected[index]}"
        judged.append((output.name, int(np.count_nonzero(wrong)), text))
        return observed

    for _ in steps(graph, {graph.inputs[0]: x}, evaluate):
        yield from judged
        judged.clear()


def _apart(expected: Array, observed: Array) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.abs(expected.astype(np.float64) - observed.astype(np.float64))
    return found


def local_bound(
    graph: LoweredGraph, op: Op, inputs: Sequence[Array], output: Tensor, tensors: Sequence[Tensor]
) -> NDArray[np.float64] | float:
    """How far an operation's result may be from the reference's when both read the same operands; 0 where equal is meant.

    A layer normalisation inherits what its mean and variance are off: with ``d = gamma_n mean|x|`` and deviation s, an element
    ``h = (x - mean) / s`` by at most ``(d (1 + |h|) / s + gamma_n (1 + |h|)) |scale|``, to first order.
    """
    if _calls_library(op):
        if not output.format.is_float:
            return 0.0
        size = np.abs(define(op, inputs, output, tensors).astype(np.float64))
        terms = np.prod([tensors[0].shape[axis] for axis in op.attributes.axes]) if isinstance(op.attributes, ops.Softmax) else 0
        return np.asarray(LIBRARY_BOUND * np.maximum(size, 1.0) + 2 * _gamma(int(terms)) * size)
    if not sums_reals(graph, op):
        return 0.0
    wide = [value.astype(np.float64) for value in inputs]
    match op.attributes:
        case ops.LayerNorm(axes, epsilon):
            return _layer_norm_bound(wide, axes, epsilon)
        case ops.AveragePool(window):
            terms = window.taps
        case ops.Reduce(axes=axes):
            terms = np.prod([tensors[0].shape[axis] for axis in axes])
        case _:
            terms = inputs[1].shape[-2] if isinstance(op.attributes, ops.MatMul) else inputs[1][0].size
    count = int(terms) + len(inputs)  # the bias, and the rounding of a mean or of what float32 stores
    magnitude = define(op, [np.abs(value) for value in wide], output, tensors)
    return np.asarray(2 * _gamma(count) * magnitude.astype(np.float64))


def _gamma(count: int) -> float:
    return count * _ROUNDING / (1 - count * _ROUNDING)


def _layer_norm_bound(wide: Sequence[NDArray[np.float64]], axes: tuple[int, ...], epsilon: float) -> NDArray[np.float64]:
    x = wide[0]
    along = tuple(extent if axis in axes else 1 for axis, extent in enumerate(x.shape))
    scale, shift = (np.abs(value.reshape(along)) for value in wide[1:])
    gamma = _gamma(int(np.prod(along)) + 8)
    centred = x - x.mean(axis=axes, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=axes, keepdims=True) + epsilon)
    drift = gamma * np.abs(x).mean(axis=axes, keepdims=True) / deviation
    found: NDArray[np.float64] = 2 * (drift + gamma) * (1 + np.abs(centred) / deviation) * scale + 4 * _ROUNDING * shift
    return found
