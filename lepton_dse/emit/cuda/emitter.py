"""CUDA C++ with a C ABI: a kernel for each step, weights in one file, a test program, a CMake file and a Python loader."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.resources import files

import numpy as np

from lepton_dse.emit.artefact import EmitRequest, Emitter
from lepton_dse.emit.cuda.contractions import write_contraction
from lepton_dse.emit.cuda.nests import write_nest
from lepton_dse.emit.cuda.places import Places, places_of
from lepton_dse.emit.writer import Writer, comment
from lepton_dse.plan import MemoryMap
from lepton_dse.schedule.gpu import Contraction, GpuProgram, check_arena

__all__ = [
    "DEVICE_FILE",
    "EMITTER",
    "INPUT_FILE",
    "WEIGHTS_FILE",
    "expected_file",
    "kernel_identifiers",
    "library",
    "model_text",
    "program_files",
]

INPUT_FILE = "vectors/input.bin"
WEIGHTS_FILE = "weights.bin"
DEVICE_FILE = "device.json"
_LIBRARY = ("arithmetic.cuh", "contraction.cuh", "fibres.h", "intrinsics.cuh", "runtime.cuh")


def expected_file(position: int) -> str:
    """Name of the file with the reference values of the output at `position`."""
    return f"vectors/expected_{position}.bin"


@cache
def library() -> Mapping[str, bytes]:
    """The device library's files, as they travel in every artefact."""
    folder = files("lepton_dse.emit.cuda") / "library" / "lepton"
    return {f"lepton/{name}": (folder / name).read_bytes() for name in _LIBRARY}


def emit(request: EmitRequest) -> Mapping[str, bytes]:
    """Files of the CUDA artefact.

    Raises
    ------
    LeptonError
        If an operation has no CUDA rule, or the plan's memory map is not that of its kernels.
    """
    assert request.gpu is not None, "the flow plans kernels for this emitter"
    program = request.gpu
    check_arena(request.plan.memory, program)
    encoded = program_files(program, request.plan.memory)
    encoded["README.md"] = _readme(request, program).encode()
    kind = program.inputs[0].tensor.format.numpy.newbyteorder("<")
    encoded[INPUT_FILE] = np.ascontiguousarray(request.vectors.x, kind).tobytes()
    for position, name in enumerate(program.graph.outputs):
        tensor = program.graph.tensors[name]
        values = request.vectors.tensors[name]
        encoded[expected_file(position)] = np.ascontiguousarray(values, tensor.format.numpy.newbyteorder("<")).tobytes()
    return encoded


def program_files(program: GpuProgram, mapped: MemoryMap) -> dict[str, bytes]:
    """What is compiled and run: the code with its library, the weights, and what they were written for.

    Parameters
    ----------
    program : GpuProgram
    mapped : MemoryMap
        Of the program.

    Raises
    ------
    LeptonError
        If an operation has no CUDA rule.
    """
    places, constants = places_of(program, mapped)
    texts = {
        "model.h": _header(program),
        "model.cu": model_text(program, places),
        "test.cu": _test(program),
        "CMakeLists.txt": _CMAKE,
        "model.py": _loader(program),
        DEVICE_FILE: _device(program),
    }
    return {**{name: text.encode() for name, text in texts.items()}, **library(), WEIGHTS_FILE: constants}


EMITTER = Emitter("cuda", ("gpu",), emit)


def _device(program: GpuProgram) -> str:
    """What the kernels were written for."""
    limits = {} if program.limits is None else {"multiprocessor": asdict(program.limits)}
    return json.dumps({"compute_capability": program.capability, **limits}, indent=1) + "\n"


def kernel_identifiers(program: GpuProgram) -> list[str]:
    """Names of the kernels in the code: numbered, so that no two collide."""
    return [
        f"k{index}_{re.sub(r'[^A-Za-z0-9]+', '_', kernel.name).strip('_')[:40]}" for index, kernel in enumerate(program.kernels)
    ]


def _parameters(program: GpuProgram) -> str:
    inputs = [f"const {_abi(buffer.tensor.format.numpy)}* input{index}" for index, buffer in enumerate(program.inputs)]
    outputs = [f"{_abi(buffer.tensor.format.numpy)}* output{index}" for index, buffer in enumerate(program.outputs)]
    return ", ".join(["lepton_model* model", *inputs, *outputs])


def _abi(dtype: np.dtype[np.generic]) -> str:
    names = {"float32": "float", "float64": "double", "bool": "unsigned char", "float16": "uint16_t", "bfloat16": "uint16_t"}
    return names.get(dtype.name, f"{dtype.name}_t")


def _header(program: GpuProgram) -> str:
    out = Writer()
    out.lines(
        [
            "/* A model on a GPU. Functions return 0, or 1 where a file cannot be read; errors of the device end the program. */",
            "#ifndef MODEL_H",
            "#define MODEL_H",
            "#include <stdint.h>",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            "typedef struct lepton_model lepton_model;",
            "",
        ]
    )
    for kind, buffers in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
        for index, buffer in enumerate(buffers):
            shape = " x ".join(map(str, buffer.tensor.shape))
            out.line(f"/* {comment(buffer.name)}: {shape} of {buffer.tensor.format}, row-major */")
            out.line(f"#define MODEL_{kind}{index}_SIZE {buffer.tensor.elements}")
    out.lines(
        [
            "",
            "/* Read the weights and set the device's memory aside. */",
            "int lepton_model_create(const char* weights_file, lepton_model** model);",
            "/* One pass; inputs and outputs in the host's memory. */",
            f"int lepton_model_run({_parameters(program)});",
            "void lepton_model_destroy(lepton_model* model);",
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "#endif",
        ]
    )
    return out.text()


def model_text(program: GpuProgram, places: Places) -> str:
    """Text of ``model.cu``: every kernel, the list of launches, and the C interface."""
    out = Writer()
    out.line("// Compiled by nvcc for a GPU, or by any C++17 compiler (g++ -x c++) to run on a CPU, thread by thread.")
    out.lines(
        [
            '#include "lepton/arithmetic.cuh"',
            '#include "lepton/contraction.cuh"',
            "",
            "#if !defined(__CUDACC_RTC__)",
            '#include "model.h"',
            "",
            '#include "lepton/runtime.cuh"',
            "#endif",
            "",
            "// Results share the arena, except where LEPTON_APART keeps each for a test to look at.",
            "#if defined(LEPTON_APART)",
            "#define PLACE(apart, shared) (apart)",
            "#else",
            "#define PLACE(apart, shared) (shared)",
            "#endif",
        ]
    )
    identifiers = kernel_identifiers(program)
    for identifier, kernel in zip(identifiers, program.kernels, strict=True):
        shape = " x ".join(map(str, kernel.result.tensor.shape))
        what = " ".join(op.kind for op in kernel.ops) or "copy"
        out.lines(["", f"// {what} -> '{comment(kernel.result.name)}', {shape} of {kernel.result.tensor.format}"])
        if isinstance(kernel.work, Contraction):
            write_contraction(out, identifier, kernel, program.graph, places)
        else:
            write_nest(out, identifier, kernel, program.graph, places)
    out.lines(["", "#if !defined(__CUDACC_RTC__)", ""])
    _interface(out, program, places, identifiers)
    out.lines(["", "#endif"])
    return out.text()


def _interface(out: Writer, program: GpuProgram, places: Places, identifiers: list[str]) -> None:
    with out.block("const lepton::Launch lepton_launches[] = {", "};"):
        for identifier, kernel in zip(identifiers, program.kernels, strict=True):
            grid = ", ".join(map(str, kernel.grid))
            out.line(f'{{"{identifier}", {identifier}, {{{grid}}}, {kernel.threads}}},')
    out.line(f"const size_t lepton_launch_count = {len(identifiers)};")
    out.line()
    with out.block("const lepton::Stored lepton_buffers[] = {", "};"):
        for buffer in program.buffers.values():
            place = f"PLACE({places.apart[buffer.owner]}, {places.shared[buffer.owner]})"
            out.line(f'{{"{comment(buffer.name)}", {place}, {buffer.bytes}}},')
    out.line(f"const size_t lepton_buffer_count = {len(program.buffers)};")
    out.line()
    with out.block("struct lepton_model {", "};"):
        out.line("lepton::Device device;")
        out.line("unsigned char* constants = nullptr;")
        out.line("unsigned char* arena = nullptr;")
        out.line(f"static constexpr size_t constants_bytes = {places.constants_bytes};")
        out.line(f"static constexpr size_t arena_bytes = PLACE({places.apart_bytes}, {places.shared_bytes});")
    out.line()
    out.line('extern "C" int lepton_model_create(const char* weights_file, lepton_model** model) {')
    out.lines(
        [
            "    std::vector<unsigned char> weights(lepton_model::constants_bytes);",
            "    if (!lepton::read_file(weights_file, weights)) return 1;",
            "    lepton_model* made = new lepton_model;",
            "    made->constants = made->device.allocate(weights.size());",
            "    made->arena = made->device.allocate(lepton_model::arena_bytes);",
            "    made->device.upload(made->constants, weights.data(), weights.size());",
            "    made->device.synchronize();",
            "    *model = made;",
            "    return 0;",
            "}",
            "",
        ]
    )
    with out.block(f'extern "C" int lepton_model_run({_parameters(program)}) {{'):
        for index, buffer in enumerate(program.inputs):
            out.line(f"model->device.upload({_moved(places, buffer.owner)}, input{index}, {buffer.bytes});")
        out.line("model->device.run(lepton_launches, lepton_launch_count, model->constants, model->arena);")
        for index, buffer in enumerate(program.outputs):
            out.line(f"model->device.download(output{index}, {_moved(places, buffer.owner)}, {buffer.bytes});")
        out.line("return 0;")
    out.line()
    with out.block('extern "C" void lepton_model_destroy(lepton_model* model) {'):
        out.lines(["model->device.release(model->constants);", "model->device.release(model->arena);", "delete model;"])


def _moved(places: Places, owner: str) -> str:
    return f"model->{places.reading(owner)}"


def _test(program: GpuProgram) -> str:
    """A program that runs every sample of the vectors and writes what it got, and what was counted or timed of each kernel."""
    out = Writer()
    out.line("// usage: test WEIGHTS INPUT FORWARD|REVERSE|SHUFFLED RUN|WATCH|DUMP OUTPUT...")
    out.line("//   one line of JSON a kernel: on a CPU what it asked of memory (WATCH: of the first sample, the only one run);")
    out.line("//   on a GPU (RUN) its time with the first sample, each kernel repeated in its turn: the median of several runs.")
    out.line("//   DUMP, built with LEPTON_APART: all stored results of each sample into the one OUTPUT.")
    out.lines(['#include "model.cu"', ""])
    inputs, outputs = program.inputs, program.outputs
    with out.block("int main(int argc, char** argv) {"):
        out.line("if (argc < 6) return 2;")
        out.line("lepton_model* model = nullptr;")
        out.line('if (lepton_model_create(argv[1], &model)) { std::fprintf(stderr, "cannot read %s\\n", argv[1]); return 2; }')
        out.line("lepton::begin_test(*model, lepton_buffers, lepton_buffer_count, argv[3], argv[4]);")
        out.line('const bool watch = !std::strcmp(argv[4], "WATCH"), dump = !std::strcmp(argv[4], "DUMP");')
        out.line('FILE* in = lepton::opened(argv[2], "rb");')
        out.line("std::vector<FILE*> files;")
        out.line('for (int index = 5; index < argc; ++index) files.push_back(lepton::opened(argv[index], "wb"));')
        for index, buffer in enumerate(inputs):
            out.line(f"std::vector<{_abi(buffer.tensor.format.numpy)}> input{index}(MODEL_INPUT{index}_SIZE);")
        for index, buffer in enumerate(outputs):
            out.line(f"std::vector<{_abi(buffer.tensor.format.numpy)}> output{index}(MODEL_OUTPUT{index}_SIZE);")
        full = " && ".join(
            f"std::fread(input{index}.data(), sizeof(input{index}[0]), input{index}.size(), in) == input{index}.size()"
            for index in range(len(inputs))
        )
        with out.block(f"while ({full}) {{"):
            names = [f"input{index}.data()" for index in range(len(inputs))]
            names += [f"output{index}.data()" for index in range(len(outputs))]
            call = f"lepton_model_run(model, {', '.join(names)});"
            out.lines([f"if (lepton::timing(*model)) {call}", call])
            out.line("if (dump) lepton::dump(*model, lepton_buffers, lepton_buffer_count, files[0]);")
            for index in range(len(outputs)):
                name = f"output{index}"
                out.line(f"if (!dump) std::fwrite({name}.data(), sizeof({name}[0]), {name}.size(), files[{index}]);")
            out.line("if (watch) break;")
        out.line("lepton::report(*model, lepton_launches, lepton_launch_count);")
        out.line("for (FILE* file : files) std::fclose(file);")
        out.line("lepton_model_destroy(model);")
        out.line("return 0;")
    return out.text()


_CMAKE = """\
cmake_minimum_required(VERSION 3.24)
project(model LANGUAGES CXX CUDA)

set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES native)
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

# Contraction of a multiplication and an addition would round once where the reference rounds twice.
add_library(model SHARED model.cu)
target_compile_options(model PRIVATE --fmad=false)
target_include_directories(model PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})

add_executable(model_test test.cu)
target_compile_options(model_test PRIVATE --fmad=false)
target_include_directories(model_test PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
"""


def _loader(program: GpuProgram) -> str:
    def described(index: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> str:
        name = "uint16" if dtype.name == "bfloat16" else dtype.name
        return f'({shape!r}, "{name}")'

    inputs = ", ".join(described(i, b.tensor.format.numpy, b.tensor.shape) for i, b in enumerate(program.inputs))
    outputs = ", ".join(described(i, b.tensor.format.numpy, b.tensor.shape) for i, b in enumerate(program.outputs))
    return _LOADER.replace("@INPUTS@", inputs).replace("@OUTPUTS@", outputs)


_LOADER = '''\
"""Runs the model from Python: ``Model("build/libmodel.so", "weights.bin")(x)`` gives a list of arrays."""

import ctypes

import numpy as np

INPUTS = [@INPUTS@]
OUTPUTS = [@OUTPUTS@]


class Model:
    """The compiled library with its weights."""

    def __init__(self, library, weights):
        self._library = ctypes.CDLL(library)
        self._library.lepton_model_destroy.argtypes = [ctypes.c_void_p]
        self._model = ctypes.c_void_p()
        if self._library.lepton_model_create(str(weights).encode(), ctypes.byref(self._model)):
            raise OSError(f"cannot read {weights}")

    def __call__(self, *inputs):
        if len(inputs) != len(INPUTS):
            raise ValueError(f"{len(inputs)} inputs, the model has {len(INPUTS)}")
        given = []
        for value, (shape, kind) in zip(inputs, INPUTS):
            array = np.ascontiguousarray(value, kind)
            if array.shape != shape:
                raise ValueError(f"an input of shape {array.shape}, the model takes {shape}")
            given.append(array)
        results = [np.empty(shape, kind) for shape, kind in OUTPUTS]
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*given, *results)]
        self._library.lepton_model_run(self._model, *pointers)
        return results

    def close(self):
        """Give the device's memory back."""
        if self._model:
            self._library.lepton_model_destroy(self._model)
            self._model = ctypes.c_void_p()
'''


def _readme(request: EmitRequest, program: GpuProgram) -> str:
    plan, placed = request.plan, request.plan.memory
    out = Writer()
    out.lines(
        [
            f"# {plan.model} for {plan.target}, {plan.precision}",
            "",
            "CUDA C++17 without other libraries. `model.h` is the C interface, `model.cu` holds one kernel for each step,",
            "`lepton/` what they are made of, `weights.bin` the constants, `model.py` a loader for Python.",
            "",
            "    cmake -B build && cmake --build build        # with nvcc",
            "    lepton verify .        # runs the same text on this machine's CPU, thread by thread, and compares every output",
            "",
        ]
    )
    for kind, buffers in (("input", program.inputs), ("output", program.outputs)):
        for index, buffer in enumerate(buffers):
            shape = " x ".join(map(str, buffer.tensor.shape))
            out.line(f"- `{kind}{index}`: {shape} of {buffer.tensor.format}, row-major (`{comment(buffer.name)}`)")
    out.line()
    proved = "the least there is" if placed.peak == placed.bound else f"{placed.bound:,} are proved necessary"
    out.line(f"Inputs and results share one arena of {placed.peak:,} bytes; {proved}. {len(program.kernels)} kernels:")
    out.line()
    out.lines(["| kernel | operations | blocks | threads | shared bytes | tile |", "|---|---|---|---|---|---|"])
    for identifier, kernel in zip(kernel_identifiers(program), program.kernels, strict=True):
        what = ", ".join(op.kind for op in kernel.ops) or "copy"
        tile = f"{kernel.work.tile}, {kernel.work.engine.title}" if isinstance(kernel.work, Contraction) else ""
        blocks = " x ".join(map(str, kernel.grid))
        out.line(f"| {identifier} | {what} | {blocks} | {kernel.threads} | {kernel.shared_bytes:,} | {tile} |")
    out.line()
    out.line(f"`vectors/` holds {len(request.vectors.x)} samples and the reference's results; `graph/` is the lowered graph.")
    return out.text()
