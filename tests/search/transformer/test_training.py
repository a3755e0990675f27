"""The search over splits of a training step: all of a space, the fastest that fits, one by one against the closed form."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.ir.transformer import Norm, Transformer
from lepton_dse.parallel.strategy import MEGATRON_2022, Recompute, Software, Strategy, split_violations
from lepton_dse.search.transformer.costs import Training, training_step
from lepton_dse.search.transformer.pricing import pricer_of
from lepton_dse.search.transformer.training import TrainingSpace, members, plan_training
from lepton_dse.targets import load_cluster

A100, V5E = pricer_of(load_cluster("dgx-a100")), pricer_of(load_cluster("google-v5e-pod"))
SMALL = Transformer("small", 6, 512, 8, 4, 64, 2048, 4096, 512, gated=True, biases=False, norm=Norm.RMS)
SPARSE = replace(SMALL, experts=4, active=2)


def all_strategies(training: Training, devices: int, interleaved: bool) -> list[Strategy]:
    """Every strategy with these devices that comes out even, by trying all numbers."""
    found = []
    numbers = [n for n in range(1, devices + 1) if devices % n == 0]
    for tensor, pipeline, expert, sequence, recompute, zero in itertools.product(
        numbers, numbers, (1, 2, 4), (False, True), Recompute, range(4)
    ):
        if devices % (tensor * pipeline) or tensor > 8 or training.model.experts % expert:
            continue
        data = devices // (tensor * pipeline)
        for power, pieces in itertools.product(range(8), range(1, training.model.layers + 1) if interleaved else (1,)):
            strategy = Strategy(tensor, 1, data, pipeline, expert, 1 << power, pieces, sequence, recompute, zero)
            selective = recompute is Recompute.SELECTIVE and training.software.fused_attention
            whole = -(-training.model.layers // pipeline) % pieces == 0
            idle = zero > 0 and data == 1
            if (
                not selective
                and whole
                and not idle
                and not split_violations(training.model, strategy, training.batch, training.sequence)
            ):
                found.append(strategy)
    return found


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([SMALL, SPARSE]),
    st.sampled_from([1, 4, 8, 16]),
    st.sampled_from([8, 32]),
    st.sampled_from([Software(), MEGATRON_2022]),
    st.booleans(),
)
def test_the_plan_is_the_fastest_of_all_that_fit(
    model: Transformer, devices: int, batch: int, software: Software, torus: bool
) -> None:
    training = Training(model, batch, 256, software)
    pricer = V5E if torus else A100
    found = plan_training(training, devices, pricer)
    every = all_strategies(training, devices, interleaved=True)
    steps = {strategy: training_step(training, strategy, pricer) for strategy in every}
    assert found.search.evaluated == len(every)
    fitting = [step.time for step in steps.values() if step.memory <= pricer.capacity]
    assert found.feasible == len(fitting)
    assert found.violations == ()
    assert found.step.time == min(fitting)
    assert training_step(training, found.strategy, pricer) == found.step
    assert found.search.optimal
    assert [step.time for _, step in found.best] == sorted(step.time for _, step in found.best)


def test_what_fits_nowhere_is_a_violation_with_the_least_memory() -> None:
    huge = Transformer("huge", 8, 65536, 64, 64, 1024, 262144, 4096, 512)
    found = plan_training(Training(huge, 8, 256), 8, A100)
    assert found.feasible == 0
    assert found.violations[0].demand == found.step.memory > A100.capacity
    assert found.violations[0].levers


def test_a_space_may_be_fixed() -> None:
    training = Training(SMALL, 32, 256)
    space = TrainingSpace(tensor=(2,), pipeline=(2,), microbatch=(4,), sequence=(True,), recompute=(Recompute.NONE,), zero=(1,))
    found = plan_training(training, 8, A100, space)
    assert found.strategy == Strategy(2, 1, 2, 2, 1, 4, found.strategy.interleave, True, Recompute.NONE, 1)
    assert len(members(training, 8, A100, space).strategies) == 1


@pytest.mark.parametrize(("devices", "batch", "what"), [(0, 8, "0 devices"), (5000, 8, "5000 devices"), (64, 7, "evenly")])
def test_what_cannot_be_is_refused(devices: int, batch: int, what: str) -> None:
    with pytest.raises(LeptonError, match=what):
        plan_training(Training(replace(SMALL, layers=1), batch, 250), devices, A100)


def test_longer_sequences_may_be_shared() -> None:
    long = Training(replace(SMALL, longest=1 << 17), 1, 1 << 15)
    with pytest.raises(LeptonError):
        plan_training(long, 64, A100)  # one sample, six layers, eight heads
    found = plan_training(long, 64, A100, TrainingSpace(context=None))
    assert found.strategy.context > 1
