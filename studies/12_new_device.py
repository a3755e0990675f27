"""The device changes: does the compressed network that was best stay the best, and what does it take to find out?

A study finds the fastest variant on one device that loses no more than some points of accuracy. Then the device is replaced.
Accuracy does not depend on it, so the second study takes every measured accuracy over from the first and only prices anew; a
third one starts from nothing, to see that it finds the same. The table says what the old choice costs on the new device, and what
the new choice gains.

    python studies/12_new_device.py [--old nvidia-t4] [--new raspberry-pi-5] [--points 1] [--quick] [-o build/new_device]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.report.scatter import Point, scatter_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import seconds, share
from lepton_dse.study import Row, Study, read_finished

sys.path.insert(0, str(Path(__file__).parent / "models"))
from measured import digits, lenet5

FORMATS, SPARSITIES, CHANNELS = ("float32", "float16", "int8", "w4a8", "w4-float16"), (0.0, "2:4"), (0.0, 0.125, 0.25, 0.375, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default="nvidia-t4")
    parser.add_argument("--new", default="raspberry-pi-5")
    parser.add_argument("--points", type=float, default=1.0, help="of accuracy that may be lost")
    parser.add_argument("--batch", type=int, default=64, help="images a pass")
    parser.add_argument("--quick", action="store_true", help="the digits network, and fewer variants")
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/new_device"))
    asked = parser.parse_args()
    graph, data = digits(200) if asked.quick else lenet5(2_000)
    axes = {"formats": FORMATS, "sparsities": SPARSITIES, "channels": CHANNELS}
    if asked.quick:
        axes = {"formats": ("float32", "int8"), "channels": (0.0, 0.25)}

    def study(device: str, name: str, reuse: Path | None = None) -> tuple[Study, float]:
        space = ld.Space(targets=[device], batches=[asked.batch], **axes)
        bounds = {"minimize": ["latency_s", "loss_points"], "subject_to": [f"loss_points <= {asked.points}"]}
        made = ld.Study(graph, space, folder=asked.output / name, data=data, samples=len(data), screen=len(data), **bounds)
        begun = time.perf_counter()
        return made.run(workers=asked.workers, resume=made.folder.exists(), reuse=reuse), time.perf_counter() - begun

    old, _ = study(asked.old, "old")
    new, taken = study(asked.new, "new", reuse=old.folder)
    cold, taken_cold = study(asked.new, "cold")
    assert new.front == cold.front, "what was taken over changes nothing"
    was, best = old.best("latency_s"), new.best("latency_s")
    assert was is not None, "the space holds the network as it is, which loses nothing"
    assert best is not None, "the same holds on the new device"
    here = {entry.row.candidate.variant: entry.row for entry in read_finished(new.folder).candidates}
    table = plain_table(
        f"{graph.name}, {asked.batch} images, at most {asked.points:g} points lost", "device", "variant", *COLUMNS
    )
    table.add_row(asked.old, str(was.candidate.variant), *cells(was))
    table.add_row(asked.new, f"{was.candidate.variant}, as before", *cells(here[was.candidate.variant]))
    table.add_row(asked.new, f"{best.candidate.variant}, planned again", *cells(best))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    kept, gained = here[was.candidate.variant].figures["latency_s"], best.figures["latency_s"]
    if best.candidate.variant == was.candidate.variant:
        print("The old choice stays the best.")
    elif kept is None or gained is None:
        print("The old choice cannot be run on the new device.")
    else:
        print(f"The old choice would do, but the new one takes {share(1 - gained / kept)} less time.")
    found = new.found
    assert found is not None
    reused = f"{found.reused_accuracies} of its accuracies were known"
    print(f"Planned again in {seconds(taken)} ({reused}); from nothing it takes {seconds(taken_cold)} and finds the same.")
    feasible = [entry for entry in read_finished(new.folder).candidates if not entry.why]
    points = {entry.index: point(entry.row) for entry in feasible}
    front = [points[entry.index] for entry in feasible if entry.front]
    title = f"{graph.name} on {asked.new}: what is lost for speed"
    picture = scatter_svg(title, f"latency of {asked.batch} images, us", "error, %", list(points.values()), front)
    write_text(asked.output / "new_device.svg", picture)


COLUMNS = ("latency", "points lost", "accuracy")


def cells(row: Row) -> tuple[str, str, str]:
    latency, loss, accuracy = (row.figures.get(name) for name in ("latency_s", "loss_points", "accuracy"))
    return (
        "-" if latency is None else seconds(latency),
        "-" if loss is None else f"{loss:.2f}",
        "-" if accuracy is None else f"{accuracy:.4f}",
    )


def point(row: Row) -> Point:
    latency, accuracy = row.figures["latency_s"], row.figures["accuracy"]
    assert latency is not None
    assert accuracy is not None
    variant = row.candidate.variant
    return Point(str(variant), 1e6 * latency, max(100 * (1 - accuracy), 0.01), group=variant.format)


if __name__ == "__main__":
    main()
