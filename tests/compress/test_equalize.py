"""Moving magnitude between layers: the function stays, the ranges meet, and narrow scales for whole tensors err less."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.compress.equalize import equalize, pairs, smooth
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.compress.ranges import Granularity
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.reference import engine
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parent))
from networks import chain, samples


def outputs(graph: Graph, x: np.ndarray) -> np.ndarray:
    return engine.run(graph, x)[graph.outputs[0]]


def test_pairs_are_found_through_relus_pools_and_flattening() -> None:
    found = [(pair.first.name, pair.second.name, pair.repeat) for pair in pairs(chain())]
    assert found == [
        ("first", "depthwise", 1),
        ("depthwise", "pointwise", 1),
        ("pointwise", "hidden", 9),
        ("hidden", "scores", 1),
    ]


def test_a_bound_above_keeps_layers_apart() -> None:
    assert pairs(chain(relu6=True)) == ()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0, 3), st.floats(0, 1))
def test_the_function_stays_the_same(seed: int, spread: float, alpha: float) -> None:
    graph, x = chain(seed, spread=spread), samples()
    before = outputs(graph, x)
    for after in (outputs(equalize(graph), x), outputs(smooth(graph, x, alpha=alpha), x)):
        assert np.allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())


@settings(max_examples=30)
@given(graphs(branches=True), st.integers(0, 2**32 - 1))
def test_any_network_keeps_its_function(graph: Graph, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 1, (4, *graph.tensors[graph.inputs[0]].shape[1:])).astype(np.float32)
    before = outputs(graph, x).astype(np.float64)
    if graph.tensors[graph.outputs[0]].format.is_float:
        assert np.allclose(outputs(equalize(graph), x), before, rtol=1e-3, atol=1e-4 * max(np.abs(before).max(), 1e-6))


def test_ranges_on_both_sides_meet() -> None:
    graph = equalize(chain(3, spread=2.0))
    w1, w2 = (np.abs(graph.constants[f"{name}.w"]) for name in ("hidden", "scores"))
    assert np.allclose(w1.max(axis=0), w2.max(axis=1), rtol=0.02)


def test_one_scale_a_tensor_errs_far_less_after_equalisation() -> None:
    graph, x = chain(5, spread=2.0), samples(256)
    exact = outputs(graph, x)
    errors = []
    for version in (graph, equalize(graph)):
        recipe = Recipe(Precision.parse("w6a16"), granularity=Granularity.TENSOR)
        bundle, _ = quantize(version, recipe, Dataset(x[:64]))
        errors.append(float(np.square(outputs(lower_bundle(bundle), x) - exact).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_all_of_the_outlier_moves_at_alpha_one() -> None:
    graph, x = chain(7, spread=2.0), samples()
    values = dict(engine.steps(smooth(graph, x, alpha=1.0).with_batch(len(x)), {"x": x}))
    peaks = np.abs(values["hidden.relu"]).max(axis=0)
    assert np.allclose(peaks[peaks > 0], 1.0, rtol=1e-4)


def test_an_alpha_outside_is_refused() -> None:
    with pytest.raises(LeptonError, match="alpha"):
        smooth(chain(), samples(), alpha=1.5)
