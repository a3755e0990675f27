"""Verilog: a wiring-only top module, the library modules it instantiates, memory images, vectors and testbenches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files as package_files

from lepton_dse.emit.artefact import EmitRequest, Emitter
from lepton_dse.emit.streams import described_ends, measured_ends, vector_files
from lepton_dse.emit.verilog.axi import SHELL, register_table, shell_module, shell_parameters
from lepton_dse.emit.verilog.core import BENCH, CORE, CoreRequest, core_file, core_name
from lepton_dse.emit.verilog.top import TOP, design_modules, memory_files, top_module
from lepton_dse.emit.writer import Writer
from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.rtl_library import Family
from lepton_dse.schedule.stream import StreamSchedule
from lepton_dse.schedule.stream.stalls import StallCase

__all__ = ["EMITTER"]

_TEMPLATES = {
    BENCH: "bench.sv",
    "tb/sim_main.cpp": "sim_main.cpp",
    "tb/test_design.py": "test_design.py",
    "tb/run.py": "run.py",
}


def emit(request: EmitRequest) -> Mapping[str, bytes]:
    """Files of the Verilog artefact.

    Raises
    ------
    LeptonError
        If the plan is not a streaming plan.
    """
    schedule = request.stream
    if schedule is None or request.plan.predicted.cycles is None:
        raise LeptonError("the plan has no streaming schedule", where=request.plan.target, fix="plan for an fpga target")
    library = data_folder("rtl")
    plan = request.plan
    title = f"{_printable(plan.model)} for {plan.target}, {plan.precision}"
    modules = sorted({*design_modules(schedule), "axi_wrapper"})
    files = {f"rtl/{name}.v": (library / f"{name}.v").read_bytes() for name in modules}
    templates = package_files("lepton_dse.emit.verilog") / "templates"
    files.update({name: (templates / source).read_bytes() for name, source in _TEMPLATES.items()})
    images = memory_files(schedule)
    files.update(images)
    core = _core(request, schedule)
    files[f"{TOP}.v"] = top_module(schedule, title).encode()
    files[f"{SHELL}.v"] = shell_module(core.shell, title).encode()
    sources = [*(f"rtl/{name}.v" for name in modules), f"{TOP}.v", f"{SHELL}.v"]
    files[CORE] = core_file(core, sources, sorted(images)).encode()
    files |= vector_files(request, schedule)
    files.update({f"vectors/stalls_{case.seed}.json": _stalls(case) for case in request.stalls})
    files["design.json"] = _design(request, schedule)
    files["README.md"] = _readme(request, schedule, title, core).encode()
    return files


EMITTER = Emitter("verilog", ("fpga",), emit)


def _stalls(case: StallCase) -> bytes:
    document = {
        "seed": case.seed,
        "frames": case.frames,
        "source": "".join("01"[bit] for bit in case.source.astype(int)),
        "sink": "".join("01"[bit] for bit in case.sink.astype(int)),
        "input_cycles": case.input_cycles.tolist(),
        "output_cycles": case.output_cycles.tolist(),
    }
    return (json.dumps(document, sort_keys=True) + "\n").encode()


def _design(request: EmitRequest, schedule: StreamSchedule) -> bytes:
    cycles = request.plan.predicted.cycles
    assert cycles is not None, "checked by emit"
    longest = max(len(case.source) + len(case.sink) for case in request.stalls) if request.stalls else 0
    document = {
        **measured_ends(request, schedule),
        "fabric": request.fabric,
        "latency_cycles": cycles.latency,
        "interval_cycles": cycles.interval,
        # A design that moves no beat for longer than a whole frame and both traces take is stuck.
        "patience": 2 * (cycles.latency + cycles.interval) + longest,
        # A fork has a bit of valid for each consumer; what passes it is seen behind the instance before it.
        "instances": [instance.name for instance in schedule.instances if instance.module.name != "stream_fork"],
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _core(request: EmitRequest, schedule: StreamSchedule) -> CoreRequest:
    cycles = request.plan.predicted.cycles
    assert cycles is not None, "checked by emit"
    # Parameters of Verilog are signed numbers of 32 bits.
    digest = int(hashlib.sha256(request.plan.to_json().encode()).hexdigest()[:8], 16) >> 1
    return CoreRequest(
        model=_printable(request.plan.model),
        target=request.plan.target,
        precision=request.plan.precision,
        shell=shell_parameters(schedule, digest),
        output_beats=schedule.output_beats,
        samples=len(request.vectors.x),
        latency=cycles.latency,
        family=Family(request.fabric),
    )


def _printable(text: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _readme(request: EmitRequest, schedule: StreamSchedule, title: str, core: CoreRequest) -> str:
    cycles = request.plan.predicted.cycles
    assert cycles is not None, "checked by emit"
    out = Writer()
    out.lines([f"# {title}", ""])
    out.line(f"`{TOP}.v` is wiring; the logic is in `rtl/`, weights and scales are in `mem/`.")
    out.line()
    out.line("    python tb/run.py       # cocotb and Icarus Verilog: every word and every cycle, under stalls")
    out.line("    lepton verify .        # the same through Verilator for all samples, beside the predictions")
    out.line()
    out.line("| | predicted |")
    out.line("|---|---|")
    out.line(f"| latency | {cycles.latency} cycles |")
    out.line(f"| initiation interval | {cycles.interval} cycles, set by {cycles.slowest} |")
    resources = request.plan.predicted.resources
    out.lines(f"| {name} | {amount:g} |" for name, amount in sorted(resources.items()))
    out.line()
    out.lines(described_ends(schedule))
    out.line()
    out.line("## In a system")
    out.line()
    out.line(f"`{SHELL}.v` puts the design behind AXI: the same streams, and an AXI4-Lite slave of 32 bits. Nothing enters until")
    out.line("it is asked for: write 2 to CONTROL for one frame, 1 for frames without end, 0 to let no further frame in. Streams")
    out.line("pass without a cycle more: LATENCY shows the predicted latency of a frame that met no stall, INTERVAL the")
    out.line("predicted interval once frames follow one another without gaps. Counters wrap at 2^32.")
    out.line()
    out.lines(register_table())
    out.line()
    out.line(f"`{CORE}` describes it to FuseSoC:")
    out.line()
    for target, meaning in (
        ("sim", "Icarus Verilog: a frame at full speed, its latency, frames under stalls"),
        ("sim_verilator", "the same in Verilator"),
        ("lint", "Verilator, every warning"),
        ("synth", "Yosys"),
    ):
        out.line(f"    fusesoc --cores-root . run --target={target} {core_name(core)}  # {meaning}")
    out.line()
    out.line("Other tools need `mem/` in the folder in which they run. DESIGN is how the SHA-256 of `plan.json` begins: 31 bits.")
    return out.text()
