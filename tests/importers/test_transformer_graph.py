"""A layer as a graph: what PyTorch computes of the same weights, and what its shapes count."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lepton_dse as ld
from lepton_dse.errors import InvalidModelError
from lepton_dse.importers.transformer import transformer_of
from lepton_dse.importers.transformer_graph import block_graph, block_weights
from lepton_dse.importers.transformer_rows import folded_ops
from lepton_dse.ir import semantics
from lepton_dse.ir.transformer import Activation, Norm, Transformer
from tests.importers.transformer_configs import CONFIGS

Array = NDArray[np.float32]
LLAMA = {"gated": True, "biases": False, "norm": Norm.RMS, "activation": Activation.SILU}
SMALL = Transformer("small", 2, 24, 4, 4, 6, 40, 50, 16, positions=16)
KINDS = {
    "gpt2": replace(SMALL, activation=Activation.GELU_TANH),
    "bert": replace(SMALL, causal=False, post_norm=True),
    "vit": replace(SMALL, causal=False),
    "relu": replace(SMALL, causal=False, activation=Activation.RELU),
    "llama": replace(SMALL, positions=0, **LLAMA),
    "shared heads": replace(SMALL, positions=0, kv_heads=2, **LLAMA),
    "one head of keys": replace(SMALL, positions=0, kv_heads=1, head_width=8, **LLAMA),
    "qwen2": replace(SMALL, positions=0, kv_heads=2, qkv_biases=True, **LLAMA),
    "gated with layer norms": replace(SMALL, gated=True, biases=False),
}


@st.composite
def models(draw: st.DrawFn) -> Transformer:
    kv_heads, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    experts = draw(st.sampled_from([1, 1, 4]))
    return Transformer(
        "drawn",
        draw(st.integers(1, 3)),
        draw(st.integers(1, 9)),
        kv_heads * groups,
        kv_heads,
        2 * draw(st.integers(1, 4)),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 9)),
        64,
        positions=draw(st.sampled_from([0, 64])),
        gated=draw(st.booleans()),
        tied=draw(st.booleans()),
        biases=draw(st.booleans()),
        causal=draw(st.booleans()),
        norm=draw(st.sampled_from(list(Norm))),
        experts=experts,
        active=min(experts, 2),
        qkv_biases=draw(st.booleans()),
        post_norm=draw(st.booleans()),
        activation=draw(st.sampled_from(list(Activation))),
    )


def weights_of(model: Transformer, sequence: int, seed: int = 0) -> dict[str, Array]:
    """Weights drawn at random, and the tables of rotating positions."""
    rng = np.random.default_rng(seed)
    found = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in block_weights(model, sequence).items()}
    if not model.positions:
        half = model.head_width // 2
        angles = np.arange(sequence)[:, None] / 100.0 ** (np.arange(half) / half)
        found["cosines"], found["sines"] = (np.tile(table(angles), 2).astype(np.float32) for table in (np.cos, np.sin))
    return found


def computed(graph: ld.Graph, **feeds: Array) -> Array:
    return np.asarray(semantics.run(graph, feeds)["y"])


def in_torch(model: Transformer, weights: dict[str, Array], x: Array) -> Array:
    """The layer in PyTorch's own functions: attention, norms and activations are its."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    w = {name: torch.from_numpy(value) for name, value in weights.items()}

    def product(name: str, value: Any) -> Any:
        return functional.linear(value, w[f"{name}.weight"].T, w.get(f"{name}.bias"))

    def norm(name: str, value: Any) -> Any:
        if model.norm is Norm.RMS:
            return functional.rms_norm(value, (model.hidden,), w[f"{name}.scale"], 1e-5)
        return functional.layer_norm(value, (model.hidden,), w[f"{name}.scale"], w[f"{name}.shift"], 1e-5)

    def rotated(value: Any) -> Any:
        """As complex numbers: element i of the first half and i of the second are one, which is turned."""
        if model.positions:
            return value
        half = model.head_width // 2
        turn = torch.complex(w["cosines"][:, :half], w["sines"][:, :half])
        turned = torch.complex(value[..., :half], value[..., half:]) * turn
        return torch.cat([turned.real, turned.imag], -1)

    def attention(value: Any) -> Any:
        heads = [
            product(name, value).unflatten(-1, (-1, model.head_width)).transpose(1, 2) for name in ("queries", "keys", "values")
        ]
        queries, keys, values = rotated(heads[0]), rotated(heads[1]), heads[2]
        found = functional.scaled_dot_product_attention(queries, keys, values, is_causal=model.causal, enable_gqa=True)
        return product("output", found.transpose(1, 2).flatten(2))

    activation = {
        Activation.GELU: functional.gelu,
        Activation.GELU_TANH: lambda value: functional.gelu(value, approximate="tanh"),
        Activation.SILU: functional.silu,
        Activation.RELU: functional.relu,
    }[model.activation]

    def feed_forward(value: Any) -> Any:
        up = product("up", value)
        return product("down", activation(product("gate", value)) * up if model.gated else activation(up))

    value = torch.from_numpy(x)
    if model.post_norm:
        value = norm("norm_1", value + attention(value))
        return np.asarray(norm("norm_2", value + feed_forward(value)))
    value = value + attention(norm("norm_1", value))
    return np.asarray(value + feed_forward(norm("norm_2", value)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sequence", [1, 7])
def test_a_layer_computes_what_pytorch_computes(kind: str, sequence: int) -> None:
    model, rng = KINDS[kind], np.random.default_rng(1)
    weights = weights_of(model, sequence)
    x = rng.normal(0, 1, (3, sequence, model.hidden)).astype(np.float32)
    found = computed(block_graph(model, 3, sequence, weights=weights), x=x)
    np.testing.assert_allclose(found, in_torch(model, weights, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "norm_first"), [("bert", False), ("vit", True)])
def test_encoders_are_pytorchs_own_layers(kind: str, norm_first: bool) -> None:
    torch = pytest.importorskip("torch")
    model = KINDS[kind]
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(
        model.hidden, model.heads, model.intermediate, 0.0, "gelu", batch_first=True, norm_first=norm_first
    ).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, 0, 0.4)
    state = {name: value.numpy() for name, value in layer.state_dict().items()}
    names = {"output": "self_attn.out_proj", "up": "linear1", "down": "linear2", "norm_1": "norm1", "norm_2": "norm2"}
    weights = {}
    for own, other in names.items():
        parts = ("scale", "shift") if own.startswith("norm") else ("weight", "bias")
        weights |= {f"{own}.{parts[0]}": state[f"{other}.weight"].T, f"{own}.{parts[1]}": state[f"{other}.bias"]}
    for own, matrix, bias in zip(
        ("queries", "keys", "values"),
        np.split(state["self_attn.in_proj_weight"], 3),
        np.split(state["self_attn.in_proj_bias"], 3),
        strict=True,
    ):
        weights |= {f"{own}.weight": matrix.T, f"{own}.bias": bias}
    x = torch.randn(2, 9, model.hidden)
    with torch.no_grad():
        expected = layer(x).numpy()
    found = computed(block_graph(model, 2, 9, weights=weights), x=x.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "shared heads", "qwen2"])
@pytest.mark.parametrize("sequence", [1, 3])
def test_tokens_behind_a_cache_are_those_of_the_whole_pass(kind: str, sequence: int) -> None:
    """Keys and values of the first tokens, taken from the pass over all of them."""
    model, tokens = KINDS[kind], 8
    weights = weights_of(model, tokens)
    x = np.random.default_rng(2).normal(0, 1, (2, tokens, model.hidden)).astype(np.float32)
    whole = block_graph(model, 2, tokens, weights=weights)
    keys = "keys.heads" if model.positions else "keys.rotated"
    tapped = ld.Graph(whole.name, whole.tensors.values(), whole.ops, whole.inputs, ["y", keys, "values.heads"], whole.constants)
    every = semantics.run(tapped, {"x": x})
    cache = tokens - sequence
    own = {**weights, **{name: weights[name][cache:] for name in ("cosines", "sines") if name in weights}}
    part = block_graph(model, 2, sequence, cache=cache, weights=own)
    past = {"past_keys": every[keys][:, :, :cache], "past_values": every["values.heads"][:, :, :cache]}
    found = computed(part, x=x[:, cache:], **past)
    np.testing.assert_allclose(found, every["y"][:, cache:], rtol=1e-5, atol=1e-5)


@given(models(), st.integers(1, 3), st.integers(1, 9))
def test_products_are_those_of_the_published_formula(model: Transformer, batch: int, sequence: int) -> None:
    graph = block_graph(replace(model, experts=1, active=1), batch, sequence)
    dense = replace(model, experts=1, active=1)
    ends = batch * sequence * model.hidden * model.vocabulary
    assert 6 * (model.layers * graph.macs + ends) == dense.training_flop(batch, sequence)
    tables = sum(graph.tensors[name].elements for name in ("cosines", "sines") if name in graph.constants)
    others = sum(value.size for name, value in graph.constants.items() if name not in block_weights(model, sequence))
    assert graph.parameters - tables - others == dense.layer_parameters


@settings(max_examples=50)
@given(models(), st.integers(1, 3), st.sampled_from([1, 2, 3, 4, 5, 17, 64]))
def test_rows_are_those_of_the_graph_and_sum_to_the_model(model: Transformer, batch: int, sequence: int) -> None:
    rows = folded_ops(model, batch, sequence)
    assert sum(row.params for row in rows) == model.parameters
    assert 6 * sum(row.macs for row in rows) == model.training_flop(batch, sequence)
    if model.experts == 1:
        graph = block_graph(model, batch, sequence)
        found = {row.name: row for row in rows if row.times == model.layers}
        for op in graph.ops:
            read = sum(graph.tensors[name].bits for name in op.inputs if name not in graph.constants)
            macs, written, row = graph.nest(op).macs, graph.tensors[op.output].bits, found[op.name]
            assert row.macs == model.layers * macs
            assert (row.in_bytes, row.out_bytes) == (model.layers * read // 8, model.layers * written // 8)


def test_experts_are_rows_of_those_that_are_visited() -> None:
    model = transformer_of(CONFIGS["mistralai/Mixtral-8x7B-v0.1"][0], name="mixtral", where="")
    rows = {row.name: row for row in folded_ops(model, 1, 100)}
    each = model.hidden * model.intermediate * model.layers
    assert (rows["router"].macs, rows["router"].params) == (100 * 8 * 4096 * 32, 8 * 4096 * 32)
    for name in ("gate", "up", "down"):
        assert (rows[name].macs, rows[name].params) == (100 * 2 * each, 8 * each)
    assert rows["queries"].macs == 100 * model.hidden**2 * model.layers


def test_a_picture_is_patches_and_one_token_is_classified() -> None:
    model = transformer_of(CONFIGS["google/vit-base-patch16-224"][0], name="vit", where="")
    first, *_, last = folded_ops(model, 2, 197)
    assert (first.kind, first.macs, first.in_bytes) == ("Conv", 2 * 196 * 768 * 768, 4 * 2 * 3 * 224 * 224)
    assert (last.macs, last.out_bytes) == (2 * 768 * 1000, 4 * 2 * 1000)
    with pytest.raises(InvalidModelError, match="100 tokens of a picture that has 197"):
        folded_ops(model, 2, 100)


@pytest.mark.parametrize("sequence", [1, 4096])
def test_a_layer_of_the_largest_takes_no_memory(sequence: int) -> None:
    model = transformer_of(CONFIGS["meta-llama/Llama-3.1-405B"][0], name="405b", where="")
    tracemalloc.start()
    graph = block_graph(model, 1, sequence)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert graph.parameters > 3_000_000_000
    assert peak < 1 << 20


def test_a_layer_has_its_samples_on_axis_0() -> None:
    for model in KINDS.values():
        graph = block_graph(model, 2, 5)
        assert graph.with_batch(3).digest == block_graph(model, 3, 5).digest


def test_a_layer_is_priced_in_integers_too() -> None:
    graph = block_graph(KINDS["shared heads"], 2, 8)
    for target in ("nvidia-a100-sxm-80gb", "google-tpu-v5e", "intel-xeon-8480"):
        assert 0 < ld.cost(graph, target, format="int8").latency_s < 1e-2


@pytest.mark.parametrize(
    ("changed", "how", "message"),
    [
        ({"experts": 2}, {}, "no graph of fixed shapes; use lepton inspect or lepton shard"),
        ({}, {"batch": 0}, "0 samples of 4 tokens behind 0"),
        ({}, {"sequence": 0}, "1 samples of 0 tokens"),
        ({}, {"cache": -1}, "behind -1"),
        ({}, {"cache": 13}, "17 tokens of at most 16; use a shorter sequence"),
        ({"longest": 1 << 31}, {"sequence": 1 << 30}, "tokens of at most 16777216"),
        ({"hidden": 1 << 31, "intermediate": 1 << 31}, {}, "elements; correct its extents"),
        ({}, {"batch": 1 << 40}, "beyond 4294967296 elements"),
    ],
)
def test_wrong_extents_are_one_clear_line(changed: dict[str, int], how: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidModelError) as caught:
        block_graph(replace(SMALL, **changed), **{"batch": 1, "sequence": 4, **how})
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("up.weight", None, "lacks the weight 'up.weight'; give all of them, or none"),
        ("up.weight", np.ones((40, 24), np.float32), r"shape \[40, 24\], not real of \[24, 40\]; give weights with what goes in"),
        ("up.weight", np.ones((24, 40), np.int32), "is int32 of shape"),
        ("gate.weight", np.ones((24, 40), np.float32), "has no weight 'gate.weight'; its weights are norm_1.scale"),
        ("up.bias", np.full(40, np.nan, np.float32), "NaN"),
    ],
)
def test_wrong_weights_are_one_clear_line(name: str, value: Array | None, message: str) -> None:
    weights = {**weights_of(SMALL, 4), name: value}
    given_weights = {key: entry for key, entry in weights.items() if entry is not None}
    with pytest.raises(InvalidModelError, match=message):
        block_graph(SMALL, 1, 4, weights=given_weights)
