"""How few bits does EfficientNet-Lite0 need?

At 4 bits for every weight little is left of it. Here each layer is rounded for its outputs (GPTQ) with corrected biases, alone
with 4 bits while the others keep 8, and what that adds to the divergence from the float network's scores is measured on pictures
of their own. The layers that keep 8 are chosen so that the sum is least while the mean over all weights stays within a budget.
Beside it a rule of thumb: 8 for depthwise layers, the first, and the smallest others. Pictures that calibrate or choose are not
scored: those are twenty labelled ones, and crops of eight more without labels.

    python studies/05_efficientnet_mixed_bits.py [--bits 4.5] [--crops 240] [--calibrate 64] [--train 0] [-o build/efficientnet]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

import lepton_dse as ld
from lepton_dse.report.tables import plain_table

sys.path.insert(0, str(Path(__file__).parent / "models"))
from efficientnet import Pictures, load_efficientnet, load_pictures

CHOOSE = 32


def weights_of(graph: ld.Graph) -> dict[str, int]:
    """Weights of each layer by name, biases left out."""
    return {op.name: graph.constants[op.inputs[1]].size for op in graph.ops if op.kind in ("Conv", "MatMul")}


def small_layers(graph: ld.Graph, budget: float) -> dict[str, str]:
    """Depthwise layers, the first and the smallest others, as many as the budget lets keep 8 bits."""
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


def eight(bundle: ld.Bundle) -> int:
    """Layers whose weights keep 8 bits."""
    layers = [op for op in bundle.graph.ops if op.kind in ("Conv", "MatMul")]
    return sum(bundle.scales[op.inputs[1]].format.bits == 8 for op in layers)


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
    parser.add_argument("--calibrate", type=int, default=64, help="pictures to calibrate and to round on")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for them; 64 pictures need 1.3, 256 need 5")
    parser.add_argument("--train", type=int, default=0, help="pictures to distil the last layers on")
    parser.add_argument("-o", type=Path, default=Path("build/efficientnet"))
    asked = parser.parse_args()
    console, graph = Console(), load_efficientnet()
    pictures = load_pictures(calibrate=max(asked.calibrate, asked.train), choose=CHOOSE, crops=asked.crops)
    calibration = pictures.calibrate.take(asked.calibrate)
    title = f"EfficientNet-Lite0 on {len(pictures.labelled)} labelled pictures and {asked.crops} crops"
    columns = ("bits a weight", "top-1", "cosine, crops", "agreement, crops", "cosine, labelled", "made in")
    table = plain_table(title, "network", *columns)
    table.add_row("float32", "32", *row(graph, graph, pictures), "")
    rounded = {"rounding": "gptq", "correct_bias": True, "memory_gib": asked.memory}

    def add(name: str, make: Callable[[], ld.Bundle]) -> ld.Bundle:
        begun = time.monotonic()
        bundle = make()
        taken = time.monotonic() - begun
        found = row(bundle, graph, pictures)
        table.add_row(name, f"{mean_bits(bundle):.2f}", *found, f"{taken:.0f} s")
        print(f"{name}: {', '.join(found)}", file=sys.stderr)
        return bundle

    def allocated() -> ld.Bundle:
        bounds = {"minimize": "loss", "bits": asked.bits, "calibration": calibration}
        found = ld.allocate(graph, "raspberry-pi-5", pictures.choose, ["int8", "w4a8"], **bounds, **rounded)
        assert found.bundle is not None, "4 bits for every layer keep any budget of 4 or more"
        return found.bundle

    add("w8a8", lambda: ld.quantize(graph, "int8", calibration))
    add("w8a8, rounded for outputs", lambda: ld.quantize(graph, "int8", calibration, **rounded))
    add("w4a8, every layer", lambda: ld.quantize(graph, "w4a8", calibration, **rounded))
    thumb = small_layers(graph, asked.bits)
    add(f"{len(thumb)} layers with 8", lambda: ld.quantize(graph, "w4a8", calibration, overrides=thumb, **rounded))
    mixed = add("allocated", allocated)
    console.print(f"{eight(mixed)} of {len(weights_of(graph))} layers keep 8 bits where they are allocated")
    if asked.train:
        last = list(weights_of(graph))[-4:]
        schedule = ld.Schedule(epochs=4, rate=1e-4, batch=16, temperature=50.0, mix=1.0)
        taught = ld.Dataset(pictures.calibrate.x[: asked.train])
        mixed = add("distilled", lambda: ld.distil(mixed, graph, taught, schedule, keep_zeros=False, layers=last))
    console.print(table)
    ld.to_onnx(mixed, asked.o / "mixed.onnx")
    console.print(f"the last one as ONNX: {asked.o / 'mixed.onnx'}, {(asked.o / 'mixed.onnx').stat().st_size:,} bytes")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
