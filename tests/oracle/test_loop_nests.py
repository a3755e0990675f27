"""Loop nests, executed iteration by iteration, compute what the operations mean.

The interpreter below knows nothing of kinds: it visits every point of the nest, reads each operand at its affine index
(outside a tensor stands a filler), and folds what it read into the element that the nest writes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir import ops, semantics
from lepton_dse.ir.loops import Access, LoopNest, loop_nest
from lepton_dse.ir.shapes import infer
from lepton_dse.ir.tensors import Tensor
from lepton_dse.numerics.formats import INT32, INT64, NumberFormat

Array = np.ndarray[Any, Any]
Fold = Callable[[Any, list[Any]], Any]

_MOST_ITERATIONS = 20_000
_SETTINGS = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))


def _read(access: Access, values: dict[str, Array], point: dict[str, int], filler: Any) -> Any:
    value = values[access.tensor]
    assert len(access.indices) == value.ndim
    index = tuple(affine.at(point) for affine in access.indices)
    inside = all(0 <= position < extent for position, extent in zip(index, value.shape, strict=True))
    return value[index] if inside else filler


def execute(
    nest: LoopNest, values: dict[str, Array], shape: tuple[int, ...], fold: Fold, start: Any, filler: Any
) -> tuple[Array, int]:
    """The result of a nest, and how many iterations it took."""
    assert nest.write is not None
    assert len(nest.write.indices) == len(shape)
    result: dict[tuple[int, ...], Any] = {}
    count = 0
    for indices in itertools.product(*(range(loop.extent) for loop in nest.loops)):
        point = {loop.name: index for loop, index in zip(nest.loops, indices, strict=True)}
        where = tuple(affine.at(point) for affine in nest.write.indices)
        result[where] = fold(result.get(where, start), [_read(access, values, point, filler) for access in nest.reads])
        count += 1
    assert sorted(result) == sorted(itertools.product(*(range(extent) for extent in shape)))
    filled = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        filled[index] = result[index]
    return filled, count


def _prepared(
    attributes: ops.Attributes, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator, form: NumberFormat = INT32
) -> tuple[LoopNest, dict[str, Array], Array, tuple[int, ...]]:
    """The nest of an operation over random small integers, its operands, and the result that NumPy gives."""
    tensors = [Tensor(f"i{position}", shape, form) for position, shape in enumerate(shapes)]
    try:
        shape, _ = infer(attributes, tensors)
    except InvalidModelError:
        assume(False)
    output = Tensor("y", shape, INT64)
    op = ops.Op("op", attributes, tuple(tensor.name for tensor in tensors), "y")
    values = [rng.integers(-9, 10, tensor.shape).astype(np.int32) for tensor in tensors]
    nest = loop_nest(op, tensors, output)
    assume(nest.iterations <= _MOST_ITERATIONS)
    return (
        nest,
        {tensor.name: value for tensor, value in zip(tensors, values, strict=True)},
        semantics.evaluate(op, values, output, tensors),
        shape,
    )


seeds = st.integers(0, 1 << 16).map(np.random.default_rng)


@st.composite
def windows(draw: st.DrawFn, rank: int) -> ops.Window:
    def several(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    return ops.Window(several(1, 3), several(1, 3), several(1, 2), several(0, 2), several(0, 2))


@st.composite
def images(draw: st.DrawFn, channels: int) -> tuple[int, ...]:
    rank = draw(st.integers(1, 3))
    return (draw(st.integers(1, 2)), channels, *(draw(st.integers(1, 6 if rank < 3 else 4)) for _ in range(rank)))


@_SETTINGS
@given(st.data(), seeds, st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.booleans(), st.integers(-3, 3))
def test_convolution(
    data: st.DataObject, rng: np.random.Generator, groups: int, per_group: int, channels: int, bias: bool, pad_value: int
) -> None:
    x = data.draw(images(groups * channels))
    window = data.draw(windows(len(x) - 2))
    shapes = [x, (groups * per_group, channels, *window.kernel), (groups * per_group,)]
    attributes = ops.Conv(window, groups, pad_value)
    nest, values, expected, shape = _prepared(attributes, shapes if bias else shapes[:2], rng)
    found, count = execute(nest, values, shape, lambda total, read: total + int(read[0]) * int(read[1]), 0, pad_value)
    if bias:
        found = found + values["i2"].reshape(-1, *[1] * (len(x) - 2))
        assert nest.reads[2].indices == nest.write.indices[1:2]
    np.testing.assert_array_equal(found.astype(np.int64), expected)
    taps = int(np.prod(window.kernel))
    assert nest.macs == count == expected.size * channels * taps


@_SETTINGS
@given(seeds, st.lists(st.integers(1, 3), max_size=2), st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_matrix_product(
    rng: np.random.Generator, batch: list[int], data: st.DataObject, rows: int, inner: int, columns: int
) -> None:
    def leading() -> tuple[int, ...]:
        kept = batch[data.draw(st.integers(0, len(batch))) :]
        return tuple(1 if data.draw(st.booleans()) else extent for extent in kept)

    x = (inner,) if data.draw(st.booleans()) else (*leading(), rows, inner)
    shapes = [x, (*leading(), inner, columns), (columns,)][: data.draw(st.integers(2, 3))]
    nest, values, expected, shape = _prepared(ops.MatMul(), shapes, rng)
    found, count = execute(nest, values, shape, lambda total, read: total + int(read[0]) * int(read[1]), 0, None)
    if len(shapes) > 2:
        found = found + values["i2"]
        assert nest.reads[2].indices == nest.write.indices[-1:]
    np.testing.assert_array_equal(found.astype(np.int64), expected)
    assert nest.macs == count == expected.size * inner


@_SETTINGS
@given(st.data(), seeds, st.integers(1, 3), st.integers(-3, 3))
def test_sum_pool(data: st.DataObject, rng: np.random.Generator, channels: int, offset: int) -> None:
    x = data.draw(images(channels))
    window = data.draw(windows(len(x) - 2))
    nest, values, expected, shape = _prepared(ops.SumPool(window, offset), [x], rng)
    found, count = execute(nest, values, shape, lambda total, read: total + int(read[0]) - offset, 0, offset)
    np.testing.assert_array_equal(found.astype(np.int64), expected)
    assert (nest.macs, nest.iterations) == (0, count)


@_SETTINGS
@given(st.data(), seeds, st.integers(1, 3))
def test_max_pool(data: st.DataObject, rng: np.random.Generator, channels: int) -> None:
    x = data.draw(images(channels))
    window = data.draw(windows(len(x) - 2))
    nest, values, expected, shape = _prepared(ops.MaxPool(window), [x], rng)
    least = int(np.iinfo(np.int32).min)
    found, _ = execute(nest, values, shape, lambda best, read: max(best, int(read[0])), least, least)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(st.data(), seeds, st.integers(1, 2), st.booleans())
def test_average_pool(data: st.DataObject, rng: np.random.Generator, channels: int, count_padding: bool) -> None:
    x = data.draw(images(channels))
    window = data.draw(windows(len(x) - 2))
    overhang = tuple(data.draw(st.integers(0, after)) for after in window.pads_end)
    tensors = [Tensor("x", x)]
    attributes = ops.AveragePool(window, count_padding, overhang)
    try:
        shape, _ = infer(attributes, tensors)
    except InvalidModelError:
        assume(False)
    op, output = ops.Op("op", attributes, ("x",), "y"), Tensor("y", shape)
    value = rng.normal(0, 1, x).astype(np.float32)
    nest = loop_nest(op, tensors, output)
    assume(nest.iterations <= _MOST_ITERATIONS)
    total, _ = execute(nest, {"x": value}, shape, lambda so_far, read: so_far + float(read[0]), 0.0, 0.0)

    def taps(axis: int, position: int) -> int:
        """Taps of one window that count, along one axis."""
        begin, end = window.pads_begin[axis], window.pads_end[axis] - overhang[axis]
        low, high = (-begin, x[2 + axis] + end) if count_padding else (0, x[2 + axis])
        first = position * window.strides[axis] - begin
        return sum(low <= first + tap * window.dilations[axis] < high for tap in range(window.kernel[axis]))

    places = np.ndindex(shape[2:])
    counts = np.asarray([np.prod([taps(axis, position) for axis, position in enumerate(place)]) for place in places])
    counts = counts.reshape(shape[2:])
    assume(counts.min() > 0)
    found = semantics.evaluate(op, [value], output, tensors)
    np.testing.assert_allclose(found, total.astype(np.float64) / counts, rtol=1e-5, atol=1e-6)


@_SETTINGS
@given(
    seeds,
    st.lists(st.integers(1, 4), min_size=1, max_size=4).flatmap(
        lambda s: st.tuples(st.just(tuple(s)), st.permutations(range(len(s))))
    ),
)
def test_transpose(rng: np.random.Generator, case: tuple[tuple[int, ...], list[int]]) -> None:
    nest, values, expected, shape = _prepared(ops.Transpose(tuple(case[1])), [case[0]], rng)
    found, _ = execute(nest, values, shape, lambda _, read: read[0], None, None)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(st.data(), seeds, st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_concat(data: st.DataObject, rng: np.random.Generator, shape: list[int]) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    parts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    shapes = [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]
    nest, values, expected, result = _prepared(ops.Concat(axis), shapes, rng)

    def the_only_one(_: Any, read: list[Any]) -> Any:
        (present,) = [value for value in read if value is not None]
        return present

    found, _ = execute(nest, values, result, the_only_one, None, None)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(st.data(), seeds, st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(-5, 5))
def test_pad(data: st.DataObject, rng: np.random.Generator, shape: list[int], value: int) -> None:
    begin, end = (tuple(data.draw(st.integers(-1, 2)) for _ in shape) for _ in range(2))
    nest, values, expected, result = _prepared(ops.Pad(begin, end, ops.PadMode.CONSTANT, float(value)), [tuple(shape)], rng)
    found, _ = execute(nest, values, result, lambda _, read: read[0], None, value)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(st.data(), seeds, st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_sum_with_broadcasting(data: st.DataObject, rng: np.random.Generator, shape: list[int]) -> None:
    def narrowed() -> tuple[int, ...]:
        kept = shape[data.draw(st.integers(0, len(shape))) :]
        return tuple(1 if data.draw(st.booleans()) else extent for extent in kept)

    nest, values, expected, result = _prepared(ops.Add(), [narrowed(), narrowed()], rng)
    found, _ = execute(nest, values, result, lambda _, read: int(read[0]) + int(read[1]), None, None)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(seeds, st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_channel_affine(rng: np.random.Generator, shape: list[int]) -> None:
    nest, values, expected, result = _prepared(ops.Affine(), [tuple(shape), (shape[1],), (shape[1],)], rng)
    found, _ = execute(nest, values, result, lambda _, read: int(read[0]) * int(read[1]) + int(read[2]), None, None)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(st.data(), seeds, st.lists(st.integers(1, 4), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_argmax(data: st.DataObject, rng: np.random.Generator, shape: list[int], keepdims: bool, last: bool) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    nest, values, expected, result = _prepared(ops.ArgMax(axis, keepdims, last), [tuple(shape)], rng)

    # The values that an element of the result sees, in order, as digits of one number.
    found, _ = execute(nest, values, result, lambda digits, read: digits * 32 + int(read[0]) + 16, 0, None)
    for index in np.ndindex(expected.shape):
        seen = [int(found[index]) >> 5 * position & 31 for position in reversed(range(shape[axis]))]
        ties = [position for position, value in enumerate(seen) if value == max(seen)]
        assert expected[index] == ties[-1 if last else 0]


@_SETTINGS
@given(seeds, st.integers(1, 5), st.integers(1, 6), st.integers(1, 3))
def test_local_response_norm(rng: np.random.Generator, size: int, channels: int, width: int) -> None:
    x = Tensor("x", (1, channels, width))
    op = ops.Op("op", ops.LocalResponseNorm(size, 0.5, 0.75, 2.0), ("x",), "y")
    nest, value = loop_nest(op, [x], Tensor("y", x.shape)), rng.normal(0, 1, x.shape).astype(np.float32)
    squares, _ = execute(nest, {"x": value}, x.shape, lambda total, read: total + float(read[0]) ** 2, 0.0, 0.0)
    expected = value / (2.0 + 0.5 / size * squares.astype(np.float64)) ** 0.75
    np.testing.assert_allclose(semantics.evaluate(op, [value], Tensor("y", x.shape), [x]), expected, rtol=1e-5)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@_SETTINGS
@given(st.data(), seeds, shapes, st.sampled_from([ops.ReduceFunction.SUM, ops.ReduceFunction.MAXIMUM]), st.booleans())
def test_reduce(
    data: st.DataObject, rng: np.random.Generator, shape: list[int], function: ops.ReduceFunction, keepdims: bool
) -> None:
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    nest, values, expected, result = _prepared(ops.Reduce(function, axes, keepdims), [tuple(shape)], rng)
    if function is ops.ReduceFunction.SUM:
        found, count = execute(nest, values, result, lambda total, read: total + int(read[0]), 0, None)
    else:
        found, count = execute(nest, values, result, lambda best, read: max(best, int(read[0])), -100, None)
    np.testing.assert_array_equal(found.astype(np.int64), expected)
    assert count == nest.iterations == np.prod(shape)


@_SETTINGS
@given(st.data(), seeds, shapes)
def test_slice(data: st.DataObject, rng: np.random.Generator, shape: list[int]) -> None:
    begin, extent, step = [], [], []
    for size in shape:
        first, stride = data.draw(st.integers(0, size - 1)), data.draw(st.sampled_from([-2, -1, 1, 2, 3]))
        room = (size - 1 - first if stride > 0 else first) // abs(stride) + 1
        begin.append(first)
        extent.append(data.draw(st.integers(1, room)))
        step.append(stride)
    attributes = ops.Slice(tuple(begin), tuple(extent), tuple(step))
    nest, values, expected, result = _prepared(attributes, [tuple(shape)], rng)
    found, _ = execute(nest, values, result, lambda _, read: read[0], None, None)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(st.data(), seeds, shapes)
def test_expand(data: st.DataObject, rng: np.random.Generator, shape: list[int]) -> None:
    source = tuple(1 if data.draw(st.booleans()) else extent for extent in shape)[data.draw(st.integers(0, len(shape) - 1)) :]
    nest, values, expected, result = _prepared(ops.Expand(tuple(shape)), [source], rng)
    found, _ = execute(nest, values, result, lambda _, read: read[0], None, None)
    np.testing.assert_array_equal(found.astype(np.int64), expected)


@_SETTINGS
@given(st.data(), seeds, shapes, st.lists(st.integers(1, 3), max_size=2))
def test_gather_of_the_first_slices(data: st.DataObject, rng: np.random.Generator, shape: list[int], picked: list[int]) -> None:
    """The nest stands for indices that count up, and reads nothing where there are more of them than slices."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    x, indices = Tensor("x", tuple(shape), INT32), Tensor("indices", tuple(picked), INT64)
    attributes = ops.Gather(axis)
    result, _ = infer(attributes, [x, indices])
    op, output = ops.Op("op", attributes, ("x", "indices"), "y"), Tensor("y", result, INT32)
    counting = np.arange(int(np.prod(picked)), dtype=np.int64).reshape(picked)
    value = rng.integers(-9, 10, x.shape).astype(np.int32)
    seen, _ = execute(
        loop_nest(op, [x, indices], output), {"x": value, "indices": counting}, result, lambda _, read: tuple(read), None, -99
    )
    expected = semantics.evaluate(op, [value, np.minimum(counting, shape[axis] - 1)], output, [x, indices])
    for place in np.ndindex(result):
        value_read, index_read = seen[place]
        assert value_read == (expected[place] if index_read < shape[axis] else -99)


@_SETTINGS
@given(st.data(), seeds, shapes)
def test_layer_norm(data: st.DataObject, rng: np.random.Generator, shape: list[int]) -> None:
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    extents = tuple(shape[axis] for axis in axes)
    tensors = [Tensor("x", tuple(shape)), Tensor("scale", extents), Tensor("shift", extents)]
    op, output = ops.Op("op", ops.LayerNorm(axes, 1e-5), ("x", "scale", "shift"), "y"), Tensor("y", tuple(shape))
    values = {tensor.name: rng.normal(0, 1, tensor.shape).astype(np.float32) for tensor in tensors}
    read, _ = execute(loop_nest(op, tensors, output), values, tuple(shape), lambda _, operands: operands, None, None)
    found = semantics.evaluate(op, list(values.values()), output, tensors)
    for place in np.ndindex(*shape):
        group = [index for index in np.ndindex(*shape) if all(index[a] == place[a] for a in range(len(shape)) if a not in axes)]
        members = [float(values["x"][index]) for index in group]
        mean = sum(members) / len(members)
        variance = sum((member - mean) ** 2 for member in members) / len(members)
        x, scale, shift = (float(each) for each in read[place])
        assert found[place] == pytest.approx((x - mean) / (variance + 1e-5) ** 0.5 * scale + shift, rel=1e-5, abs=1e-5)


def test_a_view_has_no_iterations() -> None:
    x, y = Tensor("x", (2, 3)), Tensor("y", (6,))
    nest = loop_nest(ops.Op("op", ops.Reshape((6,)), ("x",), "y"), [x], y)
    assert (nest.iterations, nest.macs, nest.reads, nest.write) == (0, 0, (), None)
