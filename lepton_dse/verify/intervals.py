"""Between which bounds real results may lie that were computed in another order, when some results in between are not recorded.

A recorded result is what later operations read, so it starts with no error. What is not recorded carries an interval: the
local bounds of :mod:`lepton_dse.verify.real_arithmetic` at first, then the least and the greatest that the next operation makes
of its operands' ends. That is sound for operations that are monotone in each operand. Of the others, Gelu gets a fifth of the
interval's width more (its derivative is nowhere below -0.13); absolute values and powers are also taken where they turn, at zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.reference import fast
from lepton_dse.reference.engine import Array
from lepton_dse.verify.real_arithmetic import local_bound

__all__ = ["Judged", "judged"]

_ROUNDINGS = 4 * 2.0**-24  # of an operation and of what it is made of, on both sides
_GELU = 0.2


@dataclass(frozen=True)
class Judged:
    """One recorded result: its tensor, how many elements lie outside their bounds, and the first of them for a person."""

    tensor: str
    wrong: int
    first: str


@dataclass(frozen=True)
class _Known:
    """A value, exact or between two ends."""

    low: Array
    high: Array

    @property
    def exact(self) -> bool:
        return self.low is self.high


def judged(graph: LoweredGraph, feeds: Mapping[str, Array], recorded: Mapping[str, Array]) -> Iterator[Judged]:
    """Every recorded result beside what the reference makes of the recorded results before it.

    Parameters
    ----------
    graph : LoweredGraph
    feeds : mapping of str to ndarray
        Inputs.
    recorded : mapping of str to ndarray
        Results by tensor.
    """
    known = {name: _exact(value) for name, value in (*graph.constants.items(), *feeds.items())}
    for op in graph.ops:
        output = graph.tensors[op.output]
        operands = [known[name] for name in op.inputs]
        found = _result(op, operands, output, [graph.tensors[name] for name in op.inputs], graph)
        if op.output in recorded:
            seen: Array = np.asarray(recorded[op.output]).reshape(found.low.shape)
            wrong = ~(np.less_equal(found.low, seen) & np.less_equal(seen, found.high))
            text = ""
            if wrong.any():
                place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
                text = f"element {list(place)} is {seen[place]}, expected {found.low[place]} to {found.high[place]}"
            yield Judged(op.output, int(np.count_nonzero(wrong)), text)
            found = _exact(seen)
        known[op.output] = found


def _exact(value: Array) -> _Known:
    return _Known(value, value)


def _result(op: Op, operands: list[_Known], output: Tensor, tensors: list[Tensor], graph: LoweredGraph) -> _Known:
    uncertain = [index for index, operand in enumerate(operands) if not operand.exact]
    first = [operand.low for operand in operands]
    if not uncertain:
        value = fast.evaluate(op, first, output, tensors)
        bound = local_bound(graph, op, first, output, tensors)
        return _exact(value) if np.all(np.asarray(bound) == 0) else _widened(value, value, bound, output)
    ends: list[Array] = []
    for corner in itertools.product(*(_places(op, operands[index]) for index in uncertain)):
        chosen = list(first)
        for index, place in zip(uncertain, corner, strict=True):
            chosen[index] = place
        ends.append(fast.evaluate(op, chosen, output, tensors))
    low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
    if not output.format.is_float:
        return _Known(low, high)
    slack = np.asarray(local_bound(graph, op, first, output, tensors), np.float64)
    if str(output.format) == "float32":
        slack = slack + _ROUNDINGS * _size(op, ends, operands, output, tensors)
    if isinstance(op.attributes, ops.Gelu):
        slack = slack + _GELU * (operands[0].high.astype(np.float64) - operands[0].low.astype(np.float64))
    return _widened(low, high, slack, output)


def _places(op: Op, operand: _Known) -> tuple[Array, ...]:
    """Where an operation is taken: at both ends, and between them where it may turn."""
    ends = operand.low, operand.high
    turning = (ops.UnaryFunction.ABSOLUTE, ops.BinaryFunction.POWER)
    turns = isinstance(op.attributes, ops.Unary | ops.Binary) and op.attributes.function in turning
    return (*ends, np.clip(np.zeros_like(operand.low), *ends)) if turns else ends


def _size(op: Op, ends: list[Array], operands: list[_Known], output: Tensor, tensors: list[Tensor]) -> NDArray[np.float64]:
    """What is rounded: the result, and the product inside an Affine."""
    values = list(ends)
    if isinstance(op.attributes, ops.Affine):
        most = [np.maximum(np.abs(operand.low), np.abs(operand.high)) for operand in operands]
        values.append(fast.evaluate(op, most, output, tensors))
    found: NDArray[np.float64] = np.maximum.reduce([np.abs(value.astype(np.float64)) for value in values])
    return found


def _widened(low: Array, high: Array, bound: NDArray[np.float64] | float, output: Tensor) -> _Known:
    if not output.format.is_float:
        return _Known(low, high)
    return _Known(low.astype(np.float64) - bound, high.astype(np.float64) + bound)
