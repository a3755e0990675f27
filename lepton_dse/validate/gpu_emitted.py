"""Fits the constants of a GPU to kernels that this project writes: declared matrix products, planned, emitted and timed.

Every product of :data:`PRODUCTS` becomes one kernel with what stands behind a layer (bias and rounding to the format), with the
tile that the planner chooses on the hardware model as it is. It is priced by the planner's own closed form
(:mod:`lepton_dse.search.gpu_planner`), which a fit only gives other constants. Runs repeat one kernel on the same operands, so
that L2 holds the share of them that :func:`~lepton_dse.validate.calibration_gpu.held_share` says. The products are ordered by the
SHA-256 digest of ``MxNxK``; the first two thirds are fitted on, and the error is that of the others.

What times a kernel is an argument: on a GPU :func:`gpu_timer`, elsewhere anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.cuda.emitter import INPUT_FILE, kernel_identifiers, program_files
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder, LoweredGraph
from lepton_dse.numerics.formats import FLOAT32, INT8, INT32, NumberFormat, Precision
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.schedule.gpu import Contraction, GpuProgram, arena, gpu_program
from lepton_dse.search.gpu_planner import PricedKernel, TileChooser, priced_kernel
from lepton_dse.sim.gpu.gemm import Constants, Machine
from lepton_dse.sim.gpu.machine import constants_of, machine_of
from lepton_dse.targets import GpuTarget
from lepton_dse.validate.calibration_gpu import BOUNDS, FREE, Vector, held_share, nearest
from lepton_dse.validate.gpu_tables import split_key
from lepton_dse.verify.cuda.device import run_files

__all__ = [
    "EMITTED_BOUNDS",
    "EMITTED_FREE",
    "PRODUCTS",
    "Emitted",
    "EmittedFit",
    "Shape",
    "TimedProduct",
    "Timer",
    "calibrate_emitted",
    "check_formats",
    "emitted",
    "emitted_formats",
    "fit_emitted",
    "gpu_timer",
    "seconds_of",
]

Shape = tuple[int, int, int]
"""Rows, columns and summed length of a product."""

PRODUCTS: tuple[Shape, ...] = (
    *((16, 16, 64), (16, 64, 64), (64, 64, 64), (1, 64, 256), (8, 128, 512), (128, 128, 128), (32, 32, 1024), (16, 16, 4096)),
    *((16, 64, 8192), (64, 128, 2048), (1, 1024, 1024), (1, 4096, 1024), (1, 4096, 4096), (1, 8192, 8192), (1, 1000, 2048)),
    *((1, 16384, 4096), (8, 1024, 1024), (8, 4096, 4096), (16, 2048, 512), (16, 8192, 2048), (32, 1024, 4096), (32, 4096, 4096)),
    *((64, 1024, 1024), (64, 4096, 1024), (64, 4096, 4096), (128, 512, 512), (128, 2048, 2048), (128, 4096, 4096)),
    *((196, 256, 1152), (196, 512, 4608), (256, 256, 256), (256, 1024, 1024), (256, 4096, 1024), (256, 4096, 4096)),
    *((384, 768, 768), (384, 3072, 768), (384, 768, 3072), (512, 512, 512), (512, 512, 8192), (512, 2048, 2048)),
    *((512, 4096, 4096), (784, 128, 1152), (784, 256, 512), (1000, 1000, 1000), (1024, 1024, 1024), (1024, 64, 4096)),
    *((1024, 4096, 1024), (1024, 1024, 8192), (2048, 512, 512), (2048, 2048, 2048), (2048, 128, 2048), (2048, 8192, 1024)),
    *((3136, 64, 576), (3136, 256, 64), (3136, 128, 256), (4096, 4096, 64), (4096, 1024, 256), (4096, 4096, 512)),
    *((4096, 256, 4096), (4096, 4096, 4096), (333, 777, 555), (1500, 300, 100), (8192, 1024, 1024), (8192, 8192, 256)),
    *((8192, 8192, 4096), (12544, 64, 147), (12544, 32, 32), (16384, 64, 64), (16384, 512, 256), (50176, 64, 64)),
    *((65536, 64, 32), (100352, 16, 16)),
)
"""What is timed: single rows to a hundred thousand, sums of 16 to 8,192, whole chunks of 16 bytes and odd extents."""

EMITTED_FREE = tuple(name for name in FREE if name != "split_s")
"""Constants that a fit moves: sums of emitted kernels are not split."""
EMITTED_BOUNDS = BOUNDS | {
    "boost_share": (0.02, 1.0),
    "sustained_share": (0.02, 1.0),
    "memory_share": (0.1, 1.0),
    "l2_share": (0.02, 1.0),
    "step_s": (1e-9, 5e-6),
}
"""Ranges of constants; these kernels may reach less than a vendor's, on devices of later generations above all."""
_SMALL: Shape = (16, 16, 64)
_CANDIDATES = ("int8", "float16", "bfloat16", "float32")
_REALS = ("float32", "float16", "bfloat16")
_ONE = QuantParams((1.0,))
_SHIFT = 24
_SEED = 0
_DRAWN = 65_521  # values drawn for an operand, repeated; prime, so that rows differ


@dataclass(frozen=True)
class Emitted:
    """One product as it is emitted.

    Parameters
    ----------
    shape : (int, int, int)
    program : GpuProgram
        Of one kernel.
    priced : PricedKernel
        That kernel for the closed form.
    """

    shape: Shape
    program: GpuProgram
    priced: PricedKernel

    def files(self) -> dict[str, bytes]:
        """What is compiled and run, with one sample."""
        (x,) = self.program.inputs
        values = _values(x.tensor.shape, x.tensor.format)
        return {**program_files(self.program, arena(self.program)), INPUT_FILE: values.tobytes()}


Timer = Callable[[Emitted], float]
"""Measures a kernel, in seconds."""


@dataclass(frozen=True)
class TimedProduct:
    """A product with its measured time."""

    shape: Shape
    priced: PricedKernel
    seconds: float


@dataclass(frozen=True)
class EmittedFit:
    """Constants of one pair of formats.

    Parameters
    ----------
    precision : Precision
    constants : Constants
    rows : tuple of TimedProduct
        Those that were fitted on first.
    fitted : int
        How many these are.
    predicted, before : ndarray of float64, shape (R,)
        Seconds of all rows under the constants that were found, and under the hardware model's as it was.
    """

    precision: Precision
    constants: Constants
    rows: tuple[TimedProduct, ...]
    fitted: int
    predicted: Vector
    before: Vector

    @cached_property
    def error_pct(self) -> float:
        """Mean absolute error over the rows that were not fitted on."""
        return self._error(self.predicted)

    @cached_property
    def error_before_pct(self) -> float:
        """The same with the constants as they were."""
        return self._error(self.before)

    def _error(self, times: Vector) -> float:
        measured = np.array([row.seconds for row in self.rows])
        return float(100.0 * np.abs(times / measured - 1.0)[self.fitted :].mean())


def emitted_formats(target: GpuTarget) -> tuple[str, ...]:
    """Formats that the project's kernels multiply on a device, of those that networks are mostly planned in."""
    return tuple(name for name in _CANDIDATES if _planned(_SMALL, Precision.parse(name), target) is not None)


def check_formats(precisions: Sequence[Precision], target: GpuTarget) -> None:
    """Find out on a small product whether all formats can be timed.

    Raises
    ------
    LeptonError
        If the device does not compute in some, or no kernel of the project multiplies them there.
    """
    for precision in precisions:
        emitted(_SMALL, precision, target)


def emitted(shape: Shape, precision: Precision, target: GpuTarget) -> Emitted:
    """Plan one product.

    Raises
    ------
    LeptonError
        If the device does not compute in the formats, or no kernel of the project multiplies them there.
    """
    found = _planned(shape, precision, target)
    if found is None:
        fix = f"choose among {', '.join(emitted_formats(target))}"
        raise LeptonError(f"no kernel multiplies {precision} on {target.name}", fix=fix)
    return found


def _planned(shape: Shape, precision: Precision, target: GpuTarget) -> Emitted | None:
    graph = None if machine_of(target, precision) is None else _graph(shape, precision)
    if graph is None:
        return None
    chooser = TileChooser.of(target, precision)
    program = gpu_program(graph, chooser.capability, chooser, chooser.limits)
    if len(program.kernels) != 1 or not isinstance(work := program.kernels[0].work, Contraction):
        return None
    priced = priced_kernel(work, chooser.capability, chooser.limits)
    assert priced is not None, "the planner's tile fits a multiprocessor"
    return Emitted(shape, program, priced)


def _graph(shape: Shape, precision: Precision) -> LoweredGraph | None:
    """A product with its bias, its result in the format of the activations; None in formats that no kernel multiplies."""
    m, n, k = shape
    form, weights = precision.activations, precision.weights
    builder = GraphBuilder("x".join(map(str, shape)))
    if form == INT8 and weights.is_integer and weights.bits <= 8:
        x = builder.input("x", (m, k), form)
        w = builder.constant("w", _values((k, n), weights), weights)
        bias = builder.constant("bias", np.zeros(n, np.int32), INT32)
        summed = builder.add(ops.MatMul(), [x, w, bias], output="sum", name="product", form=INT32, quant=_ONE)
        scale = builder.constant("scale", np.full(n, 1 << 14, np.int32), INT32)
        y = builder.add(ops.Requantize(_SHIFT, 0, -128, 127), [summed, scale], output="y", form=INT8, quant=_ONE)
        return builder.build_lowered([y])
    if str(precision) not in _REALS:
        return None
    quant = None if form == FLOAT32 else _ONE
    x = builder.input("x", (m, k), form, quant)
    w = builder.constant("w", _values((k, n), form), form, quant)
    bias = builder.constant("bias", np.zeros(n, np.float32), FLOAT32)
    if quant is not None:
        x, w = (builder.add(ops.Dequantize(), [name], output=f"{name}.real", form=FLOAT32) for name in (x, w))
    y = builder.add(ops.MatMul(), [x, w, bias], output="sum", name="product", form=FLOAT32)
    if quant is not None:
        y = builder.add(ops.Quantize(), [y], output="y", form=form, quant=quant)
    return builder.build_lowered([y])


def _values(shape: tuple[int, ...], form: NumberFormat) -> NDArray[np.generic]:
    """Drawn values, none of them zero: a kernel may leave zeros out, and power depends on the values."""
    rng = np.random.default_rng(_SEED)
    if form.is_float:
        drawn = np.abs(rng.normal(0, 1, _DRAWN)) + 2.0**-6
    else:
        drawn = rng.integers(1, int(form.maximum) + 1, _DRAWN).astype(np.float64)
    signed = np.where(rng.random(_DRAWN) < 0.5, -drawn, drawn)
    return np.ascontiguousarray(np.resize(signed.astype(np.float32), shape).astype(form.numpy))


def gpu_timer(nvcc: str) -> Timer:
    """Times kernels on the GPU of this machine: written, compiled and run one by one."""

    def time(kernel: Emitted) -> float:
        with tempfile.TemporaryDirectory(prefix="lepton-gpu-") as scratch:
            program = kernel.program
            names = kernel_identifiers(program)
            (milliseconds,) = run_files(nvcc, kernel.files(), program.capability, Path(scratch), names)
        return milliseconds * 1e-3

    return time


def calibrate_emitted(
    target: GpuTarget,
    precision: Precision,
    timer: Timer,
    progress: Callable[[str], None],
    products: Sequence[Shape],
) -> EmittedFit:
    """Time products, and fit constants to them.

    Parameters
    ----------
    target : GpuTarget
    precision : Precision
    timer : callable
    progress : callable
        Told what is about to be done: once for each product, and once for the fit.
    products : sequence of (int, int, int)
        At least three: :data:`PRODUCTS`, or some of one's own.

    Raises
    ------
    LeptonError
        If the device or the project does not multiply the formats, or a time cannot be measured.
    """
    rows = []
    for shape in sorted(products, key=lambda entry: split_key(*entry)):
        progress(f"{precision}: {' x '.join(map(str, shape))}")
        kernel = emitted(shape, precision, target)
        rows.append(TimedProduct(shape, kernel.priced, timer(kernel)))
    progress(f"{precision}: fitting")
    return fit_emitted(target, precision, rows)


def fit_emitted(target: GpuTarget, precision: Precision, rows: Sequence[TimedProduct]) -> EmittedFit:
    """Fit constants to the first two thirds of some rows, beginning at the hardware model's general ones.

    Raises
    ------
    LeptonError
        If the device does not compute in the formats, or there are fewer than three rows.
    """
    machine = machine_of(target, precision)
    if machine is None or len(rows) < 3:
        raise LeptonError(
            f"{len(rows)} products of {precision} on {target.name}", fix="time at least three in formats that it has"
        )
    count = -(-2 * len(rows) // 3)
    fitted = rows[:count]
    start = constants_of(target.kernels)
    seconds = np.array([row.seconds for row in fitted])
    found = nearest(seconds, lambda constants: seconds_of(fitted, machine, constants), [start], EMITTED_FREE, EMITTED_BOUNDS)
    before = constants_of(target.constants(precision))
    times = (seconds_of(rows, machine, constants) for constants in (found, before))
    return EmittedFit(precision, found, tuple(rows), count, *times)


def seconds_of(rows: Sequence[TimedProduct], machine: Machine, constants: Constants) -> Vector:
    """Predicted seconds of rows, each kernel run again and again on the same operands."""
    found = np.empty(len(rows))
    for index, row in enumerate(rows):
        product = row.priced.product
        size = product.a_bytes + product.b_bytes + product.c_bytes
        resident = float(held_share(size, machine.l2_bytes, constants))
        found[index] = row.priced.time(machine, constants, resident)
    return found
