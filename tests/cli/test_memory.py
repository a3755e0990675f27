"""``lepton memory``: the arena of a model, as a table, as JSON and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest


def test_the_arena_in_json(lepton: Any, work: Path) -> None:
    document = lepton("memory", work / "model.onnx", "--json").document
    assert set(document) == {"schema_version", "model", "peak", "bound", "alignment", "tensors"}
    assert document["alignment"] == 64
    assert document["peak"] == document["bound"] > 0
    ends = [entry["offset"] + entry["bytes"] for entry in document["tensors"]]
    assert document["peak"] - 64 < max(ends) <= document["peak"]


def test_smaller_formats_and_larger_batches(lepton: Any, work: Path) -> None:
    def peak(*options: str) -> int:
        return int(lepton("memory", work / "model.onnx", "--json", "--alignment", "1", *options).document["peak"])

    assert peak("--format", "int8") * 4 == peak()
    assert peak("--batch", "3") == 3 * peak()
    assert peak("--no-in-place") >= peak()


def test_the_picture(lepton: Any, work: Path, tmp_path: Path) -> None:
    result = lepton("memory", work / "model.onnx", "--svg", tmp_path / "arena.svg")
    assert result.code == 0
    assert "the least there is" in " ".join(result.out.split())
    rectangles = ElementTree.parse(tmp_path / "arena.svg").getroot().findall(".//{http://www.w3.org/2000/svg}rect[@x]")
    assert len(rectangles) == len(lepton("memory", work / "model.onnx", "--json").document["tensors"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--alignment", "0"), "alignment: an alignment of 0 bytes; use 1 or more"),
        (("--batch", "0"), "--batch: a batch of 0; use 1 or more"),
        (("--svg", "arena.txt"), "arena.txt: not the name of an SVG; give a name that ends in .svg"),
        (("--format", "int99"), "asks for integers outside 2 to 16 bits"),
    ],
)
def test_bad_arguments(lepton: Any, work: Path, options: tuple[str, ...], message: str) -> None:
    result = lepton("memory", work / "model.onnx", *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
