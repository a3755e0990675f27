"""The suite of single operators on an A100: matrix products, softmax, layer normalisation and GELU, as LLMCompass measured them.

The file is not shipped: ``--data`` points at a folder that holds it. Each time includes what the framework adds to a kernel,
which the same project publishes for its machine (:data:`FRAMEWORK_S`).

Softmax and layer normalisation are reductions along rows. A softmax reads a row once while it stays in registers, as in the cost
model (:data:`~lepton_dse.sim.gpu.streaming.SOFTMAX_ROW`); a layer normalisation finds a row again where it fits the shared
memory of a multiprocessor. Nothing is fitted to this table.
"""

from __future__ import annotations

import csv

from lepton_dse.files import read_text
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.gpu.gemm import Product, cheapest
from lepton_dse.sim.gpu.machine import constants_of, machine_of
from lepton_dse.sim.gpu.streaming import SOFTMAX_ROW, row_passes, streaming_time
from lepton_dse.targets.gpu import GpuTarget
from lepton_dse.validate.calibration_gpu import candidates
from lepton_dse.validate.gpu_gemm import gpu
from lepton_dse.validate.protocol import Context, Row, Suite, SuiteResult, UnavailableError, row, score

__all__ = ["FRAMEWORK_S", "SUITES", "operator_time"]

_FILE = "gpu_ops_llmcompass.csv"
_TARGET = "nvidia-a100-sxm-80gb"
_BYTES = 2  # half precision
_OPERATIONS = {"softmax": 5.0, "layernorm": 7.0, "gelu": 10.0}
_SPECIAL = {"softmax": 1.0, "layernorm": 0.0, "gelu": 1.0}
FRAMEWORK_S = {"matmul": 2.1e-5, "softmax": 1.2e-5, "layernorm": 4.5e-5, "gelu": 4.5e-5}
"""Seconds that the framework adds to an operator on LLMCompass's A100 (github.com/PrincetonUniversity/LLMCompass,
``hardware_model/compute_module.py``, ``overhead_dict``); a kernel's own launch is part of them."""


def operator_time(target: GpuTarget, name: str, shape: tuple[int, ...]) -> float:
    """Seconds of one operator in half precision.

    Parameters
    ----------
    target : GpuTarget
    name : str
        ``matmul`` of shape (M, N, K), ``softmax`` or ``layernorm`` of shape (rows, row length), or ``gelu`` of shape (elements,).
    shape : tuple of int
    """
    precision = Precision.parse("float16")
    machine = machine_of(target, precision)
    assert machine is not None  # every GPU here computes in half precision
    constants = constants_of(target.constants(precision))
    started = machine.launch_s + constants.overhead_s
    if name == "matmul":
        m, n, k = (float(extent) for extent in shape)
        bits = 8.0 * _BYTES
        problem = Product(m, n, k, 1.0, bits, bits, bits, m * k * _BYTES, n * k * _BYTES, m * n * _BYTES, 0.0)
        time = float(cheapest(problem, *candidates(target), machine, constants).time)
        return time - started + FRAMEWORK_S[name]
    elements = 1.0
    for extent in shape:
        elements *= extent
    row_elements = float(shape[-1])
    kept = {"softmax": SOFTMAX_ROW, "layernorm": machine.shared_bytes / _BYTES}.get(name, row_elements)
    passes = row_passes(row_elements, kept)
    moved = (passes + 1.0) * elements * _BYTES
    work = (_OPERATIONS[name] * elements, _SPECIAL[name] * elements)
    time = float(streaming_time(*work, moved, elements, machine, constants)[0])
    return time - started + FRAMEWORK_S[name]


def _measured(name: str, fields: list[str]) -> tuple[tuple[int, ...], float]:
    """Shape and seconds of a row: products give a time, the others thousands of millions of elements a second."""
    if name == "matmul":
        return tuple(int(text) for text in fields[:3]), float(fields[3].removesuffix("ms")) * 1e-3
    shape = tuple(int(text) for text in fields[:-1])
    elements = 1.0
    for extent in shape:
        elements *= extent
    return shape, elements / (float(fields[-1]) * 1e9)


def _run(suite: Suite, context: Context) -> SuiteResult:
    if context.data is None or not (context.data / _FILE).exists():
        raise UnavailableError(
            f"{_FILE} is absent: point --data at a folder that holds it (github.com/PrincetonUniversity/LLMCompass)"
        )
    lines = [line for line in read_text(context.data / _FILE, limit_bytes=1 << 20).splitlines() if not line.startswith("#")]
    target = gpu(_TARGET)
    rows: list[Row] = []
    for entry in csv.DictReader(lines):
        if entry["device"] != "A100":
            continue
        shape, seconds = _measured(entry["op"], [field.strip() for field in entry["raw"].split("|")])
        rows.append(row(f"{entry['op']} {'x'.join(map(str, shape))}", operator_time(target, entry["op"], shape), seconds))
    notes = ("times include the framework's published share of each operator", "kernel constants as in the hardware model")
    return score(suite, rows, notes=notes)


SUITES = (
    Suite(
        "gpu-ops-llmcompass",
        "LLMCompass (H. Zhang et al., ISCA 2024), artifact, figure 5, at 2e015fd",
        "seconds of an operator on an A100",
        _run,
    ),
)
