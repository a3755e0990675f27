"""Operations that an exporter spelt out become one again: layer normalisation, Gelu and softmax.

Matched from the last operation backwards, by what the operations compute and not by how they are grouped: factors of a product
may stand in any order, a number may be a Mul, a Div or an affine map. What the fused operation no longer reads is dropped.

=================  ====================================================================================================
LayerNorm          ``(x - E x) / sqrt(V + epsilon) * scale + shift``, with V either ``E (x - E x)**2`` or ``E x**2 - (E x)**2``
Gelu               ``x / 2 * (1 + erf(x / sqrt(2)))``, or the same with ``tanh(sqrt(2 / pi) * (x + 0.044715 x**3))``
Softmax            ``e / sum(e)`` with ``e = exp(x - max x)``
=================  ====================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lepton_dse.importers.onnx.sketch import Sketch
from lepton_dse.importers.onnx.values import Array, repeated
from lepton_dse.ir import ops
from lepton_dse.ir.ops import BinaryFunction, Op, ReduceFunction, UnaryFunction

__all__ = ["fuse"]

_CLOSE = 1e-4  # relative: exporters round constants such as sqrt(2 / pi) to a few digits
_CUBIC = 0.044715
_FACTORS = 16  # of one product; beyond, it is none of these patterns

Shape = tuple[int, ...]


def fuse(sketch: Sketch) -> None:
    """Replace what a pattern matches by one operation, in place."""
    matcher = _Matcher(sketch)
    needed = {sketch.operand(name) for name in sketch.outputs if sketch.constant(name) is None}
    kept: list[Op] = []
    for op in reversed(sketch.operations):
        if op.output in needed:
            found = matcher.layer_norm(op) or matcher.gelu(op) or matcher.softmax(op) or op
            needed.update(found.inputs)
            kept.append(found)
    sketch.operations[:] = kept[::-1]


@dataclass(frozen=True)
class _Product:
    """A tensor as numerators over denominators, times constants and a number."""

    numerators: tuple[str, ...] = ()
    denominators: tuple[str, ...] = ()
    constants: tuple[Array, ...] = ()
    number: float = 1.0

    def times(self, other: _Product, *, inverse: bool = False) -> _Product:
        above, below = (other.denominators, other.numerators) if inverse else (other.numerators, other.denominators)
        constants = tuple(1 / value for value in other.constants) if inverse else other.constants
        number = (1 / other.number if other.number else math.inf) if inverse else other.number
        return _Product(self.numerators + above, self.denominators + below, self.constants + constants, self.number * number)


class _Matcher:
    """Reads what stands before a tensor."""

    def __init__(self, sketch: Sketch) -> None:
        self.sketch = sketch
        self.producers = {op.output: op for op in sketch.operations}

    def shape(self, name: str) -> Shape:
        return self.sketch.tensors[name].shape

    def number(self, name: str) -> float | None:
        """The one number that a constant holds, if it is that."""
        value = self.sketch.constants.get(name)
        if value is None or not value.size or value.dtype.kind != "f":
            return None
        first = value.reshape(-1)[:1] if not repeated(value) else value[(0,) * value.ndim].reshape(1)
        return float(first[0]) if repeated(value) or bool((value == first[0]).all()) else None

    # --- what a tensor is made of -------------------------------------------------------------------------------------

    def line(self, name: str) -> tuple[str, float, float] | None:
        """A tensor as ``number * source + number``, one operation back."""
        op = self.producers.get(name)
        if op is None:
            return None
        numbers = [self.number(each) for each in op.inputs]
        match op.attributes, numbers:
            case ops.Affine(), [_, float(scale), float(shift)]:
                return op.inputs[0], scale, shift
            case ops.Add(), [None, float(shift)]:
                return op.inputs[0], 1.0, shift
            case ops.Add(), [float(shift), None]:
                return op.inputs[1], 1.0, shift
            case ops.Binary(BinaryFunction.SUBTRACT), [None, float(shift)]:
                return op.inputs[0], 1.0, -shift
            case ops.Binary(BinaryFunction.MULTIPLY), [None, float(scale)]:
                return op.inputs[0], scale, 0.0
            case ops.Binary(BinaryFunction.MULTIPLY), [float(scale), None]:
                return op.inputs[1], scale, 0.0
            case ops.Binary(BinaryFunction.DIVIDE), [None, float(divisor)] if divisor:
                return op.inputs[0], 1 / divisor, 0.0
            case _:
                return None

    def lines(self, name: str) -> Iterator[tuple[str, float, float]]:
        """The tensor itself, and as ``number * source + number`` for every source that so many steps lead back to."""
        scale, shift = 1.0, 0.0
        yield name, scale, shift
        while (step := self.line(name)) is not None and self.shape(step[0]) == self.shape(name):
            shift += scale * step[2]
            scale *= step[1]
            name = step[0]
            yield name, scale, shift

    def factors(self, name: str, stop: str = "") -> _Product:
        """A tensor as a product; factors equal to `stop` are not taken apart."""
        op = self.producers.get(name)
        if name == stop or op is None:
            return _Product((name,))
        line = self.line(name)
        if line is not None:
            return self.factors(line[0], stop).times(_Product(number=line[1])) if line[2] == 0 else _Product((name,))
        match op.attributes:
            case ops.Affine():
                scale, shift = (self.sketch.constants.get(each) for each in op.inputs[1:])
                if scale is None or shift is None or (shift != 0).any():
                    return _Product((name,))
                channels = scale.reshape(-1, *[1] * (len(self.shape(name)) - 2))
                return self.factors(op.inputs[0], stop).times(_Product(constants=(channels,)))
            case ops.Binary(BinaryFunction.MULTIPLY | BinaryFunction.DIVIDE as function):
                first, second = (self.factor(each, stop) for each in op.inputs)
                product = first.times(second, inverse=function is BinaryFunction.DIVIDE)
                return product if len(product.numerators) + len(product.denominators) <= _FACTORS else _Product((name,))
            case ops.Binary(BinaryFunction.POWER) if self.number(op.inputs[1]) == 3:
                cube = self.factors(op.inputs[0], stop)
                return cube.times(cube).times(cube)
            case ops.Unary(UnaryFunction.RECIPROCAL):
                return _Product().times(self.factors(op.inputs[0], stop), inverse=True)
            case _:
                return _Product((name,))

    def factor(self, name: str, stop: str) -> _Product:
        value = self.sketch.constants.get(name)
        if value is None:
            return self.factors(name, stop)
        known = self.number(name)
        return _Product(constants=(value,)) if known is None else _Product(number=known)

    # --- means --------------------------------------------------------------------------------------------------------

    def reduced(self, name: str, which: ReduceFunction) -> tuple[str, Shape] | None:
        """Source and axes of a reduction whose result stands where its source's elements do, seen through views of it."""
        factor, widest = 1.0, self.shape(name)
        while (op := self.producers.get(name)) is not None:
            line = self.line(name)
            source = op.inputs[0] if isinstance(op.attributes, ops.Reshape | ops.Expand) else line[0] if line else ""
            if not source:
                break
            if line is not None:
                if line[2] != 0:
                    return None
                factor *= line[1]
            if isinstance(op.attributes, ops.Expand):
                widest = self.shape(source)
            name = source
        return None if op is None else self.whole(op, which, factor, widest)

    def whole(self, op: Op, which: ReduceFunction, factor: float, widest: Shape) -> tuple[str, Shape] | None:
        source = op.inputs[0]
        extents = self.shape(source)
        match op.attributes:
            case ops.Reduce(function, axes):
                mean = function is ReduceFunction.SUM and which is ReduceFunction.MEAN
                factor *= math.prod(extents[axis] for axis in axes) if mean else 1
                if function is not which and not mean:
                    return None
            case ops.AveragePool(window) if window == ops.Window.full(extents[2:]) and which is ReduceFunction.MEAN:
                axes = tuple(range(2, len(extents)))
            case _:
                return None
        kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(extents))
        return (source, axes) if widest == kept and _close(factor, 1) else None

    def view(self, name: str, kept: Shape) -> str:
        """What a tensor is a view of, clamped at 0 or not, where it is repeated along no other axes than those that vanished."""
        while (op := self.producers.get(name)) is not None:
            if isinstance(op.attributes, ops.Expand) and self.shape(op.inputs[0]) != kept:
                break
            if not isinstance(op.attributes, ops.Reshape | ops.Expand) and op.attributes != ops.Clip(0.0, math.inf):
                break
            name = op.inputs[0]
        return name

    # --- layer normalisation ------------------------------------------------------------------------------------------

    def layer_norm(self, op: Op) -> Op | None:
        """``(x - E x) / sqrt(V + epsilon) * scale + shift``, the last two where they are constants."""
        shape = self.shape(op.output)
        product, shift = self.peeled(op)
        roots = [name for name in product.denominators if (self.producers.get(name) or op).attributes == _ROOT]
        if len(product.numerators) != 1 or len(product.denominators) != 1 or len(roots) != 1:
            return None
        centred = self.centred(product.numerators[0])
        if centred is None:
            return None
        x, axes = centred
        epsilon = self.epsilon(self.producers[roots[0]].inputs[0], x, axes)
        scale = _along(axes, shape, [*product.constants, np.asarray(product.number, np.float32)])
        added = _along(axes, shape, [shift])
        if epsilon is None or scale is None or added is None or self.shape(x) != shape:
            return None
        names = [self.sketch.add_constant(f"{op.output}_{part}", value) for part, value in (("scale", scale), ("shift", added))]
        return replace(op, attributes=ops.LayerNorm(axes, epsilon), inputs=(x, *names))

    def peeled(self, op: Op) -> tuple[_Product, Array]:
        """The product that an operation computes, and the constant that it adds to it."""
        constants = [self.sketch.constants.get(name) for name in op.inputs]
        match op.attributes, constants:
            case ops.Add(), [None, np.ndarray() as shift]:
                return self.factors(op.inputs[0]), shift
            case ops.Add(), [np.ndarray() as shift, None]:
                return self.factors(op.inputs[1]), shift
            case ops.Affine(), [_, np.ndarray() as scale, np.ndarray() as shift]:
                channel = (-1, *[1] * (len(self.shape(op.output)) - 2))
                scaled = self.factors(op.inputs[0]).times(_Product(constants=(scale.reshape(channel),)))
                return scaled, shift.reshape(channel)
            case _:
                return self.factors(op.output), np.zeros((), np.float32)

    def centred(self, name: str) -> tuple[str, Shape] | None:
        """x and the axes of ``x - E x``."""
        op = self.producers.get(name)
        if op is None or op.attributes != ops.Binary(BinaryFunction.SUBTRACT):
            return None
        mean = self.reduced(op.inputs[1], ReduceFunction.MEAN)
        return mean if mean is not None and mean[0] == op.inputs[0] else None

    def epsilon(self, name: str, x: str, axes: Shape) -> float | None:
        """What is added to the variance of x to give a tensor, where it is that."""
        shape = self.shape(x)
        kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
        if self.shape(name) not in (kept, shape):
            return None
        line = self.line(name)
        if line is None or line[1] != 1 or line[2] < 0:
            return None
        variance = line[0]
        squares = self.squared_mean(variance)
        if squares is not None and squares[1] == axes and self.centred(squares[0]) == (x, axes):
            return line[2]
        base = self.view(variance, kept)
        op = self.producers.get(base)
        if op is None or op.attributes != ops.Binary(BinaryFunction.SUBTRACT):
            return None
        if self.shape(base) != shape and math.prod(self.shape(base)) != math.prod(kept):
            return None
        means = [self.along(each, kept) for each in op.inputs]
        square = self.squared(op.inputs[1])
        if square is None or means[0] != (x, axes, True) or self.along(square, kept) != (x, axes, False):
            return None
        return line[2]

    def squared(self, name: str) -> str | None:
        """x of ``x * x``."""
        op = self.producers.get(name)
        square = op is not None and op.attributes == ops.Binary(BinaryFunction.MULTIPLY) and op.inputs[0] == op.inputs[1]
        return op.inputs[0] if op is not None and square else None

    def squared_mean(self, name: str) -> tuple[str, Shape] | None:
        mean = self.reduced(name, ReduceFunction.MEAN)
        source = None if mean is None else self.squared(mean[0])
        return None if mean is None or source is None else (source, mean[1])

    def along(self, name: str, kept: Shape) -> tuple[str, Shape, bool] | None:
        """Source, axes and whether it is squared, of a mean whose axes have vanished or stay."""
        factor = 1.0
        while (op := self.producers.get(name)) is not None:
            line = self.line(name)
            if line is not None and line[2] == 0:
                name, factor = line[0], factor * line[1]
            elif isinstance(op.attributes, ops.Reshape) or (
                isinstance(op.attributes, ops.Expand) and self.shape(op.inputs[0]) == kept
            ):
                name = op.inputs[0]
            else:
                break
        found = None if op is None else self.whole(op, ReduceFunction.MEAN, factor, kept)
        if found is None:
            return None
        source = self.squared(found[0])
        return (found[0], found[1], False) if source is None else (source, found[1], True)

    # --- Gelu ---------------------------------------------------------------------------------------------------------

    def gelu(self, op: Op) -> Op | None:
        """``x / 2 * (1 + f)``, f the error function of x or the tanh that stands for it."""
        if not isinstance(op.attributes, ops.Binary | ops.Affine):
            return None
        for gate in self.factors(op.output).numerators:
            for source, scale, shift in self.lines(gate):
                curve = self.producers.get(source)
                if curve is None or not _close(scale, shift):
                    continue
                if curve.attributes == ops.Unary(UnaryFunction.ERROR_FUNCTION):
                    for x, slope, start in self.lines(curve.inputs[0]):
                        if start == 0 and _close(slope, math.sqrt(0.5)) and self.gated(op, x, gate, scale):
                            return replace(op, attributes=ops.Gelu(), inputs=(x,))
                elif isinstance(curve.attributes, ops.Tanh):
                    x = self.cubic(curve.inputs[0])
                    if x and self.gated(op, x, gate, scale):
                        return replace(op, attributes=ops.Gelu(approximate=True), inputs=(x,))
        return None

    def gated(self, op: Op, x: str, gate: str, scale: float) -> bool:
        """Whether an operation computes x times a gate, times the number that makes it one half in all."""
        product = self.factors(op.output, stop=x)
        plain = not product.denominators and not product.constants and sorted(product.numerators) == sorted((x, gate))
        return plain and _close(product.number * scale, 0.5)

    def cubic(self, name: str) -> str:
        """x of ``sqrt(2 / pi) * (x + 0.044715 x**3)``; empty if it is not that."""
        slope = math.sqrt(2 / math.pi)
        for source, scale, shift in self.lines(name):
            op = self.producers.get(source)
            if op is None or not isinstance(op.attributes, ops.Add) or shift != 0 or not _close(scale, slope):
                continue
            for x, cube in (op.inputs, op.inputs[::-1]):
                product = self.factors(cube, stop=x)
                if product.numerators == (x,) * 3 and not product.denominators and not product.constants:
                    return x if _close(product.number, _CUBIC) else ""
        product = self.factors(name)
        for gate in product.numerators:
            for source, scale, shift in self.lines(gate):
                x = self.squared(source) or ""
                whole = self.factors(name, stop=x)
                exact = _close(shift, 1) and _close(scale, _CUBIC) and _close(whole.number, slope)
                if x and exact and sorted(whole.numerators) == sorted((x, gate)) and not whole.denominators:
                    return x
        return ""

    # --- softmax ------------------------------------------------------------------------------------------------------

    def softmax(self, op: Op) -> Op | None:
        """``e / sum(e)`` with ``e = exp(x - max x)``."""
        if op.attributes != ops.Binary(BinaryFunction.DIVIDE):
            return None
        raised, total = self.producers.get(op.inputs[0]), self.reduced(op.inputs[1], ReduceFunction.SUM)
        if raised is None or raised.attributes != ops.Unary(UnaryFunction.EXPONENTIAL) or total is None:
            return None
        below = self.producers.get(raised.inputs[0])
        if below is None or below.attributes != ops.Binary(BinaryFunction.SUBTRACT) or total[0] != raised.output:
            return None
        peak = self.reduced(below.inputs[1], ReduceFunction.MAXIMUM)
        if peak != (below.inputs[0], total[1]):
            return None
        return replace(op, attributes=ops.Softmax(total[1]), inputs=(below.inputs[0],))


_ROOT = ops.Unary(UnaryFunction.SQUARE_ROOT)


def _close(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=_CLOSE)


def _along(axes: Shape, shape: Shape, constants: list[Array]) -> Array | None:
    """The product of constants as one in the extents of the normalised axes, or None where they vary along other axes."""
    product = np.ones((1,) * len(shape), np.float64)
    for value in constants:
        aligned = value.reshape((1,) * (len(shape) - value.ndim) + value.shape) if value.ndim <= len(shape) else value
        if aligned.ndim != len(shape) or any(extent != 1 for axis, extent in enumerate(aligned.shape) if axis not in axes):
            return None
        product = product * aligned
    extents = tuple(shape[axis] for axis in axes)
    return np.broadcast_to(product.reshape([product.shape[axis] for axis in axes]), extents).astype(np.float32)
