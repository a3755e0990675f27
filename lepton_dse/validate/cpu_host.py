"""Times of blocked products on this host against the closed form on the host's measured numbers.

One program holds all kernels and runs each once a round, so that disturbances spread over all of them; a kernel's time is its
least over the rounds. How well such times could be ranked at all is what the least of the odd rounds says of the least of the
even ones; the notes give that rank correlation as the ceiling. Nothing is fitted to the times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.cache import Blocking, Layout, matrix_problem
from lepton_dse.sim.cpu import Core, core_of, nest_of, price_nest
from lepton_dse.validate.cpu_programs import Gemm, timed_program
from lepton_dse.validate.cpu_tools import compiled, run_program
from lepton_dse.validate.host import Host, measure_host
from lepton_dse.validate.host_model import host_target
from lepton_dse.validate.host_program import OPTIONS
from lepton_dse.validate.protocol import Context, Suite, SuiteResult, UnavailableError, row, score

__all__ = ["ROUNDS", "SUITES", "host_rows", "predicted_s", "tilings", "times_of"]

ROUNDS = 12
_CALIBRATION_ROUNDS = 6
_U, _P, _PP = Layout.UNPACKED, Layout.PACKED, Layout.PREPACKED


def tilings(lanes: int, size: tuple[int, int, int] = (480, 576, 512)) -> tuple[Gemm, ...]:
    """Thirty kernels of one product that differ in what limits them.

    Parameters
    ----------
    lanes : int
        Of the host's vectors.
    size : (int, int, int)
        m, n and k; m a multiple of 24, n of 2 lanes.
    """
    m, n, k = size

    def one(
        tile: tuple[int, int],
        blocks: tuple[int, int, int],
        layouts: tuple[Layout, Layout],
        order: str = "npm",
        *,
        rows_inner: bool = True,
        strides: tuple[int, int] = (k, n),
        width: int = lanes,
    ) -> Gemm:
        high = min(m, -(-blocks[0] // tile[0]) * tile[0])
        columns = tile[1] * width
        wide = min(n, -(-blocks[1] // columns) * columns)
        blocking = Blocking(*tile, width, high, wide, min(blocks[2], k), *layouts, order, rows_inner)
        return Gemm(m, n, k, blocking, *strides)

    far = (2 * k, 1 << (n - 1).bit_length())
    whole = (m, n, k)
    return (
        # Blocks that fit, and ever smaller ones: more updates of C, more packing.
        one((12, 2), (96, n, 256), (_P, _PP)),
        one((12, 2), (96, n, 256), (_P, _P)),
        one((12, 2), (48, 96, 64), (_P, _P)),
        one((12, 2), (24, 64, 32), (_P, _P)),
        one((12, 2), (48, 96, 16), (_P, _P), "pnm"),
        one((12, 2), (48, 96, 8), (_P, _P), "pnm"),
        one((6, 2), (6, 32, k), (_P, _P)),
        one((6, 2), (12, n, 64), (_P, _P), "pmn"),
        one((4, 2), (4, 64, 64), (_P, _P), "mnp"),
        one((12, 2), (12, 32, 128), (_P, _P), "mpn"),
        # Register tiles with ever fewer accumulators.
        one((6, 1), (96, 192, 256), (_P, _P)),
        one((3, 1), (96, 192, 256), (_P, _P)),
        one((2, 2), (96, 192, 256), (_P, _P)),
        one((2, 1), (96, 192, 256), (_P, _P)),
        one((1, 2), (96, 192, 256), (_P, _P)),
        one((1, 1), (96, 192, 256), (_P, _P)),
        # Not packed, rows far apart among them.
        one((12, 2), whole, (_U, _U), "mnp", rows_inner=False),
        one((6, 2), whole, (_U, _U), "mnp", rows_inner=False, strides=far),
        one((12, 1), whole, (_U, _U), "mnp", strides=far),
        one((12, 1), whole, (_U, _U), "mnp", strides=(2 * k, n)),
        one((24, 1), whole, (_U, _U), "mnp", strides=far),
        one((3, 1), whole, (_U, _U), "mnp", rows_inner=False),
        one((2, 1), whole, (_U, _U), "mnp"),
        one((1, 2), whole, (_U, _U), "mnp", rows_inner=False, strides=(k, far[1])),
        one((1, 1), whole, (_U, _U), "mnp", rows_inner=False),
        one((1, 1), (48, 96, 8), (_U, _U), "pnm"),
        # No vectors.
        one((2, 2), (96, 192, 256), (_P, _P), width=1),
        one((2, 1), (96, 192, 256), (_P, _P), width=1),
        one((1, 2), whole, (_U, _U), "mnp", width=1),
        one((1, 1), (96, 192, 256), (_P, _P), width=1),
    )


def times_of(gemms: Sequence[Gemm], rounds: int) -> NDArray[np.float64]:
    """Seconds of every kernel in every round, shape (rounds, kernels).

    Raises
    ------
    MissingToolError
        If gcc is not installed.
    LeptonError
        If the program does not compile or does not end normally.
    """
    with compiled(timed_program(gemms, rounds), OPTIONS) as program:
        lines = run_program(program).splitlines()
    times: NDArray[np.float64] = np.array([[float(value) for value in line.split()] for line in lines])
    if times.shape != (rounds, len(gemms)) or not (times > 0).all():
        raise LeptonError("the timed program printed no times", where="cpu-host", fix="is the host's clock running?")
    return times


def predicted_s(gemm: Gemm, core: Core, narrow_per_s: float) -> float:
    """Time of a kernel on one core by the closed form.

    Parameters
    ----------
    gemm : Gemm
        Of float32.
    core : Core
    narrow_per_s : float
        Multiply-adds a second on vectors narrower than the core's.
    """
    lanes = float(gemm.blocking.lanes)
    used = core if lanes == core.lanes else core._replace(lanes=lanes, mac_per_s=narrow_per_s * lanes)
    problem = matrix_problem(gemm.m, gemm.n, gemm.k, lda=gemm.lda, ldb=gemm.ldb)
    every = float(problem.element * (gemm.m * gemm.k + gemm.k * gemm.n + gemm.m * gemm.n))
    return float(price_nest(nest_of(problem, gemm.blocking), used, 1.0, 1.0, 1.0, 1.0, 0.0, every).total_s)


def host_rows(suite: Suite, gemms: Sequence[Gemm], host: Host, times: NDArray[np.float64]) -> SuiteResult:
    """Predicted beside least times, in milliseconds, with the ceiling in the notes."""
    # One kernel runs alone, so its core computes at the rate of one core, not at its share of all.
    core = core_of(host_target(host, _CALIBRATION_ROUNDS), Precision.parse("float32"))._replace(mac_per_s=host.mac_per_s)
    least = times.min(axis=0)
    rows = [
        row(gemm.case, 1e3 * predicted_s(gemm, core, host.narrow_per_s), 1e3 * float(time))
        for gemm, time in zip(gemms, least, strict=True)
    ]
    notes = [f"least of {len(times)} interleaved rounds of one program, gcc {' '.join(OPTIONS)}; nothing is fitted to the times"]
    if len(times) > 1 and len(gemms) > 2:
        halves = stats.spearmanr(times[::2].min(axis=0), times[1::2].min(axis=0)).statistic
        notes.append(f"ceiling: the least of odd rounds and of even rounds have a rank correlation of {halves:.4f}")
    notes.append(f"{host.title}, measured by the same means as 'lepton calibrate' just before")
    return score(suite, rows, notes=notes)


def _run(suite: Suite, context: Context) -> SuiteResult:
    try:
        host = measure_host(lambda text: context.progress(f"{suite.name}: {text}"), rounds=_CALIBRATION_ROUNDS)
        gemms = tilings(host.lanes)
        context.progress(f"{suite.name}: timing {len(gemms)} kernels")
        times = times_of(gemms, ROUNDS)
    except MissingToolError as absent:
        raise UnavailableError(str(absent)) from absent
    except LeptonError as error:
        raise UnavailableError(f"this host cannot be measured: {error}") from error
    return host_rows(suite, gemms, host, times)


SUITES = (Suite("cpu-host", "generated C programs timed on this host", "milliseconds of blocked float32 products", _run),)
