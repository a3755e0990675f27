"""``lepton inspect CONFIG.json``: a transformer by its shapes alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.importers.transformer_configs import CONFIGS


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Writes a published configuration to a folder of the model's name."""

    def write(name: str, **changed: Any) -> Path:
        path = tmp_path / name.rpartition("/")[2] / "config.json"
        path.parent.mkdir()
        path.write_text(json.dumps({**CONFIGS[name][0], **changed}))
        return path

    return write


def test_a_model_is_one_layer_and_both_ends(lepton: Any, config: Any) -> None:
    found = lepton(
        "inspect", config("meta-llama/Llama-3.1-405B"), "--json", "--dim", "sequence=8192", "--dim", "batch=2"
    ).document
    keys = {"schema_version", "model", "digest", "ops", "macs", "params", "unsupported"}
    assert keys <= set(found)
    assert (found["model"], found["params"], found["unsupported"]) == ("Llama-3.1-405B", 405_853_388_800, [])
    assert (found["layers"], found["batch"], found["sequence"]) == (126, 2, 8192)
    assert found["cache_bytes_per_token"] == 2 * 2 * 126 * 8 * 128
    assert found["macs"] == sum(op["macs"] for op in found["ops"])
    assert found["params"] == sum(op["params"] for op in found["ops"])
    assert {op["times"] for op in found["ops"]} == {1, 126}
    assert {"name", "kind", "macs", "params", "in_bytes", "out_bytes"} <= set(found["ops"][0])


def test_the_table_names_what_a_token_meets(lepton: Any, config: Any) -> None:
    printed = lepton("inspect", config("mistralai/Mixtral-8x7B-v0.1")).out
    assert "46,702,792,704 parameters" in printed
    assert "A pass: 1 x 2,048 tokens." in printed
    assert "A token visits 2 of 8 experts and meets 12,879,925,248 parameters." in printed
    assert "Keys and values of one token take 131 kB in bfloat16." in printed
    assert "router" in printed


def test_what_sees_all_tokens_has_no_cache(lepton: Any, config: Any) -> None:
    path = config("google-bert/bert-base-uncased")
    assert lepton("inspect", path, "--json").document["cache_bytes_per_token"] is None
    printed = lepton("inspect", path).out
    assert "A pass: 1 x 512 tokens." in printed
    assert "Keys and values" not in printed


def test_digests_tell_shapes_apart_and_not_names(lepton: Any, config: Any) -> None:
    first = config("openai-community/gpt2")
    other = config("openai-community/gpt2-xl", **CONFIGS["openai-community/gpt2"][0])
    digest = lepton("inspect", first, "--json").document["digest"]
    assert lepton("inspect", other, "--json").document["digest"] == digest
    other.write_text(json.dumps({**CONFIGS["openai-community/gpt2"][0], "n_layer": 13}))
    assert lepton("inspect", other, "--json").document["digest"] != digest


@pytest.mark.parametrize(
    ("dims", "word"),
    [
        (["length=5"], "no open axis 'length'; a configuration leaves open batch and sequence"),
        (["sequence=0"], "0 tokens"),
        (["batch=0"], "0 samples"),
        (["sequence=1025"], "1025 tokens where it was made for 1024"),
        (["sequence"], "NAME=N"),
        (["sequence=5", "sequence=6"], "twice"),
        (["batch=" + "9" * 18], "beyond 4294967296 elements"),
    ],
)
def test_bad_extents_are_one_line(dims: list[str], word: str, lepton: Any, config: Any) -> None:
    options = [part for text in dims for part in ("--dim", text)]
    assert word in lepton("inspect", config("openai-community/gpt2"), *options).complaint


@pytest.mark.parametrize("changed", [{"n_head": 7}, {"n_head": 0}, {"n_embd": 1e3}, {"model_type": "t5"}, {"n_layer": None}])
def test_bad_configurations_are_one_line(changed: dict[str, Any], lepton: Any, config: Any) -> None:
    assert "config.json: " in lepton("inspect", config("openai-community/gpt2", **changed)).complaint


@pytest.mark.parametrize("command", ["memory", "cost", "plan"])
def test_commands_that_need_operations_point_elsewhere(command: str, lepton: Any, config: Any, tmp_path: Path) -> None:
    more = {"memory": (), "cost": ("--target", "unit-gpu"), "plan": ("--target", "unit-gpu", "-o", tmp_path / "plan.json")}
    complaint = lepton(command, config("openai-community/gpt2"), *more[command]).complaint
    assert "use lepton inspect or lepton shard" in complaint
