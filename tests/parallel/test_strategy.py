"""Strategies for transformers: what does not come out even is a violation with levers."""

from __future__ import annotations

import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.ir.transformer import Transformer
from lepton_dse.parallel.strategy import Recompute, Strategy, split_violations

MODEL = Transformer("small", 8, 64, 8, 4, 8, 256, 1000, 128, experts=4, active=2)
EVEN = Strategy(tensor=2, data=4, pipeline=2, expert=2, microbatch=2, interleave=2, sequence=True)


def test_an_even_split_has_no_violation() -> None:
    assert split_violations(MODEL, EVEN, 32, 128) == ()
    assert EVEN.devices == 16


@pytest.mark.parametrize(
    ("strategy", "what"),
    [
        (Strategy(tensor=3), "heads over 3"),
        (Strategy(tensor=16), "heads over 16"),
        (Strategy(context=3), "tokens of a sample"),
        (Strategy(data=3), "samples of a step"),
        (Strategy(microbatch=5), "samples of a step"),
        (Strategy(expert=3, data=3), "experts over 3"),
        (Strategy(expert=4, data=2), "devices with different samples"),
        (Strategy(pipeline=16), "stages of the pipeline"),
        (Strategy(pipeline=2, interleave=5), "stages of the pipeline"),
        (Strategy(interleave=2), "interleaving"),
        (Strategy(sequence=True), "sequence parallelism"),
        (Strategy(pipeline=2, data=2, zero=3), "weights shared"),
    ],
)
def test_what_does_not_come_out_even_names_a_lever(strategy: Strategy, what: str) -> None:
    found = split_violations(MODEL, strategy, 32, 128)
    assert any(what in violation.what for violation in found)
    assert all(violation.levers for violation in found)


def test_few_key_heads_may_be_held_several_times() -> None:
    assert split_violations(MODEL, Strategy(tensor=8), 32, 128) == ()


def test_a_degree_below_one_and_an_unknown_stage_are_refused() -> None:
    with pytest.raises(LeptonError, match="tensor is 0"):
        Strategy(tensor=0)
    with pytest.raises(LeptonError, match="ZeRO"):
        Strategy(zero=4)


def test_a_strategy_reads_as_people_write_it() -> None:
    text = str(Strategy(tensor=8, pipeline=4, recompute=Recompute.FULL, zero=1, sequence=True, interleave=2))
    assert text == "tp8 dp1 pp4 microbatch 1 interleaved 2 sequence parallel full recompute ZeRO-1"
