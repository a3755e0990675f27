"""Recipes end to end: what a bundle stores, what it computes, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.compress.ranges import Granularity
from lepton_dse.compress.walk import Change, Visit, samples_within, walk
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import NumberFormat, Precision
from lepton_dse.reference import engine
from lepton_dse.testing.strategies import graphs, precisions

sys.path.insert(0, str(Path(__file__).parent))
from networks import chain, samples

ROUNDINGS = ("nearest", "adaround", "gptq", "quantease")


def outputs(graph: Graph, x: np.ndarray) -> np.ndarray:
    return np.asarray(engine.run(graph, x)[graph.outputs[0]], np.float64)


def error(bundle: Bundle, graph: Graph, x: np.ndarray) -> float:
    return float(np.square(outputs(lower_bundle(bundle), x) - outputs(graph, x)).mean())


def test_better_roundings_err_less_on_samples_that_they_never_saw() -> None:
    graph, x = chain(2), samples(600)
    fresh = samples(300, seed=9)
    errors = {
        name: error(ld.quantize(graph, "w3a16", Dataset(x), rounding=name, correct_bias=name != "nearest"), graph, fresh)
        for name in ROUNDINGS
    }
    assert all(errors[name] < 0.7 * errors["nearest"] for name in ROUNDINGS[1:]), errors


@settings(max_examples=25)
@given(graphs(branches=True), precisions(2, 8), st.sampled_from(ROUNDINGS), st.booleans(), st.integers(0, 2**32 - 1))
def test_chosen_integers_survive_lowering(graph: Graph, precision: Precision, rounding: str, correct: bool, seed: int) -> None:
    """Weights of the bundle already lie on their grid, so that quantising them again changes nothing."""
    recipe = Recipe(precision, rounding=rounding, correct_bias=correct)
    bundle, calibration = quantize(graph, recipe, noise(graph, seed, 6))
    assert calibration is not None
    assert (calibration.rounding, calibration.bias_correction) == (rounding, correct)
    lowered = lower_bundle(bundle)
    for op in bundle.graph.ops:
        if rounding == "nearest" or not isinstance(op.attributes, ops.Conv | ops.MatMul):
            continue
        scale = bundle.scales[op.inputs[1]]
        integers = np.asarray(lowered.constants[f"{op.name}.weights"], np.float64)
        beta = np.asarray(scale.params.scale(integers.shape), np.float64)
        assert np.allclose(integers * beta, bundle.graph.constants[op.inputs[1]], rtol=1e-6)


def test_bias_correction_keeps_the_mean_of_each_channel() -> None:
    graph, x = chain(4), samples(400)
    means = {}
    for correct in (False, True):
        bundle = ld.quantize(graph, "w3a16", Dataset(x), correct_bias=correct)
        means[correct] = np.abs((outputs(lower_bundle(bundle), x) - outputs(graph, x)).mean(axis=0)).max()
    assert means[True] < 0.3 * means[False]


@pytest.mark.parametrize("text", ["float16", "bfloat16", "float8_e4m3", "float8_e5m2"])
def test_float_formats_round_every_stored_tensor(text: str) -> None:
    graph, x = chain(1), samples(32)
    bundle = ld.quantize(graph, text, Dataset(x))
    lowered = lower_bundle(bundle)
    kind = {"float8_e4m3": ml_dtypes.float8_e4m3fn}.get(text) or np.dtype(getattr(ml_dtypes, text, None) or text)
    stored = [value for name, value in engine.steps(lowered.with_batch(32), {"x": x}) if name.endswith(".q")]
    assert len(stored) > 5
    assert all(value.dtype == kind for value in stored)
    relative = np.abs(outputs(lowered, x) - outputs(graph, x)).max() / np.abs(outputs(graph, x)).max()
    assert 0 < relative < {"float16": 0.005, "bfloat16": 0.05, "float8_e4m3": 0.3, "float8_e5m2": 0.6}[text]


def test_weights_alone_are_integers_of_their_width() -> None:
    graph, x = chain(1), samples(32)
    lowered = lower_bundle(ld.quantize(graph, "w4-float32", Dataset(x)))
    formats = {str(lowered.tensors[name].format) for name in lowered.constants if name.endswith(".w.q")}
    assert formats == {"int4"}
    assert {op.kind for op in lowered.ops if op.output.endswith(".w")} == {"Dequantize"}
    assert error(ld.quantize(graph, "w8-float32", Dataset(x)), graph, x) < error(
        ld.quantize(graph, "w4-float32", Dataset(x)), graph, x
    )


@given(st.integers(1, 70), st.sampled_from([2, 4, 8]))
@settings(max_examples=20)
def test_groups_of_weights_have_scales_of_their_own(group: int, bits: int) -> None:
    graph, x = chain(6, spread=1.5), samples(8)
    bundle = ld.quantize(graph, f"w{bits}-float32", Dataset(x), granularity="group", group=group, method="minmax")
    lowered = lower_bundle(bundle)
    for op in graph.ops:
        if not isinstance(op.attributes, ops.Conv | ops.MatMul):
            continue
        name = op.inputs[1]
        weights, stored = np.asarray(graph.constants[name]), np.asarray(lowered.constants[f"{name}.q"])
        rows, integers = (
            value.reshape(len(value), -1) if isinstance(op.attributes, ops.Conv) else value.T for value in (weights, stored)
        )
        for row, q in zip(rows, integers, strict=True):
            for start in range(0, len(row), group):
                part, peak = row[start : start + group], np.abs(row[start : start + group]).max()
                assert np.abs(q[start : start + group]).max(initial=0) == (2 ** (bits - 1) - 1 if peak > 0 else 0), part


def test_a_group_is_never_worse_than_the_channel() -> None:
    graph, x = chain(6, spread=1.5), samples(64)
    whole = error(ld.quantize(graph, "w3-float32", Dataset(x)), graph, x)
    assert error(ld.quantize(graph, "w3-float32", Dataset(x), granularity="group", group=4), graph, x) < whole


def test_the_output_method_serves_the_layer_that_reads() -> None:
    graph, x = chain(8, spread=1.5), samples(64)
    real = dict(engine.steps(graph.with_batch(64), {"x": x}))["hidden.relu"].astype(np.float64)
    weights = graph.constants["scores.w"].astype(np.float64)
    errors = {}
    for method in ("minmax", "mse", "output"):
        scale = ld.quantize(graph, "w16a4", Dataset(x), method=method).scales["hidden.relu"]
        stored = np.clip(np.rint(real / scale.params.beta[0]) + scale.params.zero, -8, 7) - scale.params.zero
        errors[method] = float(np.square((stored * scale.params.beta[0] - real) @ weights).sum())
    assert errors["output"] <= 1.02 * min(errors.values()), errors
    assert errors["output"] < errors["minmax"]


def test_a_walk_without_changes_is_the_network() -> None:
    graph, x = chain(), samples(16)
    seen = []

    def visit(visited: Visit) -> Change:
        seen.append((visited.op.name, bool((visited.exact == visited.given).all())))
        return {}

    assert walk(graph, {}, x, visit).digest == graph.digest
    assert seen == [(op.name, True) for op in graph.ops]


def test_a_walk_holds_no_more_than_it_may() -> None:
    graph = chain()
    one = 2 * 4 * (8 * 36 + 8 * 36)  # both networks' widest pair of neighbouring tensors
    assert samples_within(graph, 100, 10 * one) == 10
    assert samples_within(graph, 3, 10 * one) == 3
    assert samples_within(graph, 3, 1) == 1


def test_roundings_look_at_as_many_samples_as_their_memory_holds() -> None:
    graph, data = chain(), Dataset(samples(40))
    one = 2 * 4 * (8 * 36 + 8 * 36) / (1 << 30)
    some, all_of_them = (
        ld.quantize(graph, "w3a8", data, rounding="gptq", memory_gib=factor * one).graph.digest for factor in (8.0, 40.0)
    )
    assert some != all_of_them
    assert all_of_them == ld.quantize(graph, "w3a8", data, rounding="gptq").graph.digest


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("int8", {"rounding": "up"}, "no 'up'"),
        ("int8", {"method": "mean"}, "no calibration method 'mean'"),
        ("int8", {"granularity": "row"}, "no granularity 'row'"),
        ("int8", {"granularity": "group", "group": 8}, "float activations"),
        ("w4-float32", {"granularity": "group"}, "need a size"),
        ("bfloat16", {"rounding": "gptq"}, "chooses integers"),
        ("int8", {"overrides": {"pool": "int4"}}, "no operation with weights"),
        ("int8", {"memory_gib": 0.0}, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(format: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(LeptonError, match=message):
        ld.quantize(chain(), format, Dataset(samples(4)), **options)


def test_dead_channels_and_constant_activations_are_no_trouble() -> None:
    graph = chain(3)
    dead = graph.with_constants(
        {"first.w": np.zeros_like(graph.constants["first.w"]), "hidden.w": np.zeros_like(graph.constants["hidden.w"])}
    )
    for rounding in ROUNDINGS:
        bundle = ld.quantize(dead, "w4a8", Dataset(samples(16)), rounding=rounding, correct_bias=True)
        assert error(bundle, dead, samples(16)) < 0.05 * np.square(outputs(dead, samples(16))).mean() + 1e-6


def test_granularities_store_as_many_scales_as_they_say() -> None:
    data = Dataset(samples(8))
    for granularity, count in ((Granularity.TENSOR, 1), (Granularity.CHANNEL, 12)):
        bundle = ld.quantize(chain(), "int8", data, granularity=granularity)
        assert len(bundle.scales["hidden.w"].params.beta) == count


def attention(least: float) -> Graph:
    """Scores, a mask of zeros and one great negative number added to them, and the shares that each has."""
    generator = np.random.default_rng(0)
    builder = GraphBuilder("attention")
    x = builder.input("x", (1, 4, 8))
    weights = builder.constant("w", generator.normal(size=(8, 4)).astype(np.float32))
    scores = builder.add(ops.MatMul(), [x, weights], output="scores")
    kept = builder.constant("kept", np.array([[[1, 1, 1, 0]]], np.int32))
    kept = builder.add(ops.Cast(NumberFormat.parse("float32")), [kept], output="kept.real")
    line = [builder.constant(name, np.full(1, value, np.float32)) for name, value in (("slope", -least), ("start", least))]
    mask = builder.add(ops.Affine(), [kept, *line], output="mask")
    masked = builder.add(ops.Add(), [scores, mask], output="masked")
    return builder.build([builder.add(ops.Softmax((2,)), [masked], output="shares")])


@pytest.mark.parametrize(("least", "real"), [(float(np.finfo(np.float32).min), True), (-1e4, True), (-8.0, False)])
def test_a_sum_that_would_drown_an_operand_stays_real(least: float, real: bool) -> None:
    graph = attention(least)
    x = np.random.default_rng(1).normal(size=(64, 4, 8)).astype(np.float32)
    bundle, _ = quantize(graph, Recipe(Precision.parse("int8")), Dataset(x))
    assert ("masked" not in bundle.scales) == real
    lowered, one = lower_bundle(bundle), x[:1]
    found, expected = outputs(lowered, one), outputs(graph, one)
    assert np.abs(found - expected).max() < 0.06
    assert np.all(found[..., 3] < 0.01) or not real
