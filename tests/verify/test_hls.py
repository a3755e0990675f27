"""C++ for high-level synthesis: its C simulation gives the reference's integers, and what is wrong in it is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.compress.quantize import quantize
from lepton_dse.emit.artefact import EmitRequest, finish
from lepton_dse.emit.hls.emitter import EMITTER
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.files import data_folder, write_folder
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.lower import lower_bundle
from lepton_dse.plan import Check
from lepton_dse.reference.vectors import make_vectors
from lepton_dse.schedule.stream import StreamGraph, stream_graph, stream_schedule
from lepton_dse.testing import StreamCase, stream_cases
from lepton_dse.testing.strategies import foldings
from lepton_dse.verify.hls.headers import VARIABLE, ap_types
from lepton_dse.verify.hls.simulation import build, simulate

SAMPLES = np.random.default_rng(1).normal(0, 1, (3, 2, 6, 6)).astype(np.float32)


def residual() -> Graph:
    """conv (3 x 3) with relu, a sum of it and of a convolution of it, a dense layer."""
    rng = np.random.default_rng(2)
    builder = GraphBuilder("net")
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    x = builder.input("x", (1, 2, 6, 6))
    for index, name in enumerate(("conv", "branch")):
        weights = builder.constant(f"w{index}", rng.normal(0, 1, (4, 4 if index else 2, 3, 3)).astype(np.float32))
        y = builder.add(ops.Conv(window), [x, weights], output=name)
        x = y if index else builder.add(ops.Clip(0.0, float("inf")), [y], output="relu")
    x = builder.add(ops.Add(), ["relu", x], output="sum")
    x = builder.add(ops.Reshape((1, 144)), [x], output="flat")
    weights = builder.constant("v", rng.normal(0, 1, (144, 5)).astype(np.float32))
    return builder.build([builder.add(ops.MatMul(), [x, weights], output="fc")])


@pytest.fixture(scope="module")
def plan() -> ld.PlannedModel:
    return ld.plan(residual(), "unit-fpga", data=ld.Dataset(SAMPLES), minimize="throughput")


@pytest.fixture(scope="module")
def design(plan: ld.PlannedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ld.emit(plan, tmp_path_factory.mktemp("hls") / "design", emitter="hls")


@pytest.fixture
def copy(design: Path, tmp_path: Path) -> Path:
    shutil.copytree(design, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def needs_types(needs_tool: Callable[[str], None]) -> None:
    """Skip where the headers are missing, and fail in continuous integration, which installs them."""
    needs_tool("g++")
    try:
        ap_types()
    except MissingToolError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def rehash(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit(folder: Path, name: str, pattern: str, replacement: str) -> None:
    """Change one place of a file and let the manifest fit again."""
    text = (folder / name).read_text()
    changed, count = re.subn(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert count == 1, pattern
    assert changed != text
    (folder / name).write_text(changed)
    rehash(folder)


def checks_of(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in ld.verify(folder).checks}


def statuses(folder: Path) -> dict[str, str]:
    return {name: check.status.value for name, check in checks_of(folder).items()}


PASSED = dict.fromkeys(("outputs_equal", "streams_drained", "testbench", "depths_suffice"), "passed")


@pytest.mark.slow
@pytest.mark.usefixtures("needs_types")
def test_the_digits_network_is_the_reference(tmp_path: Path) -> None:
    model = ld.load(data_folder("models") / "digits_cnn.onnx")
    planned = ld.plan(model, "amd-zynq-7020", minimize="throughput")
    assert statuses(ld.emit(planned, tmp_path / "design", emitter="hls")) == PASSED


def drawn(case: StreamCase, data: st.DataObject) -> dict[str, bytes]:
    """An artefact of a drawn network with drawn foldings, which no planner would choose."""
    lowered = lower_bundle(quantize(case.graph, case.recipe, case.data)[0])
    streams = stream_graph(lowered)
    assume(isinstance(streams, StreamGraph))
    assert isinstance(streams, StreamGraph)
    schedule = stream_schedule(streams, data.draw(foldings(streams)))
    vectors = make_vectors(lowered, case.data.x, (streams.input.name, streams.output.name))
    plan = ld.plan(residual(), "unit-fpga", data=ld.Dataset(SAMPLES)).plan
    return finish(EMITTER, EmitRequest(plan, lowered, vectors, schedule))


@pytest.mark.slow
@pytest.mark.usefixtures("needs_types")
@pytest.mark.parametrize("bits", [8, 4])
@settings(max_examples=7)
@given(data=st.data())
def test_drawn_networks_are_the_reference(bits: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    case = data.draw(stream_cases(low=bits, high=bits, samples=3, wide=True))
    folder = tmp_path_factory.mktemp("drawn") / "design"
    write_folder(folder, drawn(case, data))
    # Drawn depths may be too small for any hardware, so streams have no end here.
    program = build(shutil.which("g++") or "", ap_types(), folder, tmp_path_factory.mktemp("program"))
    found = simulate(program, folder / "vectors")
    assert found.code == 0
    assert found.words == (folder / "vectors" / "expected.hex").read_text().split()
    assert "hls::stream" not in found.text.lower()


@pytest.mark.slow
@pytest.mark.usefixtures("needs_types")
@settings(max_examples=4)
@given(case=stream_cases(samples=2, wide=True))
def test_planned_depths_let_every_frame_through(case: StreamCase, tmp_path_factory: pytest.TempPathFactory) -> None:
    overrides = {name: str(precision) for name, precision in case.overrides.items()}
    planned = ld.plan(case.graph, "amd-zynq-7020", format=str(case.precision), data=case.data, overrides=overrides)
    assume(planned.predicted.feasible)
    assert statuses(ld.emit(planned, tmp_path_factory.mktemp("planned") / "design", emitter="hls")) == PASSED


@pytest.mark.slow
@pytest.mark.usefixtures("needs_types")
def test_a_sound_design_passes_and_a_wrong_weight_is_named(copy: Path) -> None:
    assert statuses(copy) == PASSED
    edit(copy, "tables/l1_matrix.h", r"(_weights\[\d+\]\[\d+\] = \{\n\s+\{)-?\d+", r"\g<1>-128")
    found = checks_of(copy)
    assert {name: check.status.value for name, check in found.items()} == {
        **PASSED,
        "outputs_equal": "failed",
        "testbench": "failed",
    }
    assert found["outputs_equal"].observed is not None
    assert re.fullmatch(
        r"sample 0: layer 'branch' word \d+ is 0x[0-9a-f]+, expected 0x[0-9a-f]+", found["outputs_equal"].reason
    ), found["outputs_equal"].reason


@pytest.mark.slow
@pytest.mark.usefixtures("needs_types")
@pytest.mark.parametrize(
    ("name", "pattern", "replacement"),
    [
        ("hls/rounding.h", r"total \+ half", "total"),
        ("hls/sliding_window.h", r"outside \? padding : ", ""),
        ("hls/add_requantize.h", r"ap_int<17>\(S::ZERO_B\)", "ap_int<17>(S::ZERO_B + 1)"),
    ],
)
def test_a_wrong_library_is_found(name: str, pattern: str, replacement: str, copy: Path) -> None:
    edit(copy, name, pattern, replacement)
    found = statuses(copy)
    assert found["outputs_equal"] == "failed"
    assert found["testbench"] == "failed"


@pytest.mark.slow
@pytest.mark.usefixtures("needs_types")
def test_a_stream_that_is_too_shallow_is_found(copy: Path) -> None:
    """The sum waits for the branch, whose window waits for rows that the other way has no room for."""
    edit(copy, "lepton_top.cpp", r"(#pragma HLS STREAM variable=l0_fork_words1) depth=\d+", r"\1 depth=3")
    found = checks_of(copy)
    assert {name: check.status.value for name, check in found.items()} == {**PASSED, "depths_suffice": "failed"}
    assert found["depths_suffice"].observed == "deadlock"
    assert re.fullmatch(r"stuck at \w+ \((full|empty)\)", found["depths_suffice"].reason)


@pytest.mark.slow
@pytest.mark.usefixtures("needs_types")
def test_words_that_nobody_takes_are_found(copy: Path) -> None:
    edit(copy, "lepton_top.cpp", r"(struct l2_add \{[^}]*PERIODS) = 144", r"\1 = 143")
    assert statuses(copy)["streams_drained"] == "failed"


@pytest.mark.usefixtures("needs_types")
def test_what_does_not_compile_is_one_line(copy: Path) -> None:
    edit(copy, "lepton_top.cpp", r"#pragma HLS DATAFLOW", "nonsense;")
    with pytest.raises(LeptonError, match=r"does not compile: .*nonsense") as raised:
        ld.verify(copy)
    assert "\n" not in str(raised.value)


def test_missing_headers_leave_the_checks_unavailable(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(compiler.parent))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = checks_of(copy)
    assert {check.status.value for check in found.values()} == {"unavailable"}
    assert set(found) == set(PASSED)
    assert all("pip install --no-deps hls4ml" in check.reason and "\n" not in check.reason for check in found.values())
    monkeypatch.setenv("PATH", "")
    assert all("g++ is not installed" in check.reason for check in checks_of(copy).values())


def test_headers_are_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ap_int.h").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(LeptonError, match=r"LEPTON_AP_TYPES: .* has no hls_stream.h; name the folder"):
        ap_types()
    (tmp_path / "hls_stream.h").write_text("")
    assert ap_types() == tmp_path.resolve()
