"""How long does it take to plan again when one device of twelve has changed? LeNet-5, accuracy measured on 2,000 images.

A study is run from nothing, then one number of one device changes, and the changed study is run twice: from nothing, and with
what the first one found. Both give the same front. All three run in one process, so that neither of the last two pays for what
the first one imports.

    python studies/bench/replanning.py [--images 2000] [--targets 12] [--workers N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lepton_dse as ld
from lepton_dse.report.text import seconds
from lepton_dse.study import Found

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from measured import lenet5

FORMATS = ("float32", "float16", "int8", "w4a8", "w4a4", "w2a8")
SPARSITIES, CHANNELS = (0.0, "2:4"), (0.0, 0.25)
CHANGED, NUMBER, VALUES = "google-tpu-v1", "array_rows", (256.0, 128.0)
OTHERS = (
    "nvidia-t4",
    "nvidia-l40s",
    "nvidia-h100-sxm",
    "nvidia-jetson-orin-nano",
    "google-tpu-v4",
    "google-tpu-v5e",
    "raspberry-pi-5",
    "aws-graviton3",
    "amd-ryzen-7950x",
    "amd-zynq-7020",
    "amd-zu9eg",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--targets", type=int, default=12)
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    asked = parser.parse_args()
    graph, data = lenet5(asked.images)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)

        def run(name: str, value: float, **options: Any) -> tuple[Found, float]:
            targets = [{"target": CHANGED, "numbers": {NUMBER: [value]}}, *OTHERS[: asked.targets - 1]]
            space = ld.Space(targets=targets, formats=FORMATS, sparsities=SPARSITIES, channels=CHANNELS)
            study = ld.Study(graph, space, folder=place / name, data=data, minimize=["latency_s", "energy_j", "loss_points"])
            start = time.perf_counter()
            found = study.run(workers=asked.workers, **options).found
            assert found is not None
            return found, time.perf_counter() - start

        run("before", VALUES[0])
        cold, cold_s = run("cold", VALUES[1])
        again, again_s = run("again", VALUES[1], reuse=place / "before")
    assert again == cold, "planning again found something else"
    print(f"{cold.evaluated} candidates on {asked.targets} devices, {cold.measured} variants measured on {asked.images} images")
    print(f"from nothing: {seconds(cold_s)}")
    reused = f"{again.reused_prices} prices and {again.reused_accuracies} accuracies reused"
    print(f"one device changed: {seconds(again_s)}, {reused}")
    print(f"ratio: {again_s / cold_s:.3f}")


if __name__ == "__main__":
    main()
