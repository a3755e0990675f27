"""The exact cache simulator against cachegrind, which runs the compiled programs, and the closed form against the simulator.

Each case is a blocked matrix product as a C program of its own (:mod:`lepton_dse.validate.cpu_programs`), compiled with gcc
for x86-64-v3 and linked statically at fixed addresses. Cachegrind counts the data misses of the kernel's function alone; the
simulator walks the same nest over the arrays' addresses as ``nm`` gives them, after the same stores that set the operands.
Accumulators that the compiler spills, saved registers and instructions, which share the second level, are in cachegrind's
counts and not in the simulator's. Compilers may turn a copying loop into a call of memcpy, whose misses would count elsewhere:
an option forbids it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np

from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.cache import (
    Addresses,
    Blocking,
    Cache,
    Counts,
    Hierarchy,
    Layout,
    conv_problem,
    fill,
    matrix_problem,
    simulate,
)
from lepton_dse.sim.cpu import level_misses, nest_of, work_of
from lepton_dse.validate.cpu_programs import Gemm, counted_program, operand_bytes
from lepton_dse.validate.cpu_tools import Observed, cachegrind, compiled
from lepton_dse.validate.protocol import Context, Row, Suite, SuiteResult, UnavailableError, row, score

__all__ = [
    "CASES",
    "CONVOLUTIONS",
    "SUITES",
    "Case",
    "closed_form_rows",
    "convolution_rows",
    "hit_rows",
    "observe",
    "rows_of",
    "simulated",
]

_OPTIONS = ("-march=x86-64-v3", "-static", "-no-pie", "-fno-tree-loop-distribute-patterns")
_U, _P, _PP = Layout.UNPACKED, Layout.PACKED, Layout.PREPACKED
_LARGE = (Cache(32768, 8), Cache(262144, 8))
_SMALL = (Cache(8192, 4), Cache(65536, 8))
_TINY = (Cache(4096, 2), Cache(32768, 16))


@dataclass(frozen=True)
class Case:
    """A program and the caches that it runs under."""

    gemm: Gemm
    d1: Cache
    ll: Cache

    @property
    def packed(self) -> bool:
        """Whether both operands are packed."""
        return Layout.UNPACKED not in (self.gemm.blocking.a, self.gemm.blocking.b)

    @property
    def name(self) -> str:
        """One line for tables."""
        return f"{self.gemm.case}, D1 {self.d1.size_bytes // 1024}K LL {self.ll.size_bytes // 1024}K"


def _case(
    caches: tuple[Cache, Cache],
    size: tuple[int, int, int],
    tile: tuple[int, int, int],
    blocks: tuple[int, int, int],
    layouts: tuple[Layout, Layout],
    order: str = "npm",
    *,
    rows_inner: bool = True,
    strides: tuple[int, int] | None = None,
) -> Case:
    blocking = Blocking(*tile, *blocks, *layouts, order, rows_inner)
    lda, ldb = strides or (size[2], size[1])
    return Case(Gemm(*size, blocking, lda, ldb), *caches)


CASES = (
    # Packed: blocks that fit, that fill and that overflow each level.
    _case(_LARGE, (192, 192, 192), (6, 2, 8), (48, 96, 96), (_P, _P)),
    _case(_LARGE, (192, 256, 256), (6, 2, 8), (96, 256, 128), (_P, _P)),
    _case(_LARGE, (240, 240, 256), (4, 3, 8), (80, 120, 256), (_P, _PP)),
    _case(_LARGE, (192, 240, 200), (12, 1, 8), (96, 80, 100), (_P, _PP), rows_inner=False),
    _case(_LARGE, (192, 192, 256), (6, 2, 8), (96, 96, 64), (_P, _P), "pnm"),
    _case(_LARGE, (192, 192, 256), (6, 2, 8), (48, 192, 128), (_P, _P), "mpn", rows_inner=False),
    _case(_SMALL, (96, 96, 128), (4, 2, 8), (48, 48, 32), (_P, _P)),
    _case(_SMALL, (96, 128, 192), (4, 2, 8), (96, 64, 64), (_P, _PP), "nmp"),
    _case(_LARGE, (144, 192, 240), (4, 3, 1), (72, 96, 120), (_P, _P)),
    _case(_SMALL, (144, 144, 160), (3, 4, 1), (48, 72, 80), (_P, _PP), "pmn"),
    _case(_TINY, (64, 96, 96), (4, 1, 8), (32, 48, 48), (_P, _P)),
    _case(_TINY, (72, 96, 128), (6, 2, 8), (24, 96, 64), (_P, _P), "mnp"),
    # Unpacked, rows at other than powers of two.
    _case(_LARGE, (192, 240, 240), (6, 2, 8), (48, 80, 80), (_U, _U)),
    _case(_LARGE, (192, 240, 248), (6, 2, 8), (192, 240, 248), (_U, _U), "mnp", rows_inner=False),
    _case(_LARGE, (192, 192, 200), (4, 3, 8), (96, 96, 100), (_U, _P), strides=(200, 248)),
    _case(_SMALL, (144, 144, 200), (4, 3, 1), (72, 72, 100), (_U, _U), "pnm"),
    _case(_SMALL, (90, 96, 120), (3, 1, 8), (30, 96, 60), (_P, _U), "nmp"),
    _case(_TINY, (60, 96, 90), (1, 1, 1), (60, 96, 90), (_U, _U), "mnp", rows_inner=False),
    # Unpacked, rows at powers of two, which meet in few sets.
    _case(_LARGE, (192, 256, 256), (6, 2, 8), (48, 64, 64), (_U, _U)),
    _case(_LARGE, (192, 256, 256), (6, 2, 8), (192, 256, 256), (_U, _U), "mnp", rows_inner=False),
    _case(_LARGE, (144, 128, 128), (12, 1, 8), (72, 64, 128), (_U, _P), strides=(1024, 128)),
    _case(_SMALL, (144, 192, 128), (4, 3, 1), (48, 96, 64), (_U, _U), strides=(128, 256)),
    _case(_SMALL, (96, 128, 128), (4, 2, 8), (32, 64, 128), (_P, _U), "pmn", strides=(128, 512)),
    _case(_TINY, (64, 64, 128), (2, 2, 1), (64, 64, 128), (_U, _U), "mnp", strides=(128, 64)),
)


CONVOLUTIONS = ((32, 28, 64, 3, 1), (64, 28, 64, 1, 1), (32, 28, 64, 3, 2), (16, 56, 32, 3, 1), (3, 56, 32, 7, 2))
"""Channels, side of the image, filters, side of the kernel, stride."""


def simulated(case: Case, symbols: dict[str, int] | None = None) -> tuple[Counts, ...]:
    """What the simulator counts for a case, its arrays at the addresses `symbols` or one after another.

    Parameters
    ----------
    case : Case
    symbols : dict of str to int, optional
        Addresses of the arrays a, b, c, pa and pb.
    """
    gemm = case.gemm
    problem = matrix_problem(gemm.m, gemm.n, gemm.k, lda=gemm.lda, ldb=gemm.ldb)
    if symbols is None:
        places = Addresses.in_sequence(problem, gemm.blocking)
    else:
        places = Addresses(*(symbols.get(name, 0) for name in ("a", "b", "c", "pa", "pb")))
    hierarchy = Hierarchy((case.d1, case.ll))
    sizes = operand_bytes(gemm)
    if symbols is not None:
        for name in ("a", "pb" if gemm.blocking.b is Layout.PREPACKED else "b", "c"):
            fill(hierarchy, symbols[name], sizes[name], problem.element)
    return simulate(hierarchy, problem, gemm.blocking, places)


def observe(case: Case, level: str) -> tuple[Observed, tuple[Counts, ...]]:
    """What cachegrind and the simulator count for a case compiled at an optimisation level.

    Raises
    ------
    MissingToolError
        If gcc, nm or valgrind is not installed.
    LeptonError
        If a program does not compile or does not end normally.
    """
    with compiled(counted_program(case.gemm), (level, *_OPTIONS)) as program:
        seen = cachegrind(program, case.d1, case.ll, "kernel")
        return seen, simulated(case, program.symbols)


def rows_of(case: Case, seen: Observed, counts: tuple[Counts, ...]) -> list[Row]:
    """Both levels of a case; a level that cachegrind never missed is left out."""
    pairs = (("D1", counts[0].misses, seen.d1_misses), ("LL", counts[1].misses, seen.ll_misses))
    return [row(f"{level} misses of {case.name}", ours, theirs) for level, ours, theirs in pairs if theirs]


def hit_rows(case: Case, seen: Observed, counts: tuple[Counts, ...], accesses: int) -> list[Row]:
    """Hits in percent of the accesses of each level, which for LL are the misses of D1; not scored, since the misses are."""
    ours, theirs = [accesses, *(count.misses for count in counts)], [seen.accesses, seen.d1_misses, seen.ll_misses]
    found = []
    for place, level in enumerate(("D1", "LL")):
        (asked, missed), (asked_there, missed_there) = ours[place : place + 2], theirs[place : place + 2]
        if asked and missed_there < asked_there:
            rates = 100.0 * (asked - missed) / asked, 100.0 * (asked_there - missed_there) / asked_there
            found.append(row(f"{level} hit rate (%) of {case.name}", *rates, scored=False))
    return found


def _hit_note(rows: list[Row], level: str) -> str:
    apart = [abs(entry.predicted - entry.reference) for entry in rows if entry.case.startswith(level)]
    return f"hit rates of {level}: {median(apart):.2f} points apart in the median, {max(apart):.2f} at most"


def closed_form_rows(case: Case) -> list[Row]:
    """Lines brought in at both levels, closed form beside simulator; scored where both operands are packed."""
    counts = simulated(case)
    nest = nest_of(
        matrix_problem(case.gemm.m, case.gemm.n, case.gemm.k, lda=case.gemm.lda, ldb=case.gemm.ldb), case.gemm.blocking
    )
    found = []
    for level, cache, count in (("D1", case.d1, counts[0]), ("LL", case.ll, counts[1])):
        lines = level_misses(nest, float(cache.sets), cache.ways, float(cache.line_bytes)).lines
        found.append(row(f"{level} lines of {case.name}", lines, count.lines, scored=case.packed))
    return found


def convolution_rows() -> list[Row]:
    """Lines brought in by packed convolutions, closed form beside simulator; not scored."""
    found = []
    for channels, side, filters, kernel, stride in CONVOLUTIONS:
        pad = kernel // 2
        window = ops.Window((kernel, kernel), (stride, stride), (1, 1), (pad, pad), (pad, pad))
        builder = GraphBuilder("convolution")
        x = builder.input("x", (1, channels, side, side))
        w = builder.constant("w", np.zeros((filters, channels, kernel, kernel), np.float32))
        graph = builder.build([builder.add(ops.Conv(window), [x, w], output="y")])
        out = graph.tensors["y"].shape[2]
        work = work_of(graph, graph.ops[0], Precision.parse("float32"))[0]
        problem = conv_problem((1, channels, side, side), filters, window, (out, out))
        for blocks in ((96, 64, 128), (48, 32, 64)):
            blocking = Blocking(6, 2, 8, *blocks, _P, _PP)
            counts = simulate(Hierarchy(_LARGE), problem, blocking)
            nest = nest_of(problem, blocking, work)
            shape = f"{channels}x{side}x{side} by {filters}x{kernel}x{kernel} / {stride}"
            name = f"convolution {shape}, blocks {','.join(map(str, blocks))}"
            for level, cache, count in zip(("D1", "LL"), _LARGE, counts, strict=True):
                lines = level_misses(nest, float(cache.sets), cache.ways, float(cache.line_bytes)).lines
                found.append(row(f"{level} lines of {name}", lines, count.lines, scored=False))
    return found


def _median_note(rows: list[Row], what: str) -> str:
    errors = [abs(entry.error_pct) for entry in rows]
    return f"median error of {what}: {median(errors):.2f}%, largest {max(errors):.2f}%" if errors else f"no row of {what}"


def _against_cachegrind(level: str, suite: Suite, context: Context) -> SuiteResult:
    rows: list[Row] = []
    hits: list[Row] = []
    ratios = []
    for index, case in enumerate(CASES):
        context.progress(f"{suite.name}: program {index + 1} of {len(CASES)}")
        try:
            seen, counts = observe(case, level)
        except MissingToolError as absent:
            raise UnavailableError(str(absent)) from absent
        except LeptonError as error:
            raise UnavailableError(f"{case.name}: {error}") from error
        rows += rows_of(case, seen, counts)
        accesses = _accesses(case)
        hits += hit_rows(case, seen, counts, accesses)
        ratios.append(seen.accesses / accesses)
    notes = (
        f"gcc {level} {' '.join(_OPTIONS)}; addresses from nm; counts of the kernel's function alone",
        _median_note(rows, "all rows"),
        _median_note([entry for entry in rows if entry.case.startswith("D1")], "D1"),
        _median_note([entry for entry in rows if entry.case.startswith("LL")], "LL"),
        _hit_note(hits, "D1"),
        _hit_note(hits, "LL"),
        f"the compiled programs make {min(ratios):.2f} to {max(ratios):.2f} times the accesses of the nest",
    )
    return score(suite, [*rows, *hits], notes=notes)


def _accesses(case: Case) -> int:
    gemm = case.gemm
    hierarchy = Hierarchy((case.d1,))
    problem = matrix_problem(gemm.m, gemm.n, gemm.k, lda=gemm.lda, ldb=gemm.ldb)
    simulate(hierarchy, problem, gemm.blocking)
    return int(hierarchy.accesses.sum())


def _run_o2(suite: Suite, context: Context) -> SuiteResult:
    return _against_cachegrind("-O2", suite, context)


def _run_o3(suite: Suite, context: Context) -> SuiteResult:
    return _against_cachegrind("-O3", suite, context)


def _run_closed_form(suite: Suite, context: Context) -> SuiteResult:
    rows = [entry for case in CASES for entry in closed_form_rows(case)]
    packed = [entry for entry in rows if entry.scored]
    unpacked = [entry for entry in rows if not entry.scored]
    windows = convolution_rows()
    notes = (
        _median_note(packed, "packed blockings"),
        f"outside the mean: {_median_note(unpacked, 'unpacked blockings')}",
        f"outside the mean: {_median_note(windows, 'packed convolutions, whose image counts as one piece')}",
        "arrays one after another on whole lines, caches empty before the nest",
    )
    return score(suite, [*rows, *windows], notes=notes)


SUITES = (
    Suite("cpu-cachegrind", "cachegrind on programs compiled with gcc -O2", "data misses of blocked products", _run_o2),
    Suite("cpu-cachegrind-o3", "cachegrind on programs compiled with gcc -O3", "data misses of blocked products", _run_o3),
    Suite("cpu-closed-form", "the exact LRU simulator", "lines brought in by blocked products", _run_closed_form),
)
