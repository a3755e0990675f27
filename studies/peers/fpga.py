"""One dense network on FPGAs by hls4ml, da4ml, NNgen and here: same weights, 8 bits, the same synthesis.

Five letters told apart by 16-64-32-32-5 with ReLU between. Everyone gets the float network and the same calibration rows, and its
scores are those of its own bit-exact emulation. Designs are counted by the same Yosys commands. Cycles are observed, not claimed:
ours in Verilator and Icarus under stalls, da4ml's with a row in every cycle, NNgen's in its own bench, from start to done, its
bus and memory included. hls4ml writes C++ for a vendor's compiler, which is not here, so that it has no gates and no cycles.

The others run in an environment of their own (``make peers``). Ours are planned for the most frames a second: on a Zynq-7020,
on a fifth of it, and on a made-up device on which a frame a cycle fits; the design for that one runs and is synthesised with
``--parallel`` alone.

    python studies/peers/fpga.py [--python build/peers/fpga/bin/python] [--parallel] [--ecp5] [--quick] [-o build/fpga_peers]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import lepton_dse as ld
from lepton_dse import rtl_library as rtl
from lepton_dse.errors import MissingToolError
from lepton_dse.files import write_text
from lepton_dse.plan import CheckStatus
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count
from lepton_dse.verify.simulators import iverilog_binary, run_yosys
from lepton_dse.verify.synthesis import count_cells, synthesis_command

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from letters import letters, trained_letters

CALIBRATION, FRAMES = 512, 50
KINDS = ("LUT", "FF", "DSP", "BRAM18")
DEVICE = "amd-zynq-7020"
PARALLEL = "ours, a frame a cycle"
DEVICES: dict[str, dict[str, float]] = {
    PARALLEL: {"lut": 1e6, "ff": 2e6, "dsp": 6000, "bram18": 4000},
    "ours, Zynq-7020": {},
    "ours, a fifth of it": {"lut": 10_640, "ff": 21_280, "dsp": 44, "bram18": 56},
}
# Name in the tables, tool, and what its program is told besides.
PEERS = (("hls4ml", "hls4ml", ""), ("da4ml", "da4ml", ""), ("NNgen, 1 x 1", "nngen", "1"), ("NNgen, 4 x 4", "nngen", "4"))
THEIRS = Path(__file__).with_name("fpga_theirs.py")

# A row in every cycle, and what leaves in each; a design of interval 1 gives the expected words in consecutive cycles.
BENCH = """\
`timescale 1 ns / 1 ps
module bench;
    reg clk = 0;
    reg [{input}:0] rows [0:{last}];
    reg [{input}:0] row;
    wire [{output}:0] found;
    integer cycle;
    model_wrapper unit (.clk(clk), .model_inp(row), .model_out(found));
    initial begin
        $readmemh("stimulus.hex", rows);
        for (cycle = 0; cycle < {cycles}; cycle = cycle + 1) begin
            row = rows[cycle > {last} ? {last} : cycle];
            #1 $display("%h", found);
            clk = 1;
            #1 clk = 0;
        end
    end
endmodule
"""


@dataclass
class Design:
    """What is known of one way to the hardware; a figure that there is not is None or absent."""

    scores: NDArray[np.floating]
    seconds: float
    compiled: float | None = None
    version: str = ""
    folder: Path | None = None
    sources: list[str] = field(default_factory=list)
    top: str = ""
    predicted: Mapping[str, float] = field(default_factory=dict)
    planned: tuple[int, int] | None = None
    """Interval and latency in cycles, as predicted."""
    observed: tuple[int, int] | None = None
    counted: dict[str, dict[str, int]] = field(default_factory=dict)
    """By family."""
    remark: str = ""


def scores_of(model: ld.Graph | ld.Bundle, data: ld.Dataset) -> NDArray[np.floating]:
    kept: list[NDArray[np.floating]] = []

    def keep(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
        kept.append(scores.reshape(len(labels), -1).astype(float))
        return 0.0

    ld.accuracy(model, data, keep)
    return kept[0]


def ours(name: str, path: Path, calibration: ld.Dataset, test: ld.Dataset, folder: Path, *, run: bool) -> Design:
    """Planned, emitted and, where asked, simulated."""
    target = ld.load_target(DEVICE)
    if DEVICES[name]:
        target = ld.with_numbers(target, DEVICES[name])
    begin = time.perf_counter()
    bundle = ld.quantize(ld.load(path), "int8", calibration)
    plan = ld.plan(bundle, target, minimize="throughput")
    ld.emit(plan, folder, emitter="verilog", data=test.take(FRAMES))
    seconds = time.perf_counter() - begin
    cycles = plan.predicted.cycles
    assert cycles is not None, f"{name}: {plan.predicted.violations}"
    sources = [*sorted(str(path.relative_to(folder)) for path in folder.glob("rtl/*.v")), "lepton_top.v"]
    found = Design(
        *(scores_of(bundle, test), seconds),
        folder=folder,
        sources=sources,
        version=importlib.metadata.version("lepton_dse"),
        top="lepton_top",
        predicted=plan.predicted.resources,
        planned=(cycles.interval, cycles.latency),
    )
    if run:
        checks = {check.name: check for check in ld.verify(folder).checks}
        failed = [check.name for check in checks.values() if check.status is CheckStatus.FAILED]
        found.remark = f"{checks['outputs_equal'].observed} words of {FRAMES} frames differ" + "".join(
            f"; {entry} failed" for entry in failed
        )
        seen = [checks[entry].observed for entry in ("interval_cycles", "latency_cycles")]
        if all(value is not None for value in seen):
            found.observed = (int(str(seen[0])), int(str(seen[1])))
    return found


def theirs(python: str, tool: str, told: str, folder: Path) -> Design | str:
    """Another tool's, or why there is none."""
    command = [python, "-P", str(THEIRS), tool, str(folder), *([told] if told else [])]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    line = next((line for line in run.stdout.splitlines() if line.startswith("RESULT")), None)
    if line is None:
        return (run.stderr.strip().splitlines() or ["it printed nothing"])[-1]
    answer = json.loads(line.removeprefix("RESULT"))
    own = folder / "-".join([tool, *([told] if told else [])])
    found = Design(
        *(np.load(own / "scores.npy"), answer["seconds"], answer.get("compile"), answer["version"]),
        folder=own,
        sources=answer.get("sources", []),
        top=answer.get("top", ""),
        predicted=answer.get("predicted", {}),
    )
    if tool == "hls4ml":
        found.remark = "no synthesizable RTL without Vitis"
    elif tool == "da4ml":
        latency = streamed(own, found.sources, answer["widths"])
        found.observed = None if latency is None else (1, latency)
        found.remark = "rows differ, one a cycle" if latency is None else "no row differs, one a cycle"
    else:
        found.observed = (answer["cycles"][-1],) * 2
        found.remark = f"{answer['equal']} of 5 words equal"
    return found


def streamed(folder: Path, sources: list[str], widths: list[int]) -> int | None:
    """Cycles from a row to its words, rows coming in consecutive ones; None if the words are not those expected."""
    expected = (folder / "expected.hex").read_text().split()
    cycles = len(expected) + 64
    bench = BENCH.format(input=widths[0] - 1, output=widths[1] - 1, last=len(expected) - 1, cycles=cycles)
    write_text(folder / "bench.v", bench)
    # Named as the top, so that modules which are there but not used, one of which Icarus refuses, stay out.
    command = [iverilog_binary(), "-s", "bench", "-o", "bench.vvp", "bench.v", *sources]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    run = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=folder, check=True, capture_output=True, text=True)
    words = run.stdout.split()
    return next((late for late in range(64) if words[late : late + len(expected)] == expected), None)


def synthesised(design: Design, family: rtl.Family) -> dict[str, int]:
    """Primitives by Yosys."""
    assert design.folder is not None
    sources = " ".join(design.sources)
    script = f"read_verilog -defer {sources}; {synthesis_command(family, design.top)}; stat -json"
    return count_cells(run_yosys(script, design.folder))


def beside(predicted: float | None, found: float | None) -> str:
    """A prediction / what was found."""
    return " / ".join("-" if figure is None else count(round(figure)) for figure in (predicted, found))


def quality(designs: Mapping[str, Design], exact: NDArray[np.floating], labels: NDArray[np.integer]) -> Table:
    """Accuracy beside the float network's, and the time to convert."""
    table = plain_table(
        f"16-64-32-32-5 on {len(labels):,} letters; float {np.mean(exact.argmax(1) == labels):.4f}",
        *("tool", "version", "accuracy", "classes as float", "error of scores", "s to convert", "what ran"),
    )
    for name, design in designs.items():
        error = float(np.sqrt(np.mean((design.scores - exact) ** 2) / np.mean(exact**2)))
        took = f"{design.seconds:.2f}" + (f", compiled in {design.compiled:.1f}" if design.compiled else "")
        chosen = design.scores.argmax(1)
        shares = [f"{np.mean(chosen == classes):.4f}" for classes in (labels, exact.argmax(1))]
        table.add_row(name, design.version, *shares, f"{error:.2%}", took, design.remark or "not run")
    return table


def figures(designs: Mapping[str, Design], family: rtl.Family) -> tuple[Table, list[Point]]:
    """Resources and cycles, and a point for each design of which both were found."""
    title = f"{synthesis_command(family, 'TOP')}: predicted / counted; cycles: predicted / observed"
    table = plain_table(title, "design", *KINDS, "interval", "latency", "LUT x interval")
    points = []
    for name, design in designs.items():
        counted = design.counted.get(family.value, {})
        predicted = design.predicted if family is rtl.Family.XC7 else {}
        cells = [beside(predicted.get(kind), counted.get(kind)) for kind in KINDS]
        planned, observed = design.planned or (None, None), design.observed or (None, None)
        cells += [beside(*pair) for pair in zip(planned, observed, strict=True)]
        pace, lut = observed[0], counted.get("LUT")
        product = "-"
        if pace and lut:
            product = count(round(lut * pace))
            points.append(Point(name, pace, lut))
        table.add_row(name, *cells, product)
    return table, points


def compared(asked: argparse.Namespace, path: Path, calibration: ld.Dataset, test: ld.Dataset) -> dict[str, Design]:
    """All designs by name; a tool that is not here is told in a line."""
    designs: dict[str, Design] = {}
    for name, tool, told in () if asked.quick else PEERS:
        answer = theirs(asked.python, tool, told, asked.output) if asked.python else "name its environment by --python"
        if isinstance(answer, str):
            print(f"{name} left out: {answer}", file=sys.stderr)
        else:
            designs[name] = answer
    for name in list(DEVICES)[-1:] if asked.quick else DEVICES:
        folder = asked.output / name.replace(",", "").replace(" ", "-")
        designs[name] = ours(name, path, calibration, test, folder, run=name != PARALLEL or asked.parallel)
    return designs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter of the peers' environment")
    parser.add_argument("--parallel", action="store_true", help="run and synthesise our fully parallel design too")
    parser.add_argument("--ecp5", action="store_true", help="synthesise for ECP5 too")
    parser.add_argument("--quick", action="store_true", help="our smallest design alone")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/fpga_peers"))
    asked = parser.parse_args()
    asked.output = asked.output.absolute()
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        data = letters()
    except MissingToolError as error:
        sys.exit(f"not compared: {error}")
    graph, path = trained_letters(data)
    calibration, test = data.train.take(CALIBRATION), data.test
    assert test.y is not None
    asked.output.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, asked.output / "net.onnx")
    np.savez(asked.output / "data.npz", x=test.x, calibration=calibration.x)
    designs = compared(asked, path, calibration, test)
    console.print(quality(designs, scores_of(graph, test), test.y))
    families = (rtl.Family.XC7, *((rtl.Family.ECP5,) if asked.ecp5 else ()))
    for family in families:
        for name, design in designs.items():
            if design.sources and (name != PARALLEL or asked.parallel):
                design.counted[family.value] = synthesised(design, family)
                print(f"{name}, {family.value}: {design.counted[family.value]}", file=sys.stderr)
        table, points = figures(designs, family)
        console.print(table)
        if family is rtl.Family.XC7 and points:
            picture = asked.output / "fpga_peers.svg"
            write_text(picture, scatter_svg("One network, four ways", "cycles a frame", "LUTs", points, points, joined=False))
            print(f"wrote {picture}")


if __name__ == "__main__":
    main()
