"""Do the predicted LUTs, registers, multipliers and block memories agree with what synthesis makes of whole designs?

Networks drawn from a seed (convolutions, depthwise and dilated ones, residual sums, concatenations, pools, tables, dense layers;
2 to 8 bits, differing from layer to layer) are planned for parts of an AMD Zynq-7020 and of a Lattice ECP5, emitted as Verilog
and synthesised by Yosys for their family. None of them took part in fitting the formulas, which was done on single modules. A
trained network for digits stands beside them.

    python studies/25_counted_by_yosys.py [--designs 18] [--seed 0] [--families xc7 ecp5] [--quick] [-o build/counted_by_yosys]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.targets import FpgaTarget, load_target
from lepton_dse.verify.artefact import open_artefact
from lepton_dse.verify.synthesis import synthesise

DEVICES = {"xc7": "amd-zynq-7020", "ecp5": "lattice-ecp5-85f"}
KINDS = ("LUT", "FF", "DSP", "BRAM18")
DIGITS = Path(__file__).parent / "models" / "digits_cnn.onnx"


@dataclass(frozen=True)
class Case:
    """A network with its formats, and the part of a device it is planned for."""

    name: str
    graph: ld.Graph
    data: ld.Dataset
    format: str
    overrides: dict[str, str]
    share: float
    minimize: str


class Drawn:
    """A network drawn layer by layer."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.builder = GraphBuilder("drawn")
        self.layers: list[str] = []
        self.blocks = 0

    def pick(self, *choices: int) -> int:
        """One of the choices."""
        return int(self.generator.choice(choices))

    def conv(self, x: str, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, depthwise: bool = False) -> str:
        """A padded convolution that a rectifier may follow."""
        name, inputs = f"conv{len(self.layers)}", self.builder.tensors[x].shape[1]
        self.layers.append(name)
        shape = (inputs, 1, kernel, kernel) if depthwise else (outputs, inputs, kernel, kernel)
        drawn = self.generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        bias = self.generator.normal(0, 0.1, shape[0]).astype(np.float32)
        pad = (kernel // 2 * dilation,) * 2
        window = ops.Window((kernel,) * 2, (stride,) * 2, (dilation,) * 2, pad, pad)
        operands = [x, self.builder.constant(f"{name}.w", drawn), self.builder.constant(f"{name}.b", bias)]
        return self.builder.add(ops.Conv(window, inputs if depthwise else 1), operands, output=name)

    def block(self, x: str) -> str:
        """One step of the network."""
        channels, extent = self.builder.tensors[x].shape[1], self.builder.tensors[x].shape[2]
        wider = self.pick(4, 6, 8, 12, 16, 20)
        kernel, stride = self.pick(1, 3, 3, 5) if extent > 4 else 1, self.pick(1, 1, 2) if extent > 6 else 1
        self.blocks += 1
        step = self.blocks
        match self.pick(*range(7)):
            case 0:
                return self.relu(self.conv(self.relu(self.conv(x, channels, 3, stride=stride, depthwise=True)), wider, 1))
            case 1:
                main = self.conv(self.relu(self.conv(x, channels, 3)), channels, kernel)
                return self.relu(self.builder.add(ops.Add(), [main, x], output=f"sum{step}"))
            case 2:
                parts = [self.conv(x, self.pick(2, 4, 8), size) for size in (1, 3)]
                return self.builder.add(ops.Concat(1), parts, output=f"join{step}")
            case 3 if extent > 6:
                return self.builder.add(ops.MaxPool(ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))), [x], output=f"max{step}")
            case 4:
                return self.builder.add(ops.Sigmoid(), [self.conv(x, wider, kernel, stride=stride)], output=f"table{step}")
            case 5 if extent > 6:
                return self.relu(self.conv(x, wider, 3, dilation=2))
            case _:
                return self.relu(self.conv(x, wider, kernel, stride=stride))

    def relu(self, x: str) -> str:
        """Rectified."""
        return self.builder.add(ops.Clip(0.0, float("inf")), [x], output=f"{x}.relu")

    def network(self) -> ld.Graph:
        """Two to five blocks between a convolution and a dense layer."""
        extent = self.pick(8, 12, 16, 20)
        x = self.relu(self.conv(self.builder.input("image", (1, self.pick(1, 3), extent, extent)), self.pick(4, 8, 12), 3))
        for _ in range(self.pick(2, 3, 4, 5)):
            x = self.block(x)
        channels, *rest = self.builder.tensors[x].shape[1:]
        x = self.builder.add(ops.AveragePool(ops.Window.full(tuple(rest)), False), [x], output="mean")
        x = self.builder.add(ops.Reshape((1, channels)), [x], output="flat")
        outputs = self.pick(4, 10)
        drawn = self.generator.normal(0, channels**-0.5, (channels, outputs)).astype(np.float32)
        operands = [x, self.builder.constant("dense.w", drawn), self.builder.constant("dense.b", np.zeros(outputs, np.float32))]
        self.layers.append("scores")
        return self.builder.build([self.builder.add(ops.MatMul(), operands, output="scores")])


def cases(designs: int, seed: int) -> Iterator[Case]:
    """The drawn networks, and a trained one."""
    generator = np.random.default_rng(seed)
    for number in range(designs):
        drawn = Drawn(generator)
        graph = drawn.network()
        shape = graph.tensors[graph.inputs[0]].shape[1:]
        data = ld.Dataset(generator.normal(0, 1, (8, *shape)).astype(np.float32))
        weights, activations = drawn.pick(2, 3, 4, 6, 8, 8), drawn.pick(4, 5, 6, 8, 8)
        overrides = {name: f"w{drawn.pick(2, 4, 5, 8)}a{drawn.pick(4, 6, 8)}" for name in drawn.layers if drawn.pick(0, 0, 1)}
        share = float(generator.choice([0.1, 0.2, 0.35]))
        minimize = str(generator.choice(["throughput", "latency"]))
        yield Case(f"drawn {number}", graph, data, f"w{weights}a{activations}", overrides, share, minimize)
    digits = ld.load(DIGITS)
    shape = digits.tensors[digits.inputs[0]].shape[1:]
    data = ld.Dataset(generator.uniform(0, 1, (8, *shape)).astype(np.float32))
    yield Case("digits", digits, data, "int8", {}, 0.2, "throughput")


def part_of(family: str, share: float) -> FpgaTarget:
    """A device with a share of its resources."""
    target = load_target(DEVICES[family])
    assert isinstance(target, FpgaTarget), "named above"
    amounts = {
        name: getattr(target, name).model_copy(update={"value": getattr(target, name).value * share})
        for name in ("lut", "ff", "dsp", "bram18")
    }
    return target.model_copy(update=amounts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--designs", type=int, default=18, help="networks drawn, each planned for every family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="+", choices=tuple(DEVICES), default=tuple(DEVICES))
    parser.add_argument("--quick", action="store_true", help="one drawn network")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/counted_by_yosys"))
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = plain_table(
        "Predicted against Yosys",
        "network",
        "family",
        "layers",
        *(f"{kind} predicted / counted" for kind in KINDS),
        "synthesised in",
    )
    errors: dict[tuple[str, str], list[float]] = {}
    points = []
    for case in islice(cases(asked.designs, asked.seed), 1 if asked.quick else None):
        for family in asked.families:
            plan = ld.plan(
                *(case.graph, part_of(family, case.share)),
                format=case.format,
                overrides=case.overrides,
                data=case.data,
                minimize=case.minimize,
            )
            if not plan.predicted.feasible:
                table.add_row(case.name, family, "-", str(plan.predicted.violations[0]), *"----")
                continue
            folder = asked.output / f"{case.name.replace(' ', '-')}-{family}"
            ld.emit(plan, folder, emitter="verilog", data=case.data.take(1))
            begin = time.perf_counter()
            counted = synthesise(open_artefact(folder))
            seconds = time.perf_counter() - begin
            cells = []
            for kind in KINDS:
                predicted = round(plan.predicted.resources[kind])
                cells.append(f"{predicted:,} / {counted[kind]:,}")
                errors.setdefault((family, kind), []).append(predicted / counted[kind] - 1 if counted[kind] else float(predicted))
            points.append(Point(case.name, counted["LUT"], plan.predicted.resources["LUT"], family))
            table.add_row(case.name, family, str(len(plan.plan.ops)), *cells, f"{seconds:.0f} s")
            print(json.dumps([case.name, family, cells, case.format, case.minimize, round(seconds)]), file=sys.stderr, flush=True)
    console.print(table)
    summary = plain_table(
        "Relative error", "family", "resource", "designs", "mean of sizes", "mean", "least", "greatest", "equal"
    )
    for (family, kind), found in errors.items():
        values = np.array(found)
        shown = [f"{100 * value:+.1f}%" for value in (values.mean(), values.min(), values.max())]
        size = f"{100 * np.abs(values).mean():.1f}%"
        summary.add_row(family, kind, str(len(values)), size, *shown, f"{(values == 0).sum()} of {len(values)}")
    console.print(summary)
    title = "LUTs of whole designs, predicted and synthesised"
    write_text(
        asked.output / "counted_by_yosys.svg",
        scatter_svg(title, "LUTs counted by Yosys", "LUTs predicted", points, [], joined=False),
    )


if __name__ == "__main__":
    main()
