"""One operation a graph, for every kind, and random ways to share a network."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, LoweredGraph
from lepton_dse.ir.ops import Attributes, BinaryFunction, Op, PadMode, ReduceFunction, Relation, UnaryFunction, Window
from lepton_dse.ir.shapes import infer
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import BOOL, FLOAT32, INT32, INT64, NumberFormat
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.parallel.splitting import OpLayouts, layouts_of, splittable
from lepton_dse.schedule.sharded import OpStrategy, ShardedProgram, Strategies, sharded_program

Array = NDArray[Any]


def fmt(text: str) -> NumberFormat:
    return NumberFormat.parse(text)


def alone(
    attributes: Attributes, *operands: Array | tuple[Array, str], to: str = "", quant: Any = None, reads: Any = None
) -> Any:
    """A graph of one operation, and its feeds: the first operand is the input, the others are weights."""
    tensors, values = [], []
    for number, operand in enumerate(operands):
        value, form = operand if isinstance(operand, tuple) else (operand, "")
        form_of = fmt(form) if form else NumberFormat.from_numpy(value.dtype)
        tensors.append(Tensor(f"t{number}", value.shape, form_of, reads if not number else None))
        values.append(value)
    shape, form_out = infer(attributes, tensors)
    output = Tensor("y", shape, fmt(to) if to else form_out, quant)
    names = [tensor.name for tensor in tensors]
    constants = dict(zip(names[1:], values[1:], strict=True))
    graph = LoweredGraph("one", [*tensors, output], [Op("op", attributes, tuple(names), "y")], ["t0"], ["y"], constants)
    return graph, {"t0": values[0]}


def reals(*shape: int, seed: int = 0, kind: Any = np.float32) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(kind)


def whole(*shape: int, low: int = -128, high: int = 127, kind: Any = np.int8, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).integers(low, high, shape, endpoint=True).astype(kind)


def window(kernel: tuple[int, ...], stride: int = 1, dilation: int = 1, begin: int = 0, end: int = 0) -> Window:
    count = len(kernel)
    return Window(kernel, (stride,) * count, (dilation,) * count, (begin,) * count, (end,) * count)


def kinds() -> Iterator[tuple[str, Any]]:
    """Graphs of one operation by a name."""
    square, x, flat = window((3, 3), begin=1, end=1), reals(2, 4, 6, 5), reals(3, 8)
    half, brain = x.astype(np.float16), x.astype(ml_dtypes.bfloat16)
    yield "conv", alone(ops.Conv(square), x, reals(6, 4, 3, 3), reals(6))
    yield "conv groups", alone(ops.Conv(window((3, 2), 2, 2, 2, 1), 2), x, reals(6, 2, 3, 2))
    yield "conv depthwise", alone(ops.Conv(square, 4), x, reals(4, 1, 3, 3))
    yield "conv 1d", alone(ops.Conv(window((3,), 2, 1, 1, 0)), reals(2, 3, 9), reals(4, 3, 3))
    yield "conv 3d", alone(ops.Conv(window((2, 2, 2))), reals(1, 2, 4, 4, 3), reals(3, 2, 2, 2, 2))
    yield "conv float16", alone(ops.Conv(square), half, reals(6, 4, 3, 3, kind=np.float16), reals(6, kind=np.float16))
    yield "conv bfloat16", alone(ops.Conv(square), brain, reals(6, 4, 3, 3, kind=ml_dtypes.bfloat16))
    bytes_in, kernel = whole(2, 4, 6, 5), whole(6, 4, 3, 3, low=-127)
    yield "conv int8", alone(ops.Conv(square), bytes_in, kernel, whole(6, low=-9999, high=9999, kind=np.int32), to="int32")
    yield "conv int8 pad", alone(ops.Conv(square, 1, -7), bytes_in, kernel, to="int24")
    yield "conv int8 groups", alone(ops.Conv(square, 2, 3), bytes_in, whole(6, 2, 3, 3), to="int32")
    yield "conv int4", alone(ops.Conv(square), bytes_in, (whole(6, 4, 3, 3, low=-8, high=7), "int4"), to="int20")
    yield "conv int16", alone(ops.Conv(square), whole(2, 4, 6, 5, low=-32768, high=32767, kind=np.int16), kernel, to="int32")
    yield (
        "conv wide",
        alone(
            ops.Conv(square),
            whole(2, 4, 6, 5, low=-32768, high=32767, kind=np.int16),
            whole(6, 4, 3, 3, low=-32768, high=32767, kind=np.int16),
            to="int40",
        ),
    )
    yield "conv uint8", alone(ops.Conv(square), whole(2, 4, 6, 5, low=0, high=255, kind=np.uint8), kernel, to="int32")
    yield "matmul", alone(ops.MatMul(), flat, reals(8, 5), reals(5))
    yield "matmul float64", alone(ops.MatMul(), flat.astype(np.float64), reals(8, 5).astype(np.float64))
    yield "matmul bfloat16", alone(ops.MatMul(), flat.astype(ml_dtypes.bfloat16), reals(8, 5, kind=ml_dtypes.bfloat16))
    yield (
        "matmul float8",
        alone(ops.MatMul(), flat.astype(ml_dtypes.float8_e4m3fn), reals(8, 5).astype(ml_dtypes.float8_e4m3fn), to="float32"),
    )
    yield "matmul batched", alone(ops.MatMul(), reals(2, 1, 3, 4), reals(5, 4, 6))
    yield "matmul vector", alone(ops.MatMul(), reals(4), reals(2, 4, 6))
    yield "matmul wide left", alone(ops.MatMul(), reals(2, 3, 5, 4), reals(4, 6), reals(6))
    yield "matmul int8", alone(ops.MatMul(), whole(3, 300), whole(300, 5), whole(5, kind=np.int32), to="int32")
    yield "matmul int8 batched", alone(ops.MatMul(), whole(2, 3, 30), whole(2, 30, 5), to="int32")
    for name, mode in (("reflect", PadMode.REFLECT), ("edge", PadMode.EDGE)):
        yield f"pad {name}", alone(ops.Pad((0, 1, -1, 2), (0, 0, 3, -2), mode), x)
    yield "pad", alone(ops.Pad((0, 1, -1, 2), (0, 0, 3, -2), PadMode.CONSTANT, 0.5), x)
    yield "pad int8", alone(ops.Pad((0, 0, 1, 2), (0, 0, 3, 0), PadMode.CONSTANT, -7.0), bytes_in)
    yield "concat", alone(ops.Concat(1), x, reals(2, 3, 6, 5))
    yield "reshape", alone(ops.Reshape((4, 60)), x)
    yield "transpose", alone(ops.Transpose((0, 2, 3, 1)), x)
    yield "expand", alone(ops.Expand((2, 3, 4, 5)), reals(3, 1, 5))
    yield "slice", alone(ops.Slice((1, 3, 0, 4), (1, 2, 3, 2), (1, -2, 2, -3)), x)
    yield "gather", alone(ops.Gather(1), x, np.array([[0, -1, 2], [3, 3, -4]]))
    yield "gather tokens", _tokens()
    for function in BinaryFunction:
        a = np.abs(x) + 0.1 if function is BinaryFunction.POWER else x
        yield f"binary {function.value}", alone(ops.Binary(function), a, reals(4, 1, 5, seed=1))
        if function not in (BinaryFunction.POWER, BinaryFunction.DIVIDE):
            yield f"integers {function.value}", alone(ops.Binary(function), whole(3, 4, low=-9, high=9), whole(4, low=-9, high=9))
            yield f"bfloat16 {function.value}", alone(ops.Binary(function), brain, brain[:1])
    for relation in Relation:
        yield f"compare {relation.value}", alone(ops.Compare(relation), whole(3, 9, low=-3, high=3), whole(9, low=-3, high=3))
        yield f"compare reals {relation.value}", alone(ops.Compare(relation), np.round(x), np.round(x[::-1]))
    truth = whole(3, 9, low=0, high=1) > 0
    yield "compare truths", alone(ops.Compare(Relation.LESS), truth, truth[::-1])
    yield "where", alone(ops.Where(), truth, reals(3, 1), reals(9))
    yield "where int8", alone(ops.Where(), truth, whole(3, 1), whole(9))
    for function in UnaryFunction:
        value = np.abs(x) + 0.2 if function in (UnaryFunction.LOGARITHM, UnaryFunction.SQUARE_ROOT) else x
        yield f"unary {function.value}", alone(ops.Unary(function), value)
        yield f"unary float16 {function.value}", alone(ops.Unary(function), value.astype(np.float16))
    yield "gelu", alone(ops.Gelu(), 3 * x)
    yield "gelu tanh", alone(ops.Gelu(True), 3 * x)
    yield "gelu bfloat16", alone(ops.Gelu(), brain)
    yield "cast int", alone(ops.Cast(INT32), 9 * x)
    yield "cast bool", alone(ops.Cast(BOOL), np.round(x))
    yield "cast bfloat16", alone(ops.Cast(fmt("bfloat16")), x)
    yield "cast float16", alone(ops.Cast(fmt("float16")), x)
    yield "cast real", alone(ops.Cast(FLOAT32), bytes_in)
    yield "cast truth", alone(ops.Cast(INT64), truth)
    yield "clip", alone(ops.Clip(-0.3, 0.7), x)
    yield "clip low", alone(ops.Clip(0.0, float("inf")), half)
    yield "clip int8", alone(ops.Clip(-5.0, 1000.0), bytes_in)
    yield "clip narrower", alone(ops.Clip(-5.0, 100.0), whole(3, 4, low=-9999, high=9999, kind=np.int32), to="int8")
    yield "leaky relu", alone(ops.LeakyRelu(0.1), x)
    yield "sigmoid", alone(ops.Sigmoid(), 9 * x)
    yield "tanh", alone(ops.Tanh(), x)
    yield "tanh float16", alone(ops.Tanh(), half)
    yield "affine", alone(ops.Affine(), x, reals(4), reals(4, seed=1))
    yield "add int", alone(ops.Add(), whole(3, 4), whole(4), to="int16")
    yield "softmax", alone(ops.Softmax((3,)), 5 * x)
    yield "softmax axes", alone(ops.Softmax((1, 3)), 5 * x)
    yield "softmax float16", alone(ops.Softmax((1,)), half)
    yield "layer norm", alone(ops.LayerNorm((3,), 1e-5), x, reals(5), reals(5, seed=1))
    yield "layer norm axes", alone(ops.LayerNorm((1, 3), 1e-3), x + 3, reals(4, 5), reals(4, 5, seed=1))
    yield "layer norm bfloat16", alone(ops.LayerNorm((3,), 1e-5), brain, reals(5), reals(5, seed=1))
    for function in ReduceFunction:
        yield f"reduce {function.value}", alone(ops.Reduce(function, (1, 3), False), x)
        yield f"reduce kept {function.value}", alone(ops.Reduce(function, (2,), True), half)
    yield "reduce int8", alone(ops.Reduce(ReduceFunction.SUM, (1, 2), False), bytes_in, to="int32")
    yield "reduce int8 maximum", alone(ops.Reduce(ReduceFunction.MAXIMUM, (1, 2), False), bytes_in)
    ties = np.round(x)
    for last in (False, True):
        yield f"argmax {last}", alone(ops.ArgMax(1, False, last), ties)
        yield f"argmax int8 {last}", alone(ops.ArgMax(2, True, last), whole(2, 4, 9, low=-2, high=2))
    broken = ties.copy()
    broken[0, 1, 2, 3] = np.nan
    yield "argmax of no number", alone(ops.ArgMax(1, False), broken)
    pool = window((3, 2), 2, 1, 1, 1)
    for name, value in (("", x), (" int8", bytes_in), (" float16", half)):
        yield f"max pool{name}", alone(ops.MaxPool(window((2, 2), 1, 2, 1, 1)), value)
    yield "max pool uint8", alone(ops.MaxPool(pool), whole(2, 4, 6, 5, low=0, high=255, kind=np.uint8))
    yield "average pool", alone(ops.AveragePool(pool), x)
    yield "average pool padded", alone(ops.AveragePool(pool, True, (1, 0)), x)
    yield "average pool float16", alone(ops.AveragePool(pool), half)
    yield "average pool int8", alone(ops.AveragePool(pool), bytes_in)
    yield "sum pool", alone(ops.SumPool(pool, 3), bytes_in, to="int16")
    yield "local response", alone(ops.LocalResponseNorm(3, 0.2, 0.7, 1.0), x)
    yield "local response even", alone(ops.LocalResponseNorm(2, 0.2, 0.7, 1.5), x)
    yield from _quantised(x, bytes_in)


def _tokens() -> Any:
    """Rows of a table by token: the table is the weight, the tokens the input."""
    tokens, table = whole(2, 5, low=-9, high=8, kind=np.int64), reals(9, 4)
    tensors = [Tensor("t0", (2, 5), INT64), Tensor("table", (9, 4)), Tensor("y", (2, 5, 4))]
    op = Op("op", ops.Gather(0), ("table", "t0"), "y")
    return LoweredGraph("one", tensors, [op], ["t0"], ["y"], {"table": table}), {"t0": tokens}


def _quantised(x: Array, bytes_in: Array) -> Iterator[tuple[str, Any]]:
    fine = QuantParams((0.012345678,), 3)
    # Multiples of half a scale, where one unit of the quotient decides.
    close = (np.arange(-2000, 2000, dtype=np.float32) * np.float32(0.012345678) / 2).reshape(2, 4, 50, 10)
    for name, value in (("", x), (" halves", close), (" above", np.nextafter(close, np.float32(9))), (" far", close * 1e30)):
        yield f"quantize{name}", alone(ops.Quantize(), value, to="int8", quant=QuantParams((float(np.float32(0.012345678)),), 3))
    several = tuple(float(np.float32(value)) for value in (0.1, 0.02, 0.3, 0.004))
    yield "quantize channels", alone(ops.Quantize(), close, to="int6", quant=QuantParams(several, 0, 1))
    yield "quantize int16", alone(ops.Quantize(), close, to="uint16", quant=QuantParams((fine.beta[0] / 64,), 30000))
    yield "quantize int32", alone(ops.Quantize(), close, to="int32", quant=QuantParams((float(np.float32(1e-9)),), 77))
    yield "quantize float8", alone(ops.Quantize(), 300 * x, to="float8_e4m3", quant=QuantParams((0.5,)))
    yield "quantize bfloat16", alone(ops.Quantize(), x, to="bfloat16", quant=QuantParams((1.0,)))
    yield "dequantize", alone(ops.Dequantize(), bytes_in, to="float32", reads=fine)
    yield "dequantize channels", alone(ops.Dequantize(), bytes_in, to="float32", reads=QuantParams(several, -4, 1))
    yield (
        "dequantize groups",
        alone(ops.Dequantize(), (whole(4, 6, low=-8, high=7), "int4"), to="float32", reads=QuantParams(several * 2, 0, 0, 3)),
    )
    yield (
        "dequantize wide",
        alone(
            ops.Dequantize(), whole(3, 4, low=-(2**31), high=2**31 - 1, kind=np.int32), to="float32", reads=QuantParams((0.1,), 5)
        ),
    )
    acc = whole(2, 4, 6, 5, low=-(2**30), high=2**30, kind=np.int32)
    multiplier = whole(4, 1, 1, low=1, high=2**17 - 1, kind=np.int32)
    yield "requantize", alone(ops.Requantize(40, 3, -128, 127), acc, (multiplier, "uint17"), to="int8")
    small = whole(2, 4, 6, 5, low=-(2**14), high=2**14 - 1, kind=np.int16)
    yield (
        "requantize narrow",
        alone(
            ops.Requantize(20, -2, -8, 7),
            (small, "int15"),
            (whole(1, low=1, high=2**15 - 1, kind=np.uint16), "uint15"),
            to="int4",
        ),
    )
    yield (
        "requantize halves",
        alone(
            ops.Requantize(1, 0, -128, 127),
            (np.arange(-40, 40, dtype=np.int32), "int8"),
            (np.ones(1, np.int32), "uint17"),
            to="int8",
        ),
    )
    yield "add requantize", alone(ops.AddRequantize(3, -5, 70000, 100001, 17, 2, -128, 127), bytes_in, whole(4, 1, 5), to="int8")
    yield "lookup", alone(ops.Lookup(-128), bytes_in, whole(256, seed=1))
    yield "lookup reals", alone(ops.Lookup(-128), bytes_in, reals(256), to="float32")
    yield "lookup uint8", alone(ops.Lookup(0), whole(3, 4, low=0, high=255, kind=np.uint8), whole(256, seed=1), to="int8")


# --- random sharings ------------------------------------------------------------------------------------------------


def choices(graph: Graph, op: Op, mesh: Mesh) -> Iterator[tuple[dict[str, tuple[str, ...]], OpLayouts]]:
    """Every way to share an operation."""
    loops = [None, *(loop.name for loop in splittable(graph, op))]
    for combination in itertools.product(loops, repeat=len(mesh.axes)):
        shared: dict[str, tuple[str, ...]] = {}
        for axis, loop in zip(mesh.names, combination, strict=True):
            if loop is not None:
                shared[loop] = (*shared.get(loop, ()), axis)
        found = layouts_of(graph, op, shared, mesh)
        if found is not None:
            yield shared, found


def randomly_shared(graph: Graph, mesh: Mesh, seed: int, *, alike: bool = False) -> ShardedProgram:
    """Each operation shared in a way drawn for it, its result brought to a layout drawn for it.

    Alike are operations whose names differ in the number alone that they begin with: those draw the same.
    """
    rng = random.Random(seed)
    strategies = {}
    for op in graph.ops:
        if alike:
            rng = random.Random(f"{seed} {op.name.partition('.')[2]}")
        shared, found = rng.choice(list(choices(graph, op, mesh)))
        cuts = list(found.output.cuts)
        _cut_further(
            cuts, graph.tensors[op.output].shape, [axis for axis in found.output.partial if rng.random() < 0.6], mesh, rng
        )
        strategies[op.name] = OpStrategy(shared, Layout(tuple(cuts)))
    inputs = {}
    for name in graph.inputs:
        shape = graph.tensors[name].shape
        cuts = [()] * len(shape)
        _cut_further(cuts, shape, [axis for axis in mesh.names if rng.random() < 0.5], mesh, rng)
        inputs[name] = Layout(tuple(cuts))
    return sharded_program(graph, mesh, Strategies(inputs, strategies))


def _cut_further(cuts: list[Any], shape: tuple[int, ...], axes: list[str], mesh: Mesh, rng: random.Random) -> None:
    for axis in axes:
        fitting = [place for place in range(len(shape)) if shape[place] % (mesh.size(cuts[place]) * mesh.sizes[axis]) == 0]
        if fitting:
            place = rng.choice(fitting)
            cuts[place] = (*cuts[place], axis)
