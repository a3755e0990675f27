"""Compiles generated C programs and runs them, alone or under cachegrind, in temporary folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.files import write_text
from lepton_dse.sim.cache import Cache

__all__ = ["Observed", "Program", "cachegrind", "compiled", "gcc", "run_program"]


@dataclass(frozen=True)
class Program:
    """A compiled program and the addresses of its static arrays."""

    binary: Path
    symbols: dict[str, int]


@dataclass(frozen=True)
class Observed:
    """What cachegrind counted inside one function."""

    accesses: int
    d1_misses: int
    ll_misses: int


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        package = {"nm": "binutils"}.get(name, name)
        raise MissingToolError(f"{name} is not installed", fix=f"install the system package '{package}'")
    return found


def gcc() -> str:
    """The path of gcc.

    Raises
    ------
    MissingToolError
        If it is not installed.
    """
    return _tool("gcc")


def _call(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        why = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no message")
        raise LeptonError(f"exit code {done.returncode}: {why}", where=Path(command[0]).name, fix="see 'lepton doctor'")
    return done.stdout


@contextmanager
def compiled(source: str, options: Sequence[str]) -> Iterator[Program]:
    """Compile C text with gcc; the program lives as long as the context.

    Raises
    ------
    MissingToolError
        If gcc or nm is not installed.
    LeptonError
        If it does not compile.
    """
    compiler, lister = gcc(), _tool("nm")
    with tempfile.TemporaryDirectory(prefix="lepton-cpu-") as scratch:
        folder = Path(scratch)
        write_text(folder / "program.c", source)
        _call([compiler, *options, "program.c", "-o", "program", "-lm", "-lpthread"], folder)
        symbols = {}
        for line in _call([lister, "program"], folder).splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] in "bBdD":
                symbols[fields[2]] = int(fields[0], 16)
        yield Program(folder / "program", symbols)


def run_program(program: Program, arguments: Sequence[str] = ()) -> str:
    """Run a program and return what it printed.

    Raises
    ------
    LeptonError
        If it does not end normally.
    """
    return _call([str(program.binary), *arguments], program.binary.parent)


def cachegrind(program: Program, d1: Cache, ll: Cache, function: str) -> Observed:
    """Data accesses and misses of one function of a program under cachegrind.

    The program's environment is empty: its size would shift the stack, and with it the sets that spilled values lie in.

    Raises
    ------
    MissingToolError
        If valgrind is not installed.
    LeptonError
        If the program does not end normally under it: an instruction that valgrind does not know ends it, and the totals that
        are printed all the same are worth nothing.
    """
    folder = program.binary.parent
    shapes = {name: f"{cache.size_bytes},{cache.ways},{cache.line_bytes}" for name, cache in (("D1", d1), ("LL", ll))}
    options = ["--tool=cachegrind", "--cache-sim=yes", "--I1=32768,8,64", *(f"--{name}={text}" for name, text in shapes.items())]
    command = [_tool("valgrind"), *options, "--cachegrind-out-file=counts", str(program.binary)]
    _call(command, folder, {name: value for name, value in os.environ.items() if name == "VALGRIND_LIB"})
    return _parsed((folder / "counts").read_text(encoding="utf-8"), function)


def _parsed(text: str, function: str) -> Observed:
    events: list[str] = []
    totals: dict[str, int] = {}
    inside = False
    for line in text.splitlines():
        if line.startswith("events:"):
            events = line.split()[1:]
            totals = dict.fromkeys(events, 0)
        elif line.startswith("fn="):
            inside = line[3:].split(".")[0] == function
        elif inside and line[:1].isdigit():
            for name, count in zip(events, line.split()[1:], strict=False):
                totals[name] += int(count)
    if not any(totals.values()):
        raise LeptonError(f"no counts for the function '{function}'", where="cachegrind", fix="is it inlined?")
    return Observed(totals["Dr"] + totals["Dw"], totals["D1mr"] + totals["D1mw"], totals["DLmr"] + totals["DLmw"])
