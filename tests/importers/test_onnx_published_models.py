"""Published networks give what onnxruntime gives, on real inputs and at several batches; ``make data`` fetches them."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lepton_dse.errors import InvalidModelError, MissingToolError
from lepton_dse.importers import load_model
from lepton_dse.ir import semantics
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import FLOAT32, FLOAT64

sys.path.insert(0, str(Path(__file__).parents[2] / "studies" / "models"))
from published import published

try:
    import onnxruntime
except ModuleNotFoundError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("onnxruntime is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
_BLOCK = 1024  # bytes that magika takes from each end of a file
_PADDING = 256


def path_of(name: str) -> Path:
    try:
        return published(name, fetch=False)
    except MissingToolError as error:
        pytest.skip(str(error))


def in_onnxruntime(path: Path, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"]).run(outputs, feeds)


def agrees(path: Path, graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's outputs, each within 1e-4 of its peak of what onnxruntime gives."""
    found = semantics.run(graph.with_batch(len(next(iter(feeds.values())))), feeds)
    expected = in_onnxruntime(path, list(found), feeds)
    for value, wanted in zip(found.values(), expected, strict=True):
        assert (value.shape, value.dtype) == (wanted.shape, wanted.dtype)
        if wanted.dtype.kind == "f":
            assert np.isfinite(wanted).all()
            assert np.abs(value - wanted).max() <= 1e-4 * np.abs(wanted).max()
        else:
            np.testing.assert_array_equal(value, wanted)
    return found


def file_tokens(path: Path) -> np.ndarray:
    """What magika reads of a file: its first and last bytes without the white space around them, padded."""
    data = path.read_bytes()
    first, last = data[: 4 * _BLOCK].lstrip()[:_BLOCK], data[-4 * _BLOCK :].rstrip()[-_BLOCK:]
    tokens = np.full(2 * _BLOCK, _PADDING, np.int32)
    tokens[: len(first)] = np.frombuffer(first, np.uint8)
    tokens[2 * _BLOCK - len(last) :] = np.frombuffer(last, np.uint8)
    return tokens


def test_magika_tells_the_types_of_files() -> None:
    path = path_of("magika")
    files = {"python": ROOT / "lepton_dse/ir/ops.py", "markdown": ROOT / "docs/architecture.md", "toml": ROOT / "pyproject.toml"}
    graph = load_model(path)
    kinds = Counter(op.kind for op in graph.ops)
    assert (kinds["LayerNorm"], kinds["Gelu"], kinds["Softmax"], kinds["Binary"], kinds["Unary"]) == (2, 2, 1, 0, 0)
    labels = json.loads(path.with_name("config.min.json").read_text())["target_labels_space"]
    scores = agrees(path, graph, {"bytes": np.stack([file_tokens(file) for file in files.values()])})["target_label"]
    assert [labels[index] for index in scores.argmax(axis=1)] == list(files)
    agrees(path, graph, {"bytes": file_tokens(files["python"])[None]})


def in_doubles(graph: Graph) -> Graph:
    """The same graph, computed in float64."""
    tensors = [replace(tensor, format=FLOAT64) if tensor.format == FLOAT32 else tensor for tensor in graph.tensors.values()]
    constants = {name: value.astype(np.float64) for name, value in graph.constants.items()}
    return Graph(graph.name, tensors, graph.ops, graph.inputs, graph.outputs, constants)


def test_basic_pitch_hears_noise() -> None:
    path = path_of("basic-pitch")
    graph = load_model(path)
    x = np.random.default_rng(0).normal(0, 0.1, (2, 43_844, 1)).astype(np.float32)
    for samples in (x, x[:1]):
        agrees(path, graph, {graph.inputs[0]: samples})


def test_basic_pitch_hears_a_chord() -> None:
    """The network takes logarithms of what is left where tones cancel, so that float32 itself is far from exact here."""
    path = path_of("basic-pitch")
    graph = load_model(path).with_batch(2)
    time = np.arange(43_844) / 22_050
    pitches = np.asarray([[60, 64, 67], [57, 69, 76]])  # of the first and the second sample, as MIDI numbers
    tones = 440 * 2 ** ((pitches - 69) / 12)
    partials = [np.sin(2 * np.pi * number * tones[:, :, None] * time) / number for number in (1, 2, 3, 4)]
    feeds = {graph.inputs[0]: (np.sum(partials, axis=(0, 2)) / 6)[:, :, None].astype(np.float32)}
    found, exact = semantics.run(graph, feeds), semantics.run(in_doubles(graph), feeds)
    there = in_onnxruntime(path, list(found), feeds)
    for (name, value), wanted in zip(found.items(), there, strict=True):
        assert np.abs(value - exact[name]).max() <= 4 * np.abs(wanted - exact[name]).max() <= 0.01
    notes = found["StatefulPartitionedCall:1"].mean(axis=1)  # 88 keys of a piano from MIDI 21
    for chord, strength in zip(pitches, notes, strict=True):
        assert set(strength.argsort()[-3:] + 21) == set(chord)


def test_minilm_embeds_sentences() -> None:
    path = path_of("minilm")
    with pytest.raises(InvalidModelError, match=r"axis 1 \('sequence_length'\) has no extent in the file; give it: dims="):
        load_model(path)
    rng = np.random.default_rng(0)
    for length, lengths in ((16, [16]), (24, [24, 9, 17])):
        graph = load_model(path, dims={"sequence_length": length})
        kinds = Counter(op.kind for op in graph.ops)
        assert (kinds["LayerNorm"], kinds["Gelu"], kinds["Softmax"]) == (7, 3, 3)
        mask = (np.arange(length) < np.asarray(lengths)[:, None]).astype(np.int64)
        ids = rng.integers(1000, 29_000, mask.shape) * mask
        ids[:, 0] = 101  # the sentence begins
        found = agrees(path, graph, {"input_ids": ids, "attention_mask": mask})
        assert found["461"].shape == (len(lengths), 384)
