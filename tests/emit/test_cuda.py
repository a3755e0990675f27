"""CUDA artefacts: the same bytes every time, no warnings, callable from C and Python, and safe from the names in a model."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lepton_dse as ld
from lepton_dse.compress.quantize import noise
from lepton_dse.emit.artefact import EmitRequest
from lepton_dse.emit.cuda.emitter import EMITTER, kernel_identifiers, library
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.files import data_folder
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import FLOAT32, INT8, INT64, NumberFormat
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.reference import engine, fast
from lepton_dse.reference.vectors import Vectors
from lepton_dse.schedule.gpu import arena, gpu_program
from lepton_dse.testing.strategies import graphs

TARGET = "nvidia-a100-sxm-80gb"
COMPILE = ("-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", "-x", "c++")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def planned() -> ld.PlannedModel:
    return ld.plan(ld.load(data_folder("models") / "digits_cnn.onnx"), TARGET, format="int8")


@settings(max_examples=8)
@given(graph=graphs(branches=True), form=st.sampled_from(["int8", "w4a8", "float16", "float32"]))
def test_emitting_twice_gives_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, graph: Graph, form: str) -> None:
    planned = ld.plan(graph, TARGET, format=form)
    folder = tmp_path_factory.mktemp("cuda")
    ld.emit(planned, folder / "one", emitter="cuda")
    ld.emit(planned, folder / "two", emitter="cuda")
    assert contents(folder / "one") == contents(folder / "two")


def test_what_an_artefact_holds(planned: ld.PlannedModel, tmp_path: Path) -> None:
    found = set(contents(ld.emit(planned, tmp_path / "cuda", emitter="cuda")))
    own = {"model.h", "model.cu", "test.cu", "CMakeLists.txt", "model.py", "README.md", "device.json", "weights.bin"}
    vectors = {"vectors/input.bin", "vectors/expected_0.bin"}
    assert own | vectors | set(library()) <= found
    rest = found - own - vectors - set(library())
    assert {name for name in rest if not name.startswith("graph/")} == {"plan.json", "manifest.json"}
    readme = (tmp_path / "cuda" / "README.md").read_text()
    for kernel in re.findall(r"LEPTON_KERNEL\(\d+\) (\w+)\(", (tmp_path / "cuda" / "model.cu").read_text()):
        assert f"| {kernel} |" in readme


def test_cmake_builds_what_is_there(planned: ld.PlannedModel, tmp_path: Path) -> None:
    """No CUDA compiler is needed to see that every source is there and every target builds without contraction."""
    folder = ld.emit(planned, tmp_path / "cuda", emitter="cuda")
    text = (folder / "CMakeLists.txt").read_text()
    targets = dict(re.findall(r"add_(?:library|executable)\((\w+) (?:SHARED )?(\S+)\)", text))
    assert targets == {"model": "model.cu", "model_test": "test.cu"}
    for target, source in targets.items():
        assert (folder / source).is_file()
        assert f"target_compile_options({target} PRIVATE --fmad=false)" in text
        assert re.search(rf"target_include_directories\({target} (PUBLIC|PRIVATE) \$\{{CMAKE_CURRENT_SOURCE_DIR\}}\)", text)
    included = set(re.findall(r'#include "([^"]+)"', "".join(path.read_text() for path in folder.rglob("*.cu*"))))
    assert all((folder / name).is_file() or (folder / "lepton" / name).is_file() for name in included)


def test_the_header_is_c(planned: ld.PlannedModel, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("gcc")
    ld.emit(planned, tmp_path / "cuda", emitter="cuda")
    user = """
    #include "cuda/model.h"
    int use(const char* weights, const float* image, float* scores);
    int use(const char* weights, const float* image, float* scores) {
        lepton_model* model = 0;
        if (lepton_model_create(weights, &model)) return 1;
        lepton_model_run(model, image, scores);
        lepton_model_destroy(model);
        return MODEL_INPUT0_SIZE - 64 + MODEL_OUTPUT0_SIZE - 10;
    }
    """
    (tmp_path / "user.c").write_text(user)
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", str(tmp_path / "user.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def loader(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("emitted_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(folder: Path) -> str:
    """The library of an artefact, compiled for this machine's CPU."""
    command = ["g++", *COMPILE, "-shared", "-fPIC", str(folder / "model.cu"), "-o", str(folder / "libmodel.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return str(folder / "libmodel.so")


@pytest.mark.slow
def test_python_calls_the_library(planned: ld.PlannedModel, tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    folder = ld.emit(planned, tmp_path / "cuda", emitter="cuda")
    module = loader(folder)
    model = module.Model(built(folder), folder / "weights.bin")
    lowered = planned.lowered
    x = noise(planned.bundle.graph, 5, 3).x
    expected = engine.run(lowered, x, evaluate=fast.evaluate)[lowered.outputs[0]]
    for sample, want in zip(x, expected, strict=True):
        (found,) = model(sample[None])
        np.testing.assert_array_equal(found.reshape(-1), want.reshape(-1))
    with pytest.raises(ValueError, match=r"an input of shape \(8, 8\), the model takes \(1, 1, 8, 8\)"):
        model(x[0, 0])
    with pytest.raises(ValueError, match="2 inputs, the model has 1"):
        model(x[:1], x[:1])
    model.close()
    model.close()
    with pytest.raises(OSError, match="cannot read"):
        module.Model(str(folder / "libmodel.so"), folder / "no such file")
    (folder / "short.bin").write_bytes((folder / "weights.bin").read_bytes()[:-1])
    with pytest.raises(OSError, match="cannot read"):
        module.Model(str(folder / "libmodel.so"), folder / "short.bin")


# --- names that come from a model ---------------------------------------------------------------------------------

HOSTILE = [
    '"); std::system("false"); ("',
    "*/ int broken; /*",
    "**//",
    "ends with a backslash\\",
    "two\nlines\r\n#error broken",
    "trigraph ??/",
    "größe 大小 \U0001f600 \u2028#error",
    "%s%n",
    "'+' \\\" \\n {0} {x}",
    "k0_x",
    "int",
    "a" * 300,
    "\x00\x07",
    "-",
]


def written(graph: Any, feeds: Mapping[str, Any], capability: float = 8.0) -> dict[str, bytes]:
    """Files of a lowered graph whatever its names."""
    program = gpu_program(graph, capability)
    plan: Any = SimpleNamespace(model="hostile */ \\\n#error", target="a", precision="b", memory=arena(program))
    vectors = Vectors(next(iter(feeds.values())), engine.execute(graph, feeds))
    return dict(EMITTER.emit(EmitRequest(plan, graph, vectors, gpu=program)))


def hostile() -> Any:
    """Every name in every place where the text may speak of it: an input, a contraction, a fused result, an output."""
    builder = GraphBuilder("hostile")
    rng = np.random.default_rng(0)
    x = builder.input(f"{HOSTILE[0]} in", (4, 8))
    outputs = []
    for name in HOSTILE:
        w = builder.constant(f"{name} w", rng.integers(-3, 4, (8, 8)).astype(np.float32))
        y = builder.add(ops.MatMul(), [x, w], output=f"{name} sum", name=name)
        x = builder.add(ops.Clip(-9.0, 9.0), [y], output=f"{name} clip", name=f"{name} op")
        outputs.append(builder.add(ops.Transpose((1, 0)), [x], output=name, name=f"{name}.t"))
    return builder.build_lowered(outputs)


@pytest.mark.slow
def test_names_cannot_break_out_of_the_text(tmp_path: Path, needs_tool: Any) -> None:
    needs_tool("g++")
    needs_tool("gcc")
    graph = hostile()
    feeds = {graph.inputs[0]: np.random.default_rng(1).integers(-3, 4, (4, 8)).astype(np.float32)}
    files = written(graph, feeds)
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for name in ("model.cu", "model.h", "test.cu", "model.py"):
        files[name].decode("ascii")
        assert set(files[name]) <= {*range(0x20, 0x7F), 0x0A}
    model = loader(tmp_path).Model(built(tmp_path), tmp_path / "weights.bin")
    for found, expected in zip(model(*feeds.values()), engine.execute(graph, feeds).values(), strict=True):
        np.testing.assert_array_equal(found, expected)
    model.close()
    (tmp_path / "user.c").write_text('#include "model.h"\nint main(void) { return 0; }\n')
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "user.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@settings(max_examples=60)
@given(names=st.lists(st.text(max_size=12), min_size=3, max_size=3, unique=True))
def test_drawn_names_leave_only_comments_and_strings(names: list[str]) -> None:
    """Without comments and strings, the text of a network is the same whatever its names."""

    def text(first: str, second: str, third: str) -> str:
        builder = GraphBuilder("g")
        builder.input(first, (2, 3))
        builder.add(ops.Clip(-1.0, 1.0), [first], output=second)
        builder.add(ops.Softmax((1,)), [second], output=third)
        graph = builder.build_lowered([third])
        files = written(graph, {first: np.zeros((2, 3), np.float32)})
        code = (files["model.cu"] + files["test.cu"] + files["model.h"]).decode("ascii")
        code = re.sub(r"//[^\n]*|/\*.*?\*/", "", code)  # a comment of several lines would stay, and show
        return re.sub(r'"[^"\n]*"', '""', re.sub(r"\bk(\d)_\w*", r"k\1", code))

    assert text(*names) == text("a", "b", "c")


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4, unique=True))
def test_identifiers(names: list[str]) -> None:
    builder = GraphBuilder("g")
    x = builder.input("an input", (2, 3))
    for position, name in enumerate(names):
        x = builder.add(ops.Softmax((1,)), [x], output=f"{position} {name}", name=name or "empty")
    found = kernel_identifiers(gpu_program(builder.build_lowered([x]), 8.0))
    assert len(set(found)) == len(found) == len(names)
    assert all(re.fullmatch(r"k\d+_[A-Za-z0-9_]{0,40}", name) for name in found)


# --- what is refused, in one line ---------------------------------------------------------------------------------


def refused(graph: Any, feeds: Mapping[str, Any]) -> str:
    with pytest.raises(LeptonError) as caught:
        written(graph, feeds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_formats_that_no_kernel_stores() -> None:
    builder = GraphBuilder("g")
    builder.input("x", (2, 3))
    quant = QuantParams((1.0,))
    builder.add(ops.Quantize(), ["x"], output="q", form=NumberFormat.parse("float8_e4m3"), quant=quant)
    builder.add(ops.Dequantize(), ["q"], output="y", form=FLOAT32)
    graph = builder.build_lowered(["y"])
    text = refused(graph, {"x": np.zeros((2, 3), np.float32)})
    assert "float8_e4m3" in text
    assert text.endswith("plan with float32, float16, bfloat16 or integers")


@pytest.mark.parametrize(
    ("attributes", "form", "what"),
    [
        (ops.Reduce(ops.ReduceFunction.SUM, (1,), False), INT8, "a reduction of other numbers than float32"),
        (ops.ArgMax(1, False), INT64, "the greatest of int64"),
        (ops.Unary(ops.UnaryFunction.ABSOLUTE), INT8, "absolute of int8"),
    ],
)
def test_operations_that_no_kernel_computes(attributes: ops.Attributes, form: NumberFormat, what: str) -> None:
    builder = GraphBuilder("g")
    builder.input("x", (2, 3), form)
    builder.add(attributes, ["x"], output="y", name="the one")
    text = refused(builder.build_lowered(["y"]), {"x": np.zeros((2, 3), form.numpy)})
    assert text.startswith(f"the one: {what}; ")


@pytest.mark.parametrize("change", ["time", "bytes", "alignment", "operations"])
def test_a_memory_map_of_other_kernels_is_refused(planned: ld.PlannedModel, change: str, tmp_path: Path) -> None:
    memory = planned.plan.memory
    name = next(iter(memory.places))
    if change == "operations":
        other = ld.map_memory(planned.lowered)
    elif change == "alignment":
        other = memory.model_copy(update={"alignment": 64})
    else:
        entry = memory.places[name]
        update = {"last": entry.last + 1} if change == "time" else {"bytes": entry.bytes - 1}
        other = memory.model_copy(update={"places": {**memory.places, name: entry.model_copy(update=update)}})
    plan = planned.plan.model_copy(update={"memory": other})
    with pytest.raises(InvalidPlanError, match="the memory map is not that of the kernels"):
        ld.emit(replace(planned, plan=plan), tmp_path / "cuda", emitter="cuda")
    assert not (tmp_path / "cuda").exists()
