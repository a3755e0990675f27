"""How far does a small dense network compress, one step at a time and all steps together?

784-128-10 with ReLU and Softmax, the network that tutorials train on Fashion-MNIST: distilled from LeNet-300-100, pruned by
channels and by weights, quantised to four pairs of formats, and all of it. Every step is trained again with the teacher's scores.
Accuracy before that training is of the 5,000 choosing images, on which epochs, rates and ratios were chosen; the official 10,000
test images score what a step ends with, once a seed.

    python studies/07_dense_fashion.py [--seeds 3] [--epochs 6] [--train 55000] [-o build/dense_fashion]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import lepton_dse as ld
from lepton_dse.data import Interval
from lepton_dse.files import write_text
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import seconds
from lepton_dse.study.front import pareto_front

sys.path.insert(0, str(Path(__file__).parent / "models"))
from fashion import Fashion, load_fashion, network_on
from sizes import weight_bytes

TARGETS = {"Raspberry Pi 5": "raspberry-pi-5", "Zynq-7020": "amd-zynq-7020", "Jetson Orin Nano": "nvidia-jetson-orin-nano"}
FORMATS = ("int8", "w4a8", "w4a4", "w2a8")
CHANNELS, WEIGHTS = 0.5, 0.8
"""Shares of the hidden units and of the weights that go."""

Model = ld.Graph | ld.Bundle


@dataclass(frozen=True)
class Step:
    """A model as a step made it, and as training left it."""

    name: str
    before: Model
    after: Model


@dataclass(frozen=True)
class Row:
    """What a step comes to with one seed."""

    name: str
    before: float
    chosen: float
    test: Interval
    bytes: float
    latencies: tuple[float | None, ...]


def steps(data: Fashion, label: str, seed: int, epochs: int) -> Iterator[Step]:
    """Every step on its own from the network as it was trained, and then one after another."""
    dense, teacher = (network_on(name, data.train, label, seed=seed) for name in ("mlp-128", "lenet-300-100"))
    calibration = data.train.take(512)

    def taught(name: str, model: Model, *, length: int = epochs, rate: float = 1e-3) -> Step:
        torch.set_num_threads(1)  # kernels that ran in between may have raised the number
        schedule = ld.Schedule(epochs=length, rate=rate, temperature=2.0, mix=0.9, blend=0.3, seed=seed)
        return Step(name, model, ld.fine_tune(model, data.train, schedule, teacher=teacher))

    def quantised(graph: ld.Graph, form: str) -> ld.Bundle:
        return ld.quantize(graph, form, calibration, rounding="adaround")

    def narrowed(name: str, graph: ld.Graph, form: str) -> Step:
        return taught(name, quantised(graph, form), length=-(-epochs // 3), rate=3e-4)

    yield Step("as trained", dense, dense)
    distilled = taught("distilled", dense)
    yield distilled
    yield taught(
        f"{CHANNELS:.0%} of the channels pruned", ld.prune(dense, CHANNELS, kind="channels", score="hessian", data=calibration)
    )
    yield taught(f"{WEIGHTS:.0%} of the weights pruned", ld.prune(dense, WEIGHTS, kind="weights", score="magnitude"))
    for form in FORMATS:
        yield narrowed(form, dense, form)
    assert isinstance(distilled.after, ld.Graph)
    for kind, ratio, score, forms in (
        ("channels", CHANNELS, "hessian", FORMATS[1:2]),
        ("weights", WEIGHTS, "magnitude", FORMATS[1:3]),
    ):
        small = taught("", ld.prune(distilled.after, ratio, kind=kind, score=score, data=calibration)).after
        assert isinstance(small, ld.Graph)
        for form in forms:
            yield narrowed(f"distilled, {ratio:.0%} of the {kind} pruned, {form}", small, form)


def latency(model: Model, target: str) -> float | None:
    """Predicted seconds a sample; none where the target does not hold the model."""
    report = ld.plan(model, target).predicted if isinstance(model, ld.Bundle) else ld.cost(model, target, format="float32")
    return report.latency_s if report.feasible else None


def rows(data: Fashion, label: str, seed: int, epochs: int) -> list[Row]:
    found = []
    for step in steps(data, label, seed, epochs):
        before, chosen = (ld.accuracy(model, data.choose).value for model in (step.before, step.after))
        latencies = tuple(latency(step.after, target) for target in TARGETS.values())
        found.append(Row(step.name, before, chosen, ld.accuracy(step.after, data.test), weight_bytes(step.after), latencies))
    return found


def seed_table(seed: int, found: list[Row]) -> Table:
    table = plain_table(
        f"Seed {seed}: accuracy in percent",
        "step",
        "choosing: before",
        "after training",
        "test (95%)",
        "lost",
        "bytes",
        "rate",
        *TARGETS,
    )
    first = found[0]
    for row in found:
        test = f"{100 * row.test.value:.2f} ({100 * row.test.low:.2f} to {100 * row.test.high:.2f})"
        times = ["-" if value is None else seconds(value) for value in row.latencies]
        lost, rate = f"{100 * (first.test.value - row.test.value):.2f}", f"{first.bytes / row.bytes:.1f}x"
        table.add_row(
            row.name, f"{100 * row.before:.2f}", f"{100 * row.chosen:.2f}", test, lost, f"{row.bytes:,.0f}", rate, *times
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--epochs", type=int, default=6, help="of each training of reals; a third of that where formats are trained"
    )
    parser.add_argument("--train", type=int, default=55_000, help="training images; fewer for a quick look")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/dense_fashion"))
    asked = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 170)
    data = load_fashion(flat=True)
    label = "fashion"
    if asked.train < len(data.train):
        data, label = Fashion(data.train.take(asked.train), data.choose, data.test), f"fashion-{asked.train}"
    console.print(
        "How far does 784-128-10 on Fashion-MNIST compress? 'lost' is in points of test accuracy against the network as trained."
    )
    found = []
    for seed in track(range(asked.seeds), console=Console(stderr=True), disable=not sys.stderr.isatty()):
        found.append(rows(data, label, seed, asked.epochs))
        console.print(seed_table(seed, found[-1]))
    every = list(zip(*found, strict=True))
    means = plain_table(f"Mean over {asked.seeds} seed(s)", "step", "test", "least", "most", "points lost", "bytes", "rate")
    for row in every:
        tests = 100 * np.asarray([entry.test.value for entry in row])
        lost = float(np.mean([100 * first.test.value for first in every[0]]) - tests.mean())
        size, dense = (float(np.mean([entry.bytes for entry in entries])) for entries in (row, every[0]))
        cells = [f"{value:.2f}" for value in (tests.mean(), tests.min(), tests.max(), lost)]
        means.add_row(row[0].name, *cells, f"{size:,.0f}", f"{dense / size:.1f}x")
    console.print(means)
    console.print(
        "Bytes are of weights in their formats (a bit a weight says which are zero where that is shorter), biases and scales of "
        "4 bytes. Latencies are predicted; '-': the target does not hold the network in float32."
    )
    points = [
        Point(
            row[0].name,
            float(np.mean([entry.bytes for entry in row])) / 1024,
            float(np.mean([100 - 100 * entry.test.value for entry in row])),
            group,
        )
        for row in every
        for group in ["together" if "," in row[0].name else "one step"]
    ]
    front = [points[place] for place in pareto_front([(point.x, point.y) for point in points])]
    picture = asked.output / "dense_fashion.svg"
    write_text(picture, scatter_svg("784-128-10 on Fashion-MNIST", "weights, KiB", "test error, percent", points, front))
    console.print(f"wrote {picture}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
