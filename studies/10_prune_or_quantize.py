"""Prune or quantize? What each lever alone, and all of them together, buy on each device for the same loss of accuracy.

Per device the fastest network that loses no more than some points of accuracy: with formats alone, zeros alone, fewer channels
alone, and everything at once. Zeros only count where the device has kernels that skip them, and four bits only where they are
faster than eight, so the answer is not the same everywhere. Nothing is trained after pruning: training would move the channels'
column most.

    python studies/10_prune_or_quantize.py [--points 1] [--quick] [-o build/prune_or_quantize]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import seconds

sys.path.insert(0, str(Path(__file__).parent / "models"))
from measured import digits, lenet5

FORMATS, ZEROS, CHANNELS = ("float32", "float16", "int8", "w4a8"), (0.0, 0.25, 0.5, "2:4"), (0.0, 0.125, 0.25, 0.375)
LEVERS = {
    "as it is": {},
    "formats": {"formats": FORMATS},
    "zeros": {"sparsities": ZEROS},
    "channels": {"channels": CHANNELS},
    "everything": {"formats": FORMATS, "sparsities": ZEROS, "channels": CHANNELS},
}
DEVICES = ("raspberry-pi-5", "intel-xeon-8480", "nvidia-a100-sxm-80gb", "nvidia-jetson-orin-nano", "google-tpu-v5e")
QUICK = {
    "as it is": {},
    "formats": {"formats": ("float32", "int8")},
    "everything": {"formats": ("float32", "int8"), "channels": (0.0, 0.25)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=float, default=1.0, help="of accuracy that may be lost")
    parser.add_argument("--batch", type=int, default=64, help="images a pass")
    parser.add_argument("--quick", action="store_true", help="the digits network on two devices")
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/prune_or_quantize"))
    asked = parser.parse_args()
    graph, data = digits(400) if asked.quick else lenet5(2_000)
    devices, levers = (DEVICES[:2], QUICK) if asked.quick else (DEVICES, LEVERS)
    table = plain_table(f"{graph.name}, {asked.batch} images, at most {asked.points:g} points lost", "device", *levers, "made of")
    points, gains, earlier = [], {name: [] for name in levers}, None
    for device in devices:
        best = {}
        # All levers first: what it measures of a variant holds for every other search, and for the next device.
        for name in reversed(levers):
            space = ld.Space(targets=[device], batches=[asked.batch], **{"formats": ["float32"], **levers[name]})
            folder = asked.output / device / name.replace(" ", "-")
            bounds = {"minimize": ["latency_s", "loss_points"], "subject_to": [f"loss_points <= {asked.points}"]}
            study = ld.Study(graph, space, folder=folder, data=data, samples=len(data), **bounds)
            best[name] = study.run(workers=asked.workers, resume=folder.exists(), reuse=earlier).best("latency_s")
            assert best[name] is not None, "every space holds the network as it is, which loses nothing"
            earlier = folder if name == "everything" else earlier
        latencies = [best[name].figures["latency_s"] for name in levers]
        for name, latency in zip(levers, latencies, strict=True):
            gains[name].append(latencies[0] / latency)
            points.append(Point(device, 100 * latency / latencies[0], 100 * best[name].figures["accuracy"], name))
        assert latencies[-1] == min(latencies), "all levers together are never slower than one"
        table.add_row(device, *map(seconds, latencies), str(best["everything"].candidate.variant))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print("How many times as fast, from the device that gains least to the one that gains most:")
    del gains["as it is"]
    print("; ".join(f"{name} {min(ratios):.2f} to {max(ratios):.2f}" for name, ratios in gains.items()) + ".")
    title = f"{graph.name}, {asked.batch} images: accuracy against time that is left"
    labelled = [point for point in points if point.group == "everything"]
    picture = scatter_svg(title, "time, % of the network's as it is", "accuracy, %", points, labelled, joined=False)
    write_text(asked.output / "prune_or_quantize.svg", picture)


if __name__ == "__main__":
    main()
