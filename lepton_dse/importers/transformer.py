"""Reads a transformer's ``config.json``, as published beside its weights, to its shapes.

Families are told by ``model_type``. Each has its own names for the same extents, and defaults for what a file leaves out: those
of the classes that write such files (Hugging Face transformers, ``PreTrainedConfig`` and its children). Files whose extents
contradict one another, that lack one without a default, or that ask for what the shapes do not express (attention to another
network, relative positions, biases of some products alone) are refused. Nothing in a file is executed; keys that say nothing of
shapes are passed over, and so are windows of attention: every token before another is seen.

What the shapes count of each family's parameters:

=============================  ==========================================================================================
llama, mistral, qwen2,         all of ``...ForCausalLM``
mixtral, gpt2
bert                           ``BertModel`` without its pooler; of ``BertForMaskedLM`` neither the product before the vocabulary
                               with its norm, nor the biases of the vocabulary
vit                            ``ViTForImageClassification`` without the biases of the classes
=============================  ==========================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lepton_dse.errors import InvalidModelError, LeptonError
from lepton_dse.files import read_text
from lepton_dse.importers.protocol import printable
from lepton_dse.ir.transformer import Activation, Norm, Transformer

__all__ = ["FAMILIES", "is_config", "read_transformer", "transformer_of"]

_MOST = (1 << 31) - 1
_BYTES = 1 << 22
_SHOWN = 40
"""Letters of a wrong value that a message repeats."""
_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
}


@dataclass(frozen=True)
class _Family:
    """Names of a family's extents in its files, and what all of its models share."""

    names: Mapping[str, str]
    defaults: Mapping[str, int] = field(default_factory=dict)
    """By name in the file."""
    shared: Mapping[str, Any] = field(default_factory=dict)
    """Fields of :class:`~lepton_dse.ir.transformer.Transformer`."""
    tied: bool = True
    """Where the file does not say."""
    activation: tuple[str, str] = ("hidden_act", "gelu")
    """Name in the file, and the default."""
    dropout: tuple[str, float] | None = None
    """Likewise; None where none is dropped."""
    fixed: Mapping[str, bool | str] = field(default_factory=dict)
    """What a file may say by name, if it says anything."""


_COMMON = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "vocabulary": "vocab_size",
    "longest": "max_position_embeddings",
}
_GROUPED = {**_COMMON, "kv_heads": "num_key_value_heads", "head_width": "head_dim"}
_GATED = {"gated": True, "biases": False, "dropout": False, "norm": Norm.RMS}
_SILU = ("hidden_act", "silu")
_LLAMA = _Family(names=_GROUPED, shared=_GATED, tied=False, activation=_SILU)
_MISTRAL = _Family(names=_GROUPED, defaults={"num_key_value_heads": 8}, shared=_GATED, tied=False, activation=_SILU)
_QWEN2 = _Family(
    names=_GROUPED,
    defaults={"num_key_value_heads": 32},
    shared={**_GATED, "qkv_biases": True},
    tied=False,
    activation=_SILU,
)
_MIXTRAL = _Family(
    names={**_GROUPED, "experts": "num_local_experts", "active": "num_experts_per_tok"},
    defaults={"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    shared=_GATED,
    tied=False,
    activation=_SILU,
)
_GPT2 = _Family(
    names={
        "layers": "n_layer",
        "hidden": "n_embd",
        "heads": "n_head",
        "intermediate": "n_inner",
        "vocabulary": "vocab_size",
        "longest": "n_positions",
    },
    activation=("activation_function", "gelu_new"),
    dropout=("resid_pdrop", 0.1),
    fixed={"add_cross_attention": False},
)
_BERT = _Family(
    names={**_COMMON, "segments": "type_vocab_size"},
    defaults={"type_vocab_size": 2},
    shared={"post_norm": True},
    dropout=("hidden_dropout_prob", 0.1),
    fixed={"add_cross_attention": False, "position_embedding_type": "absolute"},
)
_VIT = _Family(
    names={name: key for name, key in _COMMON.items() if name not in ("vocabulary", "longest")},
    shared={"causal": False},
    tied=False,
    dropout=("hidden_dropout_prob", 0.0),
    fixed={"qkv_bias": True},
)
FAMILIES: Mapping[str, _Family] = {
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "qwen2": _QWEN2,
    "mixtral": _MIXTRAL,
    "gpt2": _GPT2,
    "bert": _BERT,
    "vit": _VIT,
}
"""By ``model_type``."""
_MAY_LACK = {"kv_heads", "head_width"}


def is_config(path: Path) -> bool:
    """Whether a file is a transformer's configuration: a JSON object that names its ``model_type``."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        document = json.loads(read_text(path, limit_bytes=_BYTES))
    except (ValueError, RecursionError, LeptonError):
        return False
    return isinstance(document, dict) and "model_type" in document


def read_transformer(path: Path | str) -> Transformer:
    """The shapes that a ``config.json`` describes; its folder's name is the model's.

    Raises
    ------
    LeptonError
        If it is no such file, of another family, or its extents are missing or contradict one another.
    """
    path = Path(path)
    try:
        document = json.loads(read_text(path, limit_bytes=_BYTES))
    except (ValueError, RecursionError) as error:
        raise InvalidModelError("not valid JSON", where=str(path), fix="use a transformer's config.json") from error
    if not isinstance(document, dict):
        raise InvalidModelError("no JSON object", where=str(path), fix="use a transformer's config.json")
    name = path.resolve().parent.name if path.stem == "config" else path.stem
    return transformer_of(document, name=printable(name) or "transformer", where=str(path))


def transformer_of(document: Mapping[str, Any], *, name: str, where: str) -> Transformer:
    """The shapes of a configuration that has been read.

    Parameters
    ----------
    document : mapping
        As in ``config.json``.
    name : str
        Of the model, for people.
    where : str
        For messages.

    Raises
    ------
    InvalidModelError
        As of :func:`read_transformer`.
    """
    kind = document.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None or not isinstance(kind, str):
        raise InvalidModelError(f"model_type is {_shown(kind)}", where=where, fix=f"known: {', '.join(FAMILIES)}")
    for key, wanted in family.fixed.items():
        if document.get(key, wanted) != wanted:
            what = f"{key} is {_shown(document[key])}"
            raise InvalidModelError(what, where=where, fix=f"only {json.dumps(wanted)} is supported for {kind}")
    extents = {extent: _extent(document, key, family.defaults.get(key), where) for extent, key in family.names.items()}
    if kind == "vit":
        extents |= _picture(document, where)
    if kind == "gpt2" and extents["intermediate"] is None and extents["hidden"] is not None:
        extents["intermediate"] = 4 * extents["hidden"]
    for extent, value in extents.items():
        if value is None and extent not in _MAY_LACK:
            raise InvalidModelError(f"lacks {family.names[extent]}", where=where, fix="complete the file")
    found: dict[str, Any] = {extent: value for extent, value in extents.items() if value is not None}
    hidden, heads = found["hidden"], found["heads"]
    if "head_width" not in found:
        if hidden % heads:
            what = f"{heads} heads do not divide {hidden} elements, and no head_dim says how wide they are"
            raise InvalidModelError(what, where=where, fix="correct either")
        found["head_width"] = hidden // heads
    found.setdefault("kv_heads", heads)
    if kind in ("gpt2", "bert"):
        found["positions"] = found["longest"]
    found |= _flags(document, family, kind, where)
    try:
        return Transformer(name=name, **{**family.shared, **found})
    except InvalidModelError as error:
        raise InvalidModelError(error.what, where=where, fix=error.fix) from None


def _flags(document: Mapping[str, Any], family: _Family, kind: str, where: str) -> dict[str, Any]:
    """What a file says besides extents."""
    key, usual = family.activation
    activation = document.get(key, usual)
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise InvalidModelError(f"{key} is {_shown(activation)}", where=where, fix=f"known: {', '.join(_ACTIVATIONS)}")
    found: dict[str, Any] = {
        "activation": _ACTIVATIONS[activation],
        "tied": _flag(document, "tie_word_embeddings", where, usual=family.tied),
    }
    if family.dropout is not None:
        key, rate = family.dropout
        value = document.get(key, rate)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise InvalidModelError(f"{key} is {_shown(value)}", where=where, fix="give a number from 0 to below 1")
        found["dropout"] = value > 0
    if kind == "bert":
        found["causal"] = _flag(document, "is_decoder", where, usual=False)
    if kind == "llama":
        biases = _flag(document, "attention_bias", where, usual=False)
        if _flag(document, "mlp_bias", where, usual=False) is not biases:
            raise InvalidModelError("attention_bias and mlp_bias differ", where=where, fix="only both alike are supported")
        found["biases"] = biases
    return found


def _flag(document: Mapping[str, Any], key: str, where: str, *, usual: bool) -> bool:
    value = document.get(key, usual)
    if not isinstance(value, bool):
        raise InvalidModelError(f"{key} is {_shown(value)}", where=where, fix="give true or false")
    return value


def _extent(document: Mapping[str, Any], key: str, usual: int | None, where: str) -> int | None:
    """A number; None where the file says null, or says nothing and there is no default."""
    value = document.get(key, usual)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidModelError(f"{key} is {_shown(value)}", where=where, fix="give a whole number")
    least = 0 if key == "type_vocab_size" else 1
    if not least <= value <= _MOST:
        raise InvalidModelError(f"{key} is {_shown(value)}", where=where, fix=f"give a number from {least} to {_MOST}")
    return value


def _picture(document: Mapping[str, Any], where: str) -> dict[str, int | None]:
    """Patches of a picture as tokens, with one more that stands for the class."""
    size, patch, channels = (
        _extent(document, key, usual, where) for key, usual in (("image_size", 224), ("patch_size", 16), ("num_channels", 3))
    )
    if size is None or patch is None or channels is None:
        raise InvalidModelError("image_size, patch_size or num_channels is null", where=where, fix="give a whole number")
    if size % patch:
        raise InvalidModelError(f"patches of {patch} in a picture of {size}", where=where, fix="use a size that patches divide")
    tokens = (size // patch) ** 2 + 1
    labels = document.get("id2label", {"0": "", "1": ""})
    if not isinstance(labels, dict) or not labels:
        raise InvalidModelError(f"id2label is {_shown(labels)}", where=where, fix="name each class, or leave it out for two")
    return {"longest": tokens, "positions": tokens, "segments": 1, "patch": channels * patch**2, "vocabulary": len(labels)}


def _shown(value: object) -> str:
    """A value as a message repeats it: on one line, and not all of a long one."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = printable(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
