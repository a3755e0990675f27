"""Configurations of transformers: parameters as published, and one clear line for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.importers import load_model
from lepton_dse.importers.transformer import FAMILIES, is_config, read_transformer, transformer_of
from lepton_dse.importers.transformer_rows import folded_ops
from lepton_dse.ir.transformer import Activation, Norm, Transformer
from tests.importers.transformer_configs import CONFIGS

LLAMA, MIXTRAL, QWEN2, GPT2, BERT, VIT = (
    CONFIGS[name][0]
    for name in (
        "meta-llama/Meta-Llama-3-70B",
        "mistralai/Mixtral-8x7B-v0.1",
        "Qwen/Qwen2-7B",
        "openai-community/gpt2",
        "google-bert/bert-base-uncased",
        "google/vit-base-patch16-224",
    )
)


def shapes(config: dict[str, Any], **changed: Any) -> Transformer:
    return transformer_of({**config, **changed}, name="net", where="config.json")


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_the_published_weights(name: str, tmp_path: Path) -> None:
    config, parameters = CONFIGS[name]
    path = tmp_path / name / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(config))
    found = ld.read_transformer(path)
    assert (found.name, found.parameters) == (name.partition("/")[2], parameters)


def test_every_family_is_read_from_a_published_file() -> None:
    assert {config["model_type"] for config, _ in CONFIGS.values()} == set(FAMILIES)


def test_what_families_differ_in() -> None:
    llama, qwen, mixtral, gpt, bert, vit = map(shapes, (LLAMA, QWEN2, MIXTRAL, GPT2, BERT, VIT))
    assert (llama.norm, llama.activation, llama.gated, llama.biases, llama.dropout) == (Norm.RMS, "silu", True, False, False)
    assert (llama.positions, llama.kv_heads, llama.head_width, llama.tied) == (0, 8, 128, False)
    assert (qwen.qkv_biases, qwen.biases) == (True, False)
    assert (mixtral.experts, mixtral.active) == (8, 2)
    assert (gpt.norm, gpt.activation, gpt.causal, gpt.intermediate) == (Norm.LAYER, Activation.GELU_TANH, True, 3072)
    assert (gpt.tied, gpt.positions, gpt.dropout, gpt.post_norm) == (True, 1024, True, False)
    assert (bert.post_norm, bert.causal, bert.segments, bert.activation) == (True, False, 2, Activation.GELU)
    assert (vit.causal, vit.patch, vit.positions, vit.vocabulary, vit.dropout) == (False, 768, 197, 1000, False)


@pytest.mark.parametrize(
    ("config", "changed", "field", "value"),
    [
        (LLAMA, {"num_key_value_heads": None}, "kv_heads", 64),
        (LLAMA, {"head_dim": 64}, "queries", 64 * 64),
        (LLAMA, {"attention_bias": True, "mlp_bias": True}, "biases", True),
        (LLAMA, {"hidden_act": "gelu_pytorch_tanh"}, "activation", Activation.GELU_TANH),
        (GPT2, {"n_inner": 1000}, "intermediate", 1000),
        (GPT2, {"resid_pdrop": 0}, "dropout", False),
        (BERT, {"type_vocab_size": 0}, "segments", 0),
        (BERT, {"is_decoder": True}, "causal", True),
        (VIT, {"image_size": 384, "patch_size": 32, "num_channels": 1}, "longest", 145),
    ],
)
def test_what_a_file_may_say(config: dict[str, Any], changed: dict[str, Any], field: str, value: object) -> None:
    assert getattr(shapes(config, **changed), field) == value


@pytest.mark.parametrize(
    ("config", "left_out", "field", "value"),
    [
        (LLAMA, "num_key_value_heads", "kv_heads", 64),
        (MIXTRAL, "num_key_value_heads", "kv_heads", 8),
        (MIXTRAL, "num_local_experts", "experts", 8),
        (GPT2, "n_inner", "intermediate", 3072),
        (BERT, "type_vocab_size", "segments", 2),
        (VIT, "id2label", "vocabulary", 2),
    ],
)
def test_what_a_file_may_leave_out(config: dict[str, Any], left_out: str, field: str, value: int) -> None:
    document = {key: entry for key, entry in config.items() if key != left_out}
    assert getattr(shapes(document), field) == value


@pytest.mark.parametrize(
    ("config", "changed", "message"),
    [
        (LLAMA, {"model_type": "mamba"}, 'model_type is "mamba"; known: llama, mistral, qwen2, mixtral, gpt2, bert, vit'),
        (LLAMA, {"model_type": None}, "model_type is null"),
        (LLAMA, {"model_type": ["llama"]}, "model_type is a list"),
        (LLAMA, {"hidden_size": None}, "lacks hidden_size; complete the file"),
        (LLAMA, {"hidden_size": 0}, "hidden_size is 0; give a number from 1"),
        (LLAMA, {"num_attention_heads": 0}, "num_attention_heads is 0"),
        (LLAMA, {"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        (LLAMA, {"head_dim": -1}, "head_dim is -1"),
        (LLAMA, {"hidden_size": -8}, "hidden_size is -8"),
        (LLAMA, {"hidden_size": 8192.0}, "hidden_size is 8192.0; give a whole number"),
        (LLAMA, {"hidden_size": True}, "hidden_size is true; give a whole number"),
        (LLAMA, {"hidden_size": "8192"}, 'hidden_size is "8192"; give a whole number'),
        (LLAMA, {"hidden_size": [8192]}, "hidden_size is a list"),
        (LLAMA, {"hidden_size": 10**4000}, f"hidden_size is 1{'0' * 39}...; give a number from 1 to 2147483647"),
        (LLAMA, {"hidden_size": float("inf")}, "hidden_size is Infinity"),
        (LLAMA, {"num_attention_heads": 60}, "60 heads do not divide 8192 elements, and no head_dim"),
        (LLAMA, {"num_key_value_heads": 7}, "7 heads of keys and values do not divide 64 heads"),
        (LLAMA, {"attention_bias": True}, "attention_bias and mlp_bias differ; only both alike are supported"),
        (LLAMA, {"attention_bias": 1}, "attention_bias is 1; give true or false"),
        (LLAMA, {"tie_word_embeddings": "no"}, 'tie_word_embeddings is "no"; give true or false'),
        (LLAMA, {"hidden_act": "quick_gelu"}, 'hidden_act is "quick_gelu"; known: gelu'),
        (LLAMA, {"hidden_act": {}}, "hidden_act is an object"),
        (MIXTRAL, {"num_experts_per_tok": 9}, "a token visits 9 of 8 experts"),
        (MIXTRAL, {"num_local_experts": None}, "lacks num_local_experts"),
        (GPT2, {"add_cross_attention": True}, "add_cross_attention is true; only false is supported for gpt2"),
        (GPT2, {"resid_pdrop": 1}, "resid_pdrop is 1; give a number from 0 to below 1"),
        (GPT2, {"resid_pdrop": float("nan")}, "resid_pdrop is NaN"),
        (BERT, {"position_embedding_type": "relative_key"}, 'position_embedding_type is "relative_key"; only "absolute"'),
        (VIT, {"qkv_bias": False}, "qkv_bias is false; only true is supported for vit"),
        (VIT, {"patch_size": 15}, "patches of 15 in a picture of 224; use a size that patches divide"),
        (VIT, {"image_size": 0}, "image_size is 0"),
        (VIT, {"image_size": [224, 224]}, "image_size is a list"),
        (VIT, {"num_channels": None}, "is null"),
        (VIT, {"id2label": {}}, "id2label is an object"),
    ],
)
def test_contradictions_are_one_clear_line(config: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModelError) as caught:
        shapes(config, **changed)
    text = str(caught.value)
    assert text.startswith("config.json: ")
    assert message in text
    assert len(text) < 200


@pytest.mark.parametrize("config", [LLAMA, MIXTRAL, GPT2, BERT, VIT])
def test_every_extent_without_a_default_is_asked_for(config: dict[str, Any]) -> None:
    optional = {"num_key_value_heads", "num_local_experts", "num_experts_per_tok", "n_inner", "type_vocab_size"}
    family = FAMILIES[config["model_type"]]
    for key in set(family.names.values()) - optional - {"head_dim"}:
        with pytest.raises(InvalidModelError, match=f"config.json: lacks {key}; complete the file"):
            shapes({name: value for name, value in config.items() if name != key})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b"[1]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"{}", "model_type is null"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b" " * (10 << 20), "larger than 4194304 bytes"),
        (b'{"model_type": "a\\nb\\u001b[31m\\ud800"}', "model_type is"),
    ],
)
def test_damaged_files_are_one_clear_line(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(LeptonError) as caught:
        read_transformer(path)
    text = str(caught.value)
    assert message in text
    assert text.isprintable()


def test_a_folder_or_nothing_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    for name in ("absent.json", "folder.json"):
        assert not is_config(tmp_path / name)
        with pytest.raises(LeptonError, match="no such file"):
            read_transformer(tmp_path / name)


def test_load_points_to_what_reads_configurations(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GPT2))
    assert is_config(path)
    with pytest.raises(InvalidModelError, match=r"configuration.*use lepton inspect or lepton shard.*read_transformer"):
        load_model(path)


def test_files_without_a_model_type_are_read_as_graphs(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    for text in ("{}", "[", " " * (5 << 20)):
        path.write_text(text)
        assert not is_config(path)
        with pytest.raises(LeptonError) as caught:
            load_model(path)
        assert "configuration" not in str(caught.value)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.integers(0, 64),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
KEYS = sorted(
    {key for config, _ in CONFIGS.values() for key in config} | {"head_dim", "is_decoder", "attention_bias", "mlp_bias"}
)


@settings(max_examples=400)
@given(
    st.sampled_from([config for config, _ in CONFIGS.values()]),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
    st.sets(st.sampled_from(KEYS), max_size=1),
)
def test_random_edits_raise_nothing_else(config: dict[str, Any], edits: dict[str, Any], removed: set[str]) -> None:
    """Shapes that are accepted can be counted; all others are refused in one line."""
    document = {key: value for key, value in {**config, **edits}.items() if key not in removed}
    complaint, counted = "", True
    try:
        model = transformer_of(json.loads(json.dumps(document)), name="net", where="config.json")
        counted = sum(row.params for row in folded_ops(model, 1, model.longest)) == model.parameters
    except LeptonError as error:
        complaint = str(error)
    assert counted
    assert complaint.isprintable()


@settings(max_examples=300)
@given(st.sampled_from([config for config, _ in CONFIGS.values()]), st.data())
def test_damaged_text_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], data: st.DataObject
) -> None:
    text = bytearray(json.dumps({key: value for key, value in config.items() if key != "id2label"}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(bytes(text))
    for read in (read_transformer, load_model):
        complaint = str(path)
        try:
            read(path)
        except LeptonError as error:
            complaint = str(error)
        assert str(path) in complaint
        assert complaint.isprintable()
