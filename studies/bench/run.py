"""How fast is it? Prints one table; each figure is the best of a few repetitions, taken on this machine now.

python studies/bench/run.py [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import compression
import networks
import numpy as np
import onnx
import simulation
import systolic
import tiling
from measuring import Row, least_seconds
from rich.console import Console
from rich.table import Table

from lepton_dse.importers import load_model
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.reference import engine, fast
from lepton_dse.schedule.stream import StreamGraph, stream_graph
from lepton_dse.search.folding import search_foldings
from lepton_dse.search.stream_planner import plan_stream
from lepton_dse.targets import FpgaTarget, load_target

HERE = Path(__file__).parent
# Input channels, output channels, extent, kernel, batch: layers of a ResNet at the sizes where they stand.
LAYERS = [(64, 64, 56, 3, 16), (128, 128, 28, 3, 32), (256, 256, 14, 3, 64), (64, 256, 56, 1, 16), (512, 128, 28, 1, 32)]
LIGHT_MODELS = ("squeezenet", "resnet50", "densenet121", "vgg19")


def reference(repetitions: int) -> list[Row]:
    """GMAC/s of the integer-exact reference through `engine.run`, the rounding of the accumulators included."""
    found = []
    rng = np.random.default_rng(0)
    for channels, outputs, extent, kernel, batch in LAYERS:
        graph = networks.convolution(channels, outputs, extent, kernel)
        # Channels last in memory, as a layer inside a network gets its input.
        x = np.moveaxis(rng.integers(-128, 128, (batch, extent, extent, channels)).astype(np.int8), -1, 1)
        where = f"int8 {kernel}x{kernel} conv, {channels} to {outputs} channels, {extent}x{extent}, batch {batch}"
        found += _both(graph, x, where, repetitions)
    graph = networks.lowered(networks.thirty_layers())
    x = rng.normal(0, 1, (32, *graph.tensors[graph.inputs[0]].shape[1:])).astype(np.float32)
    return found + _both(graph, x, "int8 CNN of 30 layers, floats in and out, batch 32", repetitions)


def _both(graph: LoweredGraph, x: np.ndarray, where: str, repetitions: int) -> list[Row]:
    slow, quick = engine.run(graph, x), engine.run(graph, x, evaluate=fast.evaluate)
    assert all(np.array_equal(slow[name], quick[name]) for name in slow), f"{where}: the fast path differs"
    work = graph.macs * len(x) / 1e9
    definition = work / least_seconds(lambda: engine.run(graph, x), repetitions - 1 or 1)
    speed = work / least_seconds(lambda: engine.run(graph, x, evaluate=fast.evaluate), 3 * repetitions)
    return [Row("reference, fast path", where, speed, "GMAC/s"), Row("reference, definition", where, definition, "GMAC/s")]


def search(repetitions: int) -> list[Row]:
    """Seconds of the exact folding search, and of the whole planning with its simulations."""
    graph = networks.lowered(networks.thirty_layers())
    streams = stream_graph(graph)
    assert isinstance(streams, StreamGraph), "the network streams"
    found = []
    for name in ("amd-zynq-7020", HERE / "big-fpga.toml"):
        target = load_target(name)
        assert isinstance(target, FpgaTarget), "an FPGA"
        result = search_foldings(streams, target)
        fits = f"{result.result.best:.0f} cycles, optimal" if result.foldings else "does not fit"
        where = f"CNN of {len(streams.layers)} layers on {target.name}: {fits}"
        found.append(Row("folding search", where, least_seconds(lambda t=target: search_foldings(streams, t), repetitions), "s"))
        for objective in ("throughput", "latency") if result.foldings else ():
            seconds = least_seconds(lambda t=target, o=objective: plan_stream(graph, t, o), 1)
            found.append(Row(f"planning for {objective}", where, seconds, "s"))
    return found


def commands(repetitions: int) -> list[Row]:
    """Seconds until a person sees something."""
    lepton = Path(sys.executable).with_name("lepton")
    seconds = least_seconds(lambda: subprocess.run([lepton, "--help"], check=True, capture_output=True), repetitions)
    found = [Row("lepton --help", "a fresh process", seconds, "s")]
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for name in LIGHT_MODELS:
        path = folder / f"light_{name}.onnx"
        found.append(Row("import of an ONNX model", name, least_seconds(lambda p=path: load_model(p), repetitions), "s"))
    return found


PARTS = (reference, search, tiling.rows, systolic.rows, simulation.rows, compression.rows, commands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--quick", action="store_true", help="one repetition of each")
    options = parser.parse_args()
    repetitions = 1 if options.quick else 3
    table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}; best of {repetitions} or more")
    for heading in ("what", "on", "figure", "unit"):
        table.add_column(heading, justify="right" if heading == "figure" else "left")
    figures = [row for part in PARTS for row in part(repetitions)]
    for row in figures:
        table.add_row(row.what, row.where, f"{row.value:,.3g}" if row.value < 1000 else f"{row.value:,.0f}", row.unit)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
