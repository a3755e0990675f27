"""How few bits does EfficientNet-Lite0 need?

Its depthwise layers collapse at 4 bits. Here they and the first layer keep 8, and so do the smallest of the others until the mean
over all weights reaches a budget; the rest have 4, rounded for the layers' outputs (GPTQ) with corrected biases, and then trained
for an epoch to give the float network's scores (distillation: no label is used anywhere). Calibration, training and choices see
other pictures than those that are scored: twenty labelled ones, and crops of eight more without labels.

    python studies/05_efficientnet_mixed_bits.py [--bits 4.5] [--crops 240] [--train 512] [-o build/efficientnet]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console

import lepton_dse as ld
from lepton_dse.report.tables import plain_table

sys.path.insert(0, str(Path(__file__).parent / "models"))
from efficientnet import Pictures, load_efficientnet, load_pictures

CALIBRATION = 64


def weights_of(graph: ld.Graph) -> dict[str, int]:
    """Weights of each layer by name, biases left out."""
    return {op.name: graph.constants[op.inputs[1]].size for op in graph.ops if op.kind in ("Conv", "MatMul")}


def wide_layers(graph: ld.Graph, budget: float) -> dict[str, str]:
    """The layers that keep 8 bits so that the mean over all weights stays within `budget` bits."""
    sizes = weights_of(graph)
    total, first = sum(sizes.values()), next(iter(sizes))
    wide = [op.name for op in graph.ops if op.kind == "Conv" and op.attributes.groups > 1] + [first]
    for name in sorted(set(sizes) - set(wide), key=lambda name: sizes[name]):
        if 4 + 4 * sum(sizes[each] for each in [*wide, name]) / total <= budget:
            wide.append(name)
    return dict.fromkeys(wide, "int8")


def mean_bits(bundle: ld.Bundle) -> float:
    """Bits a weight, as the bundle's formats say."""
    graph, bits, count = bundle.graph, 0, 0
    for op in graph.ops:
        if op.kind in ("Conv", "MatMul"):
            bits += bundle.scales[op.inputs[1]].format.bits * graph.constants[op.inputs[1]].size
            count += graph.constants[op.inputs[1]].size
    return bits / count


def row(model: ld.Graph | ld.Bundle, graph: ld.Graph, pictures: Pictures) -> list[str]:
    """Figures on the scored pictures."""
    top1 = ld.accuracy(model, pictures.labelled)
    cells = [f"{top1.value:.2f} ({top1.low:.2f} to {top1.high:.2f})"]
    for metric in ("cosine", "agreement"):
        found = ld.accuracy(model, pictures.crops, metric, reference=graph)
        cells.append(f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})")
    return [*cells, f"{ld.accuracy(model, pictures.labelled, 'cosine', reference=graph).value:.4f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=float, default=4.5, help="mean bits a weight, at most")
    parser.add_argument("--crops", type=int, default=240, help="unlabelled crops to score")
    parser.add_argument("--train", type=int, default=512, help="unlabelled crops to distil on; 0 leaves that out")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("-o", type=Path, default=Path("build/efficientnet"))
    asked = parser.parse_args()
    console, graph = Console(), load_efficientnet()
    pictures = load_pictures(calibrate=max(CALIBRATION, asked.train), choose=1, crops=asked.crops)
    calibration, wide = pictures.calibrate.take(CALIBRATION), wide_layers(graph, asked.bits)
    title = f"EfficientNet-Lite0 on {len(pictures.labelled)} labelled pictures and {asked.crops} crops"
    columns = ("bits a weight", "top-1", "cosine, crops", "agreement, crops", "cosine, labelled", "made in")
    table = plain_table(title, "network", *columns)
    table.add_row("float32", "32", *row(graph, graph, pictures), "")
    made = time.monotonic()

    def add(name: str, bundle: ld.Bundle) -> None:
        taken = time.monotonic() - made
        table.add_row(name, f"{mean_bits(bundle):.2f}", *row(bundle, graph, pictures), f"{taken:.0f} s")

    add("w8a8", ld.quantize(graph, "int8", calibration))
    made = time.monotonic()
    add("w4a8, every layer", ld.quantize(graph, "w4a8", calibration))
    made = time.monotonic()
    mixed = ld.quantize(graph, "w4a8", calibration, overrides=wide, rounding="gptq", correct_bias=True)
    add(f"mixed, {len(wide)} of {len(weights_of(graph))} layers with 8", mixed)
    if asked.train:
        made = time.monotonic()
        schedule = ld.Schedule(epochs=asked.epochs, rate=1e-4, batch=8, temperature=2.0, mix=1.0)
        mixed = ld.distil(mixed, graph, pictures.calibrate, schedule, progress=console.print)
        add("mixed, distilled", mixed)
    console.print(table)
    ld.to_onnx(mixed, asked.o / "mixed.onnx")
    console.print(f"the last one as ONNX: {asked.o / 'mixed.onnx'}, {(asked.o / 'mixed.onnx').stat().st_size:,} bytes")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
