"""Times and peak memory of calibration, rounding, sensitivities and allocation.

python studies/bench/compression.py

Networks that the studies have trained or fetched (``build/models``) are measured where they are there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import allocation
import numpy as np
from measuring import Row, least_seconds

import lepton_dse as ld
from lepton_dse.flow import recipe
from lepton_dse.reference.metrics.protocol import metric_named
from lepton_dse.search.allocate.solve import solve
from lepton_dse.search.sensitivity import sensitivities

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "build" / "models"
CHOICES = ["int8", "w6a8", "w5a8", "w4a8", "w3a8", "w2a8", "w4a4", "w8a4"]
_PEAK = """
import resource, sys
import numpy as np
import lepton_dse as ld
graph = ld.load(sys.argv[1])
x = np.zeros((int(sys.argv[3]), *graph.tensors[graph.inputs[0]].shape[1:]), np.float32)
x += np.random.default_rng(0).standard_normal(x.shape[1:], np.float32)
if sys.argv[2] == "quantize":
    ld.quantize(graph, "int8", ld.Dataset(x))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def samples(graph: ld.Graph, count: int) -> ld.Dataset:
    """Seeded normal samples with labels, for figures that do not depend on what they show."""
    rng, shape = np.random.default_rng(0), graph.tensors[graph.inputs[0]].shape[1:]
    return ld.Dataset(rng.standard_normal((count, *shape), np.float32), rng.integers(0, 10, count))


def rows(repetitions: int) -> list[Row]:
    """The table's rows; those of networks that are not here are left out."""
    problem = allocation.drawn(0, {allocation.Measure.LOSS: 0.01}, allocation.Measure.BYTES)
    where = f"{allocation.LAYERS} layers, {len(allocation.BITS)} choices each, bytes under a loss"
    found = [Row("allocation to its certificate", where, least_seconds(lambda: solve(problem), repetitions), "s")]
    dense, convolutional, depthwise = (
        MODELS / name for name in ("lenet-300-100-fashion-0.onnx", "lenet-5-fashion-0.onnx", "efficientnet-lite0.onnx")
    )
    if dense.is_file():
        graph = ld.load(dense)
        data = samples(graph, 512)
        seconds = least_seconds(lambda: ld.quantize(graph, "w4a8", data, rounding="adaround"), repetitions)
        found.append(Row("AdaRound", "LeNet-300-100, w4a8, 512 samples", seconds, "s"))
    if convolutional.is_file():
        graph = ld.load(convolutional)
        data, uncached = samples(graph, 10_000), metric_named("top1")  # only figures of a metric's name are kept on disk
        seconds = least_seconds(lambda: sensitivities(graph, data, CHOICES, recipe=recipe("int8"), metric=uncached), 1)
        found.append(Row("sensitivity of every layer", f"LeNet-5, {len(CHOICES)} choices each, 10,000 samples", seconds, "s"))
    if depthwise.is_file():
        graph = ld.load(depthwise)
        data = samples(graph, 64)
        seconds = least_seconds(lambda: ld.quantize(graph, "int8", data), 1)
        found.append(Row("calibration", "EfficientNet-Lite0, int8, 64 samples", seconds, "s"))
        seconds = least_seconds(lambda: ld.quantize(graph, "w4a8", data, rounding="gptq", correct_bias=True), 1)
        found.append(Row("calibration, GPTQ, biases", "EfficientNet-Lite0, w4a8, 64 samples", seconds, "s"))
        found.append(Row("calibration, peak memory", "EfficientNet-Lite0, int8, 64 samples", peak(depthwise, 64) / 2**20, "MiB"))
    return found


def peak(model: Path, count: int) -> float:
    """Bytes that calibration holds at its peak beyond a process that has the model and the samples."""
    with_it, without = (
        int(subprocess.run([sys.executable, "-c", _PEAK, model, what, str(count)], check=True, capture_output=True).stdout)
        for what in ("quantize", "nothing")
    )
    return with_it - without


if __name__ == "__main__":
    for row in rows(1):
        print(f"{row.what}, {row.where}: {row.value:,.3g} {row.unit}")
