"""A layer's lists of work against independent counts: operations and activations of the published formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.ir.transformer import Norm, Transformer
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.strategy import MEGATRON_2022, Recompute, Software, Strategy
from lepton_dse.schedule.transformer import Attention, Axis, Exchange, MatrixProduct, Work, block_of, ends_of

FUSED = Software()


@st.composite
def models(draw: st.DrawFn) -> Transformer:
    heads = 8 * draw(st.integers(1, 3))
    width = 8 * draw(st.integers(1, 3))
    shared = draw(st.sampled_from([1, 2, 4]))
    experts = draw(st.sampled_from([1, 1, 4]))
    return Transformer(
        "drawn",
        draw(st.integers(1, 4)),
        heads * width,
        heads,
        heads // shared,
        width,
        8 * draw(st.integers(1, 8)),
        64 * draw(st.integers(1, 4)),
        64,
        positions=draw(st.sampled_from([0, 64])),
        gated=draw(st.booleans()),
        biases=draw(st.booleans()),
        causal=False,
        dropout=draw(st.booleans()),
        norm=draw(st.sampled_from(list(Norm))),
        experts=experts,
        active=min(experts, 2),
    )


def operations(works: tuple[Work, ...]) -> float:
    total = 0.0
    for work in works:
        if isinstance(work, MatrixProduct):
            total += 2.0 * work.m * work.n * work.k * work.products
        elif isinstance(work, Attention):
            total += work.passes * 4.0 * work.heads * work.queries * work.keys * work.width
    return total


@given(models(), st.integers(1, 4), st.sampled_from([16, 64]), st.booleans())
def test_the_operations_of_a_step_are_those_of_the_model(model: Transformer, batch: int, sequence: int, fused: bool) -> None:
    """Backward is twice forward, but for fused attention, which goes back with five products for two."""
    software = FUSED if fused else MEGATRON_2022
    strategy = Strategy(microbatch=batch)
    layer, ends = block_of(model, strategy, software, sequence), ends_of(model, strategy, sequence)
    found = model.layers * (operations(layer.forward) + operations(layer.backward)) + operations(ends.last)
    pairs = 4.0 * batch * sequence**2 * model.queries * model.layers
    assert found == pytest.approx(model.training_flop(batch, sequence) + (0.5 * pairs if fused else 0.0))


@given(models(), st.sampled_from([2, 4, 8]), st.sampled_from([1, 2]), st.booleans())
def test_devices_share_a_layers_operations(model: Transformer, tensor: int, context: int, fused: bool) -> None:
    """All of them, but for the router, and for keys and values that more devices than heads must each compute."""
    software = FUSED if fused else MEGATRON_2022
    whole = block_of(model, Strategy(microbatch=2), software, 64)
    split = Strategy(tensor=tensor, context=context, microbatch=2, sequence=True)
    part = block_of(model, split, software, 64)
    router = 2.0 * 2 * 64 * model.hidden * model.experts if model.experts > 1 else 0.0
    spare = max(0, tensor - model.kv_heads) * model.head_width * 2 * 2.0 * 2 * 64 * model.hidden
    expected = operations(whole.forward) + (tensor - 1) * router + spare
    assert tensor * context * operations(part.forward) == pytest.approx(expected)


@given(st.integers(1, 8), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4), st.sampled_from([64, 256]))
def test_kept_activations_are_those_of_the_published_formulas(wide: int, tensor: int, batch: int, sequence: int) -> None:
    """Equations 1 to 4 and section 5 of arXiv:2205.05198."""
    hidden, heads = 64 * wide, 8
    model = Transformer("gpt", 2, hidden, heads, heads, hidden // heads, 4 * hidden, 512, sequence, positions=sequence)
    size = sequence * batch * hidden
    scores = 5 * heads * sequence / hidden

    def kept(**how: object) -> float:
        strategy = Strategy(tensor=tensor, microbatch=batch, **how)
        return sum(entry.size for entry in block_of(model, strategy, MEGATRON_2022, sequence).kept)

    assert kept() == pytest.approx(size * (10 + 24 / tensor + scores / tensor))
    assert kept(sequence=True) == pytest.approx(size / tensor * (34 + scores))
    assert kept(recompute=Recompute.SELECTIVE) == pytest.approx(size * (10 + 24 / tensor))
    assert kept(sequence=True, recompute=Recompute.SELECTIVE) == pytest.approx(size * 34 / tensor)
    assert kept(recompute=Recompute.FULL) == pytest.approx(2 * size)


@given(models(), st.sampled_from([1, 2, 4]), st.booleans(), st.sampled_from([1, 2]))
def test_exchanges_are_those_of_the_published_schemes(model: Transformer, tensor: int, sequence: bool, context: int) -> None:
    """Two all-reduces each way (arXiv:1909.08053), or each of them as two halves (arXiv:2205.05198)."""
    strategy = Strategy(tensor=tensor, context=context, microbatch=1, sequence=sequence and tensor > 1)
    block = block_of(model, strategy, FUSED, 64)

    def count(works: tuple[Work, ...], axis: Axis) -> dict[Collective, int]:
        kinds = [work.kind for work in works if isinstance(work, Exchange) and work.axis is axis]
        return {kind: kinds.count(kind) for kind in set(kinds)}

    size = 2.0 * 64 / context * model.hidden
    if tensor == 1:
        expected: tuple[dict[Collective, int], ...] = ({}, {})
    elif sequence:
        both = {Collective.ALL_GATHER: 2, Collective.REDUCE_SCATTER: 2}
        expected = (both, both)
    else:
        expected = ({Collective.ALL_REDUCE: 2}, {Collective.ALL_REDUCE: 2})
    assert (count(block.forward, Axis.TENSOR), count(block.backward, Axis.TENSOR)) == expected
    sizes = {work.size for work in block.forward if isinstance(work, Exchange) and work.axis is Axis.TENSOR}
    assert sizes <= {size}
    gathered = {Collective.ALL_GATHER: 1} if context > 1 else {}
    assert count(block.forward, Axis.CONTEXT) == gathered


def test_recomputation_does_again_what_it_did_not_keep() -> None:
    model = Transformer("gpt", 2, 64, 8, 8, 8, 256, 512, 64, positions=64)

    def again(how: Recompute) -> tuple[Work, ...]:
        return block_of(model, Strategy(recompute=how), MEGATRON_2022, 64).again

    assert again(Recompute.NONE) == ()
    assert again(Recompute.FULL) == block_of(model, Strategy(), MEGATRON_2022, 64).forward
    assert [work.name for work in again(Recompute.SELECTIVE)] == ["scores", "softmax", "drop scores", "weighted values"]


def test_experts_see_the_tokens_that_visit_them() -> None:
    model = Transformer("moe", 2, 64, 8, 8, 8, 128, 512, 64, experts=8, active=2)
    block = block_of(model, Strategy(data=4, expert=4, microbatch=4), FUSED, 64)
    into = next(work for work in block.forward if isinstance(work, MatrixProduct) and work.name == "feed-forward in")
    assert (into.products, into.m) == (2.0, 4 * 64 * 2 / 2)
    exchanged = [work for work in block.forward if isinstance(work, Exchange)]
    assert [work.kind for work in exchanged] == [Collective.ALL_TO_ALL] * 2
    assert {work.size for work in exchanged} == {2.0 * 4 * 64 * 2 * 64}
    assert block.expert_parameters == 2 * model.expert_parameters
    assert math.isclose(block.parameters, model.attention_parameters + 2 * model.norm_parameters + model.router_parameters)
