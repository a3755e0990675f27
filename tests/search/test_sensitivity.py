"""Sensitivities: executed in part as in full, kept on disk, and refused where they make no sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.compress.prune import prune
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.compress.ranges import rounded
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CalibrationMethod
from lepton_dse.reference import engine, fast
from lepton_dse.search import sensitivity
from lepton_dse.search.allocate.choice import Choice, Layer, Pruned, layers_of, parse_choices
from lepton_dse.search.allocate.scales import Variants
from lepton_dse.search.allocate.score import Scorer, scoring_graph
from lepton_dse.search.allocate.suffix import Baseline, Suffix
from lepton_dse.search.sensitivity import sensitivities

INT8 = Recipe(Precision.parse("int8"))
CHOICES = ("int8", "w4a8", "w4a4", "w3a8", "w8a4", "w8a16")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def network(end: str = "scores") -> Graph:
    """A residual block, a pool, a shared weight and a fully connected end: every way for a change to spread."""
    rng = np.random.default_rng(3)
    builder = GraphBuilder("net")
    pad = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))

    def weights(name: str, *shape: int) -> str:
        return builder.constant(name, rng.normal(0, 0.4, shape).astype(np.float32))

    x = builder.input("x", (1, 3, 6, 6))
    first = builder.add(ops.Conv(pad), [x, weights("w0", 4, 3, 3, 3), weights("b0", 4)], output="c0", name="first")
    first = builder.add(ops.Clip(0.0, np.inf), [first], output="r0", name="relu")
    shared = weights("w1", 4, 4, 3, 3)
    inner = builder.add(ops.Conv(pad), [first, shared], output="c1", name="inner")
    again = builder.add(ops.Conv(pad), [inner, shared], output="c2", name="again")
    total = builder.add(ops.Add(), [first, again], output="sum", name="residual")
    pooled = builder.add(ops.MaxPool(ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))), [total], output="p", name="pool")
    flat = builder.add(ops.Reshape((1, 36)), [pooled], output="flat", name="flatten")
    y = builder.add(ops.MatMul(), [flat, weights("w3", 36, 5), weights("b3", 5)], output="y", name="last")
    if end == "softmax":
        y = builder.add(ops.Softmax((1,)), [y], output="shares", name="softmax")
    if end == "argmax":
        y = builder.add(ops.ArgMax(1, False), [y], output="class", name="argmax")
    return builder.build([y])


def samples(count: int = 40, *, labelled: bool = True) -> Dataset:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (count, 3, 6, 6)).astype(np.float32)
    return Dataset(x, rng.integers(0, 5, count) if labelled else None)


def whole(graph: Graph, recipe: Recipe, layer: Layer, choice: Choice, data: Dataset) -> Graph:
    """The variant as the ordinary flow makes it."""
    overrides = {**recipe.overrides, **dict.fromkeys(layer.ops, choice.precision)}
    return lower_bundle(quantize(graph, replace(recipe, overrides=overrides), data)[0])


@pytest.mark.parametrize("end", ["scores", "softmax"])
@pytest.mark.parametrize("held", [0, 3000, 1 << 30])
def test_the_changed_part_alone_gives_the_whole_bit_for_bit(end: str, held: int) -> None:
    graph, data = network(end), samples(300)
    variants = Variants(graph, INT8, data.take(20))
    baseline = Baseline(lower_bundle(variants.baseline), data.x, held_bytes=held)
    assert len(baseline.chunks) > 1
    for layer in layers_of(graph):
        for choice in parse_choices(CHOICES):
            lowered = lower_bundle(variants.bundle(layer, choice, graph))
            suffix = Suffix(baseline, lowered)
            parts = [suffix.scores(baseline.values(chunk, suffix.needs)) for chunk in range(len(baseline.chunks))]
            full = engine.run(lowered, data.x, evaluate=fast.evaluate)[lowered.outputs[0]]
            np.testing.assert_array_equal(np.concatenate(parts), full)
            assert suffix.ops or str(choice) == "int8"


def test_float_activations_stay_among_themselves() -> None:
    graph, data = network(), samples()
    found = sensitivities(graph, data, ["int8", "w4-float16"], recipe=INT8)
    assert set(found.refused) == {(layer.name, Choice.parse("w4-float16")) for layer in found.layers}
    recipe = Recipe(Precision.parse("float16"))
    floats = sensitivities(graph, data, ["float16", "w4-float16"], recipe=recipe)
    for layer in floats.layers:
        choice = Choice.parse("w4-float16")
        given = engine.run(whole(graph, recipe, layer, choice, data), data.x, evaluate=fast.evaluate)["y"]
        assert floats.entries[layer.name, choice] == Scorer(graph, data).score(given)


def test_only_what_lies_behind_a_change_is_executed() -> None:
    graph, data = network(), samples()
    variants = Variants(graph, INT8, data)
    baseline = Baseline(lower_bundle(variants.baseline), data.x)
    last = layers_of(graph)[-1]
    same = Suffix(baseline, lower_bundle(variants.bundle(last, Choice.parse("int8"), graph)))
    narrow = Suffix(baseline, lower_bundle(variants.bundle(last, Choice.parse("w4a8"), graph)))
    assert same.ops == ()
    assert set(narrow.ops) == {"last", "last.requantize", "y"}
    coarse = Suffix(baseline, lower_bundle(variants.bundle(last, Choice.parse("w4a4"), graph)))
    assert "residual" in coarse.ops  # its result is what the last layer reads in four bits
    assert "inner" not in coarse.ops


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(CHOICES),
    st.integers(0, 2),
    st.sampled_from([CalibrationMethod.MSE, CalibrationMethod.MINMAX, CalibrationMethod.KL]),
    st.booleans(),
    st.sampled_from(["int8", "w8a4"]),
)
def test_scales_are_those_of_the_ordinary_quantisation(
    text: str, index: int, method: CalibrationMethod, symmetric: bool, default: str
) -> None:
    graph, data = network(), samples(4)
    recipe = Recipe(Precision.parse(default), method=method, symmetric=symmetric)
    layer, choice = layers_of(graph)[index], Choice.parse(text)
    bundle = Variants(graph, recipe, data).bundle(layer, choice, graph)
    assert lower_bundle(bundle).digest == whole(graph, recipe, layer, choice, data).digest


def test_ranges_by_output_error_are_found_anew() -> None:
    graph, data = network(), samples(8)
    recipe = replace(INT8, method=CalibrationMethod.OUTPUT)
    layer, choice = layers_of(graph)[1], Choice.parse("w4a8")
    bundle = Variants(graph, recipe, data).bundle(layer, choice, graph)
    assert lower_bundle(bundle).digest == whole(graph, recipe, layer, choice, data).digest


@pytest.mark.parametrize("text", ["w4a8", "w3a8+0.5"])
@pytest.mark.parametrize(
    "options", [{"rounding": "gptq"}, {"rounding": "adaround", "correct_bias": True}, {"correct_bias": True}]
)
def test_a_layer_is_rounded_for_the_float_networks_inputs_and_the_others_stay(options: dict[str, Any], text: str) -> None:
    """The first layer reads what the float network reads, up to the input's own format; there both ways meet."""
    graph, data = network(), samples(40)
    recipe = replace(INT8, **options)
    variants, choice = Variants(graph, recipe, data), Choice.parse(text)
    source = Pruned(graph).graph(choice) if choice.ratio else graph
    for layer in layers_of(graph):
        bundle = variants.bundle(layer, choice, source)
        own = set(graph.op(layer.ops[0]).inputs[1:])
        for name, value in variants.baseline.graph.constants.items():
            assert name in own or np.array_equal(bundle.graph.constants[name], value)
        weights, scale = bundle.graph.constants[layer.weights], bundle.scales[layer.weights]
        assert scale.format == choice.precision.weights
        if recipe.rounding != "nearest":
            np.testing.assert_allclose(rounded(weights, scale.params, scale.format), weights, rtol=1e-6)
    same = variants.bundle(layers_of(graph)[0], Choice.parse("int8"), graph)
    assert same is variants.baseline


def test_rounding_for_outputs_lowers_what_a_layer_adds() -> None:
    graph, data = network(), samples(200)
    plain, chosen = (
        sensitivities(graph, data, ["w3a8"], recipe=replace(INT8, rounding=rounding), calibration=data.take(100))
        for rounding in ("nearest", "gptq")
    )
    total = [sum(found.added(layer.name, Choice.parse("w3a8")) for layer in found.layers) for found in (plain, chosen)]
    assert total[1] < total[0]


def test_figures_are_those_of_whole_networks() -> None:
    graph, data = network(), samples(60)
    found = sensitivities(graph, data, ["int8", "w3a8", "w2a4"], recipe=INT8)
    exact = engine.run(graph, data.x)["y"]
    assert data.y is not None
    right = exact.argmax(1) == data.y
    for (name, choice), entry in found.entries.items():
        layer = next(layer for layer in found.layers if layer.name == name)
        given = engine.run(whole(graph, INT8, layer, choice, data), data.x, evaluate=fast.evaluate)["y"]
        p, q = (np.exp(scores) / np.exp(scores).sum(1, keepdims=True) for scores in (exact.astype(float), given.astype(float)))
        assert entry.divergence.value == pytest.approx(float(np.mean(np.sum(p * np.log(p / q), axis=1))), rel=1e-6)
        hits = given.argmax(1) == data.y
        assert entry.correct.value == hits.mean()
        assert entry.loss.value == pytest.approx(100 * (right.mean() - hits.mean()))
        assert entry.divergence.low <= entry.divergence.value <= entry.divergence.high
        assert entry.loss.count == entry.correct.count == entry.divergence.count == 60
    assert found.added("last", Choice.parse("int8")) == 0
    assert found.added("last", Choice.parse("w2a4")) > 0


def test_pruned_choices_are_measured_and_patterns_that_do_not_fit_are_refused() -> None:
    graph, data = network(), samples()
    found = sensitivities(graph, data, ["int8", "int8+0.5", "int8+2:4"], recipe=INT8)
    assert set(found.refused) == {("first", Choice.parse("int8+2:4"))}  # three input channels
    half = graph.with_constants({"w3": prune(graph, 0.5).constants["w3"]})
    bundle = quantize(graph, INT8, data)[0]
    scales = {**bundle.scales, "w3": quantize(half, INT8, data)[0].scales["w3"]}
    given = engine.run(lower_bundle(replace(bundle, graph=half, scales=scales)), data.x, evaluate=fast.evaluate)["y"]
    assert found.entries["last", Choice.parse("int8+0.5")] == Scorer(graph, data).score(given)


def test_what_was_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, data = network(), samples()
    first = sensitivities(graph, data, ["int8", "w4a8"], recipe=INT8)
    assert first.measured == 6
    more = sensitivities(graph, data, ["w4a8", "int8", "w2a8"], recipe=INT8)
    assert more.measured == 3
    monkeypatch.setattr(sensitivity, "_Measurement", None)
    again = sensitivities(graph, data, ["int8", "w4a8"], recipe=INT8)
    assert again.measured == 0
    assert (again.entries, again.baseline) == (first.entries, first.baseline)
    monkeypatch.undo()


def test_other_samples_another_recipe_and_a_damaged_cache_are_measured(tmp_path: Path) -> None:
    graph, data = network(), samples()
    sensitivities(graph, data, ["w4a8"], recipe=INT8)
    assert sensitivities(graph, data.take(30), ["w4a8"], recipe=INT8).measured == 3
    assert sensitivities(graph, data, ["w4a8"], recipe=replace(INT8, symmetric=True)).measured == 3
    assert sensitivities(graph, data, ["w4a8"], recipe=INT8).measured == 0
    for path in tmp_path.rglob("sensitivity/*.json"):
        path.write_text('{"divergence": ')
    assert sensitivities(graph, data, ["w4a8"], recipe=INT8).measured == 3


def test_an_interruption_keeps_what_is_done() -> None:
    graph, data = network(), samples()

    def stop(text: str) -> None:
        if "layer 3" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sensitivities(graph, data, ["w4a8"], recipe=INT8, progress=stop)
    assert sensitivities(graph, data, ["w4a8"], recipe=INT8).measured == 1


def test_ends_of_networks() -> None:
    data = samples(labelled=False)
    plain = sensitivities(network(), data, ["w4a8"], recipe=INT8)
    chosen = sensitivities(network("argmax"), data, ["w4a8"], recipe=INT8)
    shares = sensitivities(network("softmax"), data, ["w4a8"], recipe=INT8)
    assert chosen.entries == plain.entries
    assert scoring_graph(network("argmax")).outputs == ("y",)
    assert plain.metric == "kl"
    key = ("last", Choice.parse("w4a8"))
    assert shares.entries[key].divergence.value == pytest.approx(plain.entries[key].divergence.value, rel=1e-3)
    assert 0 < plain.entries[key].correct.value <= 1  # agreement with float

    builder = GraphBuilder("image")
    x = builder.input("x", (1, 3, 6, 6))
    weights = np.random.default_rng(0).normal(0, 1, (2, 3, 1, 1)).astype(np.float32)
    window = ops.Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    y = builder.add(ops.Conv(window), [x, builder.constant("w", weights)], output="y", name="conv")
    image = builder.build([y])
    found = sensitivities(image, data, ["int8", "w3a8"], recipe=INT8)
    assert found.metric == "mse"
    assert 0 < found.baseline.divergence.value < found.entries["conv", Choice.parse("w3a8")].divergence.value < 1
    with pytest.raises(LeptonError, match="no scores of classes"):
        sensitivities(image, samples(), ["w3a8"], recipe=INT8)


def test_wrong_input_is_refused_in_one_line() -> None:
    graph, data = network(), samples()
    with pytest.raises(LeptonError, match="nowhere: no operation with weights"):
        sensitivities(graph, data, ["w4a8"], recipe=INT8, ops=["last", "nowhere"])
    with pytest.raises(LeptonError, match="no choices"):
        sensitivities(graph, data, [], recipe=INT8)
    with pytest.raises(LeptonError, match="given twice"):
        sensitivities(graph, data, ["int8", "w8a8"], recipe=INT8)
    with pytest.raises(LeptonError, match="samples of shape"):
        sensitivities(graph, Dataset(data.x[:, :2], data.y), ["w4a8"], recipe=INT8)
    for label in (-1, 5):
        with pytest.raises(LeptonError, match=f"a label of {label}"):
            sensitivities(graph, Dataset(data.x[:1], np.array([label])), ["w4a8"], recipe=INT8)


@pytest.mark.parametrize("text", ["", "int9x", "int8+", "int8+1.5", "int8+4:2", "int8+0:4", "int8+2:0", "w1a8"])
def test_choices_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(LeptonError):
        Choice.parse(text)


@pytest.mark.parametrize("text", ["int8", "w4a8", "int8+0.5", "w4a8+2:4", "w4-float16", "float32"])
def test_names_of_choices_are_read_back(text: str) -> None:
    assert str(Choice.parse(text)) == text
