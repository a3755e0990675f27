"""Fits the constants of GPU kernels to measured matrix products.

The fit is a bounded non-linear least-squares problem in the logarithms of the constants: minimise the sum over fitted rows of
``rho(log(predicted / measured))`` with rho the soft L1 loss at 5%, so that single slow rows do not pull (SciPy's trust region
reflective algorithm, started from the hardware model's general constants). It is deterministic and takes seconds. Which
constants are free is the same for every device: :data:`FREE`, :data:`QUANTIZING` where a table's times include quantising
the activations, and :data:`FLUSHED` where L2 is flushed before each product. Whether the library splits the summed axis is a
yes or no, and the better of the two on the fitted rows is taken.

:func:`nearest` is that fit for any rows and any model of them; :func:`fit` is it for tables of a library's products, and
:mod:`lepton_dse.validate.gpu_emitted` for kernels that this project writes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import optimize

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.gpu.gemm import Constants, Product, cheapest_of_each
from lepton_dse.sim.gpu.machine import machine_of
from lepton_dse.sim.gpu.streaming import quantize_time_of_each
from lepton_dse.sim.gpu.tiles import SPLITS, generation, tiles
from lepton_dse.targets.gpu import GpuTarget
from lepton_dse.validate.gpu_tables import GemmTable, Measurements, copies_of_weights

__all__ = ["BOUNDS", "FREE", "ON_CHIP", "at_clock", "candidates", "fit", "free_constants", "held_share", "nearest", "predict"]

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Model = Callable[[Constants], Vector]
"""Predicted seconds of all rows under some constants."""

BOUNDS = {
    "overhead_s": (1e-8, 2e-5),
    "boost_share": (0.3, 1.0),
    "sustained_share": (0.3, 1.0),
    "boost_s": (2e-5, 2e-2),
    "memory_share": (0.5, 1.0),
    "l2_share": (0.2, 1.0),
    "cta_s": (1e-8, 1e-5),
    "next_cta_s": (1e-9, 5e-6),
    "store_bytes_per_clock": (4.0, 512.0),
    "step_s": (1e-9, 5e-7),
    "memory_latency_s": (1e-7, 4e-6),
    "split_s": (1e-7, 1e-5),
    "overlap_exponent": (1.5, 15.0),
    "resident_share": (0.1, 1.2),
    "resident_exponent": (2.0, 20.0),
    "quantize_s": (1e-7, 3e-5),
    "quantize_per_s": (1e10, 1e13),
    "code_s": (1e-7, 3e-5),
}
"""Physically possible range of each constant."""
ON_CHIP = ("overhead_s", "cta_s", "next_cta_s", "step_s")
"""Times that pass on the chip, in cycles."""
QUANTIZING = ("quantize_s", "quantize_per_s")
FLUSHED = ("code_s",)
FREE = tuple(name for name in BOUNDS if name not in (*QUANTIZING, *FLUSHED))
_RESULT_BITS = 16.0  # every table's products write 16 bits
_SOFT = 0.05
_PRIOR = 0.05  # a constant that ends e times its start counts as one row that is 5% off
_SLOWER = 0.5  # the fit begins where the pass's own rate binds, not memory: elsewhere it would have no slope
_EVALUATIONS = 50
_QUICKER = (0.5, 0.25)  # starts with shorter times, tried besides the general constants
_STEP = 0.03  # of a logarithm: wide enough to see past the jumps between candidates


def held_share(size: Vector | float, l2_bytes: float, constants: Constants) -> Vector:
    """Share of `size` bytes, run through again and again, that L2 still holds: ``1 / (1 + (size / (share L2))^exponent)``."""
    ratio = np.asarray(size, np.float64) / (constants.resident_share * l2_bytes)
    held: Vector = 1.0 / (1.0 + np.minimum(ratio, 1e12) ** constants.resident_exponent)
    return held


def predict(rows: Measurements, table: GemmTable, target: GpuTarget, constants: Constants) -> Vector:
    """Predicted seconds of each row, under the conditions in which the table was measured.

    Raises
    ------
    LeptonError
        If the device does not compute in the table's formats.
    """
    precision = Precision.parse(table.formats[0])
    machine = machine_of(target, precision)
    if machine is None:
        raise LeptonError(f"{target.name} has no {precision} arithmetic", fix="choose a table of formats that it has")
    bits = float(precision.activations.bits)
    m, n, k = (axis.astype(np.float64) for axis in (rows.m, rows.n, rows.k))
    a_bytes, b_bytes, c_bytes = m * k * bits / 8, n * k * bits / 8, m * n * _RESULT_BITS / 8
    copies = np.array([copies_of_weights(weights, machine.l2_bytes) for weights in b_bytes])
    if table.cold:  # the operands come from main memory; the result may stay in L2, which writes back later
        resident = c_bytes * held_share(c_bytes, machine.l2_bytes, constants) / (a_bytes + b_bytes + c_bytes)
    else:
        resident = held_share(copies * b_bytes + a_bytes + c_bytes, machine.l2_bytes, constants)
    problems = np.empty((m.size, len(Product._fields)))
    ones = np.ones_like(m)
    columns = (m, n, k, ones, ones * bits, ones * bits, ones * _RESULT_BITS, a_bytes, b_bytes, c_bytes, resident)
    for column, values in enumerate((*columns, ones * float(table.cold))):
        problems[:, column] = values
    times = cheapest_of_each(problems, *candidates(target), machine, constants)
    if table.quantizes:
        kept = held_share(3.0 * m * k, machine.l2_bytes, constants)
        times = times + quantize_time_of_each(m * k, kept, machine, constants)
    return times


def candidates(target: GpuTarget) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], Vector]:
    """The declared tiles and splits of a device."""
    return tiles(generation(target.compute_capability.value)), np.array(SPLITS, np.float64)


def free_constants(table: GemmTable) -> tuple[str, ...]:
    """Names of the constants that a fit to a table may move."""
    return (*FREE, *(QUANTIZING if table.quantizes else ()), *(FLUSHED if table.cold else ()))


def fit(rows: Measurements, table: GemmTable, target: GpuTarget, start: Constants) -> Constants:
    """Constants under which the model is nearest to the rows.

    Parameters
    ----------
    rows : Measurements
        Those to fit to.
    table : GemmTable
    target : GpuTarget
    start : Constants
        Where the search begins, and the values of constants that stay.

    Returns
    -------
    Constants
    """

    def model(constants: Constants) -> Vector:
        return predict(rows, table, target, constants)

    libraries = itertools.product((float(max(SPLITS)), 1.0), (1.0, 4.0))
    starts = [start._replace(split_limit=limit, gemv_rows=count) for limit, count in libraries]
    return nearest(rows.seconds, model, starts, free_constants(table))


def nearest(
    seconds: Vector,
    model: Model,
    starts: Sequence[Constants],
    free: tuple[str, ...],
    bounds: Mapping[str, tuple[float, float]] = BOUNDS,
) -> Constants:
    """Constants under which a model is nearest to measured times.

    Parameters
    ----------
    seconds : ndarray of float64, shape (R,)
        Measured.
    model : callable
        From constants to predicted seconds, shape (R,).
    starts : sequence of Constants
        Where a search begins; they agree in the free constants, and hold the values of those that stay.
    free : tuple of str
        Names of the constants that move.
    bounds : mapping of str to (float, float)
        Least and greatest value of each of them.

    Returns
    -------
    Constants
        Of the best start, from which the search is also begun with shorter times.
    """
    best = min((_descent(seconds, model, start, free, bounds) for start in starts), key=lambda entry: entry[0])
    fixed = {name: value for name, value in best[1]._asdict().items() if name not in free}
    chosen = starts[0]._replace(**fixed)
    tried = [best, *(_descent(seconds, model, chosen, free, bounds, quicker) for quicker in _QUICKER)]
    return min(tried, key=lambda entry: entry[0])[1]


def _descent(
    seconds: Vector,
    model: Model,
    start: Constants,
    free: tuple[str, ...],
    bounds: Mapping[str, tuple[float, float]],
    quicker: float = 1.0,
) -> tuple[float, Constants]:
    """Mean absolute log error and constants of one descent, begun with all times `quicker` times as long as at the start."""
    low, high = (np.log([bounds[name][side] for name in free]) for side in (0, 1))
    begun = start._replace(quantize_per_s=start.quantize_per_s * _SLOWER)
    first = np.clip(np.log([getattr(begun, name) for name in free]), low + 1e-6, high - 1e-6)

    def constants(logs: Vector) -> Constants:
        return _physical(start._replace(**{name: float(np.exp(value)) for name, value in zip(free, logs, strict=True)}))

    def residuals(logs: Vector) -> Vector:
        errors = np.log(model(constants(logs)) / seconds)
        return np.concatenate([errors, _PRIOR * (logs - first)])

    def slopes(logs: Vector) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        at, columns = residuals(logs), []
        for index in range(logs.size):
            step = _STEP if logs[index] + _STEP < high[index] else -_STEP
            moved = logs.copy()
            moved[index] += step
            columns.append((residuals(moved) - at) / step)
        return np.stack(columns, axis=1)

    shift = np.log(quicker) * np.array([name.endswith("_s") for name in free])
    begin = np.clip(first + shift, low + 1e-6, high - 1e-6)
    found = optimize.least_squares(
        residuals, begin, jac=slopes, bounds=(low, high), loss="soft_l1", f_scale=_SOFT, max_nfev=_EVALUATIONS
    )
    rounded = {name: float(f"{np.exp(value):.4g}") for name, value in zip(free, found.x, strict=True)}
    constants_found = _physical(start._replace(**rounded))
    error = np.abs(np.log(model(constants_found) / seconds))
    return float(error.mean()), constants_found


def at_clock(constants: Constants, fitted_hz: float, clock_hz: float) -> Constants:
    """Constants for a device with another clock: latencies on the chip take as many cycles, those of memory as long."""
    ratio = fitted_hz / clock_hz
    return constants._replace(**{name: getattr(constants, name) * ratio for name in ON_CHIP})


def _physical(constants: Constants) -> Constants:
    """A clock under the power limit is no higher than before it."""
    return constants._replace(sustained_share=min(constants.sustained_share, constants.boost_share))
