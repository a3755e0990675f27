"""Shapes of transformers: parameters as published, and contradictions refused."""

from __future__ import annotations

import pytest

from lepton_dse.errors import InvalidModelError
from lepton_dse.ir.transformer import Norm, Transformer

LLAMA = {"gated": True, "tied": False, "biases": False, "dropout": False, "norm": Norm.RMS}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # meta-llama/Llama-3.1-405B, -70B and -8B: sizes of their safetensors
        (Transformer("405b", 126, 16384, 128, 8, 128, 53248, 128256, 131072, **LLAMA), 405_853_388_800),
        (Transformer("70b", 80, 8192, 64, 8, 128, 28672, 128256, 131072, **LLAMA), 70_553_706_496),
        (Transformer("8b", 32, 4096, 32, 8, 128, 14336, 128256, 131072, **LLAMA), 8_030_261_248),
        # mistralai/Mixtral-8x7B
        (Transformer("8x7b", 32, 4096, 32, 8, 128, 14336, 32000, 32768, experts=8, active=2, **LLAMA), 46_702_792_704),
        # gpt2
        (Transformer("gpt2", 12, 768, 12, 12, 64, 3072, 50257, 1024, positions=1024), 124_439_808),
    ],
)
def test_parameters_are_those_of_the_published_weights(model: Transformer, parameters: int) -> None:
    assert model.parameters == parameters


def test_only_visited_experts_are_active() -> None:
    model = Transformer("8x7b", 32, 4096, 32, 8, 128, 14336, 32000, 32768, experts=8, active=2, **LLAMA)
    assert model.active_parameters == 12_879_925_248  # about 13 billion, as its authors say (arXiv:2401.04088)


def test_training_operations_are_those_of_the_published_formula() -> None:
    """``96 B s l h^2 (1 + s / 6h + V / 16lh)`` with recomputation; a fourth of the layers' part less without (SC 2021)."""
    layers, hidden, sequence, batch, vocabulary = 24, 2304, 2048, 512, 51200
    model = Transformer("1.7B", layers, hidden, 24, 24, 96, 4 * hidden, vocabulary, sequence, positions=sequence)
    in_layers = 72.0 * batch * sequence * layers * hidden**2 * (1 + sequence / (6 * hidden))
    whole = 96.0 * batch * sequence * layers * hidden**2 * (1 + sequence / (6 * hidden) + vocabulary / (16 * layers * hidden))
    assert model.training_flop(batch, sequence) == pytest.approx(whole - in_layers / 3)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"kv_heads": 5}, "do not divide"),
        ({"active": 3}, "3 of 1 experts"),
        ({"positions": -1}, "positions is -1"),
    ],
)
def test_contradictions_are_refused(changed: dict[str, int], what: str) -> None:
    given = {"layers": 2, "hidden": 16, "heads": 4, "kv_heads": 4, "head_width": 4, "intermediate": 32, "vocabulary": 10}
    with pytest.raises(InvalidModelError, match=what):
        Transformer("bad", longest=8, **{**given, **changed})
