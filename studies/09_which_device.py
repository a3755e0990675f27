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
    graph = ld.load(asked.model)
    names = [name for name in ld.target_names() if not name.startswith("unit-")] if asked.targets == ["all"] else asked.targets
    points = []
    for form in FORMATS:
        for name in names:
            report = ld.cost(graph, name, format=form)
            if report.feasible and report.energy_j is not None:
                points.append(Point(f"{name}, {form}", 1e3 * report.latency_s, 1e3 * report.energy_j, group=form))
    space = ld.Space(targets=names, formats=FORMATS)
    study = ld.Study(graph, space, folder=asked.output / "study", minimize=["latency_s", "energy_j"])
    study.run(workers=asked.workers, resume=(asked.output / "study").exists())
    columns = ("device", "format", "latency", "energy", "latency is")
    table = plain_table(f"{graph.name}: of {space.size} choices these are beaten by none in both", *columns)
    for row in study.front:
        latency, energy = row.figures["latency_s"], row.figures["energy_j"]
        assert latency is not None
        assert energy is not None
        known = row.evidence if row.band_pct is None else f"{row.evidence}, {row.band_pct:.1f}%"
        table.add_row(str(row.candidate.hardware), row.candidate.variant.format, seconds(latency), joules(energy), known)
    console = Console()
    console.print(table)
    best = study.best("energy_j", [f"latency_s <= {asked.milliseconds / 1e3}"])
    if best is None:
        console.print(f"No device takes {asked.milliseconds:g} ms or less.")
    else:
        console.print(f"Of those that take {asked.milliseconds:g} ms or less, the one of least energy: {best.candidate}.")
    best_of = {str(row.candidate.hardware): row.candidate.variant.format for row in study.front}
    front = [point for point in points if best_of.get(point.label.split(", ")[0]) == point.group]
    title = f"{graph.name}, one picture: energy against latency, {len(names)} devices"
    write_text(asked.output / "which_device.svg", scatter_svg(title, "latency, ms", "energy, mJ", points, front))
    assert {row.candidate.hardware.target for row in study.front} <= set(names)


if __name__ == "__main__":
    main()
