"""What does compression buy on an FPGA?

LeNet-5 on Fashion-MNIST, dense with 8 bits, and with half of its channels gone, trained again, and weights of 4 and 8 bits:
both are planned for a Zynq-7020, emitted as Verilog and as C++, and verified. The figures are those that the artefacts showed
when they ran.

    python studies/06_lenet_on_an_fpga.py [--target amd-zynq-7020] [--epochs 2] [--synthesis] [-o build/lenet]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

import lepton_dse as ld
from lepton_dse.plan import CheckStatus
from lepton_dse.report.tables import plain_table

sys.path.insert(0, str(Path(__file__).parent / "models"))
from fashion import load_fashion, trained

SAMPLES = 16
KINDS = ("LUT", "FF", "DSP", "BRAM18")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="amd-zynq-7020")
    parser.add_argument("--ratio", type=float, default=0.5, help="share of channels that go")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--synthesis", action="store_true", help="synthesise both with Yosys too; takes minutes")
    parser.add_argument("-o", type=Path, default=Path("build/lenet"))
    asked = parser.parse_args()
    console, data = Console(), load_fashion()
    dense = trained("lenet-5")
    small = ld.prune(dense, asked.ratio, kind="channels", score="hessian", data=data.train.take(512))
    small = ld.fine_tune(small, data.train, ld.Schedule(epochs=asked.epochs, rate=1e-3, temperature=2.0, mix=0.9), teacher=dense)
    weights = [op.name for op in small.ops if op.kind in ("Conv", "MatMul")]
    ends = {weights[0]: "int8", weights[-1]: "int8"}  # the first and the last layer keep 8 bits
    calibration = data.train.take(512)
    bundles = {
        "dense, 8 bits": ld.quantize(dense, "int8", calibration),
        "half the channels, 4 and 8 bits": ld.quantize(small, "w4a8", calibration, overrides=ends, rounding="adaround"),
    }
    tables = [
        plain_table(
            f"LeNet-5 on {asked.target}", "network", "parameters", "test accuracy", "latency", "interval", "outputs wrong"
        ),
        plain_table("Resources as predicted (and as synthesised by Yosys)", "network", *KINDS),
    ]
    for name, bundle in bundles.items():
        plan = ld.plan(bundle, asked.target)
        observed = {}
        for emitter in ("verilog", "cpp"):
            folder = ld.emit(
                plan, asked.o / emitter / name.replace(",", "").replace(" ", "-"), emitter=emitter, data=data.test.take(SAMPLES)
            )
            result = ld.verify(folder, synthesis=asked.synthesis and emitter == "verilog")
            for check in result.checks:
                observed[f"{emitter} {check.name}"] = check.observed
                if check.status is not CheckStatus.PASSED:
                    console.print(f"{emitter}, {name}: {check.name} {check.status.value}: {check.reason}")
        wrong = f"{observed.get('verilog outputs_equal')} in Verilog, {observed.get('cpp outputs_equal')} in C++"
        cycles = [f"{observed.get(f'verilog {figure}'):,} cycles" for figure in ("latency_cycles", "interval_cycles")]
        tables[0].add_row(name, f"{bundle.graph.parameters:,}", f"{ld.accuracy(bundle, data.test).value:.4f}", *cycles, wrong)
        predicted = plan.predicted.resources
        found = {kind: observed.get(f"verilog resource_{kind}") for kind in KINDS}
        tables[1].add_row(
            name, *(f"{predicted[kind]:,.0f}" + (f" ({float(found[kind]):,.0f})" if found[kind] else "") for kind in KINDS)
        )
    for table in tables:
        console.print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
