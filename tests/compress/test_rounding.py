"""Roundings: integers within their format, never a worse output than their start, and minima where they say so."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse import registry
from lepton_dse.compress.rounding.adaround import adaround, descend
from lepton_dse.compress.rounding.gptq import DAMPING, gptq
from lepton_dse.compress.rounding.protocol import Layer, output_error
from lepton_dse.compress.rounding.quantease import quantease

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import rounding as oracle

NAMES = ("adaround", "gptq", "nearest", "quantease")


class Case:
    """A layer and the samples that it was made from."""

    def __init__(self, seed: int, channels: int, inputs: int, limit: int, noise: float) -> None:
        rng = np.random.default_rng(seed)
        mixing = rng.normal(0, 1, (inputs, inputs))
        self.exact = rng.normal(0, 1, (40, inputs)) @ mixing
        self.given = self.exact + rng.normal(0, noise, self.exact.shape)
        weights = rng.normal(0, 1, (channels, inputs))
        beta = np.repeat(np.abs(weights).max(axis=1, keepdims=True) / limit, inputs, axis=1) * rng.uniform(0.7, 1.0)
        self.layer = Layer(weights, beta, limit, self.given.T @ self.given / 40, self.given.T @ self.exact / 40)
        self.damping = DAMPING * float(np.trace(self.layer.gram)) / inputs

    def error(self, integers: np.ndarray, channel: int) -> float:
        layer = self.layer
        return oracle.squared_error(
            layer.weights[channel], layer.beta[channel], integers[channel].astype(float), self.exact, self.given, self.damping
        )


cases = st.builds(
    Case,
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([1, 3, 7, 127]),
    st.sampled_from([0.0, 0.1]),
)


def test_all_are_registered() -> None:
    assert set(NAMES) <= set(registry.names(registry.Group.ROUNDINGS))


@given(cases, st.sampled_from(NAMES))
def test_integers_stay_in_their_format(case: Case, name: str) -> None:
    found = registry.load(registry.Group.ROUNDINGS, name)(case.layer)
    assert found.shape == case.layer.weights.shape
    assert np.abs(found).max() <= case.layer.limit


@given(cases)
def test_the_quadratic_is_the_output_error(case: Case) -> None:
    """Two choices of integers differ by as much in H and C as sample by sample."""
    layer = case.layer
    for other in (np.zeros_like(layer.nearest), layer.nearest // 2):
        for channel in range(len(layer.weights)):
            by_samples = [
                oracle.squared_error(
                    layer.weights[channel], layer.beta[channel], q[channel].astype(float), case.exact, case.given, 0.0
                )
                for q in (layer.nearest, other)
            ]
            by_matrices = [output_error(layer, q)[channel] for q in (layer.nearest, other)]
            assert by_matrices[0] - by_matrices[1] == pytest.approx(by_samples[0] - by_samples[1], rel=1e-6, abs=1e-8)


@given(cases)
def test_adaround_takes_a_neighbour_and_never_errs_more_than_nearest(case: Case) -> None:
    layer, found = case.layer, adaround(case.layer)
    ratio = np.clip(layer.weights / layer.beta, -layer.limit, layer.limit)
    assert (np.abs(found - ratio) < 1 + 1e-12).all()
    for channel in range(len(layer.weights)):
        assert case.error(found, channel) <= case.error(layer.nearest, channel) * (1 + 1e-9) + 1e-12


@given(cases)
def test_no_single_weight_can_do_better_after_the_descent(case: Case) -> None:
    layer, found = case.layer, adaround(case.layer)
    for channel in range(len(layer.weights)):
        ratio = layer.weights[channel] / layer.beta[channel]
        choices = [
            sorted({int(np.clip(end(value), -layer.limit, layer.limit)) for end in (np.floor, np.ceil)}) for value in ratio
        ]
        assert oracle.no_single_change_helps(
            layer.weights[channel], layer.beta[channel], found[channel], choices, case.exact, case.given, case.damping
        )
        least = oracle.best_of_all(layer.weights[channel], layer.beta[channel], choices, case.exact, case.given, case.damping)
        assert case.error(found, channel) >= least * (1 - 1e-9) - 1e-12


@given(cases)
def test_quantease_never_errs_more_than_gptq(case: Case) -> None:
    integers, start = quantease(case.layer), gptq(case.layer)
    for channel in range(len(case.layer.weights)):
        assert case.error(integers, channel) <= case.error(start, channel) * (1 + 1e-9) + 1e-12


def test_roundings_help_where_inputs_hang_together() -> None:
    """On correlated inputs and few bits the output errs far less; that is what they are for."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (500, 4)) @ rng.normal(0, 1, (4, 32))
    weights = rng.normal(0, 1, (16, 32))
    beta = np.repeat(np.abs(weights).max(axis=1, keepdims=True) / 3, 32, axis=1)
    gram = x.T @ x / len(x)
    layer = Layer(weights, beta, 3, gram, gram)
    everything = np.einsum("mk,kl,ml->m", weights, gram, weights)
    errors = {
        name: float((output_error(layer, registry.load(registry.Group.ROUNDINGS, name)(layer)) + everything).sum())
        for name in NAMES
    }
    assert errors["gptq"] < 0.2 * errors["nearest"]
    assert errors["adaround"] < 0.3 * errors["nearest"]
    assert errors["quantease"] <= errors["gptq"]


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_always_zero_leave_the_nearest(name: str) -> None:
    weights = np.asarray([[0.4, -1.0, 0.26]])
    layer = Layer(weights, np.full((1, 3), 0.5), 7, np.zeros((3, 3)), np.zeros((3, 3)))
    assert registry.load(registry.Group.ROUNDINGS, name)(layer).tolist() == layer.nearest.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_of_one_weight(name: str) -> None:
    layer = Layer(np.asarray([[0.74]]), np.asarray([[0.5]]), 1, np.ones((1, 1)), np.ones((1, 1)))
    assert registry.load(registry.Group.ROUNDINGS, name)(layer).tolist() == [[1]]


@settings(max_examples=20)
@given(cases)
def test_the_descent_is_deterministic_and_stays_at_a_minimum(case: Case) -> None:
    layer, first = case.layer, adaround(case.layer)
    assert (adaround(layer) == first).all()
    low, high = (
        np.clip(end(layer.weights / layer.beta), -layer.limit, layer.limit).astype(np.int64) for end in (np.floor, np.ceil)
    )
    assert (descend(layer, first, low, high) == first).all()
