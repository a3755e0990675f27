"""Where an artefact goes wrong is named: damage one word of a design, let the manifest fit again, and read the reason."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Check
from lepton_dse.reference.engine import steps
from lepton_dse.schedule.stream import StreamGraph, stream_graph
from lepton_dse.verify import first_wrong
from lepton_dse.verify.artefact import open_artefact

SAMPLES = np.random.default_rng(1).normal(0, 1, (4, 1, 5, 5)).astype(np.float32)
WINDOW = ops.Window((3, 3), (1, 1), (1, 1), (0, 0), (0, 0))


def network(*, clip_behind_flatten: bool = False) -> Graph:
    """conv (2 channels, 3 x 3) with relu, flatten, and two dense layers."""
    rng = np.random.default_rng(2)
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 1, 5, 5))
    weights = builder.constant("w0", rng.normal(0, 1, (2, 1, 3, 3)).astype(np.float32))
    x = builder.add(ops.Conv(WINDOW), [x, weights], output="conv")
    if clip_behind_flatten:
        x = builder.add(ops.MaxPool(ops.Window((1, 1), (1, 1), (1, 1), (0, 0), (0, 0))), [x], output="peak")
        x = builder.add(ops.Reshape((1, 18)), [x], output="flat")
        x = builder.add(ops.Clip(0.0, float("inf")), [x], output="relu")
    else:
        x = builder.add(ops.Clip(0.0, float("inf")), [x], output="relu")
        x = builder.add(ops.Reshape((1, 18)), [x], output="flat")
    for index, outputs in enumerate((6, 4)):
        shape = (builder.tensors[x].shape[1], outputs)
        weights = builder.constant(f"v{index}", rng.normal(0, 1, shape).astype(np.float32))
        x = builder.add(ops.MatMul(), [x, weights], output=f"fc{index}")
    return builder.build([x])


@pytest.fixture(scope="module")
def planned() -> ld.PlannedModel:
    return ld.plan(network(), "unit-fpga", data=ld.Dataset(SAMPLES), minimize="throughput")


@pytest.fixture(scope="module")
def design(planned: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ld.emit(planned, tmp_path_factory.mktemp("design") / "design")


@pytest.fixture
def copy(design: Path, tmp_path: Path) -> Path:
    shutil.copytree(design, tmp_path / "copy")
    return tmp_path / "copy"


def rehash(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip_bias(folder: Path, layer: int) -> None:
    """Turn over the sign of one bias of a layer: every frame is then wrong."""
    path = next(iter(sorted(folder.glob(f"mem/l{layer}_matrix_b*.hex"))))
    lines = path.read_text().split()
    width = int(
        re.search(rf"rom #\(\.WIDTH\((\d+)\)[^)]*\)[^;]*{path.name}", (folder / "lepton_top.v").read_text(), re.DOTALL)[1]
    )
    lines[0] = f"{int(lines[0], 16) ^ (1 << (width - 1)):0{len(lines[0])}x}"
    path.write_text("\n".join(lines) + "\n")
    rehash(folder)


@pytest.mark.parametrize(("layer", "name"), [(0, "conv"), (1, "fc0"), (2, "fc1")])
def test_the_first_wrong_layer_word_and_cycle_are_named(layer: int, name: str, copy: Path, needs_tool: Any) -> None:
    needs_tool("iverilog")
    whole = first_wrong.probe(open_artefact(copy), 2)
    flip_bias(copy, layer)
    damaged = first_wrong.probe(open_artefact(copy), 2)
    reason = first_wrong.explain(open_artefact(copy), 1)
    found = re.fullmatch(
        r"layer '(\w+)' word (\d+) \(sample (\d)\) in cycle (\d+): 0x([0-9a-f]+), expected 0x([0-9a-f]+)", reason
    )
    assert found is not None, reason
    assert found[1] == name
    fifo = f"l{layer}_fifo"
    word = next(index for index, pair in enumerate(zip(whole[fifo], damaged[fifo], strict=True)) if pair[0] != pair[1])
    assert int(found[2]) == word
    assert (int(found[4]), int(found[5], 16)) == damaged[fifo][word]
    assert int(found[6], 16) == whole[fifo][word][1]
    assert int(found[3]) == 2 * word // len(whole[fifo])


def test_a_sound_design_agrees_at_every_stage(copy: Path, needs_tool: Any) -> None:
    needs_tool("iverilog")
    assert first_wrong.explain(open_artefact(copy), 1) == "sample 1: every stage agrees with the reference in Icarus Verilog"


def test_unknown_bits_are_named(copy: Path, needs_tool: Any) -> None:
    needs_tool("iverilog")
    path = next(iter(sorted(copy.glob("mem/l1_matrix_w*.hex"))))
    path.write_text("")  # a memory without an image holds unknown bits
    rehash(copy)
    reason = first_wrong.explain(open_artefact(copy), 0)
    assert re.match(r"layer 'fc0' word 0 \(sample 0\) in cycle \d+: unknown bits, expected", reason), reason


def test_expected_words_follow_the_stream_behind_a_flatten() -> None:
    """A clip that moves back over a flatten leaves its stage without a tensor, whose order is not the stream's."""
    bundle, _ = quantize(network(clip_behind_flatten=True), Recipe(Precision.parse("int8")), ld.Dataset(SAMPLES))
    lowered = lower_bundle(bundle)
    streams = stream_graph(lowered)
    assert isinstance(streams, StreamGraph)
    shapes = {name: value.shape for name, value in steps(lowered, {"x": SAMPLES[:1]})}
    for layer in streams.layers:
        if layer.tensor and hasattr(layer, "extent"):
            spatial = shapes[layer.tensor][2:] or (1, 1)
            assert spatial == layer.out_extent, layer.name


def checks_of(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in ld.verify(folder).checks}


@pytest.mark.slow
@pytest.mark.rtl
def test_verify_tells_a_wrong_word_from_a_late_one(copy: Path, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("iverilog")
    shutil.copytree(copy, tmp_path / "late")
    flip_bias(copy, 2)
    wrong = checks_of(copy)
    outputs = wrong.pop("outputs_equal")
    assert outputs.status == "failed"
    assert outputs.observed > 0
    assert outputs.reason.startswith("layer 'fc1' word ")
    assert wrong.pop("testbench").status == "failed"
    assert {check.status for check in wrong.values()} == {"passed"}  # the cycles are as predicted

    # FIFOs of one word pass a beat every other cycle: later, and every word right.
    top = tmp_path / "late" / "lepton_top.v"
    top.write_text(re.sub(r"(stream_fifo #\(\.WIDTH\(\d+\), \.DEPTH)\(\d+\)", r"\1(1)", top.read_text()))
    rehash(tmp_path / "late")
    late = checks_of(tmp_path / "late")
    assert late["outputs_equal"].status == "passed"
    failed = {name for name, check in late.items() if check.status == "failed"}
    assert failed & {"latency_cycles", "interval_cycles"}
    stalls = [check for name, check in late.items() if name.startswith("stalls_") and check.status == "failed"]
    assert stalls
    assert all(re.fullmatch(r"(input|output) beat \d+ in cycle \d+, predicted \d+", check.reason) for check in stalls)


def test_the_first_wrong_tensor_of_a_program_is_named(planned: ld.PlannedModel, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    folder = ld.emit(planned, tmp_path / "program", emitter="cpp")
    assert checks_of(folder)["outputs_equal"].status == "passed"
    text = (folder / "weights.inc").read_text()
    for name, tensor in (("fc1_bias", "fc1.acc"), ("conv_bias", "conv.acc")):  # each hides the one behind it
        start = text.index("{", text.index(f"_{name}[")) + 2
        end = text.index(",", start)
        text = text[:start] + str(int(text[start:end]) + 1000) + text[end:]
        (folder / "weights.inc").write_text(text)
        rehash(folder)
        check = checks_of(folder)["outputs_equal"]
        assert check.status == "failed"
        found = re.fullmatch(r"sample 0: tensor '([\w.]+)' element 0 is (-?\d+), expected (-?\d+)", check.reason)
        assert found is not None, check.reason
        assert found[1] == tensor
        assert int(found[2]) == int(found[3]) + 1000


@pytest.mark.parametrize("form", ["int8", "float32"])
def test_results_that_overwrite_one_another_are_told_from_wrong_ones(form: str, tmp_path: Path, needs_tool: Any) -> None:
    """All results at the start of the arena: each step destroys what it reads, which memory of their own hides."""
    needs_tool("g++")
    folder = ld.emit(ld.plan(network(), "unit-cpu", format=form, data=ld.Dataset(SAMPLES)), tmp_path / "program")
    assert checks_of(folder)["outputs_equal"].status == "passed"
    text = (folder / "model.cpp").read_text()
    (folder / "model.cpp").write_text(re.sub(r"PLACE\((\d+), \d+\)", r"PLACE(\1, 0)", text))
    rehash(folder)
    check = checks_of(folder)["outputs_equal"]
    assert check.status == "failed"
    assert "arena" in check.reason
