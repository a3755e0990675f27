"""One network on a CPU, a GPU, a TPU and an FPGA: how fast, at which cost in energy, and how much of that was held against a run?

A small network for 8 x 8 digits shows what large ones hide: a device that is built for throughput waits for its own start. Each
device gets the batch that suits it, up to the largest given. What can be executed here is: the CPU's plan as C++, the FPGA's as
Verilog in a simulator, cycle by cycle. GPU and TPU are priced, and the table says so. The CPU's latency is a bound that counts no
calls or branches, which weigh more the smaller a network is.

    python studies/11_four_families.py [--batches 1 4 16 64 256] [--no-verify] [-o build/four_families]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

import lepton_dse as ld
from lepton_dse.demo.digits import load_digits_split
from lepton_dse.files import write_text
from lepton_dse.plan import CheckStatus, CostReport
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import joules, scaled, seconds
from lepton_dse.study.front import pareto_front

DEVICES = {"CPU": "raspberry-pi-5", "GPU": "nvidia-jetson-orin-nano", "TPU": "google-tpu-v1", "FPGA": "amd-zynq-7020"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="images a pass")
    parser.add_argument("--no-verify", action="store_true", help="price only")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/four_families"))
    asked = parser.parse_args()
    graph = ld.load(Path(__file__).parent / "models" / "digits_cnn.onnx")
    train, test = load_digits_split()[:2]
    bundle = ld.quantize(graph, "int8", train.take(128))
    columns = (
        "",
        "device",
        "one image",
        "bound by",
        "images/s, at most",
        "energy an image",
        "latency is",
        "executed here",
    )
    table = plain_table(f"{graph.name}, {graph.macs:,} multiply-accumulates, int8", *columns)
    points, alone = [], {}
    for family, device in DEVICES.items():
        plan = ld.plan(bundle, device)
        reports = (
            {1: plan.predicted} if family == "FPGA" else {size: ld.cost(bundle, device, batch=size) for size in asked.batches}
        )
        first = reports[min(reports)]
        alone[family] = first.latency_s
        best = max(reports, key=lambda size: reports[size].throughput_per_s)
        fastest = f"{scaled(reports[best].throughput_per_s, '/s')}, batch {best}"
        least = min((energy for size in reports if (energy := per_image(reports[size], size)) is not None), default=None)
        checked = "-" if asked.no_verify else executed(plan, family, asked.output, test)
        known = first.evidence if first.band is None else f"{first.evidence}, {first.band.mape_pct:.1f}%"
        energy = "-" if least is None else joules(least)
        table.add_row(family, device, seconds(first.latency_s), first.bound_by, fastest, energy, known, checked)
        for size, report in reports.items():
            name = f"{family}, batch {size}" if len(reports) > 1 else family
            points.append(Point(name, 1e6 * report.latency_s, report.throughput_per_s, group=family))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    quickest = min(alone, key=lambda family: alone[family])
    print(f"One image by itself is answered first by the {quickest}; the others take {ratios(alone, quickest)} times as long.")
    title = f"{graph.name}, int8: images a second against latency"
    front = [points[place] for place in pareto_front([(point.x, -point.y) for point in points])]
    write_text(asked.output / "four_families.svg", scatter_svg(title, "latency of a pass, us", "images a second", points, front))
    print(f"wrote {asked.output / 'four_families.svg'}")


def per_image(report: CostReport, batch: int) -> float | None:
    """Joules an image; None where the device's energy is not modelled."""
    return None if report.energy_j is None else report.energy_j / batch


def executed(plan: ld.PlannedModel, family: str, output: Path, test: ld.Dataset) -> str:
    """What running the emitted artefact showed; a dash for the families whose artefacts nothing here runs."""
    emitter = {"CPU": "cpp", "FPGA": "verilog"}.get(family)
    if emitter is None:
        return "-"
    result = ld.verify(ld.emit(plan, output / emitter, emitter=emitter, data=test.take(64)))
    statuses = [check.status for check in result.checks]
    assert CheckStatus.FAILED not in statuses, f"{family}: the artefact does what was predicted"
    return f"{statuses.count(CheckStatus.PASSED)} of {len(statuses)} checks of the {'C++' if emitter == 'cpp' else 'Verilog'}"


def ratios(alone: dict[str, float], quickest: str) -> str:
    """How many times as long each other family takes."""
    return ", ".join(f"{latency / alone[quickest]:.3g} ({family})" for family, latency in alone.items() if family != quickest)


if __name__ == "__main__":
    main()
