"""Accuracy at few bits beside ONNX Runtime's quantiser and AIMET: the same float networks, calibration images and test images.

Three seeds each of LeNet-300-100 and LeNet-5 on Fashion-MNIST (one for the other tools), 512 training images to calibrate on.
The others run in an environment of their own (``make peers``); a figure that a tool does not give is a dash.

    python studies/peers/quantizers.py [--python build/peers/quantizers/bin/python] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FORMATS = ("w8a8", "w4a8", "w4a4", "w3")
CALIBRATION = 512


def ours(names: list[str], seeds: int, epochs: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Accuracy on the test images by network and row; also writes what the others need."""
    import torch

    import lepton_dse as ld

    sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
    from fashion import MODELS, load_fashion, trained

    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    for name in names:
        data = load_fashion(flat=name != "lenet-5")
        calibration = data.train.take(CALIBRATION)
        np.savez(folder / f"{name}.npz", x=data.test.x, y=data.test.y, calibration=calibration.x)
        rows = found.setdefault(name, {})
        for seed in range(seeds):
            graph = trained(name, seed=seed)
            (folder / f"{name}-{seed}.onnx").write_bytes((MODELS / f"{name}-fashion-{seed}.onnx").read_bytes())
            rows.setdefault("float", []).append(ld.accuracy(graph, data.test).value)
            for form in FORMATS:
                asked = "w3a8" if form == "w3" else form
                begun = time.monotonic()
                rounding = "nearest" if form == "w4a4" else "adaround"
                bundle = ld.quantize(graph, asked, calibration, rounding=rounding)
                rows.setdefault(f"{form} calibrated", []).append(ld.accuracy(bundle, data.test).value)
                rows.setdefault(f"{form} seconds", []).append(time.monotonic() - begun)
                schedule = ld.Schedule(epochs=epochs, rate=3e-4, temperature=2.0, mix=0.9, blend=0.3, seed=seed)
                tuned = ld.fine_tune(bundle, data.train, schedule, teacher=graph)
                rows.setdefault(f"{form} trained", []).append(ld.accuracy(tuned, data.test).value)
            print(
                f"{name}, seed {seed}: " + ", ".join(f"{key} {values[-1]:.4f}" for key, values in rows.items()), file=sys.stderr
            )
    return found


THEIRS = Path(__file__).with_name("quantizers_theirs.py")


def theirs(python: str, folder: Path, names: list[str], seeds: int) -> dict[str, dict[str, list[float]]]:
    """The same figures of the other tools."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in names:
        for seed in range(seeds):
            run = subprocess.run([python, str(THEIRS), str(folder), name, str(seed)], capture_output=True, text=True, check=False)
            line = next((line for line in run.stdout.splitlines() if line.startswith("RESULT")), None)
            notes = [entry for entry in run.stderr.splitlines() if "Error" in entry and "Warning" not in entry]
            print(f"{name}, seed {seed}: {line or 'no result'} {notes[-3:] if notes else ''}", file=sys.stderr)
            for key, value in json.loads(line.removeprefix("RESULT")).items() if line else ():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter of the peers' environment")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, default=1, help="of the other tools, one of which takes minutes a network")
    parser.add_argument("--epochs", type=int, default=1, help="of training after calibration")
    parser.add_argument("--networks", nargs="*", default=["lenet-300-100", "lenet-5"])
    asked = parser.parse_args()

    from rich.console import Console

    from lepton_dse.report.tables import plain_table

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = ours(asked.networks, asked.seeds, asked.epochs, folder)
        others = theirs(asked.python, folder, asked.networks, min(asked.peer_seeds, asked.seeds)) if asked.python else {}
    console = Console()
    for name in asked.networks:
        mine, peers = rows[name], others.get(name, {})
        title = f"{name} on Fashion-MNIST, mean of {asked.seeds} seeds; float {np.mean(mine['float']):.4f}"
        told = f"{min(asked.peer_seeds, asked.seeds)} of the seeds"
        columns = ("calibrated", "trained too", f"onnxruntime, {told}", f"AIMET, {told}", "ours, those seeds")
        table = plain_table(title, "format", *columns, "seconds to calibrate and score")
        for form in FORMATS:
            cells = [
                mine[f"{form} calibrated"],
                mine[f"{form} trained"],
                peers.get(f"{form} onnxruntime"),
                peers.get(f"{form} aimet"),
            ]
            cells.append(mine[f"{form} calibrated"][: asked.peer_seeds])
            means = [f"{np.mean(values):.4f}" if values else "-" for values in cells]
            table.add_row(form, *means, f"{np.mean(mine[f'{form} seconds']):.1f}")
        console.print(table)


if __name__ == "__main__":
    main()
