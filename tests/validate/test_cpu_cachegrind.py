"""The cpu-cachegrind suites: the simulator within the promised distance of cachegrind, and honest where a tool lacks."""

from __future__ import annotations

import os
import shutil
from statistics import median

import pytest

from lepton_dse.errors import LeptonError, MissingToolError
from lepton_dse.sim.cache import Blocking, Cache, Counts, Layout
from lepton_dse.validate.cpu_cachegrind import CASES, SUITES, Case, closed_form_rows, hit_rows, observe, simulated
from lepton_dse.validate.cpu_programs import Gemm, counted_program, operand_bytes, timed_program
from lepton_dse.validate.cpu_tools import Observed, cachegrind, compiled, run_program
from lepton_dse.validate.protocol import Context, Suite, UnavailableError

SMALL = Case(Gemm(12, 32, 20, Blocking(3, 2, 8, 6, 16, 10), 20, 32), Cache(1024, 2, 64), Cache(4096, 4, 64))


@pytest.fixture
def tools() -> None:
    """Skip without gcc, nm or valgrind, except in CI, where they must be there."""
    for tool in ("gcc", "nm", "valgrind"):
        if shutil.which(tool) is None and os.environ.get("CI") != "true":
            pytest.skip(f"{tool} is not installed")


def test_the_cases_are_what_the_suite_says() -> None:
    assert len(CASES) == 24
    assert len({case.name for case in CASES}) == 24
    assert sum(case.packed for case in CASES) == 12
    strides = [stride for case in CASES for stride in (case.gemm.lda, case.gemm.ldb) if not case.packed]
    assert sum(stride & (stride - 1) == 0 for stride in strides) >= 6


@pytest.mark.slow
@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("suite", SUITES[:2], ids=lambda suite: suite.name)
def test_the_simulator_agrees_with_cachegrind(suite: Suite) -> None:
    result = suite.run(suite, Context())
    errors = [abs(entry.error_pct) for entry in result.rows if entry.scored]
    assert len(errors) == 48
    rates = [entry for entry in result.rows if not entry.scored]
    assert len(rates) == 48
    assert all("hit rate" in entry.case and 0 < entry.reference < 100 for entry in rates)
    assert max(abs(entry.predicted - entry.reference) for entry in rates) <= 1
    assert median(errors) <= 0.3
    assert max(errors) <= 2
    assert any("median" in note for note in result.notes)


def test_hit_rates_are_hits_over_accesses_of_each_level() -> None:
    counts = (Counts(15, 5, 20, 0), Counts(3, 1, 4, 0))
    rows = hit_rows(SMALL, Observed(400, 40, 40), counts, 200)
    assert [(row.predicted, row.reference, row.scored) for row in rows] == [(90.0, 90.0, False)]  # LL: not one hit observed
    rows = hit_rows(SMALL, Observed(400, 40, 10), counts, 200)
    assert [row.case.partition(" of ")[0] for row in rows] == ["D1 hit rate (%)", "LL hit rate (%)"]
    assert (rows[1].predicted, rows[1].reference) == (80.0, 75.0)


@pytest.mark.usefixtures("tools")
def test_a_small_program_is_counted() -> None:
    seen, counts = observe(SMALL, "-O2")
    assert abs(counts[0].misses - seen.d1_misses) <= 0.1 * seen.d1_misses
    assert seen.ll_misses >= 3 * 12 * 32 * 4 // 64 // 3


@pytest.mark.usefixtures("tools")
def test_a_program_that_valgrind_cannot_run_is_an_error_and_not_a_count() -> None:
    with (
        compiled("int main(void) { __builtin_trap(); }\n", ("-O1", "-static")) as program,
        pytest.raises(LeptonError, match="exit"),
    ):
        cachegrind(program, Cache(1024, 2), Cache(4096, 4), "main")
    with compiled("int main(void) { return 0; }\n", ("-O1", "-static")) as program, pytest.raises(LeptonError, match="no counts"):
        cachegrind(program, Cache(1024, 2), Cache(4096, 4), "kernel")
    with pytest.raises(LeptonError, match="gcc"), compiled("int main(void) { return x; }\n", ("-O1",)):
        pass


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    "layouts", [(Layout.UNPACKED, Layout.UNPACKED), (Layout.PACKED, Layout.PACKED), (Layout.PACKED, Layout.UNPACKED)]
)
def test_the_programs_compute_the_product(layouts: tuple[Layout, Layout]) -> None:
    """Every result, with padded rows and blocks that do not divide the extents."""
    gemm = Gemm(12, 32, 20, Blocking(3, 2, 8, 9, 16, 7, *layouts, "pnm"), 23, 40)
    text = (
        counted_program(gemm)
        .replace("int main(void) {", "#include <stdio.h>\nint main(void) {")
        .replace("return sum != sum;", 'for (int i = 0; i < 384; ++i) printf("%d ", (int)c[i]);\nreturn sum != sum;')
    )
    with compiled(text, ("-O2", "-march=x86-64-v3")) as program:
        found = [int(word) for word in run_program(program).split()]

    def value(index: int) -> int:
        return index % 7 - 3

    expected = [
        value(i * 32 + j) + sum(value(i * 23 + p) * value(p * 40 + j) for p in range(20)) for i in range(12) for j in range(32)
    ]
    assert found == expected


def test_texts_are_the_same_each_time_and_arrays_are_as_large_as_said() -> None:
    assert counted_program(SMALL.gemm) == counted_program(SMALL.gemm)
    assert timed_program([SMALL.gemm], 3) == timed_program([SMALL.gemm], 3)
    assert operand_bytes(SMALL.gemm) == {"a": 960, "b": 2560, "c": 1536, "pa": 240, "pb": 640}


@pytest.mark.parametrize("tool", ["gcc", "nm", "valgrind"])
def test_a_missing_tool_makes_the_suite_unavailable(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else real(name) or f"/usr/bin/{name}")
    if tool == "valgrind" and (real("gcc") is None or real("nm") is None):
        pytest.skip("the program cannot be compiled either")
    with pytest.raises(UnavailableError, match=tool):
        SUITES[0].run(SUITES[0], Context())
    with pytest.raises(MissingToolError, match=tool):
        observe(SMALL, "-O2")


def test_the_closed_form_suite() -> None:
    result = SUITES[2].run(SUITES[2], Context())
    packed = [abs(entry.error_pct) for entry in result.rows if entry.scored]
    assert len(packed) == 24
    assert median(packed) < 8
    assert len(result.rows) == 48 + 20
    assert any("unpacked" in note for note in result.notes)


def test_closed_form_rows_are_those_of_the_simulator() -> None:
    rows = closed_form_rows(SMALL)
    assert [row.reference for row in rows] == [count.lines for count in simulated(SMALL)]
    assert all(row.scored for row in rows)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gemm(10, 32, 20, SMALL.gemm.blocking, 20, 32), "whole register tiles"),
        (lambda: Gemm(12, 32, 20, SMALL.gemm.blocking, 19, 32), "overlap"),
        (lambda: Gemm(12, 32, 20, Blocking(3, 2, 8, 6, 16, 10, Layout.PREPACKED), 20, 32), "beforehand"),
    ],
)
def test_wrong_programs_are_one_clear_error(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LeptonError, match=message):
        make()
