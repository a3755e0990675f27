"""The closed form of a training step against pipelines run event by event, and its memory against counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.sim.transformer import Costs, Run, Wire, step
from tests.oracle.pipeline import makespan

NO_WIRE = Wire(0.0, 0.0, 0.0, 0.0)
COSTS = Costs(
    forward=1.0, backward=2.0, first=0.0, last=0.0, send=0.0, kept=10.0, working=0.0, loss=0.0, dense=100.0, experts=0.0,
    first_weights=0.0, last_weights=0.0,
)  # fmt: skip


def run(layers: int, **changed: float) -> Run:
    return Run(float(layers), 1.0, 1e12, 0.0, 1.0, 0.0, 2.0)._replace(**changed)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.floats(0.5, 3.0))
def test_equal_stages_take_as_long_as_a_pipeline_run_event_by_event(
    stages: int, rounds: int, pieces: int, layers: int, backward: float
) -> None:
    """Exact where microbatches are a multiple of the stages, which interleaving asks for."""
    pieces = pieces if stages > 1 else 1
    microbatches = stages * rounds
    costs = COSTS._replace(backward=backward)
    found = step(run(stages * pieces * layers), costs, NO_WIRE, float(stages), 1.0, 1.0, float(microbatches), float(pieces), 0.0)
    expected = makespan(stages, microbatches, pieces, [float(layers)] * stages, [layers * backward] * stages)
    assert found.time == pytest.approx(expected)


@given(st.integers(2, 6), st.integers(1, 24), st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_slow_ends_set_the_pace(stages: int, microbatches: int, first: float, last: float) -> None:
    """A plain pipeline with unequal ends: what they take beyond the others counts once more or less, a filling at most."""
    costs = COSTS._replace(first=first, last=last)
    found = step(run(stages * 2), costs, NO_WIRE, float(stages), 1.0, 1.0, float(microbatches), 1.0, 0.0).time
    forward, backward = [2.0] * stages, [4.0] * stages
    backward[0] += first
    backward[-1] += last
    expected = makespan(stages, microbatches, 1, forward, backward)
    assert expected - min(first, last) - 1e-9 <= found <= expected + (stages - 1) * max(first, last) + 1e-9


def test_layers_that_do_not_divide_fill_the_first_and_last_stage_less() -> None:
    found = step(run(126), COSTS, NO_WIRE, 16.0, 1.0, 1.0, 1.0, 1.0, 0.0)
    assert found.work == pytest.approx(8 * 3)  # 16 stages of 8, but for the first and last
    heavy = COSTS._replace(last=1.5, first=1.0)
    assert step(run(126), heavy, NO_WIRE, 16.0, 1.0, 1.0, 1.0, 1.0, 0.0).work == pytest.approx(8 * 3)
    heavier = COSTS._replace(last=5.0)
    assert step(run(126), heavier, NO_WIRE, 16.0, 1.0, 1.0, 1.0, 1.0, 0.0).work == pytest.approx(7 * 3 + 5)


@given(st.integers(1, 8), st.integers(1, 16), st.integers(0, 3), st.integers(1, 4))
def test_static_bytes_are_those_of_zero(data: int, layers: int, zero: int, expert: int) -> None:
    """A table of who holds what, weight by weight (S. Rajbhandari et al., SC 2020, figure 1)."""
    expert = math.gcd(data, expert)
    costs = COSTS._replace(experts=64.0)
    found = step(run(layers), costs, NO_WIRE, 1.0, float(data), float(expert), 1.0, 1.0, float(zero))
    held = 0.0
    for weights, replicas in ((100.0, data), (64.0, data / expert)):
        for size, shared_from in ((2.0, 3), (4.0, 2), (12.0, 1)):
            held += layers * weights * size / (replicas if zero >= shared_from else 1)
    running = 6.0 * (100.0 + 64.0) if zero == 3 else 0.0
    assert found.static == pytest.approx(held + running)


@given(st.integers(1, 8), st.integers(1, 32))
def test_the_first_stage_keeps_what_is_in_flight(stages: int, microbatches: int) -> None:
    """1F1B: forward passes of the first stage that have not gone back yet, counted along its order of work."""
    from tests.oracle.pipeline import orders

    flying, most = 0, 0
    for forward, _, _ in orders(stages, microbatches, 1)[0]:
        flying += 1 if forward else -1
        most = max(most, flying)
    found = step(run(stages), COSTS, NO_WIRE, float(stages), 1.0, 1.0, float(microbatches), 1.0, 0.0)
    assert found.activations == pytest.approx(10.0 * most)


@given(st.integers(2, 6), st.integers(2, 4), st.integers(1, 3))
def test_interleaved_stages_keep_what_their_order_of_work_keeps(stages: int, pieces: int, rounds: int) -> None:
    from tests.oracle.pipeline import orders

    flying, most = 0, 0
    for forward, _, _ in orders(stages, stages * (rounds + 1), pieces)[0]:
        flying += 1 if forward else -1
        most = max(most, flying)
    layers = stages * pieces
    args = (float(stages), 1.0, 1.0, float(stages * (rounds + 1)), float(pieces), 0.0)
    found = step(run(layers), COSTS, NO_WIRE, *args)
    # The published factor counts stages - 1 pieces beyond one microbatch of all layers; the order of work needs as many, and one.
    assert most - 1 <= found.activations / 10.0 <= most


def test_what_the_backward_pass_hides_is_not_seen_but_for_one_layer() -> None:
    wire = Wire(0.0, 0.01, 0.0, 0.0)
    args = (wire, 1.0, 4.0, 1.0, 1.0, 1.0, 0.0)
    whole = 2 * 10 * 100.0 * 2.0 * 0.01
    assert step(run(10), COSTS, *args).reduce == pytest.approx(whole)
    assert step(run(10, overlapped=1.0), COSTS, *args).reduce == pytest.approx(whole - 10 * 2.0)
    fast = Wire(0.0, 0.0001, 0.0, 0.0)
    assert step(run(10, overlapped=1.0), COSTS, fast, *args[1:]).reduce == pytest.approx(whole / 100 / 10)


def test_one_factor_slows_everything() -> None:
    wire = Wire(0.1, 0.01, 0.0, 0.0)
    costs = COSTS._replace(send=0.3, first=0.2)
    plain = step(run(8, memory_s=1e-3), costs, wire, 2.0, 2.0, 1.0, 4.0, 1.0, 1.0)
    slow = step(run(8, memory_s=1e-3, slowdown=1.5), costs, wire, 2.0, 2.0, 1.0, 4.0, 1.0, 1.0)
    assert np.allclose(np.array(slow[:6]), 1.5 * np.array(plain[:6]))
    assert slow[6:] == plain[6:]
    assert plain.time == pytest.approx(sum(plain[1:6]))
