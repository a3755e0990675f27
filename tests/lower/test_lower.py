"""Lowering: exact in every executor, within its formats whatever comes in, the same every time, and right by fractions."""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lepton_dse.bundle import Bundle
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.data import Dataset
from lepton_dse.errors import InvalidPlanError
from lepton_dse.flow import emit, plan
from lepton_dse.flow import quantize as ld_quantize
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder, LoweredGraph
from lepton_dse.ir.semantics import evaluate
from lepton_dse.lower import lower, lower_bundle
from lepton_dse.memory import map_memory, stored_bytes
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CalibrationMethod
from lepton_dse.reference import engine, fast
from lepton_dse.testing.strategies import graphs, precisions

SEEDS = st.integers(0, 2**32 - 1)


def lowered_of(graph: Graph, precision: Precision, seed: int = 0, **options: object) -> LoweredGraph:
    return lower_bundle(quantize(graph, Recipe(precision, **options), noise(graph, seed, 8))[0])  # type: ignore[arg-type]


def samples_of(graph: Graph, seed: int, count: int, scale: float = 1.0) -> np.ndarray:
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    return (np.random.default_rng(seed).normal(0, scale, (count, *shape))).astype(np.float32)


@settings(max_examples=120)
@given(graphs(branches=True), precisions(2, 16), SEEDS)
def test_the_fast_path_is_the_definition_bit_for_bit(graph: Graph, precision: Precision, seed: int) -> None:
    lowered = lowered_of(graph, precision, seed)
    x = samples_of(graph, seed, 3, 2.0)
    batched = lowered.with_batch(3)
    feeds = {graph.inputs[0]: x}
    defined = dict(engine.steps(batched, feeds, evaluate))
    for name, value in engine.steps(batched, feeds, fast.evaluate):
        assert value.dtype == defined[name].dtype == batched.tensors[name].format.numpy, name
        assert np.array_equal(value, defined[name]), name


@settings(max_examples=80)
@given(graphs(branches=True), precisions(2, 16), SEEDS)
def test_every_integer_stays_in_its_format_whatever_comes_in(graph: Graph, precision: Precision, seed: int) -> None:
    lowered = lowered_of(graph, precision, seed)
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    signs = np.random.default_rng(seed).choice([-1e30, 1e30], (4, *shape))
    extremes = np.concatenate([signs, np.full((1, *shape), 1e30), np.full((1, *shape), -1e30)]).astype(np.float32)
    # Weight signs of the first contraction aim every product of a channel the same way.
    first = next((op for op in graph.ops if isinstance(op.attributes, ops.Conv) and op.inputs[0] == "x"), None)
    if first is not None:
        kernel = np.sign(graph.constants[first.inputs[1]]).sum(axis=0)
        tiles = [math.ceil(extent / size) for extent, size in zip(shape, kernel.shape, strict=True)]
        aimed = np.tile(np.where(kernel < 0, -1e30, 1e30), tiles)[tuple(slice(0, extent) for extent in shape)].astype(np.float32)
        extremes = np.concatenate([extremes, aimed[None], -aimed[None]])
    # The definition raises where a value leaves its tensor's format.
    for name, value in engine.steps(lowered.with_batch(len(extremes)), {graph.inputs[0]: extremes}, evaluate):
        form = lowered.tensors[name].format
        if form.is_integer and value.size:
            assert form.minimum <= int(value.min()) <= int(value.max()) <= form.maximum


@pytest.mark.parametrize("bits", [2, 5, 8, 12, 16])
def test_the_accumulator_is_as_narrow_as_it_can_be(bits: int) -> None:
    """Some input reaches a value that one bit less would not hold."""
    builder = GraphBuilder("dense")
    x = builder.input("x", (1, 9))
    weights = builder.constant("w", np.random.default_rng(bits).normal(0, 1, (9, 5)).astype(np.float32))
    lowered = lowered_of(builder.build([builder.add(ops.MatMul(), [x, weights], output="y")]), Precision.parse(f"int{bits}"))
    w = lowered.constants[lowered.op("y").inputs[1]].astype(int)
    bias = lowered.constants[lowered.op("y").inputs[2]].astype(int)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    reached = [
        int(bias[channel]) + sum(int(value) * (low if (value < 0) == up else high) for value in w[:, channel])
        for channel in range(5)
        for up in (False, True)
    ]
    form = lowered.tensors["y.acc"].format
    assert form.minimum <= min(reached) <= max(reached) <= form.maximum
    assert max(*reached, *(~value for value in reached)).bit_length() == form.bits - 1


@settings(max_examples=30)
@given(graphs(branches=True), precisions(2, 16), SEEDS)
def test_lowering_twice_gives_the_same(graph: Graph, precision: Precision, seed: int) -> None:
    bundle, _ = quantize(graph, Recipe(precision), noise(graph, seed, 8))
    assert lower_bundle(bundle).digest == lower_bundle(bundle).digest


def wide_branches() -> Graph:
    """Two wide results, each of which is pooled; the model makes both before it pools either."""
    rng = np.random.default_rng(5)
    builder = GraphBuilder("branches")
    x = builder.input("x", (1, 2, 8, 8))
    near = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    halved = ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))
    wide = [
        builder.add(
            ops.Conv(near),
            [x, builder.constant(f"{name}.w", rng.normal(0, 1, (16, 2, 3, 3)).astype(np.float32))],
            output=name,
        )
        for name in ("first", "second")
    ]
    pooled = [builder.add(ops.MaxPool(halved), [each], output=f"{each}.pooled") for each in wide]
    return builder.build([builder.add(ops.Concat(1), pooled, output="y")])


@pytest.mark.parametrize("form", ["int8", "w4a8", "float32", "w4-float32"])
def test_operations_come_in_the_order_that_needs_less(form: str, tmp_path: Path) -> None:
    graph = wide_branches()
    planned = plan(graph, "raspberry-pi-5", format=form)
    lowered, x = planned.lowered, samples_of(graph, 1, 4)
    assert [op.name for op in graph.ops][:3] == ["first", "second", "first.pooled"]
    of_model = {op.name: index for index, op in enumerate(graph.ops)}
    names = [op.name for op in lowered.ops if op.name in of_model]
    assert names.index("first.pooled") < names.index("second") or names.index("second.pooled") < names.index("first")
    assert planned.plan.memory is not None
    assert planned.plan.memory == map_memory(lowered, bytes_of=stored_bytes)
    # As it would be in the model's order, every operation as early as those that it reads allow.
    first_of = {op.name: of_model.get(op.name, -1) for op in lowered.ops}
    for op in lowered.ops:
        before = [first_of[lowered.producer(name).name] for name in op.inputs if lowered.producer(name)]
        first_of[op.name] = max([first_of[op.name], *before])
    places = {op.name: index for index, op in enumerate(lowered.ops)}
    kept = lowered.with_order(sorted(places, key=lambda name: (first_of[name], places[name])))
    assert planned.plan.memory.peak < map_memory(kept, bytes_of=stored_bytes).peak
    assert lower(planned.plan, planned.bundle).digest == planned.lowered.digest != kept.digest
    np.testing.assert_array_equal(engine.run(lowered, x)["y"], engine.run(kept, x)["y"])
    emit(planned, tmp_path / "program", emitter="cpp")  # which refuses another map than that of its graph


@settings(max_examples=40, deadline=None)
@given(graphs(), precisions(2, 8), SEEDS)
def test_what_streams_keeps_its_order(graph: Graph, precision: Precision, seed: int) -> None:
    lowered = lowered_of(graph, precision, seed)
    for op, following in zip(lowered.ops[:-1], lowered.ops[1:], strict=True):
        assert op.output in following.inputs


PROCESS = """
from lepton_dse.compress.quantize import Recipe, noise, quantize
from lepton_dse.importers import load_model
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.files import data_folder
graph = load_model(data_folder("models") / "digits_cnn.onnx")
bundle, _ = quantize(graph, Recipe(Precision.parse("w4a8")), noise(graph, 3))
print(bundle.digest, lower_bundle(bundle).digest)
"""


def test_other_processes_lower_to_the_same() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", PROCESS], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop().split()) == 2


@settings(max_examples=60)
@given(graphs(branches=True), SEEDS)
def test_sixteen_bits_are_near_the_real_result(graph: Graph, seed: int) -> None:
    if any(isinstance(op.attributes, ops.ArgMax) for op in graph.ops):
        return
    x = samples_of(graph, seed, 8)
    bundle, _ = quantize(graph, Recipe(Precision.parse("int16"), method=CalibrationMethod.MINMAX), Dataset(x))
    found = engine.run(lower_bundle(bundle), x, evaluate=fast.evaluate)
    for name, want in engine.run(graph, x).items():
        error = np.abs(found[name] - want).max()
        assert error <= 2e-3 * np.abs(want).max() + 1e-6, (name, error)


# --- against fractions ------------------------------------------------------------------------------------------------


def half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@settings(max_examples=30)
@given(SEEDS, precisions(2, 16), st.booleans(), st.booleans(), st.floats(-6, 0))
def test_a_convolution_is_what_fractions_make_of_it(
    seed: int, precision: Precision, relu: bool, padded: bool, spread: float
) -> None:
    """Every folding at once: bias, zero points, padding, clip, one scale a channel."""
    rng = np.random.default_rng(seed)
    pad = 1 if padded else 0
    window = ops.Window((2, 2), (2, 1), (1, 1), (pad, 0), (0, pad))
    w = (rng.normal(0, 1, (3, 2, 2, 2)) * np.asarray([1.0, 10.0**spread, 0.3]).reshape(3, 1, 1, 1)).astype(np.float32)
    b = rng.normal(0, 1, 3).astype(np.float32)
    builder = GraphBuilder("conv")
    x = builder.input("x", (1, 2, 3, 3))
    y = builder.add(ops.Conv(window), [x, builder.constant("w", w), builder.constant("b", b)], output="y")
    if relu:
        y = builder.add(ops.Clip(0.0, 1.5), [y], output="z")
    graph = builder.build([y])
    data = rng.normal(0.7, 1, (4, 2, 3, 3)).astype(np.float32)
    bundle, _ = quantize(graph, Recipe(precision), Dataset(data))
    lowered = lower_bundle(bundle)
    values = dict(engine.steps(lowered, {"x": data[:1]}))
    q, got = values["x.q"][0].astype(int), values[f"{y}.q"][0].astype(int)

    x_scale, w_scale, y_scale = (bundle.scales[name] for name in ("x", "w", y))
    beta_x, beta_y = Fraction(x_scale.params.beta[0]), Fraction(y_scale.params.beta[0])
    shift = next(op.attributes.shift for op in lowered.ops if isinstance(op.attributes, ops.Requantize))
    limit = 2 ** (precision.weights.bits - 1) - 1
    bits = max(precision.activations.bits, 8)  # the network's scores
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if relu:
        ends = [round(Fraction(float(np.float32(end) / np.float32(beta_y)))) + y_scale.params.zero for end in (0.0, 1.5)]
        low, high = max(low, min(ends[0], high)), min(high, max(ends[1], low))
    for channel, row, column in product(*map(range, got.shape)):
        beta_w = Fraction(w_scale.params.beta[channel])
        exact = Fraction(round(Fraction(float(b[channel])) / (beta_x * beta_w)))
        for c, i, j in product(range(2), range(2), range(2)):
            r, k = 2 * row + i - pad, column + j
            if 0 <= r < 3 and 0 <= k < 3:  # outside stands the real 0, which adds nothing
                ratio = np.float32(w[channel, c, i, j]) / np.float32(w_scale.params.beta[channel])
                weight = min(max(round(Fraction(float(ratio))), -limit), limit)
                exact += weight * (int(q[c, r, k]) - x_scale.params.zero)
        ideal = exact * beta_x * beta_w / beta_y + y_scale.params.zero
        # Half a step of rounding, and what 17 bits of multiplier add: half its unit times the sum.
        error = abs(int(got[channel, row, column]) - min(max(ideal, low), high))
        assert error <= Fraction(1, 2) + abs(exact) / 2 ** (shift + 1) + Fraction(1, 10**6)
        assert error <= 2
        assert low <= got[channel, row, column] <= high


@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-12, 1e-38, 0.0])
@pytest.mark.parametrize("form", ["int8", "w4a8", "int12", "int16"])
def test_a_channel_of_vanishing_weights_keeps_its_bias(small: float, form: str) -> None:
    """Folded batch normalisations leave such channels in many models."""
    rng = np.random.default_rng(0)
    w = rng.normal(0, 1, (6, 3)).astype(np.float32)
    w[:, 1] *= np.float32(small)
    builder = GraphBuilder("dead")
    x = builder.input("x", (1, 6))
    operands = [x, builder.constant("w", w), builder.constant("b", np.asarray([0.5, 1.5, -0.25], np.float32))]
    graph = builder.build([builder.add(ops.MatMul(), operands, output="y")])
    data = rng.normal(0, 1, (32, 6)).astype(np.float32)
    bundle, _ = quantize(graph, Recipe(Precision.parse(form), method=CalibrationMethod.MINMAX), Dataset(data))
    found, want = engine.run(lower_bundle(bundle), data)["y"], engine.run(graph, data)["y"]
    assert np.abs(found - want)[:, 1].max() <= 1.1 * bundle.scales["y"].params.beta[0] + 3e-3 * small


def test_averages_sums_and_concatenations_are_rounded_once() -> None:
    rng = np.random.default_rng(1)
    window = ops.Window((2, 2), (1, 1), (1, 1), (1, 1), (1, 1))
    builder = GraphBuilder("branches")
    x = builder.input("x", (1, 2, 4, 4))
    mean = builder.add(ops.AveragePool(window), [x], output="mean")
    total = builder.add(ops.Add(), [mean, mean], output="total")
    both = builder.add(ops.Concat(1), [total, total], output="both")
    graph = builder.build([both])
    data = rng.normal(1, 1, (6, 2, 4, 4)).astype(np.float32)
    bundle, _ = quantize(graph, Recipe(Precision.parse("int8")), Dataset(data))
    values = dict(engine.steps(lower_bundle(bundle), {"x": data[:1]}))
    q, z = values["x.q"][0].astype(int), bundle.scales["x"].params.zero
    for c, r, k in product(range(2), range(5), range(5)):
        taps = [int(q[c, i, j]) - z for i in (r - 1, r) for j in (k - 1, k) if 0 <= i < 4 and 0 <= j < 4]
        ideal = Fraction(sum(taps), len(taps)) + z
        assert abs(int(values["mean.q"][0, c, r, k]) - ideal) <= Fraction(1, 2) + Fraction(1, 100)
        mean_q, scale = int(values["mean.q"][0, c, r, k]) - z, bundle.scales["total"]
        twice = 2 * mean_q * Fraction(bundle.scales["mean"].params.beta[0]) / Fraction(scale.params.beta[0]) + scale.params.zero
        assert abs(int(values["total.q"][0, c, r, k]) - min(max(twice, -128), 127)) <= Fraction(1, 2) + Fraction(1, 100)
    assert np.array_equal(values["both.q"][:, :2], values["total.q"])
    assert np.array_equal(values["both.q"][:, 2:], values["total.q"])


@pytest.mark.parametrize("kind", [ops.Sigmoid(), ops.Tanh(), ops.LeakyRelu(0.1)], ids=lambda kind: type(kind).__name__)
def test_tables_hold_the_function_of_every_integer(kind: ops.Sigmoid | ops.Tanh | ops.LeakyRelu) -> None:
    builder = GraphBuilder("point")
    x = builder.input("x", (1, 8))
    graph = builder.build([builder.add(kind, [x], output="y")])
    lowered = lowered_of(graph, Precision.parse("int8"))
    table = lowered.constants["y.table"].astype(int)
    x_quant, y_quant = lowered.tensors["x.q"].quant, lowered.tensors["y.q"].quant
    assert x_quant is not None
    assert y_quant is not None
    reals = (np.arange(-128, 128) - x_quant.zero) * np.float64(x_quant.beta[0])
    function = {
        ops.Sigmoid: lambda v: 1 / (1 + np.exp(-v)),
        ops.Tanh: np.tanh,
        ops.LeakyRelu: lambda v: np.where(v < 0, 0.1 * v, v),
    }
    ideal = np.clip(function[type(kind)](reals) / y_quant.beta[0] + y_quant.zero, -128, 127)
    assert np.abs(table - ideal).max() <= 0.5 + 1e-3


# --- refusals ---------------------------------------------------------------------------------------------------------


def dense() -> Graph:
    builder = GraphBuilder("dense")
    x = builder.input("x", (1, 3))
    return builder.build([builder.add(ops.MatMul(), [x, builder.constant("w", np.ones((3, 2), np.float32))], output="y")])


def test_a_plan_lowers_only_its_own_bundle() -> None:
    planned = plan(dense(), "unit-cpu")
    other, _ = quantize(dense(), Recipe(Precision.parse("w4a8")), noise(dense(), 0))
    assert lower(planned.plan, planned.bundle).digest == planned.lowered.digest
    with pytest.raises(InvalidPlanError, match="not the one"):
        lower(planned.plan, other)
    for entry, words in (({"op": "z"}, "no such operation"), ({"op": "y", "precision": "w4a8"}, "int8 weights")):
        changed = planned.plan.model_copy(update={"ops": (planned.plan.ops[0].model_copy(update=entry),)})
        with pytest.raises(InvalidPlanError, match=words):
            lower(changed, planned.bundle)


def test_a_result_without_a_scale_is_stored_as_reals() -> None:
    bundle, _ = quantize(dense(), Recipe(Precision.parse("int8")), noise(dense(), 0))
    scales = {name: scale for name, scale in bundle.scales.items() if name != "y"}
    lowered = lower_bundle(Bundle(bundle.graph, scales, bundle.samples))
    assert [op.kind for op in lowered.ops] == ["Dequantize", "MatMul"]  # of the weights; the input is real


def test_a_float_plan_keeps_its_graph() -> None:
    lowered = lowered_of(dense(), Precision.parse("float32"))
    assert [op.kind for op in lowered.ops] == ["MatMul"]
    assert not any(tensor.format.is_integer for tensor in lowered.tensors.values())


def test_what_has_no_integer_meaning_stays_real() -> None:
    builder = GraphBuilder("soft")
    x = builder.input("x", (1, 3))
    y = builder.add(ops.Softmax((1,)), [x], output="y")
    z = builder.add(ops.MatMul(), [y, builder.constant("w", np.ones((3, 2), np.float32))], output="z")
    lowered = lowered_of(builder.build([z]), Precision.parse("int8"))
    assert [op.kind for op in lowered.ops] == ["Softmax", "Quantize", "MatMul", "Requantize", "Dequantize"]


# --- layers of floats among layers of integers ---------------------------------------------------------------------------


FLOATS = ("float32", "float16", "bfloat16", "w12-float32", "w12-float16")


def chain() -> Graph:
    """Convolutions with a Clip each, the second of which two layers read, and a dense layer."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("chain")
    x = builder.input("x", (1, 4, 6, 6))
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    for index in range(3):
        weights = builder.constant(f"w{index}", rng.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32))
        bias = builder.constant(f"b{index}", rng.normal(0, 0.1, 4).astype(np.float32))
        y = builder.add(ops.Conv(window), [x, weights, bias], output=f"y{index}", name=f"conv{index}")
        r = builder.add(ops.Clip(0.0, 2.0), [y], output=f"r{index}", name=f"relu{index}")
        x = builder.add(ops.Add(), [r, x], output=f"s{index}", name=f"add{index}") if index == 2 else r
    flat = builder.add(ops.Reshape((1, 144)), [x], output="flat", name="flatten")
    weights = builder.constant("wf", rng.normal(0, 0.1, (144, 5)).astype(np.float32))
    return builder.build([builder.add(ops.MatMul(), [flat, weights], output="z", name="fc")])


def mixed(graph: Graph, x: np.ndarray, format: str, **overrides: str) -> LoweredGraph:
    chosen = {name: Precision.parse(form) for name, form in overrides.items()}
    recipe = Recipe(Precision.parse(format), chosen, method=CalibrationMethod.MINMAX)
    return lower_bundle(quantize(graph, recipe, Dataset(x))[0])


@pytest.mark.parametrize("form", FLOATS)
@pytest.mark.parametrize("name", ["conv0", "conv1", "conv2", "fc"])
def test_a_layer_of_floats_among_integers(name: str, form: str) -> None:
    """Nothing but the rounding of 16 bits, or of the floats, stands between the outputs and those of the float network."""
    graph = chain()
    x = samples_of(graph, 1, 16)
    exact = engine.run(graph, x)["z"]
    lowered = mixed(graph, x, "int16", **{name: form})
    found = engine.run(lowered, x)["z"]
    tolerance = 0.01 if form == "bfloat16" else 0.002 if "float16" in form or "w12" in form else 2e-4
    assert np.abs(found - exact).max() <= tolerance * np.abs(exact).max()
    kinds = [op.kind for op in lowered.ops]
    assert "Quantize" in kinds
    assert "Dequantize" in kinds
    assert "Requantize" in kinds  # other layers stay on integers


@settings(max_examples=100)
@given(graphs(branches=True), SEEDS, st.sampled_from(FLOATS), st.data())
def test_any_layer_may_be_of_floats(graph: Graph, seed: int, form: str, data: st.DataObject) -> None:
    names = [op.name for op in graph.ops if op.kind in ("Conv", "MatMul")]
    assume(names)
    x = samples_of(graph, seed, 6)
    lowered = mixed(graph, x, "int16", **{data.draw(st.sampled_from(names)): form})
    feeds, batched = {graph.inputs[0]: x}, lowered.with_batch(6)
    defined = dict(engine.steps(batched, feeds, evaluate))
    for name, value in engine.steps(batched, feeds, fast.evaluate):
        assert np.allclose(value, defined[name], rtol=1e-5, atol=1e-5 * float(np.abs(defined[name]).max(initial=0))), name
    last = graph.producer(graph.outputs[0])
    if last is not None and last.kind != "ArgMax":
        exact, found = engine.run(graph, x)[graph.outputs[0]], engine.run(lowered, x)[graph.outputs[0]]
        assert np.abs(found - exact).max(initial=0) <= (0.03 if form == "bfloat16" else 0.004) * np.abs(exact).max(initial=0)


CASES = [("conv0", "float32"), ("conv1", "float32"), ("fc", "float32"), ("conv1", "w4-float32")]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_emitted_programs_compute_layers_of_floats(name: str, form: str, tmp_path: Path, needs_tool: Any) -> None:
    """Up to the order of real sums, and one step of 8 bits where such a sum is rounded."""
    needs_tool("g++")
    graph = chain()
    bundle = ld_quantize(graph, "int8", Dataset(samples_of(graph, 2, 16)), overrides={name: form})
    planned = plan(bundle, "raspberry-pi-5")
    folder = emit(planned, tmp_path / "cpp", emitter="cpp")
    library = tmp_path / "model.so"
    subprocess.run(["g++", "-std=c++17", "-shared", "-fPIC", "-o", library, folder / "model.cpp"], check=True)
    program, lowered = ctypes.CDLL(str(library)), planned.lowered
    x = samples_of(graph, 3, 8)
    expected = engine.run(lowered, x)["z"]
    found = np.empty_like(expected)
    for sample, result in zip(np.ascontiguousarray(x), found, strict=True):
        program.model_run(ctypes.c_void_p(sample.ctypes.data), ctypes.c_void_p(result.ctypes.data))
    step = bundle.scales["z"].params.beta[0] if "z" in bundle.scales else 0.0
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max() + 1.001 * step
    assert np.mean(np.abs(found - expected) > 1e-5 * np.abs(expected).max()) < 0.1


@pytest.mark.parametrize("group", [None, 5])
def test_emitted_programs_scale_weights_by_channel_and_group(group: int | None, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    graph = chain()
    options: dict[str, Any] = {} if group is None else {"granularity": "group", "group": group}
    planned = plan(graph, "raspberry-pi-5", format="w4-float32", data=Dataset(samples_of(graph, 2, 4)), **options)
    folder, library = emit(planned, tmp_path / "cpp", emitter="cpp"), tmp_path / "model.so"
    subprocess.run(["g++", "-std=c++17", "-shared", "-fPIC", "-o", library, folder / "model.cpp"], check=True)
    x = samples_of(graph, 3, 1)
    expected = engine.run(planned.lowered, x)["z"]
    found = np.empty_like(expected)
    ctypes.CDLL(str(library)).model_run(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(found.ctypes.data))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_stream_of_integers_refuses_a_layer_of_floats_in_words() -> None:
    bundle = ld_quantize(chain(), "int8", overrides={"conv1": "float32"})
    planned = plan(bundle, "amd-zynq-7020")
    assert not planned.predicted.feasible
    assert planned.predicted.violations
