"""Configurations and layers beside Hugging Face transformers, which the tests do not install: it is larger than all they need.

``pip install 'transformers>=5.20'`` beside PyTorch runs them; parameters of the same models, as published, are checked without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lepton_dse.importers.transformer import transformer_of
from lepton_dse.importers.transformer_graph import block_graph
from lepton_dse.ir import semantics
from tests.importers.transformer_configs import CONFIGS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", "5.20", reason="transformers is larger than all that tests need")

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "bert": "BertForMaskedLM",
    "vit": "ViTForImageClassification",
}
SMALL = {
    "num_hidden_layers": 2,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
GPT2 = {"n_layer": 2, "n_embd": 24, "n_head": 4, "vocab_size": 50, "n_positions": 32}
LAYERS = {
    "llama": {"model_type": "llama", **SMALL},
    "llama, shared heads": {"model_type": "llama", **SMALL, "num_key_value_heads": 2},
    "llama, biases": {"model_type": "llama", **SMALL, "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", **SMALL, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": None},
    "qwen2": {"model_type": "qwen2", **SMALL, "num_key_value_heads": 2},
    "gpt2": {"model_type": "gpt2", **GPT2},
    "gpt2, relu": {"model_type": "gpt2", **GPT2, "n_inner": 30, "activation_function": "relu"},
    "bert": {"model_type": "bert", **SMALL},
    "vit": {"model_type": "vit", **SMALL, "image_size": 12, "patch_size": 4},
}


def model_of(config: dict[str, Any]) -> Any:
    kind = config["model_type"]
    labels = {int(key): value for key, value in config["id2label"].items()} if "id2label" in config else {0: "", 1: ""}
    options = {key: value for key, value in config.items() if key not in ("model_type", "id2label")}
    read = transformers.AutoConfig.for_model(kind, **options, id2label=labels)
    return getattr(transformers, CLASSES[kind])(read).eval()


def not_counted(kind: str, config: dict[str, Any]) -> int:
    """Parameters of the class that the shapes leave out."""
    hidden = config.get("hidden_size", 0)
    if kind == "bert":  # the product before the vocabulary, its norm, and the vocabulary's biases
        return hidden * (hidden + 1) + 2 * hidden + config["vocab_size"]
    return len(config.get("id2label", {"0": "", "1": ""})) if kind == "vit" else 0


@pytest.mark.slow
@pytest.mark.parametrize("config", [*(config for config, _ in CONFIGS.values()), *LAYERS.values()])
def test_parameters_are_those_of_the_framework(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        expected = sum(parameter.numel() for parameter in model_of(config).parameters())
    kind = config["model_type"]
    found = transformer_of(config, name="net", where="config.json").parameters
    assert found == expected - not_counted(kind, config)


def linear(names: dict[str, str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Weights of products and norms by the framework's names; its products have what goes in on axis 1."""

    def mapped(state: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for own, other in names.items():
            parts = ("scale", "shift") if own.startswith("norm") else ("weight", "bias")
            found[f"{own}.{parts[0]}"] = state[f"{other}.weight"].T
            if f"{other}.bias" in state:
                found[f"{own}.{parts[1]}"] = state[f"{other}.bias"]
        return found

    return mapped


def gpt2(state: dict[str, Any]) -> dict[str, Any]:
    """Three products in one, and all with what goes in on axis 0."""
    names = {"norm_1": "ln_1", "norm_2": "ln_2", "output": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    found = linear(names)(state)
    found |= {name: value.T for name, value in found.items() if name.endswith(".weight")}
    for index, name in enumerate(("queries", "keys", "values")):
        found[f"{name}.weight"] = np.split(state["attn.c_attn.weight"], 3, axis=1)[index]
        found[f"{name}.bias"] = np.split(state["attn.c_attn.bias"], 3)[index]
    return found


LLAMA = linear(
    {
        "norm_1": "input_layernorm",
        "norm_2": "post_attention_layernorm",
        **{own: f"self_attn.{part}_proj" for own, part in zip(("queries", "keys", "values", "output"), "qkvo", strict=True)},
        **{name: f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    }
)
WEIGHTS = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "gpt2": gpt2,
    "bert": linear(
        {
            **{name: f"attention.self.{part}" for name, part in (("queries", "query"), ("keys", "key"), ("values", "value"))},
            "output": "attention.output.dense",
            "norm_1": "attention.output.LayerNorm",
            "up": "intermediate.dense",
            "down": "output.dense",
            "norm_2": "output.LayerNorm",
        }
    ),
    "vit": linear(
        {
            "norm_1": "layernorm_before",
            "norm_2": "layernorm_after",
            **{own: f"attention.{part}_proj" for own, part in zip(("queries", "keys", "values", "output"), "qkvo", strict=True)},
            "up": "mlp.fc1",
            "down": "mlp.fc2",
        }
    ),
}
PLACES = {"gpt2": "transformer.h", "bert": "bert.encoder.layer", "vit": "vit.layers"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_computes_what_the_framework_computes(name: str) -> None:
    config = LAYERS[name]
    kind = config["model_type"]
    torch.manual_seed(0)
    model = model_of(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    layer = model.get_submodule(PLACES.get(kind, "model.layers"))[1]
    seen: dict[str, Any] = {}

    def keep(_: Any, arguments: Any, options: dict[str, Any], result: Any) -> None:
        seen.update(x=arguments[0] if arguments else options["hidden_states"], options=options)
        seen["y"] = result[0] if isinstance(result, tuple) else result

    layer.register_forward_hook(keep, with_kwargs=True)
    with torch.no_grad():
        model(torch.randn(2, 3, 12, 12) if kind == "vit" else torch.randint(0, 50, (2, 9)))
    x = seen["x"].numpy()
    weights = WEIGHTS[kind]({key: value.detach().numpy() for key, value in layer.state_dict().items()})
    shapes = transformer_of(config, name=name, where="config.json")
    if not shapes.positions:
        cosines, sines = seen["options"]["position_embeddings"]
        weights |= {"cosines": cosines[0].numpy(), "sines": sines[0].numpy()}
    read = model.config
    epsilon = next(
        value
        for key in ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")
        if (value := getattr(read, key, None)) is not None
    )
    found = semantics.run(block_graph(shapes, *x.shape[:2], weights=weights, epsilon=epsilon), {"x": x})["y"]
    np.testing.assert_allclose(found, seen["y"].numpy(), rtol=1e-4, atol=1e-4)
