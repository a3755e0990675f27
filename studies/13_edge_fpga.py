"""Latency against energy on an edge FPGA: which widths and how many channels, and what does either cost in accuracy?

Every variant of the network is planned as a streaming design (folded to the device, its cycles those that a simulation of the
Verilog takes) and its accuracy is measured. Energy counts partial products, adder cells and memory accesses at the design's
widths; static power is not in it, and since folding only moves the same work in time, parallelism alone saves none.

    python studies/13_edge_fpga.py [--target amd-zynq-7020] [--points 2] [--quick] [-o build/edge_fpga]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, joules, seconds
from lepton_dse.study import Row, read_finished
from lepton_dse.study.front import pareto_front

sys.path.insert(0, str(Path(__file__).parent / "models"))
from measured import digits, lenet5

FORMATS, CHANNELS = ("int8", "w6a8", "w4a8", "w4a6", "w4a4", "w3a8"), (0.0, 0.125, 0.25, 0.375, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="amd-zynq-7020", help="an FPGA that streaming designs are planned for")
    parser.add_argument("--points", type=float, default=2.0, help="of accuracy that may be lost")
    parser.add_argument("--quick", action="store_true", help="the digits network, and fewer variants")
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/edge_fpga"))
    asked = parser.parse_args()
    graph, data = digits(200) if asked.quick else lenet5(1_000)
    axes = {"formats": FORMATS[::2], "channels": CHANNELS[::2]} if asked.quick else {"formats": FORMATS, "channels": CHANNELS}
    folder = asked.output / "study"
    bounds = {"minimize": ["latency_s", "energy_j", "loss_points"], "subject_to": [f"loss_points <= {asked.points}"]}
    space = ld.Space(targets=[asked.target], **axes)
    study = ld.Study(graph, space, folder=folder, data=data, samples=len(data), screen=len(data), fpga="plan", **bounds)
    study.run(workers=asked.workers, resume=folder.exists())
    title = f"{graph.name} on {asked.target}, at most {asked.points:g} points lost"
    table = plain_table(title, "variant", "latency", "frames a second", "energy a frame", "points lost", "LUT", "DSP", "BRAM18")
    for row in study.front:
        figures = row.figures
        latency, energy = both(row)
        amounts = [count(round(figures[name] or 0.0)) for name in ("throughput_per_s", "lut", "dsp", "bram18")]
        lost = f"{figures['loss_points'] or 0.0:.2f}"
        table.add_row(str(row.candidate.variant), seconds(latency), amounts[0], joules(energy), lost, *amounts[1:])
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    fast, lean = study.best("latency_s"), study.best("energy_j")
    if fast is None or lean is None:
        print("No variant keeps the bound.")
        return
    print(f"Fastest: {fast.candidate.variant}, {seconds(both(fast)[0])} and {joules(both(fast)[1])} a frame;")
    print(f"least energy: {lean.candidate.variant}, {seconds(both(lean)[0])} and {joules(both(lean)[1])}.")
    known = [entry for entry in read_finished(folder).candidates if not entry.why]
    points = {entry.index: point(entry.row) for entry in known}
    front = [points[entry.index] for entry in known if entry.front]
    plane = [front[place] for place in pareto_front([(each.x, each.y) for each in front])]
    picture = scatter_svg(
        f"{graph.name} on {asked.target}: energy against latency",
        "latency, us",
        "energy a frame, uJ",
        list(points.values()),
        plane,
    )
    write_text(asked.output / "edge_fpga.svg", picture)


def both(row: Row) -> tuple[float, float]:
    """Latency and energy, which every feasible design has."""
    latency, energy = row.figures["latency_s"], row.figures["energy_j"]
    assert latency is not None
    assert energy is not None
    return latency, energy


def point(row: Row) -> Point:
    latency, energy = both(row)
    return Point(str(row.candidate.variant), 1e6 * latency, 1e6 * energy, group=row.candidate.variant.format)


if __name__ == "__main__":
    main()
