"""Work of answering against counts by hand: the layer as a graph, weights one by one, and every choice of experts."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_dse.importers import block_graph
from lepton_dse.ir.transformer import Norm, Transformer
from lepton_dse.parallel.collectives import Collective
from lepton_dse.schedule.transformer import Attention, Axis, Exchange, MatrixProduct, Streaming, Work
from lepton_dse.schedule.transformer.serving import cache_bytes, decode_of, last_token, prefill_of, weights_of


@st.composite
def models(draw: st.DrawFn) -> Transformer:
    kv_heads, width = draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(1, 4))
    return Transformer(
        "drawn",
        draw(st.integers(1, 9)),
        8 * draw(st.integers(1, 4)),
        8,
        kv_heads,
        2 * width,
        8 * draw(st.integers(1, 4)),
        8 * draw(st.integers(1, 8)),
        4096,
        positions=draw(st.sampled_from([0, 4096])),
        gated=draw(st.booleans()),
        tied=draw(st.booleans()),
        biases=draw(st.booleans()),
        norm=draw(st.sampled_from(list(Norm))),
    )


def named(works: tuple[Work, ...], name: str) -> Work:
    return next(work for work in works if work.name == name)


def products(works: tuple[Work, ...]) -> list[MatrixProduct]:
    return [work for work in works if isinstance(work, MatrixProduct)]


def macs(works: tuple[Work, ...]) -> float:
    """Of products, and of attention whichever kernel it is."""
    total = sum(work.m * work.n * work.k * work.products for work in products(works))
    total += sum(2 * work.heads * work.queries * work.keys * work.width for work in works if isinstance(work, Attention))
    return total + sum(work.elements for work in works if work.name == "attention over the cache")


@given(models(), st.integers(1, 5), st.integers(0, 20))
def test_a_step_multiplies_what_the_graph_of_a_layer_does(model: Transformer, sequences: int, cache: int) -> None:
    graph = block_graph(model, sequences, 1, cache=cache)
    assert macs(decode_of(model, 1, sequences, cache + 1, 2.0)) == graph.macs


@given(models(), st.integers(1, 40))
def test_a_prompt_multiplies_what_the_graph_of_a_layer_does(model: Transformer, prompt: int) -> None:
    """Fused attention leaves out half of the pairs; the graph hides them and computes all."""
    graph = block_graph(model, 1, prompt)
    scores = 2 * prompt**2 * model.queries
    assert macs(prefill_of(model, 1, prompt)) == graph.macs - scores / 2


@given(models(), st.integers(1, 40), st.sampled_from([1, 2, 4, 8]))
def test_tokens_one_by_one_multiply_what_the_prompt_does_at_once(model: Transformer, prompt: int, tensor: int) -> None:
    """Products with weights exactly; attention where each token has half the prompt behind it, on average."""
    one, all_ = decode_of(model, tensor, 1, prompt / 2, 2.0), prefill_of(model, tensor, prompt)
    assert prompt * macs(one) == pytest.approx(macs(all_))


@given(models(), st.integers(1, 9), st.integers(1, 50), st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_step_reads_weights_and_cache_once(
    model: Transformer, sequences: int, context: int, tensor: int, element: float
) -> None:
    """All devices together: every weight of products once, and a head of keys on each device that has queries for it."""
    works = decode_of(model, tensor, sequences, context, element)
    copies = max(1, tensor // model.kv_heads)
    weights = sum(work.n * work.k * work.products for work in products(works))
    repeated = 2 * (copies - 1) * model.keys * model.hidden
    plain = replace(model, biases=False)
    assert tensor * weights == plain.attention_parameters + plain.expert_parameters + repeated
    cached = named(works, "attention over the cache")
    assert isinstance(cached, Streaming)
    held = sum(2 * model.head_width for _ in range(sequences * context * model.kv_heads * copies))
    assert tensor * cached.moved == element * held
    assert tensor * cached.special == sequences * context * model.heads


@given(models(), st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_token_keeps_its_keys_and_values(model: Transformer, tensor: int, element: float) -> None:
    """Heads are dealt out device by device; one that is not enough for all stands on several."""
    deal = [
        {head * model.kv_heads // model.heads for head in range(model.heads) if head * tensor // model.heads == device}
        for device in range(tensor)
    ]
    (heads,) = {len(kept) for kept in deal}
    assert cache_bytes(model, tensor, element) == 2 * heads * model.head_width * element


@pytest.mark.parametrize("sequences", [1, 2, 3])
@pytest.mark.parametrize("active", [1, 2])
def test_experts_that_some_token_visits_are_those_of_all_choices(sequences: int, active: int) -> None:
    experts = 4
    model = Transformer("moe", 1, 8, 2, 2, 4, 16, 32, 64, experts=experts, active=active)
    choices = list(itertools.combinations(range(experts), active))
    every = [len(set().union(*chosen)) for chosen in itertools.product(choices, repeat=sequences)]
    works = decode_of(model, 1, sequences, 5, 2.0)
    into = named(works, "feed-forward in")
    assert isinstance(into, MatrixProduct)
    assert into.products == pytest.approx(sum(every) / len(every))
    assert into.products * into.m == pytest.approx(sequences * active)
    assert named(works, "router")[1:] == (sequences, experts, 8, 1.0)


@given(models(), st.integers(1, 7), st.sampled_from([1, 2, 4, 8]))
def test_devices_exchange_two_sums_a_layer_and_the_scores(model: Transformer, sequences: int, tensor: int) -> None:
    layer, last = (
        [work for work in works if isinstance(work, Exchange)]
        for works in (decode_of(model, tensor, sequences, 9, 2.0), last_token(model, tensor, sequences))
    )
    if tensor == 1:
        assert layer == last == []
        return
    assert [(work.kind, work.size, work.axis) for work in layer] == [
        (Collective.ALL_REDUCE, 2 * sequences * model.hidden, Axis.TENSOR)
    ] * 2
    assert [(work.kind, work.size) for work in last] == [(Collective.ALL_GATHER, 2 * sequences * model.vocabulary)]
    scores = named(last_token(model, tensor, sequences), "vocabulary")
    assert isinstance(scores, MatrixProduct)
    assert scores.m * scores.n * scores.k * tensor == sequences * model.hidden * model.vocabulary


@given(models(), st.sampled_from([1, 2, 4, 8]), st.integers(1, 9))
def test_weights_of_the_fullest_device(model: Transformer, tensor: int, pipeline: int) -> None:
    """Layer by layer, product by product, and the ends on the first and the last stage."""
    pipeline = min(pipeline, model.layers)
    inside, ends = weights_of(model, tensor, pipeline)
    heads = max(model.kv_heads / tensor, 1) * model.head_width
    split = 2 * model.queries * model.hidden + (3 if model.gated else 2) * model.hidden * model.intermediate
    biases = model.biases * (model.queries + 2 * model.keys + model.hidden)
    biases += model.biases * ((2 if model.gated else 1) * model.intermediate + model.hidden)
    norms = 2 * model.norm_parameters
    layer = (split + biases) / tensor + 2 * heads * model.hidden + norms
    assert inside == pytest.approx(math.ceil(model.layers / pipeline) * layer)
    embedding, vocabulary = model.embedding_parameters / tensor, model.vocabulary * model.hidden / tensor
    if pipeline == 1:
        assert ends == (embedding if model.tied else embedding + vocabulary)
    else:
        assert ends == max(embedding, vocabulary)


def test_all_weights_of_one_device_are_the_models() -> None:
    model = Transformer("small", 3, 64, 8, 2, 8, 128, 256, 64, gated=True, tied=False, biases=False, norm=Norm.RMS)
    assert sum(weights_of(model, 1, 1)) == model.parameters - model.norm_parameters
