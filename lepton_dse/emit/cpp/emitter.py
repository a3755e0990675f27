"""Plain C++17 with a C ABI: the sequential schedule written out, weights as arrays, a test program and a CMake file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate

import numpy as np

from lepton_dse.emit.artefact import EmitRequest, Emitter
from lepton_dse.emit.cpp.kernels import ctype, float_literal, write_step
from lepton_dse.emit.writer import Writer, comment
from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.ir.tensors import Tensor
from lepton_dse.memory import check_map, stored_bytes
from lepton_dse.numerics.formats import BOOL
from lepton_dse.plan import MemoryMap
from lepton_dse.schedule.program import Program, program

__all__ = ["EMITTER", "INPUT_FILE", "expected_file"]

INPUT_FILE = "vectors/input.bin"
_WIDEST = 8  # bytes of an element
_STEP = (
    "// GCC 12 drops calls of a function whose stores it has turned into differences of addresses, as if they had no effect.",
    "#if defined(__GNUC__) && !defined(__clang__)",
    "#define STEP __attribute__((noipa))",
    "#else",
    "#define STEP",
    "#endif",
    "",
)
_MOST_WEIGHTS = 1 << 26  # elements; as text a larger array is more than a compiler takes


def expected_file(position: int) -> str:
    """Name of the file with the reference values of the output at `position`."""
    return f"vectors/expected_{position}.bin"


def emit(request: EmitRequest) -> Mapping[str, bytes]:
    """Files of the C++ artefact.

    Raises
    ------
    LeptonError
        If an operation has no C++ rule, the weights are too many for source text, or the plan's memory map is of another graph.
    """
    schedule = program(request.graph)
    mapped = request.plan.memory
    check_map(mapped, request.graph, bytes_of=stored_bytes)
    if mapped.alignment % _WIDEST or mapped.alignment & (mapped.alignment - 1):
        what = f"blocks aligned to {mapped.alignment} bytes, a program needs a power of two from {_WIDEST}"
        raise InvalidPlanError(what, where=request.plan.model, fix="plan again")
    identifiers = _identifiers(schedule)
    files = {
        "model.h": _header(schedule),
        "model.cpp": _model(request, schedule, mapped, identifiers),
        "weights.inc": _weights(request, schedule, identifiers),
        "test.cpp": _test(schedule),
        "CMakeLists.txt": _CMAKE,
        "README.md": _readme(request, schedule, mapped),
    }
    encoded = {name: text.encode() for name, text in files.items()}
    encoded[INPUT_FILE] = np.ascontiguousarray(request.vectors.x, "<f4").tobytes()
    for position, tensor in enumerate(schedule.outputs):
        values = request.vectors.tensors[tensor.name]
        encoded[expected_file(position)] = np.ascontiguousarray(values, tensor.format.numpy.newbyteorder("<")).tobytes()
    return encoded


EMITTER = Emitter("cpp", ("cpu", "fpga"), emit)


def _identifiers(schedule: Program) -> dict[str, str]:
    """A C++ identifier for every tensor: its name where that works, numbered so that no two collide."""
    owners: dict[str, str] = {}
    for position, name in enumerate(dict.fromkeys(schedule.aliases.values())):
        owners[name] = f"t{position}_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')[:40]}"
    return {name: owners[owner] for name, owner in schedule.aliases.items()}


def _parameters(schedule: Program) -> str:
    inputs = [f"const {ctype(tensor.format)}* input{index}" for index, tensor in enumerate(schedule.inputs)]
    outputs = [f"{ctype(tensor.format)}* output{index}" for index, tensor in enumerate(schedule.outputs)]
    return ", ".join(inputs + outputs)


def _header(schedule: Program) -> str:
    out = Writer()
    out.lines(
        [
            "/* One sample in, one result out; not reentrant: the working memory is static. */",
            "#ifndef MODEL_H",
            "#define MODEL_H",
            "#include <stddef.h>",
            "#include <stdint.h>",
            *(["#include <stdbool.h>"] if BOOL in {tensor.format for tensor in (*schedule.inputs, *schedule.outputs)} else []),
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
        ]
    )
    for kind, tensors in (("INPUT", schedule.inputs), ("OUTPUT", schedule.outputs)):
        for index, tensor in enumerate(tensors):
            out.line(f"/* {comment(tensor.name)}: {' x '.join(map(str, tensor.shape))} of {tensor.format} */")
            out.line(f"#define MODEL_{kind}{index}_SIZE {tensor.elements}")
    out.line()
    out.line(f"void model_run({_parameters(schedule)});")
    out.lines(
        [
            "/* Results of all operations, for a test that looks for the first wrong one. They last only where model.cpp is",
            "   compiled with MODEL_BUFFERS_APART; otherwise they share one arena, and later ones overwrite earlier ones. */",
        ]
    )
    out.line("size_t model_buffer_count(void);")
    out.line("const void* model_buffer(size_t index, size_t* bytes);")
    out.lines(["", "#ifdef __cplusplus", "}", "#endif", "#endif"])
    return out.text()


def _model(request: EmitRequest, schedule: Program, mapped: MemoryMap, identifiers: dict[str, str]) -> str:
    out = Writer()
    plan = request.plan
    out.line(f"// {comment(plan.model)}, {plan.precision}: integer arithmetic exactly as the reference defines it.")
    includes = ("algorithm", "cmath", "cstdint", "cstdlib", "cstring", "limits")
    out.lines(
        [
            '#include "model.h"',
            *(f"#include <{name}>" for name in includes),
            "",
            *_STEP,
            "namespace {",
            "",
            '#include "weights.inc"',
            "",
        ]
    )
    _memory(out, schedule, mapped, identifiers)
    for index, step in enumerate(schedule.steps):
        out.line()
        shape = " x ".join(map(str, step.write.shape))
        out.line(f"// {step.op.kind} '{comment(step.op.name)}' -> {shape} of {step.write.format}")
        with out.block(f"STEP void step{index}() {{"):
            write_step(out, step, identifiers)
    out.lines(["", "}  // namespace", ""])
    with out.block(f'extern "C" void model_run({_parameters(schedule)}) {{'):
        for index, tensor in enumerate(schedule.inputs):
            out.line(f"std::memcpy({identifiers[tensor.name]}, input{index}, {stored_bytes(tensor)});")
        for index in range(len(schedule.steps)):
            out.line(f"step{index}();")
        for index, tensor in enumerate(schedule.outputs):
            out.line(f"std::memcpy(output{index}, {identifiers[tensor.name]}, {stored_bytes(tensor)});")
    out.line()
    out.line(f'extern "C" size_t model_buffer_count() {{ return {len(schedule.buffers)}; }}')
    out.line()
    with out.block('extern "C" const void* model_buffer(size_t index, size_t* bytes) {'), out.block("switch (index) {"):
        for index, tensor in enumerate(schedule.buffers):
            out.line(f"case {index}: *bytes = {stored_bytes(tensor)}; return {identifiers[tensor.name]};")
        out.line("default: *bytes = 0; return nullptr;")
    return out.text()


def _memory(out: Writer, schedule: Program, mapped: MemoryMap, identifiers: dict[str, str]) -> None:
    """The arena, and where in it each input and each result lies."""
    owners = [*schedule.inputs, *schedule.buffers]
    sizes = [-(-stored_bytes(tensor) // mapped.alignment) * mapped.alignment for tensor in owners]
    *apart, whole = accumulate(sizes, initial=0)
    out.lines(
        [
            "#ifdef MODEL_BUFFERS_APART",
            "#define PLACE(apart, shared) (arena + (apart))",
            f"alignas({mapped.alignment}) unsigned char arena[{max(whole, 1)}];",
            "#else",
            "#define PLACE(apart, shared) (arena + (shared))",
            f"alignas({mapped.alignment}) unsigned char arena[{max(mapped.peak, 1)}];",
            "#endif",
        ]
    )
    for tensor, alone in zip(owners, apart, strict=True):
        kind, name = ctype(tensor.format), identifiers[tensor.name]
        shared = mapped.places[tensor.name].offset
        out.line(f"{kind}* const {name} = reinterpret_cast<{kind}*>(PLACE({alone}, {shared}));  // {tensor.elements} elements")


def _weights(request: EmitRequest, schedule: Program, identifiers: dict[str, str]) -> str:
    total = sum(tensor.elements for tensor in schedule.constants)
    if total > _MOST_WEIGHTS:
        raise LeptonError(
            f"{total} weights are more than source text should hold", fix=f"at most {_MOST_WEIGHTS}; prune the model"
        )
    out = Writer()
    for tensor in schedule.constants:
        out.line(f"const {ctype(tensor.format)} {identifiers[tensor.name]}[{tensor.elements}] = {{")
        values = request.graph.constants[tensor.name].reshape(-1)
        texts = [_literal(value, tensor) for value in values.tolist()]
        out.lines(",".join(texts[start : start + 24]) + "," for start in range(0, len(texts), 24))
        out.line("};")
    return out.text()


def _literal(value: float | int, tensor: Tensor) -> str:
    if tensor.format.is_float:
        return float_literal(float(value))
    return f"{value}LL" if tensor.format.bits > 32 else str(int(value))


def _test(schedule: Program) -> str:
    """A program that runs every sample of the vectors and writes what it got, or all buffers of one sample."""
    out = Writer()
    out.line("// usage: test INPUT OUTPUT...          results of every sample, one file an output")
    out.line("//        test --buffers N INPUT FILE   all working buffers after sample N, in order")
    out.lines(['#include "model.h"', "#include <cstdio>", "#include <cstdlib>", "#include <cstring>", "#include <vector>", ""])
    with out.block("static FILE* opened(const char* path, const char* mode) {"):
        out.line("FILE* file = std::fopen(path, mode);")
        out.line('if (!file) { std::fprintf(stderr, "cannot open %s\\n", path); std::exit(2); }')
        out.line("return file;")
    out.line()
    kind = ctype(schedule.inputs[0].format)
    names = [f"output{index}" for index in range(len(schedule.outputs))]
    with out.block("int main(int argc, char** argv) {"):
        out.line('const bool buffers = argc == 5 && !std::strcmp(argv[1], "--buffers");')
        out.line(f"if (!buffers && argc != {2 + len(names)}) return 2;")
        out.line("const long chosen = buffers ? std::atol(argv[2]) : -1;")
        out.line('FILE* in = opened(argv[buffers ? 3 : 1], "rb");')
        out.line(f"std::vector<{kind}> input(MODEL_INPUT0_SIZE);")
        if kind != "float":
            out.line("std::vector<float> read(MODEL_INPUT0_SIZE);  // whole numbers")
        for index, tensor in enumerate(schedule.outputs):
            out.line(f"std::vector<{ctype(tensor.format)}> output{index}(MODEL_OUTPUT{index}_SIZE);")
        out.line("std::vector<FILE*> files;")
        out.line('for (int index = buffers ? 4 : 2; index < argc; ++index) files.push_back(opened(argv[index], "wb"));')
        source = "input" if kind == "float" else "read"
        reading = f"std::fread({source}.data(), sizeof({source}[0]), {source}.size(), in) == {source}.size()"
        with out.block(f"for (long n = 0; {reading}; ++n) {{"):
            if kind != "float":
                out.line(f"for (size_t index = 0; index < read.size(); ++index) input[index] = static_cast<{kind}>(read[index]);")
            out.line("if (buffers && n != chosen) continue;")
            out.line(f"model_run(input.data(), {', '.join(f'{name}.data()' for name in names)});")
            with out.block("for (size_t index = 0; buffers && index < model_buffer_count(); ++index) {"):
                out.line("size_t bytes = 0;")
                out.line("const void* data = model_buffer(index, &bytes);")
                out.line("std::fwrite(data, 1, bytes, files[0]);")
            out.line("if (buffers) break;")
            for index, name in enumerate(names):
                out.line(f"std::fwrite({name}.data(), sizeof({name}[0]), {name}.size(), files[{index}]);")
        out.line("std::fclose(in);")
        out.line("for (FILE* file : files) std::fclose(file);")
        out.line("return 0;")
    return out.text()


_CMAKE = """\
cmake_minimum_required(VERSION 3.16)
project(model LANGUAGES CXX)

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(model model.cpp)
# Contraction of a multiplication and an addition would round once where the reference rounds twice.
# Results of several types share the arena.
target_compile_options(model PRIVATE -ffp-contract=off -fno-strict-aliasing)
target_include_directories(model PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})

add_executable(model_test test.cpp)
target_link_libraries(model_test model)
"""


def _readme(request: EmitRequest, schedule: Program, mapped: MemoryMap) -> str:
    plan = request.plan
    out = Writer()
    out.line(f"# {plan.model} for {plan.target}, {plan.precision}")
    out.line()
    out.line("Plain C++17, no dependencies. `model.h` is the C interface; `model.cpp` holds one function per operation.")
    out.line()
    out.line("    cmake -B build && cmake --build build")
    out.line("    lepton verify .        # runs the test vectors and compares every output")
    out.line()
    for index, tensor in enumerate(schedule.inputs):
        out.line(f"- `input{index}`: {' x '.join(map(str, tensor.shape))} of {tensor.format}, row-major (`{tensor.name}`)")
    for index, tensor in enumerate(schedule.outputs):
        out.line(f"- `output{index}`: {' x '.join(map(str, tensor.shape))} of {tensor.format}, row-major (`{tensor.name}`)")
    out.line()
    proved = "the least there is" if mapped.peak == mapped.bound else f"{mapped.bound:,} are proved necessary"
    out.line(f"All inputs and results share one arena of {mapped.peak:,} bytes; {proved}.")
    out.line()
    out.line(f"`vectors/` holds {len(request.vectors.x)} samples and the reference's results; `graph/` is the lowered graph.")
    return out.text()
