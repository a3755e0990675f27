"""Kernels of a lowered graph written, compiled with a C++ compiler, run by fibres, and held against everything predicted."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lepton_dse.emit.artefact import EmitRequest
from lepton_dse.emit.cuda.emitter import EMITTER, INPUT_FILE, kernel_identifiers
from lepton_dse.ir import ops
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.reference import engine
from lepton_dse.reference.vectors import Vectors
from lepton_dse.schedule.gpu import Contraction, Engine, GpuProgram, Problem, Tile, arena
from lepton_dse.sim.gpu.requests import requests
from lepton_dse.verify.cuda.compiled import usage
from lepton_dse.verify.cuda.executed import predicted_counts
from lepton_dse.verify.cuda.program import FAULTS, HostProgram
from lepton_dse.verify.intervals import judged

Array = np.ndarray[Any, Any]
ORDERS = ("FORWARD", "REVERSE", "SHUFFLED")
_ROWS, _COLUMNS = (16, 32, 64), (8, 16, 32, 64)
_WARPS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1))


def valid_tiles(problem: Problem, engine_: Engine, capability: float) -> list[Tile]:
    """Every tile of a small list, swizzled or not, that is a kernel for a problem."""
    found = []
    for rows, columns, (down, across) in itertools.product(_ROWS, _COLUMNS, _WARPS):
        for pitch, stages, swizzled, copies in itertools.product((32, 64, 128), (1, 2, 3, 4), (True, False), (False, True)):
            tile = Tile(rows, columns, pitch, down, across, stages, swizzled, copies, engine_.skips)
            if tile.violations(tensor_cores=engine_.tensor_cores):
                continue
            work = Contraction(problem.a, problem.b, problem.products, engine_, tile, (), problem.swapped)
            if not work.violations(capability):
                found.append(tile)
    return found


def choosing(pick: Callable[[list[Tile]], Tile], capability: float) -> Callable[[Op, Problem, Engine], Tile]:
    """What gives a program its tiles: one of those that are kernels, picked by the caller."""
    return lambda op, problem, engine_: pick(valid_tiles(problem, engine_, capability))


def write_program(program: GpuProgram, feeds: Mapping[str, Array], folder: Path) -> None:
    """Everything that an artefact has of one pass, without plan and manifest."""
    graph = program.graph
    plan: Any = SimpleNamespace(model="drawn", target="a GPU", precision="mixed", memory=arena(program))
    values = engine.execute(graph, feeds)
    first = np.zeros((1, 1), np.float32)  # replaced: a graph may have several inputs
    files = dict(EMITTER.emit(EmitRequest(plan, graph, Vectors(first, values), gpu=program)))
    files[INPUT_FILE] = b"".join(
        np.ascontiguousarray(feeds[name], graph.tensors[name].format.numpy).tobytes() for name in graph.inputs
    )
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@dataclass(frozen=True)
class Built:
    """A program, its text and its binary."""

    program: GpuProgram
    feeds: Mapping[str, Array]
    folder: Path
    host: HostProgram

    @classmethod
    def build(cls, program: GpuProgram, feeds: Mapping[str, Array], folder: Path) -> Built:
        """Write and compile a program."""
        write_program(program, feeds, folder)
        return cls(program, feeds, folder, host_of(folder))

    def watched(self, order: str = "FORWARD") -> tuple[dict[str, Array], list[dict[str, Any]]]:
        """Outputs, and what each kernel did."""
        graph = self.program.graph
        files, seen = self.host.outputs(order, self.folder, len(graph.outputs), watch=True)
        outputs = {}
        for name, path in zip(graph.outputs, files, strict=True):
            tensor = graph.tensors[name]
            outputs[name] = np.fromfile(path, np.uint8).view(tensor.format.numpy).reshape(tensor.shape)
        return outputs, seen

    def stored(self, order: str = "FORWARD") -> dict[str, Array]:
        """All that the kernels stored."""
        (sample,) = self.host.stored(self.program, order, self.folder)
        return sample


def host_of(folder: Path) -> HostProgram:
    """The program in a folder, compiled."""
    compiler = shutil.which("g++")
    assert compiler is not None, "tests that compile require it"
    return HostProgram.compile(compiler, folder, folder, apart=True)


def integral(graph: LoweredGraph) -> set[str]:
    """Results that only integers led to."""
    found = {name for name in (*graph.inputs, *graph.constants) if not graph.tensors[name].format.is_float}
    for op in graph.ops:
        if found.issuperset(op.inputs) and not graph.tensors[op.output].format.is_float:
            found.add(op.output)
    return found


def check(built: Built, order: str) -> None:
    """One order of the threads: the values of all that is stored, no fault, and every figure as predicted."""
    outputs, seen = built.watched(order)
    check_values(built, outputs, built.stored(order))
    check_counts(built.program, seen)


def check_values(built: Built, outputs: Mapping[str, Array], stored: Mapping[str, Array]) -> None:
    """Integers equal the reference's; every stored real lies between its bounds; copies are what they copy."""
    graph, recorded = built.program.graph, dict(stored)
    exact = integral(graph)
    for name, value in engine.execute(graph, built.feeds).items():
        if name in exact:
            np.testing.assert_array_equal(outputs[name], value, err_msg=name)
    for kernel in built.program.kernels:
        if kernel.reordered:
            copy = recorded.pop(kernel.result.name)
            source = stored.get(kernel.reordered, built.feeds.get(kernel.reordered))
            if source is not None:
                np.testing.assert_array_equal(copy.reshape(-1), source.reshape(-1), err_msg=kernel.result.name)
    for name in graph.inputs:
        recorded.pop(name, None)
    results = list(judged(graph, built.feeds, recorded | outputs))
    assert {result.tensor for result in results} >= set(graph.outputs) - {*graph.inputs, *graph.constants}
    assert [(result.tensor, result.wrong, result.first) for result in results if result.wrong] == []


def check_counts(program: GpuProgram, seen: list[dict[str, Any]]) -> None:
    """No fault, and every figure as predicted; loads whose place a value decides come on top of the others."""
    for name, kernel, counts in zip(kernel_identifiers(program), program.kernels, seen, strict=True):
        assert counts["kernel"] == name
        assert {fault: counts[fault] for fault in FAULTS} == dict.fromkeys(FAULTS, 0), name
        asked = requests(kernel)
        predicted = predicted_counts(asked)
        for figure in [figure for figure in predicted if asked.indirect and figure.startswith("load_")]:
            assert counts[figure] > predicted.pop(figure), (name, figure)
        assert predicted == {figure: counts[figure] for figure in predicted}, (name, str(kernel.work))


def check_compiled(built: Built, architecture: str) -> None:
    """Shared memory as NVIDIA's assembler reports it."""
    found = usage(built.folder, architecture)
    expected = {
        name: kernel.shared_bytes for name, kernel in zip(kernel_identifiers(built.program), built.program.kernels, strict=True)
    }
    assert {name: used.shared_bytes for name, used in found.items()} == expected


def interesting(program: GpuProgram) -> int:
    """Kernels that contract, or compute several operations at once."""
    return sum(isinstance(kernel.work, Contraction) or len(kernel.ops) > 1 for kernel in program.kernels)


def contractions(program: GpuProgram) -> list[Contraction]:
    """All contractions of a program."""
    return [kernel.work for kernel in program.kernels if isinstance(kernel.work, Contraction)]


def window(kernel: tuple[int, ...], **given: tuple[int, ...]) -> ops.Window:
    """A window with strides and dilations of one and without pads, unless given."""
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    fields = {"strides": ones, "dilations": ones, "pads_begin": zeros, "pads_end": zeros} | given
    return ops.Window(kernel, **fields)
