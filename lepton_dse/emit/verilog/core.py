"""The description of a design for FuseSoC: files, and targets that lint, simulate and synthesise it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lepton_dse.emit.verilog.axi import SHELL
from lepton_dse.rtl_library import AxiWrapper, Family

__all__ = ["BENCH", "CORE", "CoreRequest", "core_file", "core_name"]

Value: TypeAlias = "str | int | list[Value] | dict[str, Value]"
CORE = "lepton_top.core"
BENCH = "tb/bench.sv"
_FRAMES = 4  # of a simulation, unless it is told otherwise: the four-state simulator is slow
# The linter has its say elsewhere; registers without a reset start at random values, so that a design which needs one fails.
_VERILATOR: dict[str, Value] = {
    "tool": "verilator",
    "mode": "binary",
    "verilator_options": ["--timing", "-Wno-fatal", "--x-assign unique", "--x-initial unique", "-CFLAGS -std=c++20"],
}


@dataclass(frozen=True)
class CoreRequest:
    """What a core file says of a design.

    Parameters
    ----------
    model, target, precision : str
        Name the core.
    shell : AxiWrapper
        Widths and beats of the streams.
    output_beats, samples, latency : int
        Beats of a frame that leaves, frames in the vectors, the predicted latency.
    family : Family
        What it is synthesised for.
    """

    model: str
    target: str
    precision: str
    shell: AxiWrapper
    output_beats: int
    samples: int
    latency: int
    family: Family


def core_name(request: CoreRequest) -> str:
    """The core's name: vendor, library, name and version."""
    name = re.sub(r"[^a-z0-9]+", "_", f"{request.model} {request.target} {request.precision}".lower())
    return f"lepton:designs:{name.strip('_')}:1.0.0"


def core_file(request: CoreRequest, sources: Iterable[str], images: Iterable[str]) -> str:
    """Text of a CAPI2 core file.

    Parameters
    ----------
    request : CoreRequest
    sources : iterable of str
        Verilog files, by their names in the artefact.
    images : iterable of str
        Memory images; tools find them from the folder in which they run.
    """
    shell = request.shell
    numbers = {
        "IN_WIDTH": (shell.in_width, "Bits of a beat that comes in"),
        "OUT_WIDTH": (shell.out_width, "Bits of a beat that leaves"),
        "IN_BEATS": (shell.beats, "Beats of a frame that comes in"),
        "OUT_BEATS": (request.output_beats, "Beats of a frame that leaves"),
        "DESIGN": (shell.design, "What the register DESIGN must hold"),
        "SAMPLES": (request.samples, "Frames in the vectors"),
        "LATENCY": (request.latency, "Predicted cycles from the first beat in to the last beat out of a frame"),
        "FRAMES": (min(request.samples, _FRAMES), "Frames to simulate"),
    }
    design: dict[str, Value] = {"filesets": ["rtl", "mem"], "toplevel": SHELL}
    simulation: dict[str, Value] = {
        "filesets": ["rtl", "mem", "tb", "vectors"],
        "toplevel": "bench",
        "parameters": list(numbers),
        "flow": "sim",
    }
    document: dict[str, Value] = {
        "name": core_name(request),
        "description": f"{request.model} for {request.target}, {request.precision}",
        "filesets": {
            "rtl": {"file_type": "verilogSource", "files": list(sources)},
            "mem": {"file_type": "user", "files": [_copied(image) for image in images]},
            "tb": {"file_type": "systemVerilogSource", "files": [BENCH]},
            "vectors": {"file_type": "user", "files": [_copied(f"vectors/{name}.hex") for name in ("input", "expected")]},
        },
        "parameters": {
            name: {"datatype": "int", "default": value, "paramtype": "vlogparam", "description": meaning}
            for name, (value, meaning) in numbers.items()
        },
        "targets": {
            "default": design,
            "lint": design | {"flow": "lint", "flow_options": {"tool": "verilator", "verilator_options": ["-Wall"]}},
            "sim": simulation | {"flow_options": {"tool": "icarus", "iverilog_options": ["-g2012"]}},
            "sim_verilator": simulation | {"flow_options": _VERILATOR},
            "synth": design | {"flow": "generic", "flow_options": _synthesis(request.family)},
        },
    }
    return "\n".join(["CAPI=2:", *_yaml(document), ""])


def _synthesis(family: Family) -> dict[str, Value]:
    """Options with which Yosys synthesises for a family."""
    options: dict[str, Value] = {"tool": "yosys", "output_format": "json", "arch": "xilinx" if family.amd else "ecp5"}
    return options | {"yosys_synth_options": [f"-family {family.value}", "-flatten"]} if family.amd else options


def _copied(name: str) -> dict[str, Value]:
    """A file that tools open by its name in the artefact, from the folder in which they run."""
    return {name: {"copyto": name}}


def _yaml(entries: Mapping[str, Value]) -> Iterator[str]:
    """Lines of a mapping in YAML: mappings and lists in blocks, everything else as the JSON that YAML includes."""
    for key, value in entries.items():
        if isinstance(value, dict):
            yield f"{key}:"
            yield from (f"  {line}" for line in _yaml(value))
        elif isinstance(value, list):
            yield f"{key}:" if value else f"{key}: []"
            yield from (f"  - {json.dumps(entry)}" for entry in value)
        else:
            yield f"{key}: {json.dumps(value)}"
