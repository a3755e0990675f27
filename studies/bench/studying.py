"""How long do studies take, and how much of that is bookkeeping?

LeNet-5 over twelve devices with accuracy measured on images, and ResNet-50 over every device by cost alone, both from nothing,
with worker processes that import everything anew. Then a study whose candidates are answered at once, so that only the driver
works, and how long it takes to go on from the journal of such a study.

    python studies/bench/studying.py [--images 2000] [--candidates 20000] [--journal 100000] [--workers N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from replanning import CHANGED, OTHERS
from rich.console import Console

import lepton_dse as ld
from lepton_dse.report.tables import plain_table
from lepton_dse.study.work import Priced

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from measured import digits, lenet5

DEVICES = (CHANGED, *OTHERS)
FORMATS = ("float32", "float16", "int8", "w4a8")
RESNET = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"


class AtOnce(Executor):
    """Answers a task with figures drawn at random, the moment it is given."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def submit(self, fn: Any, /, task: Any, *rest: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        drawn = self._rng.lognormal(size=(len(task.candidates), 4))
        names = ("latency_s", "energy_j", "peak_bytes", "throughput_per_s")
        future.set_result(
            tuple(
                Priced(dict(zip(names, map(float, row), strict=True)) | {"weight_bytes": 1.0}, "model", None, "", False)
                for row in drawn
            )
        )
        return future


def answered(folder: Path, candidates: int) -> tuple[ld.Study, int]:
    """A study of at least so many candidates, over a swept bandwidth."""
    values = list(np.linspace(1e10, 1e11, -(-candidates // 100)))
    space = ld.Space(
        targets=[{"target": "google-tpu-v1", "numbers": {"levels[weight_memory].bandwidth_byte_per_s": values}}],
        formats=FORMATS,
        sparsities=[0, 0.25, 0.5, 0.75, 0.9],
        batches=[1, 4, 16, 64, 256],
    )
    graph, _ = digits(1)
    return ld.Study(graph, space, folder=folder, enumerate_up_to=space.size), space.size


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--journal", type=int, default=100_000)
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    asked = parser.parse_args()
    table = plain_table("studies", "what", "candidates", "on the front", "time", "a candidate")

    def add(what: str, size: int, front: str, seconds: float) -> None:
        table.add_row(what, f"{size:,}", front, f"{seconds:.1f} s", f"{1e3 * seconds / size:.2f} ms")

    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        graph, data = lenet5(asked.images)
        space = ld.Space(targets=DEVICES, formats=FORMATS, sparsities=[0, 0.25, 0.5, 0.75], channels=[0, 0.125, 0.25, 0.375, 0.5])
        study = ld.Study(graph, space, folder=place / "lenet", data=data, minimize=["latency_s", "energy_j", "loss_points"])
        seconds = timed(lambda: study.run(workers=asked.workers))
        add(f"LeNet-5 on {len(DEVICES)} devices, front on {len(data):,} images", space.size, str(len(study.front)), seconds)

        names = [name for name in ld.target_names() if not name.startswith("unit-")]
        space = ld.Space(targets=names, formats=["float16", "int8"])
        study = ld.Study(RESNET, space, folder=place / "resnet", minimize=["latency_s", "energy_j"])
        seconds = timed(lambda: study.run(workers=asked.workers))
        add(f"ResNet-50 on {len(names)} devices, cost alone", space.size, str(len(study.front)), seconds)

        study, size = answered(place / "driver", asked.candidates)
        add("the driver alone", size, "", timed(lambda: study.run(AtOnce())))

        study, size = answered(place / "journal", asked.journal)
        study.run(AtOnce())
        again, _ = answered(place / "journal", asked.journal)
        add("going on from a journal", size, "", timed(lambda: again.run(AtOnce(), resume=True)))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


if __name__ == "__main__":
    main()
