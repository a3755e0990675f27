"""C++ artefacts: the same bytes every time, no warnings, built by their CMake file, callable as a shared library."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import lepton_dse as ld
from lepton_dse.compress.quantize import noise
from lepton_dse.emit.cpp.kernels import float_literal
from lepton_dse.emit.writer import Writer
from lepton_dse.errors import InvalidPlanError, LeptonError, MissingToolError
from lepton_dse.files import data_folder
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.memory import map_memory, stored_bytes
from lepton_dse.numerics.formats import BOOL, FLOAT32, INT32, INT64
from lepton_dse.reference import engine, fast
from lepton_dse.testing.strategies import graphs

sys.path.insert(0, str(Path(__file__).parents[2] / "studies" / "models"))
from published import published

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
    mapped = planned.plan.memory
    assert mapped == map_memory(planned.lowered, bytes_of=stored_bytes)
    compiled(folder / "model.cpp", tmp_path / "model.so", "-shared", "-fPIC")
    symbols = subprocess.run(
        ["nm", "--print-size", str(tmp_path / "model.so")], capture_output=True, text=True, check=True
    ).stdout
    (arena,) = (line.split() for line in symbols.splitlines() if re.search(r"\d+arenaE$", line))
    assert int(arena[1], 16) == mapped.peak == mapped.bound
    assert f"one arena of {mapped.peak:,} bytes; the least there is" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bytes_of": lambda tensor: 2 * stored_bytes(tensor)}, "not that of the model, see tensor 'image'; plan again"),
        ({"bytes_of": stored_bytes, "alignment": 4}, "blocks aligned to 4 bytes, a program needs a power of two from 8"),
        ({"bytes_of": stored_bytes, "alignment": 24}, "blocks aligned to 24 bytes, a program needs a power of two from 8"),
    ],
)
def test_a_map_of_something_else_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    planned = ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), "unit-cpu", format="w4a16")
    other = planned.plan.model_copy(update={"memory": map_memory(planned.lowered, **options)})
    with pytest.raises(InvalidPlanError, match=message):
        ld.emit(replace(planned, plan=other), tmp_path / "cpp")
    assert not (tmp_path / "cpp").exists()


RNG = np.random.default_rng(2)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


def functions() -> Graph:
    """A chain of all functions of elements, on values that each of them takes."""
    builder = GraphBuilder("functions")
    x = builder.input("x", (1, 3, 4))
    for function in (ops.UnaryFunction.NEGATE, ops.UnaryFunction.ERROR_FUNCTION, ops.UnaryFunction.EXPONENTIAL):
        x = builder.add(ops.Unary(function), [x], output=function.value)
    for function in (ops.UnaryFunction.LOGARITHM, ops.UnaryFunction.ABSOLUTE, ops.UnaryFunction.SQUARE_ROOT):
        x = builder.add(ops.Unary(function), [x], output=function.value)
    for function in ops.BinaryFunction:
        other = builder.constant(f"{function.value}_with", np.abs(normal(3, 1)) + np.float32(0.5))
        x = builder.add(ops.Binary(function), [x, other], output=f"{function.value}_done")
    x = builder.add(ops.Unary(ops.UnaryFunction.RECIPROCAL), [builder.add(ops.Sigmoid(), [x], output="s")], output="r")
    return builder.build([builder.add(ops.Gelu(True), [builder.add(ops.Gelu(), [x], output="g")], output="y")])


def choices() -> Graph:
    """Comparisons, truth values, whole numbers, rows of a table and constants of every kind."""
    builder = GraphBuilder("choices")
    x = builder.input("x", (1, 3, 4))
    for relation in ops.Relation:
        truth = builder.add(
            ops.Compare(relation), [x, builder.constant(f"{relation.value}_with", normal(4))], output=relation.value
        )
        x = builder.add(
            ops.Where(), [truth, x, builder.constant(f"{relation.value}_else", normal(3, 1))], output=f"{relation.value}_x"
        )
    never = builder.constant("never", np.asarray([False, True, False, False]))
    truth = builder.add(ops.Binary(ops.BinaryFunction.MAXIMUM), [truth, never], output="either")
    near = builder.add(
        ops.Clip(-4.9, 4.9), [builder.add(ops.Binary(ops.BinaryFunction.MULTIPLY), [x, x], output="xx")], output="near"
    )
    index = builder.add(ops.Cast(INT64), [near], output="index")
    rows = builder.add(ops.Gather(0), [builder.constant("table", normal(5, 2)), index], output="rows")
    picked = builder.add(
        ops.Gather(2), [rows, builder.constant("order", np.asarray([[3, -1], [0, 1]], np.int32))], output="picked"
    )
    number = builder.add(ops.Cast(FLOAT32), [builder.add(ops.Cast(BOOL), [index], output="some")], output="number")
    number = builder.add(ops.Where(), [truth, number, x], output="numbers")
    sides = builder.add(ops.Reshape((1, 3, 2, 2, 1)), [number], output="sides")
    return builder.build([builder.add(ops.Add(), [picked, sides], output="y")])


def pieces() -> Graph:
    """Normalisations, reductions and what picks and repeats elements."""
    builder = GraphBuilder("pieces")
    x = builder.input("x", (1, 4, 6))
    for place, axes in enumerate([(2,), (1,), (1, 2)]):
        extents = [(1, 4, 6)[axis] for axis in axes]
        operands = [x, builder.constant(f"scale{place}", normal(*extents)), builder.constant(f"shift{place}", normal(*extents))]
        x = builder.add(ops.LayerNorm(axes, 1e-3), operands, output=f"norm{place}")
    x = builder.add(ops.Slice((0, 3, 1), (1, 2, 3), (1, -2, 2)), [x], output="slice")
    parts = [builder.add(ops.Reduce(function, (2,), True), [x], output=function.value) for function in ops.ReduceFunction]
    parts.append(builder.add(ops.Reduce(ops.ReduceFunction.SUM, (1, 2), False), [x], output="all"))
    parts[-1] = builder.add(
        ops.Expand((1, 2, 1)), [builder.add(ops.Reshape((1, 1, 1)), [parts[-1]], output="one")], output="wide"
    )
    return builder.build([builder.add(ops.Concat(2), [x, *parts], output="y")])


def attention() -> Graph:
    """A product of two activations."""
    builder = GraphBuilder("attention")
    x = builder.input("x", (1, 2, 5, 4))
    scores = builder.add(ops.MatMul(), [x, builder.add(ops.Transpose((0, 1, 3, 2)), [x], output="t")], output="scores")
    shares = builder.add(ops.Softmax((3,)), [scores], output="shares")
    return builder.build([builder.add(ops.MatMul(), [shares, x], output="y")])


@pytest.mark.parametrize("build", [functions, choices, pieces, attention])
def test_programs_of_transformers_give_what_the_graph_means(build: Any, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    graph = build()
    folder = ld.emit(ld.plan(graph, "unit-cpu", format="float32"), tmp_path / "cpp")
    compiled(folder / "model.cpp", tmp_path / "model.so", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover")
    library = ctypes.CDLL(str(tmp_path / "model.so"))
    x = noise(graph, 3, 4).x
    for sample, expected in zip(x, engine.run(graph, x)["y"], strict=True):
        image, result = np.ascontiguousarray(sample), np.empty(expected.shape, expected.dtype)
        library.model_run(ctypes.c_void_p(image.ctypes.data), ctypes.c_void_p(result.ctypes.data))
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_a_step_is_never_taken_for_dead(tmp_path: Path, needs_tool: Any) -> None:
    """GCC 12 dropped a Concat of this network, whose stores are eight floats apart, before steps were kept from its analysis."""
    needs_tool("g++")
    try:
        graph = ld.load(published("basic-pitch", fetch=False))
    except MissingToolError as error:
        pytest.skip(str(error))
    data = ld.Dataset(np.random.default_rng(0).normal(0, 0.1, (2, 43_844, 1)).astype(np.float32))
    folder = ld.emit(ld.plan(graph, "unit-cpu", format="float32", data=data), tmp_path / "cpp", data=data)
    assert ld.verify(folder).passed
    text = (folder / "model.cpp").read_text()
    assert text.count("STEP void step") == text.count("void step") > 100


def test_an_output_that_is_a_constant(tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    builder = GraphBuilder("fixed")
    builder.constant("fixed", normal(1, 3))
    graph = builder.build([builder.add(ops.Clip(0.0, 1.0), [builder.input("x", (1, 4))], output="y"), "fixed"])
    assert ld.verify(ld.emit(ld.plan(graph, "unit-cpu", format="float32"), tmp_path / "cpp")).passed


def test_indices_beyond_a_table_stay_inside_it(tmp_path: Path, needs_tool: Any) -> None:
    """The reference refuses them; a program that meets one anyway reads the nearest row and nothing else."""
    needs_tool("g++")
    builder = GraphBuilder("rows")
    index = builder.add(ops.Cast(INT32), [builder.input("x", (1, 5))], output="index")
    graph = builder.build(
        [builder.add(ops.Gather(0), [builder.constant("table", np.arange(3, dtype=np.float32)), index], output="y")]
    )
    planned = ld.plan(graph, "unit-cpu", format="float32", data=ld.Dataset(np.zeros((2, 5), np.float32)))
    folder = ld.emit(planned, tmp_path / "cpp", data=ld.Dataset(np.zeros((2, 5), np.float32)))
    compiled(folder / "model.cpp", tmp_path / "model.so", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover")
    x, y = np.asarray([2, -1, -4, 7, 1e30], np.float32), np.empty(5, np.float32)
    ctypes.CDLL(str(tmp_path / "model.so")).model_run(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data))
    assert y.tolist() == [2, 2, 0, 2, 2]


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
