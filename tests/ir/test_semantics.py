"""The meaning of operations against scalar loops in exact arithmetic, and the evaluation of whole graphs.

Sums over windows and matrix products are held against loop nests in tests/oracle; here stand the kinds of lowered graphs,
the functions of single elements, and what is refused.
"""

from __future__ import annotations

import itertools
import math
import tracemalloc
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import InvalidDataError, InvalidModelError
from lepton_dse.ir import GraphBuilder, Op, Tensor, ops, semantics
from lepton_dse.ir.semantics import dispatch
from lepton_dse.numerics.formats import BFLOAT16, BOOL, FLOAT32, INT8, INT32, INT64, FormatKind, NumberFormat
from lepton_dse.numerics.quantize import QuantParams

Array = np.ndarray[Any, Any]
UINT8 = NumberFormat(FormatKind.INT, 8, False)
INT20 = NumberFormat(FormatKind.INT, 20)

floats = st.floats(-1e4, 1e4, width=32)


def _evaluate(
    attributes: ops.Attributes, *values: Array, form: NumberFormat, shape: tuple[int, ...] | None = None, **quants: Any
) -> Array:
    tensors = [
        Tensor(f"i{position}", value.shape, NumberFormat.from_numpy(value.dtype), quants.get("quant") if position == 0 else None)
        for position, value in enumerate(values)
    ]
    output = Tensor("y", values[0].shape if shape is None else shape, form, quants.get("out_quant"))
    result = semantics.evaluate(Op("op", attributes, tuple(tensor.name for tensor in tensors), "y"), values, output, tensors)
    assert result.dtype == form.numpy
    assert result.shape == output.shape
    return result


def _half_even(value: Fraction) -> int:
    return round(value)  # Python rounds halves of a Fraction to even


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


@given(st.lists(floats, min_size=1, max_size=20), st.floats(2.0**-10, 2.0**6, width=32), st.integers(-128, 127))
def test_quantize(values: list[float], beta: float, zero: int) -> None:
    x = np.asarray(values, np.float32)
    found = _evaluate(ops.Quantize(), x, form=INT8, out_quant=QuantParams((beta,), zero))
    for value, integer in zip(x, found, strict=True):
        ratio = np.float32(value) / np.float32(beta)  # the definition divides in float32
        assert integer == _clamp(_half_even(Fraction(float(ratio))) + zero, -128, 127)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(-20, 20), st.integers(0, 1000))
def test_dequantize_per_channel(rows: int, channels: int, zero: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    beta = tuple(float(np.float32(value)) for value in rng.uniform(0.01, 3, channels))
    q = rng.integers(-128, 128, (rows, channels)).astype(np.int8)
    found = _evaluate(ops.Dequantize(), q, form=FLOAT32, quant=QuantParams(beta, zero, 1 if channels > 1 else None))
    for row, channel in np.ndindex(q.shape):
        assert found[row, channel] == np.float32(int(q[row, channel]) - zero) * np.float32(beta[channel])


def test_quantisation_needs_a_scale() -> None:
    for attributes, value, form in (
        (ops.Quantize(), np.zeros(1, np.float32), INT8),
        (ops.Dequantize(), np.zeros(1, np.int8), FLOAT32),
    ):
        with pytest.raises(InvalidModelError, match="'op': has no scale"):
            _evaluate(attributes, value, form=form)


@given(
    st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=12),
    st.integers(0, 2**17 - 1),
    st.integers(1, 46),
    st.integers(-128, 127),
)
def test_requantize(accumulators: list[int], multiplier: int, shift: int, zero: int) -> None:
    acc, low, high = np.asarray(accumulators, np.int32), -100, 90
    found = _evaluate(ops.Requantize(shift, zero, low, high), acc, np.asarray(multiplier, np.int32), form=INT8)
    for value, result in zip(accumulators, found, strict=True):
        # Round to nearest, halves towards plus infinity.
        exact = math.floor(Fraction(value * multiplier, 2**shift) + Fraction(1, 2))
        assert result == _clamp(exact + zero, low, high)


def test_requantize_per_channel() -> None:
    acc = np.arange(-12, 12, dtype=np.int32).reshape(1, 3, 4, 2) * 1000
    multipliers = np.asarray([1 << 10, 3 << 9, 1 << 12], np.int32).reshape(3, 1, 1)
    found = _evaluate(ops.Requantize(16, 5, -128, 127), acc, multipliers, form=INT8)
    for index in np.ndindex(acc.shape):
        exact = (int(acc[index]) * int(multipliers[index[1], 0, 0]) + (1 << 15)) // (1 << 16)
        assert found[index] == _clamp(exact + 5, -128, 127)


@given(
    st.lists(st.tuples(st.integers(-128, 127), st.integers(-128, 127)), min_size=1, max_size=12),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127)),
    st.integers(0, 2**17 - 1),
    st.integers(0, 2**17 - 1),
    st.integers(1, 30),
)
def test_add_requantize(pairs: list[tuple[int, int]], zeros: tuple[int, int, int], m_a: int, m_b: int, shift: int) -> None:
    a, b = (np.asarray(column, np.int8) for column in zip(*pairs, strict=True))
    attributes = ops.AddRequantize(zeros[0], zeros[1], m_a, m_b, shift, zeros[2], -128, 127)
    found = _evaluate(attributes, a, b, form=INT8)
    for (left, right), result in zip(pairs, found, strict=True):
        exact = Fraction((left - zeros[0]) * m_a + (right - zeros[1]) * m_b, 2**shift)
        assert result == _clamp(math.floor(exact + Fraction(1, 2)) + zeros[2], -128, 127)


def test_add_requantize_broadcasts() -> None:
    a, b = np.ones((1, 2, 3), np.int8), np.asarray([[4], [8]], np.int8)
    found = _evaluate(ops.AddRequantize(0, 0, 2, 2, 1, 0, -128, 127), a, b, form=INT8, shape=(1, 2, 3))
    np.testing.assert_array_equal(found[0], [[5] * 3, [9] * 3])


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=20), st.integers(0, 1000))
def test_lookup(values: list[int], seed: int) -> None:
    table = np.random.default_rng(seed).integers(-128, 128, 16).astype(np.int8)
    found = _evaluate(ops.Lookup(-8), np.asarray(values, np.int8), table, form=INT8)
    assert found.tolist() == [int(table[value + 8]) for value in values]


@pytest.mark.parametrize("value", [-9, 8])
def test_lookup_beyond_its_table(value: int) -> None:
    with pytest.raises(InvalidModelError, match="Lookup 'op': looks up beyond its table of 16 entries; give the table one entry"):
        _evaluate(ops.Lookup(-8), np.asarray([value], np.int8), np.zeros(16, np.int8), form=INT8)


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(-128, 127))
def test_integer_convolution_pads_with_its_value(seed: int, kernel: int, stride: int, pad: int, pad_value: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-128, 128, (2, 3, 5)).astype(np.int8), rng.integers(-128, 128, (4, 3, kernel)).astype(np.int8)
    bias = rng.integers(-1000, 1000, 4).astype(np.int32)
    window = ops.Window((kernel,), (stride,), (1,), (pad,), (pad,))
    extent = (5 + 2 * pad - kernel) // stride + 1
    found = _evaluate(ops.Conv(window, 1, pad_value), x, w, bias, form=INT32, shape=(2, 4, extent))
    for n, m, o in np.ndindex(found.shape):
        total = int(bias[m])
        for c, k in itertools.product(range(3), range(kernel)):
            position = o * stride + k - pad
            total += int(w[m, c, k]) * (int(x[n, c, position]) if 0 <= position < 5 else pad_value)
        assert found[n, m, o] == total


def test_integer_products_are_exact_beyond_doubles() -> None:
    # 2**31 * 2**30 + 1 has 62 bits: a double would lose the 1.
    x, w = np.asarray([[2**31 - 1, 1]], np.int32), np.asarray([[2**30], [1]], np.int32)
    assert _evaluate(ops.MatMul(), x, w, form=INT64, shape=(1, 1)).item() == (2**31 - 1) * 2**30 + 1
    with pytest.raises(InvalidModelError, match="leave 64 bits; use narrower operands"):
        _evaluate(
            ops.MatMul(), np.full((1, 8), 2**31 - 1, np.int32), np.full((8, 1), 2**31 - 1, np.int32), form=INT64, shape=(1, 1)
        )


def test_integer_pools() -> None:
    x = np.asarray([[[-128, -5, 7, 100]]], np.int8)
    window = ops.Window((3,), (1,), (1,), (1,), (1,))
    assert _evaluate(ops.MaxPool(window), x, form=INT8).tolist() == [[[-5, 7, 100, 100]]]
    low = np.full((1, 1, 4), -128, np.int8)
    np.testing.assert_array_equal(_evaluate(ops.MaxPool(window), low, form=INT8), low)
    # Each window leaves out what lies outside: -128 - 5 - 2 * 3 and so on.
    assert _evaluate(ops.SumPool(window, 3), x, form=INT20).tolist() == [[[-139, -135, 93, 101]]]


def test_integer_clip_pad_concat_add() -> None:
    x = np.asarray([[-100, 0, 120]], np.int8)
    assert _evaluate(ops.Clip(-50.0, math.inf), x, form=INT8).tolist() == [[-50, 0, 120]]
    assert _evaluate(ops.Clip(-math.inf, 50.0), x, form=INT8).tolist() == [[-100, 0, 50]]
    assert _evaluate(ops.Pad((0, 1), (0, -1), value=-7.0), x, form=INT8, shape=(1, 3)).tolist() == [[-7, -100, 0]]
    assert _evaluate(ops.Concat(1), x, x[:, :1], form=INT8, shape=(1, 4)).tolist() == [[-100, 0, 120, -100]]
    assert _evaluate(ops.Add(), x, x, form=INT32).tolist() == [[-200, 0, 240]]


def test_a_result_outside_its_format_is_refused() -> None:
    x = np.asarray([100, -100], np.int8)
    with pytest.raises(InvalidModelError, match="Add 'op': gives -200 to 200 for 'y', outside int8"):
        _evaluate(ops.Add(), x, x, form=INT8)
    with pytest.raises(InvalidModelError, match="Add 'op': gives -200 to 200 for 'y', outside uint8"):
        _evaluate(ops.Add(), x, x, form=UINT8)


def test_functions_of_reals_have_no_integer_meaning() -> None:
    for attributes in (ops.Sigmoid(), ops.Tanh(), ops.LeakyRelu(0.1), ops.Softmax((0,))):
        with pytest.raises(
            InvalidModelError, match="gives real values for 'y', which holds int8; lower it to integer operations"
        ):
            _evaluate(attributes, np.asarray([1, 2], np.int8), form=INT8)


@given(st.lists(floats, min_size=1, max_size=12))
def test_functions_of_single_elements(values: list[float]) -> None:
    x = np.asarray(values, np.float32)

    def check(attributes: ops.Attributes, exact: Any) -> None:
        found = _evaluate(attributes, x, form=FLOAT32)
        np.testing.assert_allclose(found, [exact(float(value)) for value in x], rtol=2e-6, atol=1e-37)

    check(ops.LeakyRelu(0.25), lambda v: v if v >= 0 else 0.25 * v)
    check(ops.Sigmoid(), lambda v: 1 / (1 + math.exp(-v)) if v > -80 else 0.0)
    check(ops.Tanh(), math.tanh)
    check(ops.Clip(-2.5, 3.0), lambda v: min(max(v, -2.5), 3.0))
    check(ops.Clip(0.0, math.inf), lambda v: max(v, 0.0))


@given(st.integers(0, 1000), st.sampled_from([(0,), (1,), (2,), (1, 2), (0, 1, 2)]))
def test_softmax(seed: int, axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(seed).normal(0, 30, (2, 3, 4)).astype(np.float32)
    found = _evaluate(ops.Softmax(axes), x, form=FLOAT32)
    for index in np.ndindex(x.shape):
        along = itertools.product(*(range(x.shape[axis]) if axis in axes else (index[axis],) for axis in range(3)))
        exact = 1 / sum(math.exp(float(x[other]) - float(x[index])) for other in along)
        assert math.isclose(found[index], exact, rel_tol=1e-5, abs_tol=1e-30)


def test_softmax_of_large_values_does_not_overflow() -> None:
    assert _evaluate(ops.Softmax((0,)), np.asarray([1e30, 1e30], np.float32), form=FLOAT32).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (ops.PadMode.CONSTANT, [9, 9, 1, 2, 3, 9]),
        (ops.PadMode.EDGE, [1, 1, 1, 2, 3, 3]),
        (ops.PadMode.REFLECT, [3, 2, 1, 2, 3, 2]),
    ],
)
def test_pad_modes(mode: ops.PadMode, expected: list[float]) -> None:
    x = np.asarray([1, 2, 3], np.float32)
    assert _evaluate(ops.Pad((2,), (1,), mode, 9.0), x, form=FLOAT32, shape=(6,)).tolist() == expected
    cropped = _evaluate(ops.Pad((-1,), (1,), mode, 9.0), x, form=FLOAT32, shape=(3,))
    assert cropped.tolist() == [2, 3, expected[-1]]


def test_narrow_floats_are_computed_in_float32_and_rounded_once() -> None:
    x = np.asarray([1.0078125, 1.0], ml_dtypes.bfloat16)
    found = _evaluate(
        ops.Affine(), x.reshape(1, 2), np.asarray([3, 1], np.float32), np.asarray([0, 2.0**-10], np.float32), form=BFLOAT16
    )
    exact = np.asarray([[3.0234375, 1 + 2.0**-10]], np.float32)
    np.testing.assert_array_equal(found, exact.astype(ml_dtypes.bfloat16))


# --- whole graphs --------------------------------------------------------------------------------------------------


def _chain(length: int) -> Any:
    builder = GraphBuilder("net")
    top = builder.input("x", (1 << 18,))
    for step in range(length):
        top = builder.add(ops.LeakyRelu(0.5), [top], output=f"t{step}")
    return builder.build([top])


def test_a_tensor_is_let_go_after_its_last_reader() -> None:
    graph, x = _chain(40), np.ones(1 << 18, np.float32)
    tracemalloc.start()
    semantics.run(graph, {"x": x})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * x.nbytes  # all 40 would take 40


def test_outputs_may_be_inputs_constants_and_intermediate() -> None:
    builder = GraphBuilder("net")
    builder.input("x", (2,))
    builder.constant("c", np.asarray([3, 4], np.float32))
    builder.add(ops.Add(), ["x", "c"], output="s")
    builder.add(ops.Clip(0.0, 1.0), ["s"], output="y")
    graph = builder.build(["y", "c", "x", "s"])
    found = semantics.run(graph, {"x": np.asarray([-9, 1], np.float32)})
    assert {name: value.tolist() for name, value in found.items()} == {"y": [0, 1], "c": [3, 4], "x": [-9, 1], "s": [-6, 5]}
    assert list(found) == ["y", "c", "x", "s"]


def test_feeds_are_checked_and_converted() -> None:
    graph = _chain(1)
    wide = np.ones(1 << 18)
    assert semantics.run(graph, {"x": wide})["t0"].dtype == np.float32
    for feeds, message in (
        ({}, "x: no value for this graph input; feed x"),
        ({"x": wide, "z": wide}, "z: no such graph input; the inputs are x"),
        ({"x": wide[1:]}, r"x: a value of shape [262143] for [262144]"),
    ):
        with pytest.raises(InvalidDataError) as refusal:
            semantics.run(graph, feeds)
        assert str(refusal.value) == message
    builder = GraphBuilder("net")
    builder.input("x", (1,), INT8, QuantParams((1.0,)))
    builder.add(ops.Dequantize(), ["x"], output="y", form=FLOAT32)
    with pytest.raises(InvalidDataError, match="x: gives 0 to 300 for 'x', outside int8"):
        semantics.run(builder.build_lowered(["y"]), {"x": np.asarray([300])})


def test_every_kind_has_a_meaning() -> None:
    assert set(ops.ATTRIBUTES.values()) == {*dispatch._PLAIN, *dispatch._TYPED}


# --- functions, choices, reductions and the picking of elements -----------------------------------------------------------

_SCALARS = {
    ops.BinaryFunction.SUBTRACT: lambda a, b: a - b,
    ops.BinaryFunction.MULTIPLY: lambda a, b: a * b,
    ops.BinaryFunction.DIVIDE: lambda a, b: a / b,
    ops.BinaryFunction.POWER: lambda a, b: a**b,
    ops.BinaryFunction.MINIMUM: min,
    ops.BinaryFunction.MAXIMUM: max,
    ops.UnaryFunction.NEGATE: lambda x: -x,
    ops.UnaryFunction.ABSOLUTE: abs,
    ops.UnaryFunction.SQUARE_ROOT: math.sqrt,
    ops.UnaryFunction.RECIPROCAL: lambda x: 1 / x,
    ops.UnaryFunction.EXPONENTIAL: math.exp,
    ops.UnaryFunction.LOGARITHM: math.log,
    ops.UnaryFunction.ERROR_FUNCTION: math.erf,
    ops.Relation.EQUAL: lambda a, b: a == b,
    ops.Relation.LESS: lambda a, b: a < b,
    ops.Relation.LESS_OR_EQUAL: lambda a, b: a <= b,
    ops.Relation.GREATER: lambda a, b: a > b,
    ops.Relation.GREATER_OR_EQUAL: lambda a, b: a >= b,
}


@given(
    st.sampled_from(ops.BinaryFunction),
    st.lists(st.floats(0.25, 4, width=32), min_size=1, max_size=4),
    st.floats(0.25, 4, width=32),
)
def test_functions_of_two_elements(function: ops.BinaryFunction, values: list[float], other: float) -> None:
    x, y = np.asarray(values, np.float32).reshape(-1, 1), np.asarray([other, 1.5], np.float32)
    found = _evaluate(ops.Binary(function), x, y, form=FLOAT32, shape=(len(values), 2))
    for row, column in np.ndindex(found.shape):
        assert found[row, column] == pytest.approx(_SCALARS[function](float(x[row, 0]), float(y[column])), rel=1e-6)


@given(st.sampled_from(ops.UnaryFunction), st.lists(st.floats(0.125, 8, width=32), min_size=1, max_size=5))
def test_functions_of_one_element(function: ops.UnaryFunction, values: list[float]) -> None:
    x = np.asarray(values, np.float32)
    for value, result in zip(x, _evaluate(ops.Unary(function), x, form=FLOAT32), strict=True):
        assert result == pytest.approx(_SCALARS[function](float(value)), rel=1e-6, abs=1e-6)


@given(st.sampled_from(ops.Relation), st.lists(st.integers(-2, 2), min_size=1, max_size=5), st.integers(-2, 2), st.booleans())
def test_comparisons(relation: ops.Relation, values: list[int], other: int, real: bool) -> None:
    kind = np.float32 if real else np.int64
    found = _evaluate(ops.Compare(relation), np.asarray(values, kind), np.asarray(other, kind), form=BOOL)
    assert found.tolist() == [_SCALARS[relation](value, other) for value in values]


def test_gelu_is_x_times_the_normal_distribution() -> None:
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    exact = np.asarray([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x.tolist()])
    np.testing.assert_allclose(_evaluate(ops.Gelu(), x, form=FLOAT32), exact, atol=1e-6)
    np.testing.assert_allclose(_evaluate(ops.Gelu(True), x, form=FLOAT32), exact, atol=5e-4)


def test_a_choice_and_what_it_chooses_from_broadcast() -> None:
    condition, a, b = np.asarray([[True], [False]]), np.asarray([1, 2, 3], np.int64), np.asarray(9, np.int64)
    tensors = [Tensor("c", (2, 1), BOOL), Tensor("a", (3,), INT64), Tensor("b", (), INT64)]
    op, output = Op("op", ops.Where(), ("c", "a", "b"), "y"), Tensor("y", (2, 3), INT64)
    assert semantics.evaluate(op, [condition, a, b], output, tensors).tolist() == [[1, 2, 3], [9, 9, 9]]


def test_casts_cut_towards_zero_and_refuse_what_does_not_fit() -> None:
    x = np.asarray([-2.75, -0.5, 0.0, 1.99], np.float32)
    assert _evaluate(ops.Cast(INT8), x, form=INT8).tolist() == [-2, 0, 0, 1]
    assert _evaluate(ops.Cast(BOOL), x, form=BOOL).tolist() == [True, True, False, True]
    assert _evaluate(ops.Cast(FLOAT32), np.asarray([True, False]), form=FLOAT32).tolist() == [1.0, 0.0]
    for value, message in (
        (300.0, "gives 0 to 300 for 'y', outside int8"),
        (np.nan, "reals that int8 cannot hold"),
        (1e30, "cannot hold"),
    ):
        with pytest.raises(InvalidModelError, match=message):
            _evaluate(ops.Cast(INT8), np.asarray([value], np.float32), form=INT8)


@given(st.data(), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from(ops.ReduceFunction))
def test_reductions_of_reals_are_those_of_doubles(data: st.DataObject, shape: list[int], function: ops.ReduceFunction) -> None:
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    x = np.random.default_rng(data.draw(st.integers(0, 99))).normal(0, 1e3, shape).astype(np.float32)
    kept = tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    found = _evaluate(ops.Reduce(function, axes, True), x, form=FLOAT32, shape=kept)
    whole = {ops.ReduceFunction.SUM: math.fsum, ops.ReduceFunction.MINIMUM: min, ops.ReduceFunction.MAXIMUM: max}
    for place in np.ndindex(*kept):
        members = [
            float(x[index])
            for index in np.ndindex(*shape)
            if all(a == b for a, b, n in zip(index, place, kept, strict=True) if n > 1)
        ]
        mean = function is ops.ReduceFunction.MEAN
        assert found[place] == np.float32(math.fsum(members) / len(members) if mean else whole[function](members))


def test_what_is_refused_of_indices_and_integers() -> None:
    table, integers = np.arange(6, dtype=np.float32).reshape(3, 2), np.asarray([1, -2], np.int64)
    assert _evaluate(ops.Gather(0), table, integers, form=FLOAT32, shape=(2, 2)).tolist() == [[2, 3], [2, 3]]
    for index in (3, -4):
        with pytest.raises(InvalidModelError, match=f"reads index {index} of an axis of 3; feed indices inside the axis"):
            _evaluate(ops.Gather(0), table, np.asarray([index], np.int64), form=FLOAT32, shape=(1, 2))
    for attributes in (ops.Binary(ops.BinaryFunction.DIVIDE), ops.Binary(ops.BinaryFunction.POWER)):
        with pytest.raises(InvalidModelError, match="has no meaning on integers; compute it on reals"):
            _evaluate(attributes, integers, integers, form=INT64)
    for attributes in (ops.Gelu(), ops.Unary(ops.UnaryFunction.EXPONENTIAL)):
        with pytest.raises(InvalidModelError, match="has no meaning on integers; compute it on reals"):
            _evaluate(attributes, integers, form=INT64)
    with pytest.raises(InvalidModelError, match="gives 0 to 254 for 'y', outside int8"):
        _evaluate(ops.Binary(ops.BinaryFunction.MULTIPLY), *(np.asarray([127], np.int8), np.asarray([2], np.int8)), form=INT8)


def _built(attributes: ops.Attributes, *shapes: tuple[int, ...], forms: tuple[NumberFormat, ...] = ()) -> None:
    builder = GraphBuilder("net")
    names = [builder.input(f"i{place}", shape, (forms or (FLOAT32,) * len(shapes))[place]) for place, shape in enumerate(shapes)]
    builder.add(attributes, names, output="y")


@pytest.mark.parametrize(
    ("attributes", "shapes", "message"),
    [
        (ops.LayerNorm((1,), 1e-5), [(2, 3), (2,), (3,)], r"must have the extents \[3\] of \[2, 3\]"),
        (ops.LayerNorm((), 1e-5), [(2, 3), (), ()], r"the axes \[\], of which there must be at least one"),
        (ops.LayerNorm((1, 0), 1e-5), [(2, 3), (2, 3), (2, 3)], "along its ascending axes"),
        (ops.Reduce(ops.ReduceFunction.SUM, (2,), True), [(2, 3)], "axis 2 of a tensor with 2 axes"),
        (ops.Reduce(ops.ReduceFunction.SUM, (1, 1), True), [(2, 3)], "and none twice"),
        (ops.Expand((2, 4)), [(2, 3)], r"cannot broadcast \[2, 3\] with \[2, 4\]"),
        (ops.Expand((3,)), [(2, 3)], r"cannot repeat \[2, 3\] to \[3\]"),
        (ops.Slice((0,), (1,), (1,)), [(2, 3)], r"slices 1 axes of a tensor of shape \[2, 3\]"),
        (ops.Slice((0, 2), (2, 2), (1, 1)), [(2, 3)], "takes 2 elements from 2 in steps of 1 of an axis of 3"),
        (ops.Slice((0, 0), (2, 2), (1, 0)), [(2, 3)], "in steps of 0 of an axis of 3"),
        (ops.Slice((0, 1), (2, 3), (1, -1)), [(2, 3)], "takes 3 elements from 1 in steps of -1"),
        (ops.Gather(0), [(2, 3), (1,)], "indices of float32"),
        (ops.Where(), [(2, 3)] * 3, "a condition of float32, which must be bool"),
        (ops.Binary(ops.BinaryFunction.MULTIPLY), [(2, 3), (2,)], r"cannot broadcast \[2, 3\] with \[2\]"),
        (ops.Compare(ops.Relation.LESS), [(2, 3)], "takes 2 inputs, not 1"),
    ],
)
def test_shapes_that_do_not_fit(attributes: ops.Attributes, shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        _built(attributes, *shapes)


def test_formats_of_results() -> None:
    builder = GraphBuilder("net")
    x, index = builder.input("x", (2, 3)), builder.input("index", (2, 2), INT64)
    truth = builder.add(ops.Compare(ops.Relation.LESS), [x, x], output="truth")
    rows = builder.add(ops.Gather(1), [x, index], output="rows")
    whole = builder.add(ops.Cast(INT32), [x], output="whole")
    kept = builder.add(ops.Where(), [truth, whole, whole], output="kept")
    assert [builder.tensors[name].format for name in (truth, rows, whole, kept)] == [BOOL, FLOAT32, INT32, INT32]
