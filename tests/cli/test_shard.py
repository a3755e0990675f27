"""``lepton shard``: graphs over a mesh, transformers over a cluster, and wrong input in one line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import lepton_dse as ld
from lepton_dse.cli.program import main
from lepton_dse.files import write_bytes
from lepton_dse.ir.serialize import graph_to_files
from tests.oracle.sharding import perceptron

CONFIG = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 8,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}


def lepton(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small-llama" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, data in graph_to_files(perceptron(0, batch=1, extents=(64, 256, 16))).items():
        write_bytes(tmp_path / "graph" / name, data)
    return tmp_path / "graph" / "graph.json"


def test_a_graph_is_shared_and_planned(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "plan.json"
    code = lepton("shard", model, "--cluster", "google-v5e-pod", "--mesh", "x=2", "--batch", 8, "-o", output, "--json")
    assert code == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sharding"]["mesh"] == "x=2"
    assert document["search"]["optimal"] is True
    assert ld.read_plan(output).plan.predicted.latency_s == document["latency_s"]
    assert lepton("explain", output) == 0
    explained = capsys.readouterr().out
    assert "shared by" in explained
    assert "Next lever" not in explained
    assert lepton("shard", model, "--cluster", "google-v5e-pod", "--mesh", "x=2", "--batch", 8, "--format", "int8") == 0
    assert "proved cheapest" in capsys.readouterr().out


def test_training_is_planned_from_a_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--cluster", "dgx-a100", "--devices", 16, "--batch", 64, "--sequence", 1024)
    assert lepton("shard", config, *arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == "small-llama"
    assert document["search"]["optimal"] is True
    assert document["feasible"] is True
    strategy = document["strategy"]
    assert strategy["tensor"] * strategy["context"] * strategy["data"] * strategy["pipeline"] == 16
    assert document["tokens_per_s"] == pytest.approx(64 * 1024 / document["step"]["time"])
    assert lepton("shard", config, *arguments) == 0
    assert "small-llama" in capsys.readouterr().out


def test_serving_is_planned_from_a_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--cluster", "dgx-h100", "--devices", 8, "--sequence", 1024, "--answer", 256)
    assert lepton("shard", config, *arguments, "--tpot", "0.05", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best"]["tpot_s"] <= 0.05
    assert document["best"]["tokens_per_s"] == max(
        point["tokens_per_s"] for point in document["points"] if point["tpot_s"] <= 0.05
    )
    assert lepton("shard", config, *arguments) == 0
    assert "unchecked" in capsys.readouterr().out


def test_serving_engines_get_the_chosen_settings(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "launch"
    arguments = ("--cluster", "dgx-h100", "--devices", 8, "--sequence", 1024, "--answer", 256, "--launch", folder)
    assert lepton("shard", config, *arguments, "--format", "float8_e4m3", "--json") == 0
    best = json.loads(capsys.readouterr().out)["best"]
    vllm, tensorrt = ((folder / name).read_text() for name in ("vllm.sh", "tensorrt_llm.sh"))
    for script, options in (
        (vllm, (f"--tensor-parallel-size {best['tensor']} ", "--max-model-len 1280 ", "--quantization fp8 ")),
        (tensorrt, (f"--tp_size {best['tensor']} ", f"--max_batch_size {best['sequences']} ")),
    ):
        assert all(option in script for option in options)
        assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    assert json.loads((folder / "predicted.json").read_text())["tpot_s"] == best["tpot_s"]
    assert lepton("shard", config, *arguments, "--format", "int8") == 2
    assert "no engine quantises to int8" in capsys.readouterr().err
    assert lepton("shard", config, "--cluster", "google-v5e-pod", "--devices", 8, *arguments[4:]) == 2
    assert "run on GPUs" in capsys.readouterr().err


def test_what_does_not_fit_says_what_would(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {**CONFIG, "hidden_size": 65536, "num_attention_heads": 64, "intermediate_size": 262144}
    config.write_text(json.dumps(document))
    assert lepton("shard", config, "--cluster", "dgx-a100", "--devices", 8, "--batch", 8) == 1
    assert "more devices" in capsys.readouterr().out
    limits = ("--sequence", 1024, "--answer", 256, "--tpot", "1e-9")
    config.write_text(json.dumps(CONFIG))
    assert lepton("shard", config, "--cluster", "dgx-h100", *limits) == 1
    assert "time per output token" in capsys.readouterr().out


def test_wrong_input_is_one_line(config: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        ((config, "--cluster", "nowhere"), "no cluster called 'nowhere'"),
        ((config, "--cluster", "dgx-a100", "--mesh", "x=2"), "--mesh is for graphs"),
        ((config, "--cluster", "dgx-a100", "--devices", 0), "0 devices"),
        ((config, "--cluster", "dgx-a100", "--devices", 99999), "99999 devices of 4096"),
        ((config, "--cluster", "dgx-a100", "--devices", 13, "--batch", 5), "does not split evenly"),
        ((config, "--cluster", "dgx-a100", "--ttft", "1"), "--ttft is for serving"),
        ((config, "--cluster", "dgx-a100", "--answer", 8, "--batch", 3), "--batch is for training"),
        ((config, "--cluster", "dgx-a100", "--answer", 0), "0 of an answer"),
        ((config, "--cluster", "dgx-a100", "--format", "int8"), "training in int8"),
        ((config, "--cluster", "dgx-a100", "--batch", 0), "0 samples"),
        ((config, "--cluster", "dgx-a100", "--sequence", -4), "-4 tokens"),
        ((model, "--cluster", "dgx-a100"), "--mesh"),
        ((model, "--cluster", "dgx-a100", "--mesh", "x=2", "--devices", 2), "--devices is for transformers"),
        ((model, "--cluster", "dgx-a100", "--mesh", "x=two"), "no axis of a mesh"),
    ]
    for arguments, what in cases:
        assert lepton("shard", *arguments) == 2, arguments
        captured = capsys.readouterr()
        assert captured.out == ""
        lines = captured.err.strip().splitlines()
        assert what in lines[-1], captured.err
