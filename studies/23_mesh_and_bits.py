"""Which format, pruning and mesh of a TPU pod for a sentence embedding, and how much of its answer is left?

paraphrase-MiniLM-L3 (its weights as published, 17 million parameters) for one sentence of 64 tokens on a TPU v5e pod: formats,
shares of channels that are cut out, and every mesh of 1, 2, 4 and 8 devices with one axis or two, as one stage or a pipeline of
two, are one space. Every candidate is planned as `lepton shard` does it: the strategies of all operations proved cheapest under
closed forms that nothing here was checked against. Sentences are random words, so that the cosine to the float network's
embedding says how formats and pruning move it, not what a task would lose; nothing is trained afterwards. The fastest shared
member of the front that loses little is emitted and run on as many devices of this host.

    python studies/23_mesh_and_bits.py [--quick] [--points 10] [--no-verify] [-o build/mesh_and_bits]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.plan import CheckStatus
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, seconds, share
from lepton_dse.study import Row

sys.path.insert(0, str(Path(__file__).parent / "models"))
from published import published

TOKENS, WORDS, WIDTH, CLUSTER = 64, 50, 384, "google-v5e-pod"
MOST = 8
"""Devices of a mesh."""


def embedding() -> ld.Graph:
    """The network for one sentence of 50 words and a filled-up rest, up to the embedding of the whole sentence."""
    mask = np.ones((1, TOKENS), np.int64)
    mask[:, WORDS:] = 0
    dims = {"batch_size": 1, "sequence_length": TOKENS}
    graph = ld.load(published("minilm"), dims=dims, bind={"attention_mask": mask})
    (wanted,) = (name for name in graph.outputs if graph.tensors[name].shape == (1, WIDTH))
    needed, operations = {wanted}, []
    for op in reversed(graph.ops):
        if op.output in needed:
            operations.append(op)
            needed.update(op.inputs)
    tensors = [tensor for name, tensor in graph.tensors.items() if name in needed]
    constants = {name: value for name, value in graph.constants.items() if name in needed}
    return ld.Graph(graph.name, tensors, operations[::-1], [name for name in graph.inputs if name in needed], [wanted], constants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="int8 as it is, up to two devices")
    parser.add_argument(
        "--points", type=float, default=10.0, help="that what is emitted may lose, a hundredth of the cosine each"
    )
    parser.add_argument("--no-verify", action="store_true", help="price only")
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/mesh_and_bits"))
    asked = parser.parse_args()
    graph, folder = embedding(), asked.output / "study"
    words = np.random.default_rng(0).integers(1000, 30000, (4 if asked.quick else 16, TOKENS)).astype(np.float32)
    meshes = [size for size in (1, 2, 4, 8) if size <= (2 if asked.quick else MOST)]
    space = ld.Space(
        targets=[{"target": CLUSTER, "meshes": meshes, "stages": [1, 2]}],
        formats=["int8"] if asked.quick else ["bfloat16", "int8", "w4a8"],
        channels=[0.0] if asked.quick else [0.0, 0.125],
    )
    wanted = ["latency_s", "throughput_per_s", "devices", "loss_points"]
    data = ld.Dataset(words)
    study = ld.Study(graph, space, folder=folder, data=data, minimize=wanted, metric="cosine", calibration=4, screen=len(words))
    study.run(workers=asked.workers, resume=folder.exists())
    title = f"MiniLM-L3, {TOKENS} tokens: of {space.size} choices on {CLUSTER} these are beaten by none"
    columns = ("devices", "mesh", "format", "channels cut", "latency", "sentences/s", "memory of a device", "exchanged", "cosine")
    table = plain_table(title, *columns)
    for row in sorted(study.front, key=lambda row: (figure(row, "devices"), figure(row, "latency_s"))):
        table.add_row(*cells(row))
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
    console.print(table)
    alone, fastest = study.best("latency_s", ["devices <= 1"]), study.best("latency_s")
    assert alone is not None
    assert fastest is not None
    steadiest = study.best("throughput_per_s")
    assert steadiest is not None
    times = figure(alone, "latency_s") / figure(fastest, "latency_s")
    more = figure(steadiest, "throughput_per_s") / figure(alone, "throughput_per_s")
    console.print(f"{gained(fastest)}: {times:.2f} times as fast as one; {gained(steadiest)}: {more:.2f} times its throughput.")
    console.print("Latencies and throughputs are unchecked, cosines are measured.")
    if not asked.no_verify:
        console.print(verified(study, asked.points, asked.output / "artefact", data))
    write_text(asked.output / "mesh_and_bits.svg", picture(study.front))


def figure(row: Row, name: str) -> float:
    """A figure that every feasible candidate has here."""
    value = row.figures[name]
    assert value is not None
    return value


def gained(row: Row) -> str:
    """The devices of a member."""
    return f"{count(int(figure(row, 'devices')))} devices ({row.candidate.hardware.sharing})"


def cells(row: Row) -> tuple[str, ...]:
    """A member of the front as a row of the table."""
    hardware, variant = row.candidate.hardware, row.candidate.variant
    assert row.accuracy is not None
    return (
        count(int(figure(row, "devices"))),
        hardware.sharing,
        variant.format,
        share(variant.channels),
        seconds(figure(row, "latency_s")),
        count(round(figure(row, "throughput_per_s"))),
        scaled(figure(row, "peak_bytes"), "B"),
        scaled(figure(row, "exchanged_bytes"), "B"),
        f"{row.accuracy.value:.3f}",
    )


def verified(study: ld.Study, points: float, output: Path, data: ld.Dataset) -> str:
    """What running the fastest shared member showed that loses no more than so many points."""
    chosen = study.best("latency_s", ["devices >= 2", f"loss_points <= {points}"])
    if chosen is None:
        return f"No shared member of the front loses {points:g} points or less."
    artefact = ld.emit(study.planned(chosen), output, emitter="xla", data=data.take(2))
    statuses = {check.name: check.status for check in ld.verify(artefact).checks}
    assert CheckStatus.FAILED not in statuses.values(), f"{chosen.candidate}: the artefact does what was predicted"
    if statuses["outputs_equal"] is CheckStatus.UNAVAILABLE:
        sys.exit("JAX is not here: pip install 'lepton_dse[xla]'")
    passed = sum(status is CheckStatus.PASSED for status in statuses.values())
    return (
        f"Emitted and run on devices of this host: {chosen.candidate}: {passed} checks passed, outputs and exchanges among them."
    )


def picture(front: Sequence[Row]) -> str:
    """Throughput against the memory of a device: members of the front, named where the network is whole."""
    points = [point(row) for row in front]
    named = [entry for entry, row in zip(points, front, strict=True) if not row.candidate.variant.channels]
    title = f"MiniLM-L3, a sentence of {TOKENS} tokens: what sharing gives"
    return scatter_svg(title, "memory of a device, MB", "sentences a second", points, named, joined=False)


def point(row: Row) -> Point:
    hardware, variant = row.candidate.hardware, row.candidate.variant
    group = f"{variant.format}, {share(variant.channels)} cut" if variant.channels else variant.format
    meshes = " | ".join([hardware.mesh] * hardware.stages)
    return Point(meshes, figure(row, "peak_bytes") / 1e6, figure(row, "throughput_per_s"), group=group)


if __name__ == "__main__":
    main()
