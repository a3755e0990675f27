"""Systolic arrays: the machine against numpy, the closed forms against the machine, and both against cells that pass tokens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.sim.systolic import Array, Dataflow, array_cycles, folds, simulate, weight_stationary_cycles

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import systolic_tokens

EXTENT = st.integers(1, 20)
SIDE = st.integers(1, 7)
ARRAYS = st.builds(Array, SIDE, SIDE, st.booleans(), st.booleans())
SEEDS = st.integers(0, 2**32 - 1)


def operands(seed: int, m: int, n: int, k: int, top: int = 128) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-top, top, (m, k)), rng.integers(-top, top, (k, n))


@settings(max_examples=300, deadline=None)
@given(EXTENT, EXTENT, EXTENT, ARRAYS, st.sampled_from(Dataflow), st.none() | st.integers(1, 24), SEEDS)
def test_closed_forms_are_the_machine_and_the_machine_multiplies(
    m: int, n: int, k: int, array: Array, dataflow: Dataflow, stream: int | None, seed: int
) -> None:
    x, w = operands(seed, m, n, k)
    run = simulate(x, w, array, dataflow, stream=stream)
    assert np.array_equal(run.result, x @ w)
    assert run.cycles == array_cycles(array, dataflow, m, n, k, stream=stream)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    SEEDS,
)
def test_cells_that_pass_tokens_do_the_same(
    m: int, n: int, k: int, rows: int, columns: int, overlapped: bool, padded: bool, seed: int
) -> None:
    x, w = operands(seed, m, n, k)
    array, size = Array(rows, columns, overlapped, padded), (rows, columns, overlapped, padded)
    stream = 1 + seed % m
    for dataflow, (result, cycles) in {
        Dataflow.WEIGHT: systolic_tokens.weight_stationary(x.tolist(), w.tolist(), *size, stream),
        Dataflow.OUTPUT: systolic_tokens.output_stationary(x.tolist(), w.tolist(), *size),
    }.items():
        assert np.array_equal(result, x @ w)
        run = simulate(x, w, array, dataflow, stream=stream)
        assert (run.cycles, run.result.tolist()) == (cycles, result)


@pytest.mark.parametrize("dataflow", Dataflow)
@pytest.mark.parametrize("size", [(32, 32), (16, 48), (128, 128)])
def test_arrays_of_real_size(dataflow: Dataflow, size: tuple[int, int]) -> None:
    """More than one return of the row storage, edges along every extent."""
    m, n, k = (700, 150, 140) if dataflow is Dataflow.WEIGHT else (150, 140, 700)
    x, w = operands(1, m, n, k)
    for overlapped in (False, True):
        array = Array(*size, overlapped)
        run = simulate(x.astype(np.int8), w.astype(np.int8), array, dataflow)
        assert np.array_equal(run.result, x @ w)
        assert run.cycles == array_cycles(array, dataflow, m, n, k)


def test_wide_operands_use_wide_registers() -> None:
    x, w = operands(2, 9, 8, 7, top=1 << 28)
    for dataflow in Dataflow:
        assert np.array_equal(simulate(x, w, Array(4, 3), dataflow).result, x @ w)


def test_a_cell_by_hand() -> None:
    """One cell: each weight takes a cycle to load and a cycle a row to use; the load of the next hides behind the use."""
    alone = Array(1, 1, overlapped=False)
    assert array_cycles(alone, Dataflow.WEIGHT, 5, 1, 1) == 1 + 5
    assert array_cycles(alone, Dataflow.WEIGHT, 5, 2, 3) == 6 * (1 + 5)
    assert array_cycles(Array(1, 1), Dataflow.WEIGHT, 5, 2, 3) == 1 + 6 * 5
    assert array_cycles(alone, Dataflow.OUTPUT, 1, 1, 5) == 5 + 1  # the sum leaves in the cycle after it is complete
    assert array_cycles(Array(1, 1), Dataflow.OUTPUT, 2, 3, 5) == 6 * 5 + 1
    assert array_cycles(Array(1, 1), Dataflow.INPUT, 2, 5, 3) == 1 + 6 * 5
    # Two by two: two cycles to load, three rows in, one more row and one more column to pass.
    assert array_cycles(Array(2, 2), Dataflow.WEIGHT, 3, 2, 2) == 2 + 3 + 2
    # A load longer than the stream stalls: one row takes four cycles, as long as the next four rows of weights.
    assert array_cycles(Array(4, 4), Dataflow.WEIGHT, 1, 4, 16) == 4 + 3 * 4 + 1 + 4 + 4 - 2


def test_the_equation_of_the_paper() -> None:
    """2 R + C + T - 2 a fold, where nothing overlaps and folds are full."""
    for r, c, t, f in ((8, 8, 100, 3), (16, 4, 7, 2), (128, 128, 512, 4)):
        array = Array(r, c, overlapped=False)
        assert array_cycles(array, Dataflow.WEIGHT, t, c, f * r) == f * (2 * r + c + t - 2)
        assert array_cycles(array, Dataflow.OUTPUT, f * r, c, t) == f * (2 * r + c + t - 2)
        assert array_cycles(array, Dataflow.INPUT, c, t, f * r) == f * (2 * r + c + t - 2)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 60), SIDE, SIDE, st.integers(1, 400), st.integers(1, 4))
def test_folds_one_by_one(m: int, n: int, k: int, rows: int, columns: int, stream: int, repeats: int) -> None:
    expected = systolic_tokens.recurrence(m, n, k, rows, columns, stream, repeats)
    assert weight_stationary_cycles(m, n, k, rows, columns, stream, True, False, repeats) == expected


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize("dataflow", Dataflow)
def test_sizes_that_no_int64_holds(dataflow: Dataflow, overlapped: bool) -> None:
    """2**40 along each extent: 2**120 products over 2**14 cells."""
    size, side = 1 << 40, 128
    found = array_cycles(Array(side, side, overlapped), dataflow, size, size, size)
    assert found == pytest.approx((size // side) ** 2 * size, rel=1e-9)
    assert folds(size + 1, side) == (size >> 7) + 1


@settings(max_examples=100, deadline=None)
@given(EXTENT, EXTENT, EXTENT, ARRAYS, st.sampled_from(Dataflow))
def test_more_work_and_less_overlap_never_take_less(m: int, n: int, k: int, array: Array, dataflow: Dataflow) -> None:
    base = array_cycles(array, dataflow, m, n, k)
    for more in ((m + 1, n, k), (m, n + 1, k), (m, n, k + 1)):
        assert array_cycles(array, dataflow, *more) >= base
    assert array_cycles(Array(array.rows, array.columns, False, array.padded), dataflow, m, n, k) >= base
    assert array_cycles(Array(array.rows, array.columns, array.overlapped, True), dataflow, m, n, k) >= base
    assert base * array.rows * array.columns >= m * n * k


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (np.zeros((2, 3), np.int8), np.zeros((2, 3), np.int8)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(3, np.int8), np.zeros((3, 2), np.int8)),
        (np.zeros((0, 3), np.int8), np.zeros((3, 2), np.int8)),
        (np.full((1, 4), 1 << 40), np.full((4, 1), 1 << 40)),
    ],
)
def test_operands_that_do_not_fit_are_one_clear_error(x: np.ndarray, w: np.ndarray) -> None:
    with pytest.raises(LeptonError, match=r"cannot multiply|a product of|63 bits"):
        simulate(x, w, Array(2, 2))


def test_arrays_and_extents_of_nothing_are_refused() -> None:
    for rows, columns in ((0, 4), (4, 0), (-1, 2)):
        with pytest.raises(LeptonError, match="array of"):
            Array(rows, columns)
    for dataflow in Dataflow:
        with pytest.raises(LeptonError, match="a product of"):
            array_cycles(Array(2, 2), dataflow, 0, 1, 1)
    with pytest.raises(LeptonError, match="streams of 0"):
        array_cycles(Array(2, 2), Dataflow.WEIGHT, 1, 1, 1, stream=0)


def test_a_run_that_no_memory_holds_is_refused() -> None:
    x, w = np.zeros((4, 4), np.int8), np.zeros((4, 4), np.int8)
    for dataflow in Dataflow:
        with pytest.raises(LeptonError, match="too large"):
            simulate(x, w, Array(1 << 20, 1 << 20), dataflow)


PROGRAM = """
import json
import numpy as np
from lepton_dse.sim.systolic import Array, Dataflow, array_cycles, simulate
rng = np.random.default_rng(7)
found = []
for m, n, k in ((5, 7, 9), (12, 3, 2), (1, 8, 6)):
    x, w = rng.integers(-128, 128, (m, k)), rng.integers(-128, 128, (k, n))
    for dataflow in Dataflow:
        for overlapped in (False, True):
            array = Array(3, 4, overlapped)
            run = simulate(x, w, array, dataflow)
            found.append([run.result.tolist(), run.cycles, array_cycles(array, dataflow, m, n, k)])
print(json.dumps(found))
"""


def test_compiled_and_interpreted_agree() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, **extra}, check=True, capture_output=True, text=True
        ).stdout
        for extra in ({}, {"NUMBA_DISABLE_JIT": "1"})
    ]
    assert json.loads(outputs[0]) == json.loads(outputs[1])
