"""C++ artefacts: the same bytes every time, no warnings, built by their CMake file, callable as a shared library."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import lepton_dse as ld
from lepton_dse.compress.quantize import noise
from lepton_dse.emit.cpp.emitter import stored_bytes
from lepton_dse.emit.cpp.kernels import float_literal
from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.ir.graph import Graph
from lepton_dse.reference import engine, fast
from lepton_dse.testing.strategies import graphs

WARNINGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-pedantic")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=15)
@given(graph=graphs(branches=True))
def test_emitting_twice_gives_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, graph: Graph) -> None:
    planned = ld.plan(graph, "unit-cpu")
    folder = tmp_path_factory.mktemp("cpp")
    ld.emit(planned, folder / "one")
    ld.emit(planned, folder / "two")
    assert contents(folder / "one") == contents(folder / "two")


def compiled(source: Path, out: Path, *options: str) -> None:
    done = subprocess.run(["g++", *WARNINGS, *options, "-o", str(out), str(source)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("form", ["int8", "w4a16", "float32"])
def test_a_shared_library_is_callable_and_equal(form: str, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    graph = ld.load(data_folder("models") / "digits_cnn.onnx")
    planned = ld.plan(graph, "unit-cpu", format=form)
    folder = ld.emit(planned, tmp_path / "cpp")
    compiled(folder / "model.cpp", tmp_path / "model.so", "-shared", "-fPIC")
    library = ctypes.CDLL(str(tmp_path / "model.so"))
    lowered = planned.lowered
    x = noise(graph, 9, 5).x
    want = engine.run(lowered, x, evaluate=fast.evaluate)[lowered.outputs[0]]
    for sample, expected in zip(x, want, strict=True):
        image, result = np.ascontiguousarray(sample), np.empty(expected.shape, expected.dtype)
        library.model_run(ctypes.c_void_p(image.ctypes.data), ctypes.c_void_p(result.ctypes.data))
        if form == "float32":
            assert np.allclose(result, expected, rtol=1e-4, atol=1e-5)
        else:
            assert np.array_equal(result, expected)
    library.model_buffer_count.restype = ctypes.c_size_t
    library.model_buffer.restype = ctypes.c_void_p
    size = ctypes.c_size_t()
    count = library.model_buffer_count()
    assert count > 0
    assert library.model_buffer(ctypes.c_size_t(0), ctypes.byref(size))
    assert size.value > 0
    assert library.model_buffer(ctypes.c_size_t(count), ctypes.byref(size)) is None


@pytest.mark.parametrize("form", ["int8", "w4a16", "float32"])
def test_all_results_share_the_arena_of_the_memory_map(form: str, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    planned = ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), "unit-cpu", format=form)
    folder = ld.emit(planned, tmp_path / "cpp")
    mapped = ld.map_memory(planned.lowered, bytes_of=stored_bytes)
    compiled(folder / "model.cpp", tmp_path / "model.so", "-shared", "-fPIC")
    symbols = subprocess.run(
        ["nm", "--print-size", str(tmp_path / "model.so")], capture_output=True, text=True, check=True
    ).stdout
    (arena,) = (line.split() for line in symbols.splitlines() if re.search(r"\d+arenaE$", line))
    assert int(arena[1], 16) == mapped.peak == mapped.bound
    assert f"one arena of {mapped.peak:,} bytes; the least there is" in (folder / "README.md").read_text()


def test_cmake_builds_the_test_program(digits: ld.PlannedModel, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("cmake")
    needs_tool("g++")
    folder = ld.emit(digits, tmp_path / "cpp", emitter="cpp", data=noise(digits.bundle.graph, 2, 6))
    for command in (["cmake", "-B", "build", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"], ["cmake", "--build", "build"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run([folder / "build" / "model_test", "vectors/input.bin", "found.bin"], cwd=folder, check=True)
    assert (folder / "found.bin").read_bytes() == (folder / "vectors" / "expected_0.bin").read_bytes()
    assert ld.verify(folder).passed  # what a person built in the folder is no change of the artefact
    done = subprocess.run([folder / "build" / "model_test"], cwd=folder, check=False)
    assert done.returncode == 2
    done = subprocess.run(
        [folder / "build" / "model_test", "none.bin", "x"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "cannot open none.bin\n")


def test_the_header_is_c(digits: ld.PlannedModel, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("gcc")
    ld.emit(digits, tmp_path / "cpp", emitter="cpp")
    (tmp_path / "user.c").write_text('#include "cpp/model.h"\nint main(void) { return MODEL_INPUT0_SIZE - 64; }\n')
    done = subprocess.run(
        ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", str(tmp_path / "user.c")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("value", [0.0, -1.5, 1e-45, 3.4e38, 0.1, float("inf"), float("-inf")])
def test_float_literals_read_back(value: float) -> None:
    text = float_literal(float(np.float32(value)))
    if np.isinf(value):
        assert text == ("INFINITY" if value > 0 else "-INFINITY")
    else:
        assert text.endswith("f")
        assert float.fromhex(text[:-1]) == np.float32(value)


def test_formats_that_cpp_lacks_are_refused(tmp_path: Path) -> None:
    planned = ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), "unit-cpu", format="float64")
    if planned.predicted.feasible:
        ld.emit(planned, tmp_path / "out")
    else:
        with pytest.raises(LeptonError):
            ld.emit(planned, tmp_path / "out")


def test_the_writer_indents() -> None:
    out = Writer("  ")
    with out.block("a {"), out.block("b {"):
        out.lines(["c", ""])
    assert out.text() == "a {\n  b {\n    c\n\n  }\n}\n"
