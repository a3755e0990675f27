"""C++ for high-level synthesis: a wiring-only top function, its library, tables, vectors, a test bench and a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files as package_files

from lepton_dse.emit.artefact import EmitRequest, Emitter
from lepton_dse.emit.hls.tables import table_file, table_text
from lepton_dse.emit.hls.top import TOP, channels, library_headers, top_header, top_source
from lepton_dse.emit.streams import described_ends, measured_ends, vector_files
from lepton_dse.emit.writer import Writer, comment
from lepton_dse.errors import LeptonError
from lepton_dse.schedule.stream import StreamSchedule

__all__ = ["EMITTER"]

BENCH = "tb/test_bench.cpp"
_PARTS = {
    "amd-alveo-u250": "xcu250-figd2104-2L-e",
    "amd-alveo-u280": "xcu280-fsvh2892-2L-e",
    "amd-vck190": "xcvc1902-vsva2197-2MP-e-S",
    "amd-zu3eg": "xczu3eg-sbva484-1-e",
    "amd-zu9eg": "xczu9eg-ffvb1156-2-e",
    "amd-zynq-7020": "xc7z020clg400-1",
}
"""Part numbers of the devices on their usual boards."""


def emit(request: EmitRequest) -> Mapping[str, bytes]:
    """Files of the artefact.

    Raises
    ------
    LeptonError
        If the plan is not a streaming plan, or a word is wider than the library's integers.
    """
    schedule, plan = request.stream, request.plan
    if schedule is None or plan.predicted.cycles is None:
        raise LeptonError("the plan has no streaming schedule", where=plan.target, fix="plan for an fpga target")
    templates = package_files("lepton_dse.emit.hls") / "templates"
    title = f"{comment(plan.model)} for {comment(plan.target)}, {plan.precision}"
    texts = {
        f"{TOP}.h": top_header(schedule, title),
        f"{TOP}.cpp": top_source(schedule, title),
        "run_hls.tcl": _script(request),
        "design.json": _design(request, schedule),
        "README.md": _readme(request, schedule, title),
    }
    texts |= {table_file(instance): table_text(instance) for instance in schedule.instances if instance.memories}
    files = {name: text.encode() for name, text in texts.items()}
    files |= {f"hls/{name}.h": (templates / "hls" / f"{name}.h").read_bytes() for name in library_headers(schedule)}
    files[BENCH] = (templates / BENCH).read_bytes()
    files |= vector_files(request, schedule)
    return files


EMITTER = Emitter("hls", ("fpga",), emit, on_request=True)


def _script(request: EmitRequest) -> str:
    cycles = request.plan.predicted.cycles
    assert cycles is not None, "checked by emit"
    part = _PARTS.get(request.plan.target, "")
    out = Writer()
    out.line("# vitis_hls -f run_hls.tcl: simulates the C++, synthesises it and exports an IP core. PART and CLOCK_NS in the")
    out.line("# environment choose another device and period, COSIM=1 also simulates the RTL.")
    out.line("set folder [file dirname [file normalize [info script]]]")
    out.line(f'set part "{part}"')
    out.line(f"set period {1e9 / cycles.clock_hz:g}")
    out.line("if {[info exists ::env(PART)]} { set part $::env(PART) }")
    out.line("if {[info exists ::env(CLOCK_NS)]} { set period $::env(CLOCK_NS) }")
    out.line('if {$part eq ""} { puts stderr "set PART to the part number of the device"; exit 2 }')
    out.line()
    out.line("open_project -reset vitis")
    out.line(f"set_top {TOP}")
    out.line(f'add_files [file join $folder {TOP}.cpp] -cflags "-std=c++14"')
    out.line(f'add_files -tb [file join $folder {BENCH}] -cflags "-std=c++14"')
    out.line("open_solution -reset solution -flow_target vivado")
    out.line("set_part $part")
    out.line("create_clock -period $period -name default")
    out.line("set vectors [file join $folder vectors]")
    out.line("csim_design -argv $vectors")
    out.line("csynth_design")
    out.line("if {[info exists ::env(COSIM)]} { cosim_design -argv $vectors }")
    out.line("export_design -format ip_catalog")
    out.line("exit")
    return out.text()


def _design(request: EmitRequest, schedule: StreamSchedule) -> str:
    cycles = request.plan.predicted.cycles
    assert cycles is not None, "checked by emit"
    document = {
        **measured_ends(request, schedule),
        "clock_hz": cycles.clock_hz,
        "part": _PARTS.get(request.plan.target),
        "foldings": {stage.layer.name: [stage.folding.pe, stage.folding.simd] for stage in schedule.stages},
        "depths": {channel.name: channel.depth for channel in channels(schedule)},
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _readme(request: EmitRequest, schedule: StreamSchedule, title: str) -> str:
    out = Writer()
    out.lines([f"# {title}", ""])
    out.line(f"`{TOP}.cpp` is wiring; the logic is in `hls/`, weights and scales are in `tables/`.")
    out.line()
    out.line("    vitis_hls -f run_hls.tcl    # C simulation, synthesis, IP core; PART, CLOCK_NS and COSIM in the environment")
    out.line("    lepton verify .             # C simulation of all vectors with g++")
    out.line()
    out.line("By hand, with the folder of `ap_int.h` and `hls_stream.h` in AP_TYPES:")
    out.line()
    out.line(f'    g++ -std=c++14 -O2 -isystem "$AP_TYPES" {TOP}.cpp {BENCH} -o test_bench && ./test_bench vectors')
    out.line()
    out.line(
        "Depths of streams are those of the plan's Verilog design. Its predicted cycles and resources are not those of this one,"
    )
    out.line("which depend on the version of the tool: read its reports.")
    out.line()
    out.lines(described_ends(schedule))
    return out.text()
