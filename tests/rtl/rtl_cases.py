"""What the runners share: stall traces, the prediction of each, and the call of the simulator.

A *case* is one build of a module under several pairs of stall traces. The runner writes it to a JSON file; the
testbench reads it, drives the module and compares.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from lepton_dse.errors import MissingToolError
from lepton_dse.files import data_folder
from lepton_dse.rtl_library import MODULES, Parameters
from lepton_dse.sim.event_graph import Network, Times, simulate
from lepton_dse.verify.simulators import Simulator, run_cocotb

FRAMES = 4
R = TypeVar("R")


def skip_without(function: Callable[..., R]) -> Callable[..., R]:
    """Skip a test whose tool is missing, except in CI, where that is a failure."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> R:
        try:
            return function(*args, **kwargs)
        except MissingToolError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))

    return wrapper


def declaration_of(parameters: Parameters) -> Any:
    """Return the declaration whose parameter class this is."""
    return next(d for d in MODULES.values() if d.parameters is type(parameters))


def source(name: str) -> Path:
    """Return the Verilog file of a module."""
    return data_folder("rtl") / f"{name}.v"


def identifier(parameters: Parameters) -> str:
    """Name a parametrised test."""
    return "-".join(f"{value}" for value in parameters.verilog_parameters().values())


def stall_traces(seed: int) -> list[tuple[list[int] | None, list[int] | None]]:
    """Return pairs of source and sink traces: none, slow source, slow sink, both, bursts."""
    rng = np.random.default_rng(seed)

    def bits(length: int, density: float) -> list[int]:
        trace = (rng.random(length) < density).astype(int)
        trace[rng.integers(length)] = 1
        return [int(bit) for bit in trace]

    bursts = [1] * 7 + [0] * 12
    return [
        (None, None),
        (bits(31, 0.4), None),
        (None, bits(29, 0.3)),
        (bits(37, 0.7), bits(41, 0.7)),
        (bursts, [0, 0, 0, *bursts]),
    ]


def run_case(parameters: Parameters, network: Network, simulator: Simulator, bench: Path, build_folder: Path, seed: int) -> None:
    """Run the testbench of one module."""
    name = declaration_of(parameters).name
    run_design(name, sources_of(parameters), parameters.verilog_parameters(), network, simulator, bench, build_folder, seed)


def sources_of(parameters: Parameters) -> list[Path]:
    """Return the Verilog files of a module and of those that it instantiates."""
    declaration = declaration_of(parameters)
    return [source(declaration.name), *map(source, declaration.uses)]


def run_values(parameters: Parameters, simulator: Simulator, bench: Path, build_folder: Path, seed: int) -> None:
    """Run a testbench that draws its own stalls and compares values alone."""
    build_folder.mkdir(parents=True, exist_ok=True)
    case = build_folder / "case.json"
    values = parameters.verilog_parameters()
    case.write_text(json.dumps({"parameters": values, "seed": seed}))
    _run(declaration_of(parameters).name, sources_of(parameters), values, simulator, bench, build_folder, case)


def run_design(
    top: str,
    sources: list[Path],
    values: dict[str, int | str],
    network: Network,
    simulator: Simulator,
    bench: Path,
    build_folder: Path,
    seed: int,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Run a testbench under all stall traces and fail with its message.

    The testbench gets, per pair of traces, the cycle of each input and output beat that the event graph predicts.
    """
    runs = []
    for source_trace, sink_trace in stall_traces(seed):
        times = simulate(network, FRAMES, source_trace, sink_trace)
        assert isinstance(times, Times), str(times)
        runs.append(
            {
                "source_trace": source_trace or [1],
                "sink_trace": sink_trace or [1],
                "input_cycles": times.input_cycles.tolist(),
                "output_cycles": times.output_cycles.tolist(),
            }
        )
    build_folder.mkdir(parents=True, exist_ok=True)
    case = build_folder / "case.json"
    case.write_text(json.dumps({"parameters": values, "seed": seed, "runs": runs, **(extra or {})}))
    _run(top, sources, values, simulator, bench, build_folder, case)


def _run(
    top: str,
    sources: list[Path],
    values: Mapping[str, int | str],
    simulator: Simulator,
    bench: Path,
    build_folder: Path,
    case: Path,
) -> None:
    result = run_cocotb(
        simulator,
        sources,
        top,
        values,
        bench.stem,
        [bench.parent, Path(__file__).parent],
        build_folder,
        {"LEPTON_CASE": str(case)},
    )
    assert result.passed, "\n".join(result.failures) + "\n" + "\n".join(result.log.splitlines()[-30:])
