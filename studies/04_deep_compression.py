"""How small can a network's file get without losing accuracy?

Deep Compression (S. Han et al., ICLR 2016) on LeNet-300-100 and LeNet-5: prune in steps and train in between, share the weights
that are left among few values and train those, and write gaps and indices in Huffman codes. Training follows the uncompressed
network's scores (distillation). Sizes are those of the written file, which is read again before it is scored; choices were made
on 5,000 training images.

    python studies/04_deep_compression.py [--data fashion|digits] [--seeds 3] [--epochs 8]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

import lepton_dse as ld
from lepton_dse.compress.codebook import archive
from lepton_dse.compress.codebook.sharing import shareable
from lepton_dse.report.tables import plain_table

sys.path.insert(0, str(Path(__file__).parent / "models"))
from digits28 import load_digits28
from fashion import load_fashion, network_on


@dataclass(frozen=True)
class Settings:
    """Shares of the weights that stay, and bits of each codebook, layer by layer."""

    kept: tuple[float, ...]
    bits: tuple[int, ...]


SETTINGS = {
    "lenet-300-100": Settings((0.078, 0.11, 0.5), (4, 4, 4)),
    "lenet-5": Settings((0.6, 0.12, 0.06, 0.4), (5, 4, 4, 4)),
}
STEPS = 4
PAPER = {"lenet-300-100": "40x, 98.36% -> 98.42%", "lenet-5": "39x, 99.20% -> 99.26%"}
"""Deep Compression's table 1, on all of MNIST: rate, and accuracy before and after."""


def pruned(graph: ld.Graph, kept: list[float]) -> ld.Graph:
    """The greatest weights of each layer, as many as `kept` says."""
    changed = {}
    for name, share in zip(shareable(graph), kept, strict=True):
        weights = graph.constants[name].copy()
        weights[np.abs(weights) < np.quantile(np.abs(weights), 1 - share)] = 0
        changed[name] = weights
    return graph.with_constants(changed)


def halved(graph: ld.Graph) -> ld.Graph:
    """Every constant rounded to float16, which the file then stores."""
    return graph.with_constants({name: value.astype(np.float16).astype(np.float32) for name, value in graph.constants.items()})


def compress(
    graph: ld.Graph, train: ld.Dataset, settings: Settings, *, epochs: int, seed: int
) -> tuple[bytes, dict[str, ld.Graph]]:
    """The file, and the network after each stage."""

    def schedule(length: int, rate: float) -> ld.Schedule:
        return ld.Schedule(epochs=length, rate=rate, temperature=2.0, mix=0.9, blend=0.3, seed=seed)

    stages, small = {}, graph
    for step in range(1, STEPS + 1):
        small = pruned(small, [share ** (step / STEPS) for share in settings.kept])
        small = ld.fine_tune(small, train, schedule(epochs if step < STEPS else 3 * epochs, 2e-3), teacher=graph)
    stages["pruned"] = small
    shared, books = ld.share(small, dict(zip(shareable(small), settings.bits, strict=True)))
    shared = ld.fine_tune(shared, train, schedule(2 * epochs, 3e-4), teacher=graph, codebooks=books)
    shared = halved(shared)
    stages["shared"] = shared
    return archive.encode(shared, ld.reread(shared, books)), stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["fashion", "digits"], default="fashion")
    parser.add_argument("--networks", nargs="*", default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    asked = parser.parse_args()
    console = Console()
    for name in asked.networks:
        flat = name != "lenet-5"
        if asked.data == "fashion":
            parts = load_fashion(flat=flat)
            train, choose, test = parts.train, parts.choose, parts.test
        else:
            train, choose, test = load_digits28(flat=flat)
        table = plain_table(
            f"{name} on {asked.data}", "seed", "float", "compressed", "lost", "bytes", "rate", "choosing split", "time"
        )
        lost, rates = [], []
        for seed in range(asked.seeds):
            begun = time.monotonic()
            graph = network_on(name, train, asked.data, seed=seed)
            data, _ = compress(graph, train, SETTINGS[name], epochs=asked.epochs, seed=seed)
            again, _ = archive.decode(data)
            dense = 4 * sum(value.size for value in graph.constants.values())
            before, after = (ld.accuracy(model, test).value for model in (graph, again))
            chosen = [ld.accuracy(model, choose).value for model in (graph, again)]
            lost.append(100 * (before - after))
            rates.append(dense / len(data))
            table.add_row(
                str(seed),
                f"{100 * before:.2f}%",
                f"{100 * after:.2f}%",
                f"{lost[-1]:.2f}",
                f"{len(data):,}",
                f"{rates[-1]:.1f}x",
                f"{100 * chosen[0]:.2f}% -> {100 * chosen[1]:.2f}%",
                f"{time.monotonic() - begun:.0f} s",
            )
        console.print(table)
        console.print(f"mean: {np.mean(lost):.2f} points lost at {np.mean(rates):.1f}x; the paper, on MNIST: {PAPER[name]}")
        parts_of = {}
        for row in archive.account(data):
            parts_of[row.kind] = parts_of.get(row.kind, 0) + row.bytes
        console.print("bytes of the last file: " + ", ".join(f"{kind} {size:,}" for kind, size in parts_of.items()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
