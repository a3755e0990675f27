"""Suites that hold the closed form of matrix products against measured kernels.

For every table three questions: how far from the measurements is the model from data sheets alone, how far once its constants
are fitted to 200 rows that are then not scored, and how far with the constants of another device.
"""

from __future__ import annotations

from functools import cache, partial

from lepton_dse.errors import LeptonError
from lepton_dse.sim.gpu.gemm import Constants
from lepton_dse.sim.gpu.machine import constants_of
from lepton_dse.targets import GpuTarget, load_target
from lepton_dse.validate.calibration_gpu import FREE, at_clock, fit, free_constants, predict
from lepton_dse.validate.gpu_tables import FITTED_ROWS, TABLES, GemmTable, load_table
from lepton_dse.validate.protocol import Context, Suite, SuiteResult, row, score

__all__ = ["SUITES", "calibrate", "suite_name", "table_of"]

_METRIC = "seconds of a matrix product MxNxK"
_SHARED = (
    "overhead_s",
    "boost_share",
    "sustained_share",
    "boost_s",
    "memory_share",
    "split_s",
    "overlap_exponent",
    "resident_share",
    "resident_exponent",
)
"""Constants of the software, the clock and the memory: they outlive a generation. The rest describes how a generation's
multiprocessors move and store tiles, and stays at the taker's general value."""
_TRANSFERS = (
    ("gpu-transfer", "a100", "h100", _SHARED),
    ("gpu-transfer-h100-b200", "h100", "b200", _SHARED),
    ("gpu-transfer-h100-h200", "h100", "h200", FREE),
    ("gpu-transfer-whole", "a100", "h100", FREE),
)
"""Whose constants are used for whom, in bfloat16, and which: across generations the shared ones; all of them within a
generation, and across one for comparison."""
_SPLIT = (
    f"rows in the order of SHA-256 of 'MxNxK': the first {FITTED_ROWS} are for fitting, all others are scored",
    "L2 holds what an earlier run left there: up to five copies of the weights in turn, as the collector of the table does",
)


def table_of(device: str, form: str) -> GemmTable:
    """The table of a device and format.

    Raises
    ------
    LeptonError
        If there is none.
    """
    for table in TABLES:
        if (table.device, table.format) == (device, form):
            return table
    raise LeptonError(f"no table of {form} products on {device}", fix=", ".join(f"{t.device}-{t.format}" for t in TABLES))


def suite_name(table: GemmTable, *, calibrated: bool) -> str:
    """As ``lepton validate`` lists it."""
    return f"gpu-gemm-{table.device}-{table.format}{'-calibrated' if calibrated else ''}"


def gpu(name: str) -> GpuTarget:
    """A hardware model that must be of a GPU.

    Raises
    ------
    LeptonError
        If it is of another family.
    """
    target = load_target(name)
    if not isinstance(target, GpuTarget):
        raise LeptonError(f"{name} is no GPU", fix="the suites of GPU kernels name GPUs")
    return target


@cache
def calibrate(table: GemmTable) -> Constants:
    """Constants fitted to the rows of a table that are set aside for it, beginning at the hardware model's general ones."""
    target = gpu(table.target)
    return fit(load_table(table).fitted, table, target, constants_of(target.kernels))


def _result(
    suite: Suite, table: GemmTable, constants: Constants, *, fitted: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> SuiteResult:
    rows = load_table(table).scored
    times = predict(rows, table, gpu(table.target), constants)
    shapes = zip(rows.m.tolist(), rows.n.tolist(), rows.k.tolist(), times.tolist(), rows.seconds.tolist(), strict=True)
    scored = [row(f"{m}x{n}x{k}", predicted, seconds) for m, n, k, predicted, seconds in shapes]
    quantised = ("the time includes quantising the activations from 16 bits",) if table.quantizes else ()
    flushed = ("L2 is cold, and times are multiples of 1.024 microseconds",) if table.cold else ()
    return score(suite, scored, fitted=fitted, notes=(*_SPLIT, *quantised, *flushed, *notes))


def _from_data_sheet(suite: Suite, context: Context, *, table: GemmTable) -> SuiteResult:
    return _result(suite, table, constants_of(gpu(table.target).kernels), notes=("general constants of the hardware model",))


def _fitted(table: GemmTable) -> tuple[str, ...]:
    return (*free_constants(table), "split_limit", "gemv_rows")


def _calibrated(suite: Suite, context: Context, *, table: GemmTable) -> SuiteResult:
    return _result(suite, table, calibrate(table), fitted=_fitted(table))


def _transferred(suite: Suite, context: Context, *, giver: GemmTable, taker: GemmTable, names: tuple[str, ...]) -> SuiteResult:
    from_device, to_device = gpu(giver.target), gpu(taker.target)
    moved = at_clock(calibrate(giver), from_device.clock_hz.value, to_device.clock_hz.value)
    own = constants_of(to_device.kernels)
    constants = own._replace(**{name: getattr(moved, name) for name in names})
    notes = (f"no row of {taker.device} was fitted to; latencies on the chip take as many cycles; the rest is general",)
    return _result(suite, taker, constants, fitted=tuple(f"{name} of {giver.device}" for name in names), notes=notes)


def _suites() -> tuple[Suite, ...]:
    found = []
    for table in TABLES:
        for calibrated, run in ((False, _from_data_sheet), (True, _calibrated)):
            name = suite_name(table, calibrated=calibrated)
            found.append(Suite(name, table.source, _METRIC, partial(run, table=table)))
    for name, giver_name, taker_name, names in _TRANSFERS:
        giver, taker = table_of(giver_name, "bf16"), table_of(taker_name, "bf16")
        found.append(Suite(name, taker.source, _METRIC, partial(_transferred, giver=giver, taker=taker, names=names)))
    return tuple(found)


SUITES = _suites()
