"""Projects for high-level synthesis: text that says what the schedule says, and nothing of where it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.compress.quantize import noise
from lepton_dse.emit.artefact import EmitRequest
from lepton_dse.emit.hls.emitter import EMITTER
from lepton_dse.emit.hls.tables import table_text
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.reference.vectors import make_vectors
from lepton_dse.rtl_library import Multiplier
from lepton_dse.schedule.stream import (
    Folding,
    Instance,
    MatrixLayer,
    MemoryPort,
    StreamGraph,
    StreamSchedule,
    foldings_of,
    stream_graph,
    stream_schedule,
)
from lepton_dse.schedule.stream.layers import OUTPUT

SAMPLES = 5


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def schedule_of(planned: ld.PlannedModel) -> StreamSchedule:
    streams = stream_graph(planned.lowered)
    assert isinstance(streams, StreamGraph)
    return stream_schedule(streams, foldings_of(planned.plan, streams))


def request_of(planned: ld.PlannedModel, schedule: StreamSchedule | None) -> EmitRequest:
    streams = stream_graph(planned.lowered)
    assert isinstance(streams, StreamGraph)
    x = noise(planned.bundle.graph, 4, 2).x
    return EmitRequest(
        planned.plan, planned.lowered, make_vectors(planned.lowered, x, (streams.input.name, streams.output.name)), schedule
    )


@pytest.fixture(scope="module")
def design(digits: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ld.emit(digits, tmp_path_factory.mktemp("hls") / "design", emitter="hls", data=noise(digits.bundle.graph, 4, SAMPLES))


def joined() -> ld.PlannedModel:
    """A convolution whose stream two others take, and their sum."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("joined")
    point = ops.Window.full((1, 1))
    x = builder.input("x", (1, 2, 4, 4))
    for name, source in (("trunk", x), ("left", "trunk"), ("right", "trunk")):
        weights = builder.constant(f"{name}.w", rng.normal(0, 1, (2, 2, 1, 1)).astype(np.float32))
        builder.add(ops.Conv(point), [source, weights], output=name)
    return ld.plan(builder.build([builder.add(ops.Add(), ["left", "right"], output="sum")]), "unit-fpga")


def test_emitting_twice_gives_the_same_bytes(digits: ld.PlannedModel, design: Path, tmp_path: Path) -> None:
    again = ld.emit(digits, tmp_path / "again", emitter="hls", data=noise(digits.bundle.graph, 4, SAMPLES))
    assert contents(again) == contents(design)


def test_no_path_of_this_machine_is_in_the_artefact(design: Path) -> None:
    for name, data in contents(design).items():
        text = data.decode("utf-8", errors="replace")
        assert str(Path.home()) not in text, name
        assert str(design) not in text, name
        assert not re.search(r"[\"' =](/[\w.-]+){2,}", text), name


def fifos_to(schedule: StreamSchedule) -> dict[tuple[str, int], int]:
    """Words of the FIFOs behind each instance that is none, by its name and copy: an oracle that follows the links one by one."""
    found: dict[tuple[str, int], int] = {}
    instances = schedule.instances
    for link in schedule.links:
        if instances[link.source].module.name == "stream_fifo":
            continue
        total, sink = 0, link.sink
        while sink != OUTPUT and instances[sink].module.name == "stream_fifo":
            parameters: Any = instances[sink].parameters
            total += parameters.depth
            (sink,) = (entry.sink for entry in schedule.links if entry.source == sink)
        found[instances[link.source].name, link.copy] = total
    return found


def pragmas(text: str) -> dict[str, int]:
    return {name: int(depth) for name, depth in re.findall(r"#pragma HLS STREAM variable=(\w+) depth=(\d+)", text)}


@pytest.mark.parametrize("chosen", ["digits", "joined"])
def test_streams_are_as_deep_as_the_fifos(chosen: str, digits: ld.PlannedModel, tmp_path: Path) -> None:
    planned = digits if chosen == "digits" else joined()
    schedule = schedule_of(planned)
    # Depths that differ from one another, and FIFOs in a row.
    foldings = [
        Folding(1, 1, 3 + position, feed_depths=tuple(20 + position + 7 * operand for operand in range(len(sources))))
        for position, sources in enumerate(schedule.streams.sources)
    ]
    for entry in (schedule, stream_schedule(schedule.streams, foldings, head_depth=9)):
        text = EMITTER.emit(request_of(planned, entry))["lepton_top.cpp"].decode()
        forks = {instance.name for instance in entry.instances if instance.module.name == "stream_fork"}
        # Behind a fork a stream holds what the registers of the Verilog modules do, too.
        expected = {
            f"{name}_words{copy if name in forks else ''}": max(total, 2) + 8 * (name in forks)
            for (name, copy), total in fifos_to(entry).items()
        }
        found = pragmas(text)
        head: Any = entry.instances[0].parameters
        assert found.pop("input_words") >= head.depth
        assert found == expected
        assert set(found) | {"input_words"} == set(re.findall(r'hls::stream<ap_uint<\d+> > (\w+)\("\1"\);', text))
    assert max(found.values()) > 20


def structures(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for name, body in re.findall(r"^struct (\w+) \{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL):
        values = dict(re.findall(r"static const int (\w+) = (-?\d+);", body))
        yield name, values | dict.fromkeys(re.findall(r"typedef (lepton::\w+) Product;", body), "product")


def test_parameters_are_those_of_the_schedule(digits: ld.PlannedModel, design: Path) -> None:
    text = (design / "lepton_top.cpp").read_text()
    found = dict(structures(text))
    expected = {instance.name: instance for instance in schedule_of(digits).instances if instance.module.name != "stream_fifo"}
    assert set(found) == set(expected)
    for name, instance in expected.items():
        values = instance.parameters.verilog_parameters()
        numbers = {key: str(value) for key, value in values.items() if not isinstance(value, str)}
        assert numbers.items() <= found[name].items(), name
        if "MULT" in values:
            assert found[name][f"lepton::{str(values['MULT']).capitalize()}"] == "product"
        assert f"lepton::{instance.module.name}<{name}>(" in text
    calls = re.findall(r"^    lepton::(\w+)<", text, re.MULTILINE)
    assert calls[0] == calls[-1] == "forward"
    assert calls[1:-1] == [instance.module.name for instance in expected.values()]


def test_the_multipliers_are_what_the_plan_says(digits: ld.PlannedModel) -> None:
    streams = schedule_of(digits).streams
    for multiplier, word in ((Multiplier.DSP, "Dsp"), (Multiplier.LUT, "Lut"), (Multiplier.PACKED, "Packed")):
        schedule = stream_schedule(streams, [Folding(2, 1, multiplier=multiplier) for _ in streams.layers])
        text = EMITTER.emit(request_of(digits, schedule))["lepton_top.cpp"].decode()
        assert set(re.findall(r"typedef lepton::(\w+) Product;", text)) == {word}


def test_directives_follow_the_folding(digits: ld.PlannedModel, design: Path) -> None:
    text = (design / "lepton_top.cpp").read_text()
    top = text[text.index("void lepton_top(") :]
    assert top.count("#pragma HLS DATAFLOW") == 1
    for pragma in ("axis port=input", "axis port=output", "ap_ctrl_none port=return"):
        assert f"#pragma HLS INTERFACE {pragma}\n" in top
    reshaped = set(re.findall(r"#pragma HLS ARRAY_RESHAPE variable=(\w+) complete dim=2", top))
    expected = set()
    for stage in schedule_of(digits).stages:
        if isinstance(stage.layer, MatrixLayer) and stage.folding.pe * stage.folding.simd > 1:
            expected.add(
                next(f"{instance.name}_weights" for instance in stage.instances if instance.module.name == "matrix_vector_unit")
            )
    assert expected <= reshaped
    assert all(name.endswith(("_weights", "_bias", "_multipliers")) for name in reshaped)


def test_every_loop_of_the_library_is_pipelined() -> None:
    templates = Path(ld.__file__).parent / "emit" / "hls" / "templates" / "hls"
    headers = sorted(templates.glob("*.h"))
    modules = [path for path in headers if path.stem not in {"words", "rounding", "products"}]
    assert len(modules) >= 11
    for path in modules:
        text = path.read_text()
        assert text.count("#pragma HLS PIPELINE II=1 style=flp") == 1, path.name
        # Loops over lanes are rolled out: one directive each.
        lanes = len(re.findall(r"for \(int (?:lane|first|next|pe|simd) = ", text))
        assert text.count("#pragma HLS UNROLL") == lanes, path.name


def array(text: str, name: str) -> np.ndarray[Any, Any]:
    found = re.search(rf"{name}\[(\d+)\]\[(\d+)\] = \{{(.*?)^\}};", text, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return np.asarray([int(value) for value in re.findall(r"-?\d+", found[3].replace("LL", ""))]).reshape(
        int(found[1]), int(found[2])
    )


def test_tables_hold_the_weights(digits: ld.PlannedModel, design: Path) -> None:
    checked = 0
    for stage in schedule_of(digits).stages:
        if not isinstance(stage.layer, MatrixLayer):
            continue
        layer, pe, simd = stage.layer, stage.folding.pe, stage.folding.simd
        instance = next(entry for entry in stage.instances if entry.module.name == "matrix_vector_unit")
        text = (design / "tables" / f"{instance.name}.h").read_text()
        rows = array(text, f"{instance.name}_weights")
        folds = layer.channels // simd
        for index, row in enumerate(rows):
            group, rest = divmod(index, layer.window.taps * folds)
            tap, fold = divmod(rest, folds)
            i, j = divmod(tap, layer.window.kernel[1])
            wanted = layer.weights[group * pe : (group + 1) * pe, i, j, fold * simd : (fold + 1) * simd]
            assert row.tolist() == wanted.reshape(-1).tolist()
        assert array(text, f"{instance.name}_bias").reshape(-1).tolist() == layer.bias.tolist()
        checked += 1
    assert checked > 0


@pytest.mark.parametrize("value", [0, -1, (1 << 31) - 1, -(1 << 31), 1 << 31, (1 << 63) - 1, -(1 << 63)])
def test_every_constant_has_a_literal(value: int, digits: ld.PlannedModel) -> None:
    instance = next(entry for entry in schedule_of(digits).instances if entry.memories)
    memory = replace(
        next(entry for entry in instance.memories if entry.port is MemoryPort.BIAS),
        depth=1,
        fields=1,
        field_bits=64,
        image=lambda: np.asarray([value], np.int64),
    )
    text = table_text(Instance("one", instance.module, instance.parameters, (memory,)))
    found = re.search(r"lepton::Constant<64>::type one_bias\[1\]\[1\] = \{\n    \{(.*)\},", text)
    assert found is not None
    # No literal's magnitude is above that of the type that C++ gives it.
    numbers = [int(number) for number in re.findall(r"-?\d+", found[1].replace(" - ", " -"))]
    assert sum(numbers) == value
    assert all(abs(number) < 1 << 31 for number in numbers) or "LL" in found[1] or value == -(1 << 31)
    assert all(abs(number) < 1 << 63 for number in numbers)


def test_the_script_names_part_and_clock(design: Path) -> None:
    text = (design / "run_hls.tcl").read_text()
    assert 'set part "xc7z020clg400-1"' in text
    assert "set period 10\n" in text
    assert "set_top lepton_top\n" in text
    assert set(re.findall(r"\$folder ([\w./]+)\]", text)) <= {*contents(design), "vectors"}


def test_a_device_without_a_part_number_asks_for_one(tmp_path: Path) -> None:
    text = (ld.emit(joined(), tmp_path / "design", emitter="hls") / "run_hls.tcl").read_text()
    assert 'set part ""' in text
    assert "set PART" in text


def test_vectors_and_description_are_those_of_the_verilog_design(digits: ld.PlannedModel, design: Path, tmp_path: Path) -> None:
    other = ld.emit(digits, tmp_path / "verilog", data=noise(digits.bundle.graph, 4, SAMPLES))
    for name in ("input.hex", "expected.hex"):
        assert (design / "vectors" / name).read_bytes() == (other / "vectors" / name).read_bytes()
    about, theirs = (json.loads((folder / "design.json").read_text()) for folder in (design, other))
    shared = ("input_beats", "output_beats", "input_lanes", "output_lanes", "input_bits", "output_bits", "frames")
    assert {key: about[key] for key in shared} == {key: theirs[key] for key in shared}
    assert about["depths"] == pragmas((design / "lepton_top.cpp").read_text())


def test_names_from_a_model_do_not_reach_the_code(tmp_path: Path) -> None:
    evil = 'x*/ ??/\n#include "y" \\\n[exec rm]; $z `w` \u202e'
    builder = GraphBuilder(evil)
    weights = builder.constant(f"{evil}w", np.ones((3, 2), np.float32))
    graph = builder.build([builder.add(ops.MatMul(), [builder.input(evil, (1, 3)), weights], output=f"{evil}y", name=evil)])
    files = contents(ld.emit(ld.plan(graph, "unit-fpga"), tmp_path / "design", emitter="hls"))
    for name, data in files.items():
        if not name.endswith((".h", ".cpp", ".tcl")):
            continue
        text = data.decode("ascii")
        code = re.sub(r"//[^\n]*", "", text)
        assert "exec" not in code, name
        assert not re.search(r"//[^\n]*(\\|\?\?/)\n", text), name
        assert '"y"' not in re.findall(r"#include (\S+)", text), name
    assert "exec" not in files["run_hls.tcl"].decode()


def test_what_is_no_streaming_plan_is_refused(digits: ld.PlannedModel, tmp_path: Path) -> None:
    with pytest.raises(LeptonError, match=r"amd-zynq-7020: the plan has no streaming schedule; plan for an fpga target"):
        EMITTER.emit(request_of(digits, None))
    planned = ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), "unit-cpu")
    with pytest.raises(LeptonError, match=r"no emitter 'hls' for cpu targets"):
        ld.emit(planned, tmp_path / "out", emitter="hls")
    assert not (tmp_path / "out").exists()


def test_words_wider_than_an_integer_are_refused() -> None:
    builder = GraphBuilder("wide")
    weights = builder.constant("w", np.ones((600, 2), np.float32))
    planned = ld.plan(
        builder.build([builder.add(ops.MatMul(), [builder.input("x", (1, 600)), weights], output="y", name="wide")]), "unit-fpga"
    )
    streams = stream_graph(planned.lowered)
    assert isinstance(streams, StreamGraph)
    with pytest.raises(LeptonError, match=r"wide: words of 4800 bits, .* at most 4096; plan with fewer"):
        EMITTER.emit(request_of(planned, stream_schedule(streams, [Folding(1, 600)])))


def test_verilog_stays_what_an_fpga_plan_is_emitted_as(digits: ld.PlannedModel, tmp_path: Path) -> None:
    assert json.loads((ld.emit(digits, tmp_path / "default") / "manifest.json").read_text())["emitter"] == "verilog"
