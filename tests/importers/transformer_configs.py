"""What published ``config.json`` files say of shapes."""

from __future__ import annotations

from typing import Any

__all__ = ["CONFIGS"]


def _grouped(kind: str, *extents: int, **more: Any) -> dict[str, Any]:
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    names += ("vocab_size", "max_position_embeddings")
    return {"model_type": kind, **dict(zip(names, extents, strict=True)), "hidden_act": "silu", **more}


def _bert(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": 4 * hidden}
    more = {"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_dropout_prob": 0.1}
    return {"model_type": "bert", **shape, **more, "hidden_act": "gelu", "layer_norm_eps": 1e-12}


def _gpt2(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    shape = {"n_layer": layers, "n_embd": hidden, "n_head": heads, "n_inner": None, "n_positions": 1024, "vocab_size": 50257}
    return {"model_type": "gpt2", **shape, "activation_function": "gelu_new", "resid_pdrop": 0.1}


def _vit(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    shape = {"num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": 4 * hidden}
    labels = {str(label): "" for label in range(1000)}
    more = {"image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": True, "id2label": labels}
    return {"model_type": "vit", **shape, **more, "hidden_act": "gelu", "hidden_dropout_prob": 0.0}


CONFIGS: dict[str, tuple[dict[str, Any], int]] = {
    # Parameters: elements of the published safetensors, as their hub pages count them.
    "meta-llama/Llama-3.1-405B": (_grouped("llama", 126, 16384, 128, 8, 53248, 128256, 131072), 405_853_388_800),
    "meta-llama/Meta-Llama-3-70B": (
        _grouped("llama", 80, 8192, 64, 8, 28672, 128256, 8192, tie_word_embeddings=False),
        70_553_706_496,
    ),
    "meta-llama/Llama-3.2-1B": (
        _grouped("llama", 16, 2048, 32, 8, 8192, 128256, 131072, head_dim=64, tie_word_embeddings=True),
        1_235_814_400,
    ),
    "mistralai/Mistral-7B-v0.1": (
        _grouped("mistral", 32, 4096, 32, 8, 14336, 32000, 32768, sliding_window=4096),
        7_241_732_096,
    ),
    "mistralai/Mixtral-8x7B-v0.1": (
        _grouped("mixtral", 32, 4096, 32, 8, 14336, 32000, 32768, num_local_experts=8, num_experts_per_tok=2),
        46_702_792_704,
    ),
    "Qwen/Qwen2.5-0.5B": (_grouped("qwen2", 24, 896, 14, 2, 4864, 151936, 32768, tie_word_embeddings=True), 494_032_768),
    "Qwen/Qwen2-7B": (_grouped("qwen2", 28, 3584, 28, 4, 18944, 152064, 131072), 7_615_616_512),
    "openai-community/gpt2": (_gpt2(12, 768, 12), 124_439_808),
    "openai-community/gpt2-xl": (_gpt2(48, 1600, 25), 1_557_611_200),
    # Without the pooler, h (h + 1).
    "google-bert/bert-base-uncased": (_bert(12, 768, 12), 109_482_240 - 768 * 769),
    "google-bert/bert-large-uncased": (_bert(24, 1024, 16), 335_141_888 - 1024 * 1025),
    # Without the biases of 1,000 classes.
    "google/vit-base-patch16-224": (_vit(12, 768, 12), 86_567_656 - 1000),
    "google/vit-large-patch16-224": (_vit(24, 1024, 16), 304_326_632 - 1000),
}
"""By name on the Hugging Face hub: the file, and the parameters that its shapes amount to."""
