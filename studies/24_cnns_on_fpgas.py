"""Which FPGA runs which CNN, how fast, and does it compute what the network computes?

LeNet-5 on Fashion-MNIST, and a residual and a depthwise-separable network on the same images at 32 x 32, each with weights of 8
and of 4 bits. Accuracy is that of the integers on all test images. Every pair of a network and a device is planned; the
designs for one device are emitted as Verilog and run in Verilator: outputs word for word, the cycle of every beat under stall
traces, and the interval beside that of the slowest stage.

    python studies/24_cnns_on_fpgas.py [--target amd-zynq-7020] [--images 50] [--networks ...] [--quick] [-o build/cnns_on_fpgas]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.plan import CheckStatus
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count

sys.path.insert(0, str(Path(__file__).parent / "models"))
from fashion import load_fashion, trained
from small_cnns import enlarged, trained_cnn

DEVICES = ("amd-zynq-7020", "amd-zu3eg", "amd-zu9eg", "lattice-ecp5-85f")
FORMATS = ("int8", "w4a8")
NETWORKS = ("lenet-5", "resnet-8", "mobilenet")


def bundle_of(graph: ld.Graph, form: str, calibration: ld.Dataset) -> ld.Bundle:
    """The network in a format; with 4-bit weights the first and the last layer keep 8."""
    if form == "int8":
        return ld.quantize(graph, form, calibration)
    layers = [op.name for op in graph.ops if op.kind in ("Conv", "MatMul")]
    ends = {layers[0]: "int8", layers[-1]: "int8"}
    return ld.quantize(graph, form, calibration, overrides=ends, rounding="adaround")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="amd-zynq-7020", help="the device whose designs are emitted and run")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--images", type=int, default=50, help="images that the emitted designs are run on")
    parser.add_argument("--quick", action="store_true", help="networks that are hardly trained, few images, one device")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/cnns_on_fpgas"))
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    data = load_fashion()
    devices = (asked.target,) if asked.quick else tuple(dict.fromkeys((asked.target, *DEVICES)))
    accuracies = plain_table("Accuracy on the test images", "network", "format", "float", "integers", "points lost")
    plans = plain_table(
        "Plans", "network", "format", "device", "frames a second", "interval", "slowest stage", "LUT", "DSP", "BRAM18", "proved"
    )
    runs = plain_table(
        f"Emitted for {asked.target} and run on {asked.images} images",
        *("network", "format", "words wrong", "interval", "slowest stage", "stall traces", "emitted in", "verified in"),
    )
    points, failed = [], 0
    for name in asked.networks:
        graph = trained(name) if name == "lenet-5" else trained_cnn(name, samples=500 if asked.quick else 30_000)
        shown = (lambda part: part) if name == "lenet-5" else enlarged
        test = shown(data.test.take(200) if asked.quick else data.test)
        calibration = shown(data.train.take(64 if asked.quick else 512))
        whole = ld.accuracy(graph, test).value
        for form in asked.formats:
            bundle = bundle_of(graph, form, calibration)
            found = ld.accuracy(bundle, test).value
            accuracies.add_row(name, form, f"{whole:.4f}", f"{found:.4f}", f"{100 * (whole - found):.2f}")
            for device in devices:
                plan = ld.plan(bundle, device, minimize="throughput")
                report, cycles = plan.predicted, plan.predicted.cycles
                if not report.feasible or cycles is None:
                    plans.add_row(name, form, device, *("-",) * 7, str(report.violations[0]))
                    continue
                amounts = [count(round(report.resources[kind])) for kind in ("LUT", "DSP", "BRAM18")]
                proved = "optimal" if report.search and report.search.optimal else "no"
                rate = count(round(report.throughput_per_s))
                plans.add_row(name, form, device, rate, count(cycles.interval), cycles.slowest, *amounts, proved)
                points.append(Point(f"{name} {form}", report.resources["LUT"], report.throughput_per_s, device))
                if device == asked.target:
                    folder = asked.output / f"{name}-{form}"
                    begin = time.perf_counter()
                    ld.emit(plan, folder, emitter="verilog", data=test.take(asked.images))
                    middle = time.perf_counter()
                    checks = {check.name: check for check in ld.verify(folder).checks}
                    seconds = (middle - begin, time.perf_counter() - middle)
                    failed += sum(check.status is CheckStatus.FAILED for check in checks.values())
                    stalls = [check for key, check in checks.items() if key.startswith("stalls")]
                    exact = sum(check.status is CheckStatus.PASSED for check in stalls)
                    slowest = max(round(op.latency_s * cycles.clock_hz) for op in report.ops)
                    interval = str(checks["interval_cycles"].observed)
                    runs.add_row(
                        *(name, form, str(checks["outputs_equal"].observed), f"{interval} of {cycles.interval} planned"),
                        *(str(slowest), f"{exact} of {len(stalls)} exact", f"{seconds[0]:.1f} s", f"{seconds[1]:.1f} s"),
                    )
    for table in (accuracies, plans, runs):
        console.print(table)
    title = "Three CNNs as streaming designs"
    picture = scatter_svg(title, "LUTs", "frames a second", points, points if len(points) < 12 else [], joined=False)
    write_text(asked.output / "cnns_on_fpgas.svg", picture)
    if failed:
        sys.exit(f"{failed} checks failed")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
