"""Drawn lowered graphs of several branches, each with an input of its own: what a GPU program is made of, small enough to run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cuda_programs import window
from hypothesis import strategies as st

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder, LoweredGraph
from lepton_dse.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32, FormatKind, NumberFormat
from lepton_dse.numerics.quantize import QuantParams

__all__ = ["CONTRACTIONS", "MOVERS", "Drawn", "contraction_graphs", "mover_graphs"]

Array = np.ndarray[Any, Any]
INT4 = NumberFormat(FormatKind.INT, 4)
ONE = QuantParams((1.0,))


@dataclass(frozen=True)
class Drawn:
    """A graph and values of its inputs."""

    graph: LoweredGraph
    feeds: dict[str, Array]


@dataclass
class Pen:
    """What branches are written with: the builder, drawn choices, and values that a seed gives."""

    draw: st.DrawFn
    rng: np.random.Generator
    activations: NumberFormat
    weights: NumberFormat
    builder: GraphBuilder = field(default_factory=lambda: GraphBuilder("drawn"))
    feeds: dict[str, Array] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self) -> bool:
        return self.draw(st.booleans())

    def pick(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def name(self, stem: str) -> str:
        return self.builder.fresh(stem)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.builder.tensors[name].shape

    def values(self, shape: tuple[int, ...], form: NumberFormat) -> Array:
        if form.is_float:
            return self.rng.normal(0, 1, shape).astype(np.float32).astype(form.numpy)
        return self.rng.integers(int(form.minimum), int(form.maximum) + 1, shape).astype(form.numpy)

    def add(self, attributes: ops.Attributes, *inputs: str, **given: Any) -> str:
        return self.builder.add(attributes, inputs, output=self.name(type(attributes).__name__.lower()), **given)

    def input(self, shape: tuple[int, ...], form: NumberFormat = FLOAT32) -> str:
        """An input as readers want it: of a narrow float format, made real where it is read."""
        name = self.builder.input(self.name("x"), shape, form, ONE if form.is_float and form != FLOAT32 else None)
        self.feeds[name] = self.values(shape, form)
        return self.real(name)

    def constant(self, shape: tuple[int, ...], form: NumberFormat = FLOAT32) -> str:
        quant = ONE if form.is_float and form != FLOAT32 else None
        return self.real(self.builder.constant(self.name("w"), self.values(shape, form), form, quant))

    def real(self, name: str) -> str:
        form = self.builder.tensors[name].format
        return name if not form.is_float or form == FLOAT32 else self.add(ops.Dequantize(), name, form=FLOAT32)

    def sums(self) -> dict[str, Any]:
        """What a contraction of the formats gives."""
        return {"form": FLOAT32} if self.activations.is_float else {"form": INT32, "quant": QuantParams((2.0**-7,), 0)}


# --- contractions -------------------------------------------------------------------------------------------------


def _window(pen: Pen, extent: tuple[int, ...]) -> ops.Window:
    kernel = tuple(pen.integer(1, min(3, size)) for size in extent)
    pads = [tuple(pen.integer(0, 2) for _ in extent) for _ in range(2)]
    room = [size + sum(pair) for size, pair in zip(extent, zip(*pads, strict=True), strict=True)]
    dilations = tuple(
        pen.integer(1, 2) if taps > 1 and 2 * (taps - 1) < size else 1 for taps, size in zip(kernel, room, strict=True)
    )
    strides = tuple(pen.integer(1, 3) for _ in extent)
    return window(kernel, strides=strides, dilations=dilations, pads_begin=pads[0], pads_end=pads[1])


def _convolved(pen: Pen, x: str, filters: int, groups: int, shape_of_window: ops.Window) -> str:
    channels = pen.shape(x)[1]
    inputs = [x, pen.constant((filters, channels // groups, *shape_of_window.kernel), pen.weights)]
    if pen.chance():
        inputs.append(pen.constant((filters,), FLOAT32 if pen.activations.is_float else INT32))
    padding = 0 if pen.activations.is_float else pen.integer(-128, 127)
    return pen.add(ops.Conv(shape_of_window, groups, padding), *inputs, **pen.sums())


def convolution(pen: Pen) -> str:
    """Of one or two spatial axes, in one group."""
    extent = tuple(pen.integer(1, 9) for _ in range(pen.integer(1, 2)))
    x = pen.input((pen.integer(1, 2), pen.pick(1, 3, 5, 8, 16, 32, 32), *extent), pen.activations)
    return _convolved(pen, x, pen.integer(1, 20), 1, _window(pen, extent))


def grouped_convolution(pen: Pen) -> str:
    """Of several groups; few filters in each, one above all, make it no contraction."""
    groups, extent = pen.integer(2, 4), (pen.integer(1, 7), pen.integer(1, 7))
    x = pen.input((pen.integer(1, 2), groups * pen.pick(1, 4, 16, 16), *extent), pen.activations)
    return _convolved(pen, x, groups * pen.pick(1, 4, 5, 8), groups, _window(pen, extent))


def pointwise_convolution(pen: Pen) -> str:
    """Of one tap."""
    extent = (pen.integer(1, 9), pen.integer(1, 9))
    x = pen.input((pen.integer(1, 3), pen.pick(3, 8, 16, 48, 65, 160), *extent), pen.activations)
    return _convolved(pen, x, pen.integer(1, 40), 1, window((1, 1)))


def product(pen: Pen) -> str:
    """Of activations of several axes and a constant matrix."""
    depth, columns = pen.pick(1, 2, 7, 16, 33, 64, 100, 224), pen.integer(1, 40)
    rows = tuple(pen.integer(1, 9) for _ in range(pen.integer(1, 3)))
    inputs = [pen.input((*rows, depth), pen.activations), pen.constant((depth, columns), pen.weights)]
    if pen.chance():
        inputs.append(pen.constant((columns,), FLOAT32 if pen.activations.is_float else INT32))
    return pen.add(ops.MatMul(), *inputs, **pen.sums())


def product_of_each(pen: Pen) -> str:
    """Of batches of activations and as many constant matrices."""
    batch, depth, columns = pen.integer(2, 3), pen.pick(3, 16, 40, 80), pen.integer(1, 20)
    inputs = [pen.input((batch, pen.integer(1, 20), depth), pen.activations), pen.constant((batch, depth, columns), pen.weights)]
    return pen.add(ops.MatMul(), *inputs, **pen.sums())


def product_of_activations(pen: Pen) -> str:
    """Of two inputs, as in attention."""
    batch, depth, columns = tuple(pen.integer(1, 3) for _ in range(pen.integer(0, 2))), pen.pick(1, 5, 16, 50), pen.integer(1, 20)
    left = pen.input((*batch, pen.integer(1, 20), depth), pen.activations)
    right = pen.input((*batch, depth, columns), pen.activations)
    return pen.add(ops.MatMul(), left, right, **pen.sums())


CONTRACTIONS: tuple[Callable[[Pen], str], ...] = (
    convolution,
    grouped_convolution,
    pointwise_convolution,
    product,
    product_of_each,
    product_of_activations,
)


# --- what is done with their results ------------------------------------------------------------------------------


def _operand(pen: Pen, shape: tuple[int, ...], form: NumberFormat = FLOAT32) -> str:
    """Something that broadcasts against a shape: an input, a constant, or either with axes of one element."""
    own = tuple(1 if pen.chance() else extent for extent in shape) if pen.chance() else shape
    own = own[pen.integer(0, len(own) - 1) :] if pen.chance() else own
    return pen.constant(own, form) if pen.chance() else pen.input(own, form)


def _real_chain(pen: Pen, x: str) -> str:
    for _ in range(pen.integer(0, 3)):
        x = _real_step(pen, x)
    ending = pen.pick("none", "int8", "half")
    if ending == "int8":
        return pen.add(ops.Quantize(), x, form=INT8, quant=QuantParams((0.0625,), pen.integer(-20, 20)))
    if ending == "half":
        return pen.add(ops.Quantize(), x, form=pen.pick(FLOAT16, BFLOAT16), quant=ONE)
    return x


def _real_step(pen: Pen, x: str) -> str:
    shape = pen.shape(x)
    match pen.pick("clip", "leaky", "add", "multiply", "affine", "unary", "bounded", "where"):
        case "clip":
            return pen.add(ops.Clip(*pen.pick((0.0, math.inf), (-1.0, 6.0), (-math.inf, 0.5))), x)
        case "leaky":
            return pen.add(ops.LeakyRelu(0.125), x)
        case "add":
            operands = [x, _operand(pen, shape)]
            return pen.add(ops.Add(), *(operands if pen.chance() else operands[::-1]))
        case "multiply":
            return pen.add(ops.Binary(pen.pick(*_MONOTONE)), x, _operand(pen, shape))
        case "affine" if len(shape) > 1:
            return pen.add(ops.Affine(), x, pen.constant((shape[1],)), pen.constant((shape[1],)))
        case "unary":
            return pen.add(ops.Unary(ops.UnaryFunction.NEGATE), x)
        case _:
            return pen.add(pen.pick(ops.Sigmoid(), ops.Tanh(), ops.Gelu(), ops.Gelu(approximate=True)), x)


_MONOTONE = (ops.BinaryFunction.MULTIPLY, ops.BinaryFunction.SUBTRACT, ops.BinaryFunction.MINIMUM, ops.BinaryFunction.MAXIMUM)


def _integer_chain(pen: Pen, x: str) -> str:
    shape = pen.shape(x)
    if pen.builder.tensors[x].quant is not None and pen.chance() and pen.chance():
        return _real_chain(pen, pen.add(ops.Dequantize(), x, form=FLOAT32))
    channels = shape[1] if len(shape) > 2 else shape[-1]
    wide = (channels, *(1,) * (len(shape) - 2)) if len(shape) > 2 else (channels,)
    multiplier = pen.builder.constant(pen.name("m"), pen.rng.integers(1, 1 << 17, wide if pen.chance() else ()).astype(np.int32))
    x = pen.add(ops.Requantize(pen.integer(18, 26), pen.integer(-9, 9), -128, 127), x, multiplier, form=INT8)
    for _ in range(pen.integer(0, 2)):
        match pen.pick("clip", "add", "table"):
            case "clip":
                x = pen.add(ops.Clip(*pen.pick((0, math.inf), (-20, 90))), x)
            case "add":
                zeros = [pen.integer(-9, 9) for _ in range(3)]
                attributes = ops.AddRequantize(*zeros[:2], *pen.pick((3000, 70000), (1 << 16, 1)), 17, zeros[2], -128, 127)
                x = pen.add(attributes, x, _operand(pen, shape, INT8), form=INT8)
            case _:
                x = pen.add(ops.Lookup(-128), x, pen.constant((256,), INT8), form=INT8)
    return x


@st.composite
def contraction_graphs(draw: st.DrawFn, activations: str, weights: str, branches: int) -> Drawn:
    """Contractions of two formats and what may be done with their sums."""
    pen = Pen(
        draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))), NumberFormat.parse(activations), NumberFormat.parse(weights)
    )
    for _ in range(branches):
        result = draw(st.sampled_from(CONTRACTIONS))(pen)
        pen.outputs.append((_real_chain if pen.activations.is_float else _integer_chain)(pen, result))
    return Drawn(pen.builder.build_lowered(pen.outputs), pen.feeds)


# --- everything else ----------------------------------------------------------------------------------------------


def _image(pen: Pen, form: NumberFormat = FLOAT32) -> str:
    """An input, or a result that lies channels innermost."""
    shape = (pen.integer(1, 2), pen.integer(1, 5), *(pen.integer(1, 7) for _ in range(pen.integer(1, 2))))
    x = pen.input(shape, form)
    return pen.add(ops.MaxPool(window((1,) * (len(shape) - 2))), x, form=form) if pen.chance() else x


def pool(pen: Pen) -> str:
    """Greatest, mean, or sum of windows."""
    kind = pen.pick("max", "max", "average", "sum")
    x = _image(pen, INT8 if kind == "sum" else pen.pick(FLOAT32, INT8) if kind == "max" else FLOAT32)
    shape = pen.shape(x)[2:]
    drawn = _window(pen, shape)
    pads = [
        tuple(min(pad, size - 1) for pad, size in zip(side, drawn.kernel, strict=True))
        for side in (drawn.pads_begin, drawn.pads_end)
    ]
    given = window(drawn.kernel, strides=drawn.strides, pads_begin=pads[0], pads_end=pads[1])
    if kind == "max":
        return pen.add(ops.MaxPool(given), x)
    if kind == "sum":
        return pen.add(ops.SumPool(given, pen.integer(-9, 9)), x, form=INT32)
    return pen.add(ops.AveragePool(given, pen.chance()), x)


def rows(pen: Pen) -> str:
    """What a warp computes along some axes."""
    shape = tuple(pen.pick(1, 2, 5, 33, 40) for _ in range(pen.integer(1, 3)))
    axes = tuple(sorted(pen.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    match pen.pick("softmax", "norm", "reduce", "argmax"):
        case "softmax":
            return pen.add(ops.Softmax(axes), pen.input(shape))
        case "norm":
            along = tuple(shape[axis] for axis in axes)
            return pen.add(ops.LayerNorm(axes, 1e-5), pen.input(shape), pen.constant(along), pen.constant(along))
        case "reduce":
            return pen.add(ops.Reduce(pen.pick(*ops.ReduceFunction), axes, pen.chance()), pen.input(shape))
        case _:
            x = pen.input(shape, pen.pick(INT8, FLOAT32))
            return pen.add(ops.ArgMax(axes[0], pen.chance(), pen.chance()), x)


def padding(pen: Pen) -> str:
    """Of every mode, cropping too."""
    form = pen.pick(FLOAT32, INT8)
    x = _image(pen, form)
    shape, mode = pen.shape(x), pen.pick(*ops.PadMode)
    most = [extent - 1 if mode is ops.PadMode.REFLECT else 3 for extent in shape]
    least = [-((extent - 1) // 2) for extent in shape]
    begin, end = (tuple(pen.integer(low, max(0, min(3, high))) for low, high in zip(least, most, strict=True)) for _ in range(2))
    return pen.add(ops.Pad(begin, end, mode, float(pen.integer(-9, 9))), x)


def joining(pen: Pen) -> str:
    """Two or three tensors along one axis."""
    x = _image(pen)
    shape = pen.shape(x)
    axis = pen.integer(0, len(shape) - 1)
    others = [pen.input((*shape[:axis], pen.integer(1, 4), *shape[axis + 1 :])) for _ in range(pen.integer(1, 2))]
    return pen.add(ops.Concat(axis), *others, x)


def slicing(pen: Pen) -> str:
    """Every few elements, forwards or backwards."""
    x = _image(pen, pen.pick(FLOAT32, INT8))
    begin, extent, step = [], [], []
    for size in pen.shape(x):
        first, stride = pen.integer(0, size - 1), pen.pick(1, 2, -1, -2)
        reach = size - first if stride > 0 else first + 1
        begin.append(first)
        step.append(stride)
        extent.append(pen.integer(1, -(-reach // abs(stride))))
    return pen.add(ops.Slice(tuple(begin), tuple(extent), tuple(step)), x)


def gathering(pen: Pen) -> str:
    """Slices that integers name, some counted from the end."""
    x = _image(pen)
    shape = pen.shape(x)
    axis = pen.integer(0, len(shape) - 1)
    indices = pen.rng.integers(-shape[axis], shape[axis], (pen.integer(1, 4), 2)[: pen.integer(1, 2)]).astype(np.int64)
    return pen.add(ops.Gather(axis), x, pen.builder.constant(pen.name("i"), indices))


def moving(pen: Pen) -> str:
    """Transposed, viewed otherwise, or repeated."""
    x = _image(pen, pen.pick(FLOAT32, INT8))
    shape = pen.shape(x)
    permutation = tuple(pen.draw(st.permutations(range(len(shape)))))
    match pen.pick("transpose", "reshape", "expand"):
        case "transpose":
            return pen.add(ops.Transpose(permutation), x)
        case "reshape":
            viewed = pen.add(ops.Reshape((math.prod(shape[:2]), math.prod(shape[2:]))), x)
            return pen.add(ops.Clip(-1, 1), viewed)
        case _:
            one = pen.add(ops.Slice((0,) * len(shape), (shape[0], 1, *shape[2:]), (1,) * len(shape)), x)
            return pen.add(ops.Expand((2, *shape[:1], 3, *shape[2:])), one)


def chained(pen: Pen) -> str:
    """Operations on elements, broadcast against one another."""
    if pen.chance():
        return _integer_chain(pen, _image(pen, INT32))
    x = pen.input(tuple(pen.integer(1, 6) for _ in range(pen.integer(1, 4))))
    if pen.chance():
        shape = pen.shape(x)
        chosen = pen.add(ops.Compare(pen.pick(*ops.Relation)), x, _operand(pen, shape))
        x = pen.add(ops.Where(), chosen, _operand(pen, shape), pen.input(shape))
    if pen.chance():
        x = pen.add(ops.Cast(FLOAT32), pen.add(ops.Cast(INT32), x))
    return _real_chain(pen, x)


def depthwise(pen: Pen) -> str:
    """A convolution of which a thread computes each result."""
    channels, extent = pen.integer(1, 9), (pen.integer(1, 6), pen.integer(1, 6))
    pen.activations, pen.weights = pen.pick((FLOAT32, FLOAT32), (INT8, INT8), (FLOAT16, FLOAT16))
    x = pen.input((pen.integer(1, 2), channels, *extent), pen.activations)
    result = _convolved(pen, x, channels, channels, _window(pen, extent))
    return (_real_chain if pen.activations.is_float else _integer_chain)(pen, result)


def response(pen: Pen) -> str:
    """Normalised across neighbouring channels."""
    return pen.add(ops.LocalResponseNorm(pen.integer(1, 4), 0.5, 0.75, 1.0), _image(pen))


MOVERS: tuple[Callable[[Pen], str], ...] = (
    pool,
    rows,
    padding,
    joining,
    slicing,
    gathering,
    moving,
    chained,
    depthwise,
    response,
)


@st.composite
def mover_graphs(draw: st.DrawFn, branches: int) -> Drawn:
    """Kernels with a thread for each element or a warp for each row, two operations of elements behind some."""
    pen = Pen(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))), FLOAT32, FLOAT32)
    for _ in range(branches):
        result = draw(st.sampled_from(MOVERS))(pen)
        form = pen.builder.tensors[result].format
        if form == FLOAT32:
            result = _real_chain(pen, result)
        pen.outputs.append(result)
    return Drawn(pen.builder.build_lowered(pen.outputs), pen.feeds)
