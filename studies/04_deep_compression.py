"""How small can a network's file get without losing accuracy?

Deep Compression (S. Han et al., ICLR 2016) on LeNet-300-100 and LeNet-5: prune in steps and train in between, share the weights
that are left among few values and train those, and write gaps and indices in Huffman codes. Training follows the scores of the
uncompressed network, or the mean of three that were trained from other seeds (distillation). Sizes are those of the written file,
which is read again before it is scored; choices were made on 5,000 training images.

    python studies/04_deep_compression.py [--data fashion|digits] [--networks lenet-5] [--seeds 0 1 2] [--epochs 4]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import lepton_dse as ld
from lepton_dse.compress.codebook import archive
from lepton_dse.compress.codebook.sharing import shareable
from lepton_dse.compress.prune.scores.magnitude import magnitude
from lepton_dse.compress.prune.scores.variance import variance
from lepton_dse.report.tables import plain_table

sys.path.insert(0, str(Path(__file__).parent / "models"))
from digits28 import load_digits28
from fashion import load_fashion, network_on


@dataclass(frozen=True)
class Settings:
    """How one network is compressed.

    Parameters
    ----------
    kept : tuple of float
        Share of the weights that stay, layer by layer.
    bits : tuple of int
        Of each layer's codebook.
    steps : int
        Of pruning, each of which keeps the same share of what is left.
    epochs : int
        After each step of pruning; three times as many after the last, twice as many for the shared weights.
    teachers : int
        Uncompressed networks whose scores are followed.
    blend : float
        How far training samples are blended with one another.
    by_variance : bool
        Weights are ranked by themselves times the spread of their inputs, not by themselves alone.
    shifted : bool
        Each training image takes part once more, shifted by up to one pixel.
    """

    kept: tuple[float, ...]
    bits: tuple[int, ...]
    steps: int
    epochs: int
    teachers: int = 1
    blend: float = 0.0
    by_variance: bool = False
    shifted: bool = False


SETTINGS = {
    "lenet-300-100": Settings((0.083, 0.115, 0.5), (4, 4, 4), steps=8, epochs=6, blend=0.3, by_variance=True, shifted=True),
    "lenet-5": Settings((0.65, 0.15, 0.076, 0.4), (5, 4, 4, 4), steps=4, epochs=2, teachers=3),
}
PAPER = {"lenet-300-100": "40x, 98.36% -> 98.42%", "lenet-5": "39x, 99.20% -> 99.26%"}
"""Deep Compression's table 1, on all of MNIST: rate, and accuracy before and after."""


def pruned(graph: ld.Graph, kept: list[float], data: ld.Dataset | None) -> ld.Graph:
    """The best weights of each layer, as many as `kept` says: the greatest, or given data those that move the output most."""
    changed = {}
    scores = magnitude(graph, None) if data is None else variance(graph, data, most=2_000)
    for name, share in zip(shareable(graph), kept, strict=True):
        weights, worth = graph.constants[name].copy(), scores(name)
        weights[worth < np.quantile(worth, 1 - share)] = 0
        changed[name] = weights
    return graph.with_constants(changed)


def halved(graph: ld.Graph) -> ld.Graph:
    """Every constant rounded to float16, which the file then stores."""
    return graph.with_constants({name: value.astype(np.float16).astype(np.float32) for name, value in graph.constants.items()})


def with_shifted(data: ld.Dataset, seed: int) -> ld.Dataset:
    """The images and one copy of each, shifted by -1 to 1 pixels along either side."""
    images = data.x.reshape(-1, 28, 28)
    down, across = np.random.default_rng(seed).integers(0, 3, (2, len(images)))
    wide = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=images.min())
    places = np.arange(28)
    moved = wide[np.arange(len(images))[:, None, None], (down[:, None] + places)[:, :, None], (across[:, None] + places)[:, None]]
    return ld.Dataset(np.concatenate([data.x, moved.reshape(data.x.shape)]), np.concatenate([data.y, data.y]))


def compress(
    graph: ld.Graph, teachers: list[ld.Graph], train: ld.Dataset, settings: Settings, *, seed: int
) -> tuple[bytes, dict[str, ld.Graph]]:
    """The file, and the network after each stage."""
    samples = with_shifted(train, seed) if settings.shifted else train

    def tuned(model: ld.Graph, epochs: int, rate: float, **more: Any) -> ld.Graph:
        schedule = ld.Schedule(epochs=epochs, rate=rate, temperature=2.0, mix=0.9, blend=settings.blend, seed=seed)
        return ld.fine_tune(model, samples, schedule, teacher=teachers, **more)

    stages, small, epochs = {}, graph, settings.epochs
    for step in range(1, settings.steps + 1):
        shares = [share ** (step / settings.steps) for share in settings.kept]
        small = pruned(small, shares, train if settings.by_variance else None)
        small = tuned(small, epochs if step < settings.steps else 3 * epochs, 2e-3)
        print(f"{graph.name}, seed {seed}: pruned, step {step} of {settings.steps}", file=sys.stderr)
    stages["pruned"] = small
    shared, books = ld.share(small, dict(zip(shareable(small), settings.bits, strict=True)))
    shared = halved(tuned(shared, 2 * epochs, 3e-4, codebooks=books))
    stages["shared"] = shared
    return archive.encode(shared, ld.reread(shared, books)), stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["fashion", "digits"], default="fashion")
    parser.add_argument("--networks", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="after each step of pruning, instead of each network's own")
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    for name in asked.networks:
        flat, settings = name != "lenet-5", SETTINGS[name]
        if asked.epochs is not None:
            settings = replace(settings, epochs=asked.epochs)
        if asked.data == "fashion":
            parts = load_fashion(flat=flat)
            train, choose, test = parts.train, parts.choose, parts.test
        else:
            train, choose, test = load_digits28(flat=flat)
        measured = ("float", "compressed", "lost", "bytes", "rate")
        table = plain_table(f"{name} on {asked.data}", "seed", *measured, "choosing split: float, pruned, shared", "time")
        lost, rates = [], []
        for seed in asked.seeds:
            begun = time.monotonic()
            graph = network_on(name, train, asked.data, seed=seed)
            others = [network_on(name, train, asked.data, seed=(seed + step) % 3) for step in range(1, settings.teachers)]
            data, stages = compress(graph, [graph, *others], train, settings, seed=seed)
            again, _ = archive.decode(data)
            dense = 4 * sum(value.size for value in graph.constants.values())
            before, after = (ld.accuracy(model, test).value for model in (graph, again))
            chosen = [ld.accuracy(model, choose).value for model in (graph, stages["pruned"], again)]
            lost.append(100 * (before - after))
            rates.append(dense / len(data))
            row = (
                str(seed),
                f"{100 * before:.2f}%",
                f"{100 * after:.2f}%",
                f"{lost[-1]:.2f}",
                f"{len(data):,}",
                f"{rates[-1]:.1f}x",
                " -> ".join(f"{100 * value:.2f}%" for value in chosen),
                f"{time.monotonic() - begun:.0f} s",
            )
            table.add_row(*row)
            print(f"{graph.name}: {', '.join(row)}", file=sys.stderr)
        console.print(table)
        console.print(f"mean: {np.mean(lost):.2f} points lost at {np.mean(rates):.1f}x; the paper, on MNIST: {PAPER[name]}")
        parts_of = {}
        for part in archive.account(data):
            parts_of[part.kind] = parts_of.get(part.kind, 0) + part.bytes
        console.print("bytes of the last file: " + ", ".join(f"{kind} {size:,}" for kind, size in parts_of.items()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
