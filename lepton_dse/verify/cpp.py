"""Verification of C++ artefacts: compiled with g++, run on every test vector, compared with the reference."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.cpp.emitter import INPUT_FILE, expected_file
from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.plan import Check
from lepton_dse.reference import fast
from lepton_dse.reference.engine import steps
from lepton_dse.schedule.program import program
from lepton_dse.verify.artefact import Artefact, Verifier, VerifyOptions, compare, unavailable
from lepton_dse.verify.real_arithmetic import different, each_operation, sums_reals

__all__ = ["VERIFIER"]

_COMPILE = ("-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall")


def run(artefact: Artefact, options: VerifyOptions) -> list[Check]:
    """Compile and run a C++ artefact.

    Raises
    ------
    LeptonError
        If the program does not compile or does not end normally.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        return [unavailable("outputs_equal", 0, "g++ is not installed: install the system package 'g++'")]
    with tempfile.TemporaryDirectory(prefix="lepton-cpp-") as scratch:
        options.progress("compiling the C++ program")
        program_of = _Program(compiler, artefact, Path(scratch), apart=False)
        options.progress("running every sample through the C++ program")
        return [_outputs(artefact, program_of, program_of.results())]


VERIFIER = Verifier("cpp", run)


class _Program:
    """An artefact's program, compiled; with all results in one arena as it is deployed, or each in memory of its own."""

    def __init__(self, compiler: str, artefact: Artefact, folder: Path, *, apart: bool) -> None:
        self._compiler, self._artefact, self._folder = compiler, artefact, folder
        self._name = "apart" if apart else "test"
        sources = [str(artefact.folder / name) for name in ("model.cpp", "test.cpp")]
        chosen = ("-DMODEL_BUFFERS_APART",) if apart else ()
        _call([compiler, *_COMPILE, *chosen, *sources, "-o", str(folder / self._name)])

    @cached_property
    def apart(self) -> _Program:
        """The same with results apart, so that all of them can be looked at."""
        return _Program(self._compiler, self._artefact, self._folder, apart=True)

    def results(self) -> list[Path]:
        """Files of the outputs of every sample."""
        found = [self._folder / f"{self._name}{index}.bin" for index in range(len(self._artefact.graph.outputs))]
        _call([str(self._folder / self._name), str(self._artefact.folder / INPUT_FILE), *map(str, found)])
        return found

    def recorded(self, sample: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.generic]]]:
        """One sample, and the results of all operations for it."""
        graph, record = self._artefact.graph, self._folder / "buffers.bin"
        _call([str(self._folder / self._name), "--buffers", str(sample), str(self._artefact.folder / INPUT_FILE), str(record)])
        data = record.read_bytes()
        buffers: dict[str, NDArray[np.generic]] = {}
        offset = 0
        for tensor in program(graph).buffers:
            dtype = tensor.format.numpy.newbyteorder("<")
            buffers[tensor.name] = np.frombuffer(data, dtype, tensor.elements, offset)
            offset += tensor.elements * dtype.itemsize
        shape = graph.tensors[graph.inputs[0]].shape
        return np.fromfile(self._artefact.folder / INPUT_FILE, "<f4").reshape(-1, *shape[1:])[sample : sample + 1], buffers


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingToolError(f"{command[0]} cannot be run", fix="install it") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise LeptonError(f"exit code {done.returncode}: {lines[0] if lines else 'no message'}", where=Path(command[0]).name)


def _outputs(artefact: Artefact, compiled: _Program, found: list[Path]) -> Check:
    graph = artefact.graph
    by_operation = any(sums_reals(graph, op) for op in graph.ops)
    differing, first, samples = 0, None, 0
    for position, name in enumerate(graph.outputs):
        tensor = graph.tensors[name]
        dtype = tensor.format.numpy.newbyteorder("<")
        expected = np.fromfile(artefact.folder / expected_file(position), dtype).reshape(-1, tensor.elements)
        observed = np.fromfile(found[position], dtype)
        if observed.size != expected.size:
            return compare(
                "outputs_equal", 0, expected.size, reason=f"{observed.size} values of output {name}, expected {expected.size}"
            )
        samples = len(expected)
        wrong = different(graph, name, expected, observed.reshape(expected.shape))
        differing += int(np.count_nonzero(wrong))
        if wrong.any() and first is None:
            first = int(np.flatnonzero(wrong.any(axis=1))[0])
    if by_operation and differing:
        return _every_operation(artefact, compiled, samples, found)
    reason = "" if first is None else _first_wrong(artefact, compiled.apart, first)
    return compare("outputs_equal", 0, differing, reason=reason)


def _every_operation(artefact: Artefact, compiled: _Program, samples: int, found: list[Path]) -> Check:
    """Real sums in another order differ in their last bits, and whatever reads them inherits that: operations one by one."""
    alone = compiled.apart.results()
    changed = sum(
        int(np.count_nonzero(np.fromfile(one, np.uint8) != np.fromfile(other, np.uint8)))
        for one, other in zip(found, alone, strict=True)
    )
    if changed:
        return compare("outputs_equal", 0, changed, reason="bytes of the outputs change where results share the arena")
    beyond, reason = 0, ""
    for sample in range(samples):
        for name, wrong, text in each_operation(artefact.graph, *compiled.apart.recorded(sample)):
            beyond += wrong
            reason = reason or (f"sample {sample}: tensor '{name}' {text}" if wrong else "")
    return compare("outputs_equal", 0, beyond, reason=reason)


def _first_wrong(artefact: Artefact, apart: _Program, sample: int) -> str:
    """Name of the first buffer that differs from the reference for one sample, and where."""
    graph = artefact.graph
    x, buffers = apart.recorded(sample)
    for name, value in steps(graph, {graph.inputs[0]: x}, fast.evaluate):
        if name in buffers:
            expected = np.ascontiguousarray(value).reshape(-1)
            wrong = different(graph, name, expected[None], buffers[name][None])[0]
            if wrong.any():
                index = int(np.flatnonzero(wrong)[0])
                return f"sample {sample}: tensor '{name}' element {index} is {buffers[name][index]}, expected {expected[index]}"
    return f"sample {sample}: every result agrees alone and in memory of its own: state or the arena leaks"
