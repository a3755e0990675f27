"""The C simulation of an artefact, in two ways.

As Vitis HLS simulates it: one process after another, and streams without an end. Or with all processes side by side, and streams
that hold as many words as their pragmas say. That shows whether the depths let a frame through: no process's timing changes it.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.emit.hls.emitter import BENCH
from lepton_dse.emit.hls.top import TOP
from lepton_dse.errors import LeptonError
from lepton_dse.files import read_text

__all__ = ["STUCK", "Simulation", "build", "build_bounded", "simulate"]

STUCK = 3
"""Exit code of a design whose processes all wait."""
_COMPILE = ("-std=c++14", "-O1", "-Wall", "-Wno-unknown-pragmas")
_DEFAULT_DEPTH = 2  # of a stream without a pragma


@dataclass(frozen=True)
class Simulation:
    """What a run of the test bench left.

    Parameters
    ----------
    code : int
        Its exit code.
    words : list of str
        At the design's output, hexadecimal.
    text : str
        What it printed.
    record : dict
        In a bounded simulation that was asked to, the words that passed each stream.
    """

    code: int
    words: list[str]
    text: str
    record: dict[str, list[int]]


def build(compiler: str, headers: Path, artefact: Path, folder: Path) -> Path:
    """Compile the artefact with its bench as it is; returns the program."""
    source = folder / "plain.cpp"
    source.write_text(f'#include "{TOP}.cpp"\n#include "{BENCH}"\n', encoding="utf-8")
    return _compile(compiler, (headers,), artefact, source)


def build_bounded(compiler: str, headers: Path, artefact: Path, folder: Path) -> Path:
    """Compile the artefact with its bench, every process a fibre and every stream as deep as its pragma says."""
    text = read_text(artefact / f"{TOP}.cpp")
    depths = dict.fromkeys(re.findall(r'^\s*hls::stream<.*> (\w+)\("\1"\);$', text, re.MULTILINE), _DEFAULT_DEPTH)
    pragmas = re.findall(r"^\s*#pragma HLS STREAM variable=(\w+) depth=(\d+)$", text, re.MULTILINE)
    depths |= {name: int(depth) for name, depth in pragmas}
    table = ", ".join(f'{{"{name}", {depth}}}' for name, depth in depths.items())
    text = re.sub(r"^\s*(lepton::.*\));$", r"lepton_bounded::process([&] { \1; });", text, flags=re.MULTILINE)
    body, _, _ = text.rpartition("}")
    lines = [
        f"{body}lepton_bounded::run();",
        "}",
        f"static const bool kDepths = (lepton_bounded::state().depths = {{{table}}}, true);",
        f'#include "{BENCH}"',
    ]
    source = folder / "bounded.cpp"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return _compile(compiler, (Path(__file__).parent / "bounded", headers), artefact, source)


def _compile(compiler: str, headers: tuple[Path, ...], artefact: Path, source: Path) -> Path:
    program = source.with_suffix("")
    places = [part for header in headers for part in ("-isystem", str(header))]
    command = [compiler, *_COMPILE, *places, "-I", str(artefact), str(source), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise LeptonError(f"the C simulation does not compile: {lines[0] if lines else 'no message'}", where=str(artefact))
    return program


def simulate(program: Path, vectors: Path, *, recording: bool = False) -> Simulation:
    """Run a program on a folder of vectors."""
    result, record = program.with_suffix(".hex"), program.with_suffix(".record")
    environment = os.environ | ({"LEPTON_RECORD": str(record)} if recording else {})
    command = [str(program), str(vectors), str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    words = result.read_text(encoding="utf-8").split() if result.is_file() else []
    passed: dict[str, list[int]] = {}
    if recording and record.is_file():
        # A program that is stopped may leave half a line.
        whole, _, _ = record.read_text(encoding="utf-8").rpartition("\n")
        for line in whole.splitlines():
            name, word = line.split()
            passed.setdefault(name, []).append(int(word, 16))
    return Simulation(done.returncode, words, done.stdout, passed)
