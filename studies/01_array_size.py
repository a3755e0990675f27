"""Which array for this network? Energy against latency over array and buffer sizes, each with the best mapping of every layer.

python studies/01_array_size.py [-o build/array_size] [--model FILE.onnx] [--quick]

Hardware is a knob like any other: each candidate is the same hardware model with other numbers, and each of its layers gets the
tiles of least energy-delay product, proved to be the best of their space. So the curve compares machines, not mappings. Area and
leakage are not priced: a larger array costs nothing here but its share of wires in the buffer's energy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx
import plotly.graph_objects as go
from rich.console import Console
from rich.progress import track
from rich.table import Table

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.study.front import pareto_front

ARRAYS = ((8, 8), (16, 16), (32, 32), (64, 64))
BUFFERS = (32 * 1024, 128 * 1024, 512 * 1024)
MODEL = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_squeezenet.onnx"
CLOCK = 1e9
# Joules a byte by buffer size grow with the root of the size, as wires do; the smallest is that of a small SRAM of 45 nm:
# 10 pJ for 8 bytes out of 8 KiB (M. Horowitz, "Computing's energy problem", ISSCC 2014, figure 1.1.9). The 1.3 nJ for 8 bytes
# of DRAM and the 0.2 + 0.1 pJ of an 8-bit product and a 32-bit sum are from the same table.
SMALL, SMALL_J = 8 * 1024, 10e-12 / 8
DRAM_J, MAC_J, REGISTER_J = 1.3e-9 / 8, 0.3e-12, 0.1e-12


def machine(rows: int, columns: int, buffer: int) -> ld.Hierarchy:
    """Cells with eight bytes of registers; 16 bytes a cycle from memory, two an edge cell from the buffer, half of it in use."""
    joules = SMALL_J * (buffer / SMALL) ** 0.5
    levels = (
        ld.Level("registers", 8, float("inf"), REGISTER_J),
        ld.Level("buffer", buffer / 2, 2.0 * (rows + columns), joules),
        ld.Level("dram", 1e12, 16.0, DRAM_J),
    )
    return ld.Hierarchy(rows, columns, levels, MAC_J)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/array_size"), help="folder for the pictures")
    parser.add_argument("--model", type=Path, default=MODEL, help="SqueezeNet by default")
    parser.add_argument("--quick", action="store_true", help="three machines, one buffer")
    options = parser.parse_args()
    graph = ld.load(options.model)
    candidates = [(rows, columns, buffer) for rows, columns in ARRAYS for buffer in BUFFERS]
    points = []
    table = Table("array", "buffer", "latency", "energy", "use of the array", "on the front", title=f"{graph.name}, int8")
    if options.quick:
        candidates = candidates[:9:3]
    for rows, columns, buffer in track(candidates, console=Console(stderr=True), disable=not sys.stderr.isatty()):
        found = ld.tile(graph, machine(rows, columns, buffer), minimize="edp")
        assert found.optimal, "every layer's mapping is proved"
        label = f"{rows}x{columns}, {buffer // 1024} KiB"
        points.append(Point(label, found.cycles / CLOCK, found.energy_j, group=f"{buffer // 1024} KiB buffer"))
    front = [points[place] for place in pareto_front([(point.x, point.y) for point in points])]
    for point in points:
        rows, columns = map(int, point.label.split(",")[0].split("x"))
        use = graph.macs / (point.x * CLOCK * rows * columns)
        figures = (f"{point.x * 1e3:.3f} ms", f"{point.y * 1e3:.3f} mJ", f"{use:.0%}")
        table.add_row(*point.label.split(", "), *figures, "yes" if point in front else "")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    fastest, leanest = min(points, key=lambda p: (p.x, p.y)), min(points, key=lambda p: (p.y, p.x))
    print(f"Fastest: {fastest.label}; least energy: {leanest.label}; {len(front)} of {len(points)} machines are on the front.")
    milli = [Point(point.label, 1e3 * point.x, 1e3 * point.y, point.group) for point in points]
    milli_front = [point for point, original in zip(milli, points, strict=True) if original in front]
    title = f"{graph.name}, int8: energy against latency"
    write_text(options.output / "array_size.svg", scatter_svg(title, "latency, ms", "energy, mJ", milli, milli_front))
    figure = go.Figure()
    for group in dict.fromkeys(point.group for point in points):
        part = [point for point in points if point.group == group]
        figure.add_scatter(x=[p.x for p in part], y=[p.y for p in part], text=[p.label for p in part], mode="markers", name=group)
    figure.update_layout(title=f"{graph.name}: energy against latency", xaxis_title="latency, s", yaxis_title="energy, J")
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    write_text(options.output / "array_size.html", figure.to_html(include_plotlyjs=True))
    print(f"wrote {options.output / 'array_size.svg'} and array_size.html")
    assert fastest in front, "the fastest machine is on the front"
    assert leanest in front, "so is the one of least energy"


if __name__ == "__main__":
    main()
