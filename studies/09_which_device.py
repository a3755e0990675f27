"""Which device for this network and budget? Latency against energy over every hardware model and several formats.

The network's weights play no part in its cost, so ResNet-50 comes without trained ones, as it ships with the onnx package. Energy
is a sum of published figures that nothing here was checked against, and an FPGA is priced by its roofline, which no design is
faster than: the table says how each latency is known.

    python studies/09_which_device.py [--model FILE.onnx] [--targets all | NAME ...] [--milliseconds 10] [-o build/which_device]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import joules, seconds
from lepton_dse.study import Row, read_finished

MODEL = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"
FORMATS = ("float32", "float16", "int8", "w4a8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=MODEL, help="ResNet-50 by default")
    parser.add_argument("--targets", nargs="+", default=["all"])
    parser.add_argument("--milliseconds", type=float, default=10.0, help="a picture may take at most")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/which_device"))
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    asked = parser.parse_args()
    graph, folder = ld.load(asked.model), asked.output / "study"
    names = [name for name in ld.target_names() if not name.startswith("unit-")] if asked.targets == ["all"] else asked.targets
    space = ld.Space(targets=names, formats=FORMATS)
    study = ld.Study(graph, space, folder=folder, minimize=["latency_s", "energy_j"])
    study.run(workers=asked.workers, resume=folder.exists())
    every = read_finished(folder).candidates
    columns = ("device", "format", "latency", "energy", "latency is")
    table = plain_table(f"{graph.name}: of {space.size} choices these are beaten by none in both", *columns)
    for row in study.front:
        latency, energy = figures(row)
        known = row.evidence if row.band_pct is None else f"{row.evidence}, {row.band_pct:.1f}%"
        table.add_row(str(row.candidate.hardware), row.candidate.variant.format, seconds(latency), joules(energy), known)
    console = Console()
    console.print(table)
    out = [entry for entry in every if entry.why]
    unknown = sum("energy_j is not known" in entry.why for entry in out)
    console.print(f"{len(out)} choices are out, {unknown} of them since the energy is not known for that device and format.")
    best = study.best("energy_j", [f"latency_s <= {asked.milliseconds / 1e3}"])
    if best is None:
        console.print(f"No device takes {asked.milliseconds:g} ms or less.")
    else:
        console.print(f"Of those that take {asked.milliseconds:g} ms or less, the one of least energy: {best.candidate}.")
    points = {entry.index: point(entry.row) for entry in every if not entry.why}
    front = [points[entry.index] for entry in every if entry.front]
    title = f"{graph.name}, one picture: energy against latency, {len(names)} devices"
    write_text(asked.output / "which_device.svg", scatter_svg(title, "latency, ms", "energy, mJ", list(points.values()), front))


def figures(row: Row) -> tuple[float, float]:
    """Latency and energy, both of which feasible candidates have here."""
    latency, energy = row.figures["latency_s"], row.figures["energy_j"]
    assert latency is not None
    assert energy is not None
    return latency, energy


def point(row: Row) -> Point:
    latency, energy = figures(row)
    form = row.candidate.variant.format
    return Point(f"{row.candidate.hardware}, {form}", 1e3 * latency, 1e3 * energy, group=form)


if __name__ == "__main__":
    main()
