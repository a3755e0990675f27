"""Scales of activations and weights: what each method promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.compress.groups import absorbed_clip, scale_groups
from lepton_dse.compress.histogram import Histogram
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.compress.ranges import activation_params, weight_params
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import FormatKind, NumberFormat, Precision
from lepton_dse.numerics.quantize import QuantParams, dequantize, integer_bounds
from lepton_dse.numerics.quantize import quantize as to_integers
from lepton_dse.plan import CalibrationMethod
from lepton_dse.testing.strategies import graphs, precisions

METHODS = list(CalibrationMethod)
widths = st.integers(2, 16).map(lambda bits: NumberFormat(FormatKind.INT, bits))


@st.composite
def values(draw: st.DrawFn) -> np.ndarray:
    """Samples with an offset, a spread, and perhaps outliers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found = rng.normal(draw(st.floats(-3, 3)), draw(st.floats(0.01, 10)), 400)
    if draw(st.booleans()):
        found[:3] *= 50
    return found.astype(np.float32)


def histogram_of(samples: np.ndarray) -> Histogram:
    histogram = Histogram(float(samples.min()), float(samples.max()))
    histogram.add(samples)
    return histogram


def squared_error(samples: np.ndarray, params: QuantParams, form: NumberFormat, counts: np.ndarray | int = 1) -> float:
    difference = dequantize(to_integers(samples, params, *integer_bounds(form)), params).astype(np.float64) - samples
    return float((counts * difference**2).sum())


@given(values(), widths, st.sampled_from(METHODS), st.booleans())
def test_zero_is_exact_and_the_zero_point_is_in_the_format(
    samples: np.ndarray, form: NumberFormat, method: CalibrationMethod, symmetric: bool
) -> None:
    params = activation_params(histogram_of(samples), form, method, symmetric=symmetric)
    low, high = integer_bounds(form)
    assert low <= params.zero <= high
    assert not symmetric or params.zero == 0
    assert np.float32(params.beta[0]) == params.beta[0]
    nothing = np.zeros(1, np.float32)
    assert dequantize(to_integers(nothing, params, low, high), params)[0] == 0.0


@given(values(), widths, st.booleans())
def test_minmax_reaches_every_value(samples: np.ndarray, form: NumberFormat, symmetric: bool) -> None:
    params = activation_params(histogram_of(samples), form, CalibrationMethod.MINMAX, symmetric=symmetric)
    back = dequantize(to_integers(samples, params, *integer_bounds(form)), params)
    # Half a step, and half a step more where the zero point was rounded.
    assert np.abs(back.astype(np.float64) - samples).max() <= params.beta[0] * 1.01


@given(values(), widths, st.booleans())
def test_mse_is_never_worse_than_minmax(samples: np.ndarray, form: NumberFormat, symmetric: bool) -> None:
    histogram = histogram_of(samples)
    errors = {
        method: squared_error(
            histogram.centres, activation_params(histogram, form, method, symmetric=symmetric), form, histogram.counts
        )
        for method in METHODS
    }
    assert errors[CalibrationMethod.MSE] <= errors[CalibrationMethod.MINMAX]


@given(values())
def test_percentiles_leave_out_no_more_than_their_share(samples: np.ndarray) -> None:
    low, high = histogram_of(samples).quantiles(0.01)
    assert ((samples < low).mean(), (samples > high).mean()) <= (0.01, 0.01)
    assert samples.min() <= low <= high <= samples.max() + 1e-6


def test_an_outlier_is_left_out_by_percentile_and_mse() -> None:
    samples = np.append(np.random.default_rng(0).normal(0, 1, 100_000), 1000).astype(np.float32)
    form = NumberFormat.parse("int8")
    beta = {method: activation_params(histogram_of(samples), form, method).beta[0] for method in METHODS}
    assert beta[CalibrationMethod.MINMAX] > 3
    assert beta[CalibrationMethod.PERCENTILE] < 0.1


@pytest.mark.parametrize("constant", [0.0, 5.0, -3.0, 1e-30, 1e30])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_constant_activation_stays_what_it_is(constant: float, method: CalibrationMethod, symmetric: bool) -> None:
    samples = np.full(10, constant, np.float32)
    form = NumberFormat.parse("int8")
    params = activation_params(histogram_of(samples), form, method, symmetric=symmetric)
    back = dequantize(to_integers(samples, params, *integer_bounds(form)), params)
    assert np.allclose(back, samples, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("start", [0.0, 1.0, 1e-45, -1e30])
def test_an_activation_may_vary_by_the_least_amount(start: float, method: CalibrationMethod) -> None:
    samples = np.asarray([start, np.nextafter(np.float32(start), np.float32(np.inf))], np.float32)
    params = activation_params(histogram_of(samples), NumberFormat.parse("int8"), method)
    back = dequantize(to_integers(samples, params, -128, 127), params)
    assert np.abs(back.astype(np.float64) - samples).max() <= params.beta[0]


@given(st.integers(0, 2**32 - 1), widths, st.sampled_from(METHODS), st.integers(0, 3))
def test_weights_stay_within_the_symmetric_range(seed: int, form: NumberFormat, method: CalibrationMethod, axis: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.normal(0, 1, (3, 2, 4, 5)) * rng.lognormal(0, 3, (3, 2, 4, 5))).astype(np.float32)
    np.moveaxis(weights, axis, 0)[0] = 0  # a dead channel
    params = weight_params(weights, axis, form, method)
    limit = 2 ** (form.bits - 1) - 1
    assert params.zero == 0
    assert len(params.beta) == weights.shape[axis]
    assert all(np.float32(beta) == beta > 0 for beta in params.beta)
    q = to_integers(weights, params, -(limit + 1), limit + 1)
    if method not in (CalibrationMethod.MSE, CalibrationMethod.OUTPUT):
        assert np.abs(q).max() == limit  # the greatest magnitude of a channel is the greatest integer
    assert not np.moveaxis(q, axis, 0)[0].any()
    clipped = np.clip(q, -limit, limit)
    plain = weight_params(weights, axis, form, CalibrationMethod.MINMAX)
    least = to_integers(weights, plain, -limit, limit)
    for channel in range(weights.shape[axis]):
        errors = [
            ((np.moveaxis(dequantize(kept, used).astype(np.float64) - weights, axis, 0)[channel]) ** 2).sum()
            for kept, used in ((clipped, params), (least, plain))
        ]
        assert errors[0] <= errors[1] * (1 + 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_tiny_weights_have_a_scale(method: CalibrationMethod) -> None:
    with np.errstate(all="raise", under="ignore"):
        params = weight_params(np.full((2, 3), 1e-44, np.float32), 0, NumberFormat.parse("int8"), method)
    assert all(beta > 0 for beta in params.beta)


# --- groups --------------------------------------------------------------------------------------------------------


def branching() -> Graph:
    """conv -> relu -> (pool, conv2) -> concat -> add(relu2 of conv3)."""
    builder = GraphBuilder("branching")
    window = ops.Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    rng = np.random.default_rng(0)

    def conv(x: str, name: str, outputs: int) -> str:
        shape = (outputs, builder.tensors[x].shape[1], 1, 1)
        return builder.add(
            ops.Conv(window), [x, builder.constant(f"{name}.w", rng.normal(0, 1, shape).astype(np.float32))], output=name
        )

    x = builder.input("x", (1, 2, 3, 3))
    first = builder.add(ops.Clip(0.0, float("inf")), [conv(x, "conv", 2)], output="relu")
    pooled = builder.add(ops.MaxPool(window), [first], output="pool")
    both = builder.add(ops.Concat(1), [pooled, conv(first, "conv2", 2)], output="both")
    third = conv(x, "conv3", 4)
    clipped = builder.add(ops.Clip(0.0, 6.0), [third], output="relu3")
    total = builder.add(ops.Add(), [both, clipped], output="sum")
    used_twice = builder.add(ops.Add(), [total, third], output="total")
    return builder.build([builder.add(ops.Clip(0.0, 1.0), [used_twice], output="end")])


def test_a_clip_is_absorbed_by_a_producer_that_nothing_else_reads() -> None:
    graph = branching()
    found = {op.name: clip.name for op in graph.ops if (clip := absorbed_clip(graph, op)) is not None}
    assert found == {"conv": "relu", "total": "end"}  # conv3 is read twice


def test_a_clip_of_an_output_is_not_absorbed() -> None:
    builder = GraphBuilder("outputs")
    x = builder.input("x", (1, 2))
    y = builder.add(ops.MatMul(), [x, builder.constant("w", np.ones((2, 2), np.float32))], output="y")
    graph = builder.build([y, builder.add(ops.Clip(0.0, 1.0), [y], output="z")])
    assert absorbed_clip(graph, graph.op("y")) is None


def test_tensors_that_share_a_scale() -> None:
    groups = scale_groups(branching())
    assert groups["relu"] == groups["pool"] == groups["conv2"] == groups["both"]
    assert groups["conv3"] == groups["relu3"]  # a clip that stands alone keeps the scale
    assert len({groups[name] for name in ("x", "conv", "relu", "conv3", "sum", "total", "end")}) == 7


@settings(max_examples=40)
@given(graphs(branches=True), precisions(2, 16), st.sampled_from(METHODS), st.integers(0, 2**32 - 1))
def test_every_tensor_of_a_group_has_one_scale(graph: Graph, precision: Precision, method: CalibrationMethod, seed: int) -> None:
    bundle, calibration = quantize(graph, Recipe(precision, method=method), noise(graph, seed, 5))
    assert calibration is not None
    assert (calibration.method, calibration.samples) == (method, 5)
    judged = {op.inputs[0] for op in graph.ops if isinstance(op.attributes, ops.ArgMax | ops.Softmax)}
    wide = {bundle.scales[end].format for end in {*graph.outputs, *judged} if end in bundle.scales}
    groups = scale_groups(graph)
    sums = {groups[op.output] for op in graph.ops if isinstance(op.attributes, ops.Add)}  # one that drowns an operand stays real
    for name, group in groups.items():
        if graph.tensors[name].format.is_float:
            assert bundle.scales.get(name) == bundle.scales.get(group)
            assert group in sums if name not in bundle.scales else bundle.scales[name].format in {precision.activations, *wide}
    for op in graph.ops:
        if isinstance(op.attributes, ops.Concat | ops.MaxPool | ops.Reshape):
            assert {bundle.scales.get(name) for name in op.inputs} == {bundle.scales.get(op.output)}
        if isinstance(op.attributes, ops.Conv | ops.MatMul):
            scale = bundle.scales[op.inputs[1]]
            outputs = graph.tensors[op.inputs[1]].shape[0 if isinstance(op.attributes, ops.Conv) else 1]
            assert (scale.format, len(scale.params.beta)) == (precision.weights, outputs)


def test_scores_are_wide_enough_to_tell_classes_apart() -> None:
    graph = branching()
    for text, wanted in (("w4a4", "int8"), ("int8", "int8"), ("int16", "int16")):
        bundle, _ = quantize(graph, Recipe(Precision.parse(text)), noise(graph, 0))
        assert str(bundle.scales["end"].format) == wanted


# --- quantize -----------------------------------------------------------------------------------------------------


def test_overrides_change_the_weights_of_one_operation() -> None:
    graph = branching()
    precision = Precision.parse("w8a6")
    bundle, _ = quantize(graph, Recipe(precision, {"conv2": Precision.parse("w3a4")}), noise(graph, 0))
    formats = {name: str(scale.format) for name, scale in bundle.scales.items()}
    assert formats["conv2.w"] == "int3"
    assert formats["conv.w"] == formats["conv3.w"] == "int8"
    assert formats["x"] == "int6"
    assert formats[graph.op("conv2").inputs[0]] == "int4"  # what an operation reads is as wide as the widest reader asks


@pytest.mark.parametrize("name", ["nothing", "pool"])
def test_overrides_of_nothing_are_refused(name: str) -> None:
    graph = branching()
    with pytest.raises(LeptonError, match=name):
        quantize(graph, Recipe(Precision.parse("int8"), {name: Precision.parse("int4")}), noise(graph, 0))


def test_float_formats_have_scales_only_where_they_are_narrow() -> None:
    graph = branching()
    plain, calibration = quantize(graph, Recipe(Precision.parse("float32")), noise(graph, 0))
    assert (calibration, dict(plain.scales)) == (None, {})
    wide, _ = quantize(graph, Recipe(Precision.parse("bfloat16")), noise(graph, 0))
    assert {scale.params for scale in wide.scales.values()} == {QuantParams((1.0,))}
    narrow, _ = quantize(graph, Recipe(Precision.parse("float8_e4m3")), noise(graph, 0))
    assert len(narrow.scales[graph.op("conv2").inputs[1]].params.beta) > 1
    weights_alone, _ = quantize(graph, Recipe(Precision.parse("w4-float32")), noise(graph, 0))
    assert set(weights_alone.scales) <= set(graph.constants)


def outlying() -> Histogram:
    """A bell of many values and a few far ones."""
    rng = np.random.default_rng(1)
    return histogram_of(np.concatenate([rng.normal(0, 1, 200_000), rng.uniform(20, 60, 20)]).astype(np.float32))


def test_kl_leaves_outliers_out_and_is_not_minmax() -> None:
    histogram, form = outlying(), NumberFormat.parse("int8")
    least = activation_params(histogram, form, CalibrationMethod.KL).beta[0]
    assert least < 0.6 * activation_params(histogram, form, CalibrationMethod.MINMAX).beta[0]


def test_kl_keeps_a_range_without_outliers() -> None:
    samples = np.random.default_rng(2).uniform(0, 1, 100_000).astype(np.float32)
    form = NumberFormat.parse("int8")
    kept = activation_params(histogram_of(samples), form, CalibrationMethod.KL).beta[0]
    assert kept > 0.95 * activation_params(histogram_of(samples), form, CalibrationMethod.MINMAX).beta[0]


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(LeptonError, match="shape"):
        quantize(branching(), Recipe(Precision.parse("int8")), Dataset(np.zeros((2, 2, 4, 3), np.float32)))


def test_the_order_of_samples_is_of_no_account() -> None:
    graph = branching()
    data = noise(graph, 3, 70)  # more than one batch
    one, _ = quantize(graph, Recipe(Precision.parse("int8")), data)
    other, _ = quantize(graph, Recipe(Precision.parse("int8")), Dataset(data.x[::-1].copy()))
    assert one.scales == other.scales


def test_noise_is_seeded() -> None:
    graph = branching()
    assert np.array_equal(noise(graph, 4).x, noise(graph, 4).x)
    assert not np.array_equal(noise(graph, 4).x, noise(graph, 5).x)
    assert noise(graph, 4).x.shape == (64, 2, 3, 3)
