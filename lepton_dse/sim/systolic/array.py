"""Runs a matrix product on the cell-by-cell machine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.sim.systolic.machine import WINDOW, run_output_stationary, run_weight_stationary
from lepton_dse.sim.systolic.timing import Array, Dataflow, check_extents, folds

__all__ = ["ArrayRun", "simulate"]

_LIMIT_BYTES = 1 << 33


@dataclass(frozen=True)
class ArrayRun:
    """What the machine did.

    Parameters
    ----------
    result : int64 array (M, N)
    cycles : int
        From the first operand or weight at the edge to the last result out.
    folds : int
    """

    result: np.ndarray[Any, Any]
    cycles: int
    folds: int


def simulate(x: Any, w: Any, array: Array, dataflow: Dataflow = Dataflow.WEIGHT, *, stream: int | None = None) -> ArrayRun:
    """Multiply two integer matrices on the array, cell by cell and cycle by cycle.

    Parameters
    ----------
    x : int array (M, K)
    w : int array (K, N)
    array : Array
    dataflow : Dataflow
    stream : int, optional
        Rows that stream past a stationary tile before the next; all of them by default. Ignored by the output-stationary
        dataflow.

    Returns
    -------
    ArrayRun

    Raises
    ------
    LeptonError
        If the operands are not integer matrices that fit each other, a sum could pass 63 bits, or the run would not fit in
        memory.
    """
    x, w = np.asarray(x), np.asarray(w)
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0] or x.dtype.kind not in "iu" or w.dtype.kind not in "iu":
        raise LeptonError(f"cannot multiply {x.dtype}{x.shape} by {w.dtype}{w.shape}", fix="give integer matrices (M, K), (K, N)")
    if dataflow is Dataflow.INPUT:
        turned = simulate(w.T, x.T, array, Dataflow.WEIGHT, stream=stream)
        return ArrayRun(np.ascontiguousarray(turned.result.T), turned.cycles, turned.folds)
    (m, k), n = x.shape, w.shape[1]
    length = check_extents(m, n, k, stream)
    _check_size(m, n, k, min(length, m), array, dataflow)
    operand, sum_type = _registers(x, w)
    x, w = x.astype(operand), w.astype(operand)
    y = np.zeros((m, n), np.int64)
    across = _pieces(n, array.columns)
    if dataflow is Dataflow.OUTPUT:
        along = _pieces(m, array.rows)
        plan = _output_folds(along, across, array)
        feed = np.stack([_skewed(x[m0 : m0 + mf].T, k, array.rows) for m0, mf in along])
        down = np.stack([_skewed(w[:, n0 : n0 + nf], k, array.columns) for n0, nf in across])
        exits = np.zeros((plan.shape[1], array.rows + array.columns - 1, array.columns), np.int64)
        sums: Any = np.zeros((array.rows, array.columns), sum_type)
        cycles = run_output_stationary(feed, down, k, array.overlapped, plan, sums, exits)
        for exit_, height, ((n0, nf), (m0, mf)) in zip(exits, plan[0], itertools.product(across, along), strict=True):
            y[m0 : m0 + mf, n0 : n0 + nf] = _straightened(exit_, int(height), nf)[::-1][:mf]
    else:
        along, deep = _pieces(m, min(length, m)), _pieces(k, array.rows)
        block = along[0][1]
        plan = _weight_folds(along, across, deep, array)
        feed = np.stack([_skewed(x[m0 : m0 + mf, k0 : k0 + kf], block, array.rows) for m0, mf in along for k0, kf in deep])
        down = np.stack(
            [
                _skewed(_weights(w[k0 : k0 + kf, n0 : n0 + nf], array), array.rows, array.columns)
                for n0, nf in across
                for k0, kf in deep
            ]
        )
        exits = np.zeros((len(along) * len(across), block + array.columns - 1, array.columns), np.int64)
        sums = np.zeros((array.rows + WINDOW, array.columns), sum_type)
        cycles = run_weight_stationary(feed, down, array.overlapped, plan, sums, exits)
        for exit_, ((m0, mf), (n0, nf)) in zip(exits, itertools.product(along, across), strict=True):
            y[m0 : m0 + mf, n0 : n0 + nf] = _straightened(exit_, mf, nf)
    return ArrayRun(y, int(cycles), plan.shape[1])


def _check_size(m: int, n: int, k: int, block: int, array: Array, dataflow: Dataflow) -> None:
    """Refuse what would not fit in memory."""
    fm, fn, fk = folds(m, array.rows), folds(n, array.columns), folds(k, array.rows)
    stored = 48 * (array.rows + WINDOW) * (array.columns + WINDOW)
    if dataflow is Dataflow.OUTPUT:
        edges = (fm * (k + array.rows) * array.rows, fn * (k + array.columns) * array.columns)
        stored += 8 * sum(edges) + 8 * fm * fn * (array.rows + array.columns) * array.columns
    else:
        blocks = folds(m, block)
        edges = (blocks * fk * (block + array.rows) * array.rows, fn * fk * (array.rows + array.columns) * array.columns)
        stored += 8 * sum(edges) + 8 * blocks * fn * (block + array.columns) * array.columns
    if stored > _LIMIT_BYTES:
        what = f"{m} x {n} x {k} on {array.rows} x {array.columns} cells"
        raise LeptonError(f"{what} is too large to run cell by cell", fix="array_cycles counts its cycles without running it")


def _skewed(block: np.ndarray[Any, Any], length: int, lanes: int) -> np.ndarray[Any, Any]:
    """What enters each lane in each cycle: lane i of a block (cycles, lanes) is i cycles late."""
    found = np.zeros((length + lanes - 1, lanes), block.dtype)
    _diagonals(found, *block.shape)[:] = block
    return found


def _weights(tile: np.ndarray[Any, Any], array: Array) -> np.ndarray[Any, Any]:
    """A tile of weights in the order in which its rows enter: the last first, behind the zeros of a padded fold."""
    rows = array.rows if array.padded else len(tile)
    return np.concatenate([np.zeros((rows - len(tile), tile.shape[1]), tile.dtype), tile[::-1]])


def _straightened(exit_: np.ndarray[Any, Any], length: int, lanes: int) -> np.ndarray[Any, Any]:
    """The inverse of :func:`_skewed`."""
    return _diagonals(exit_, length, lanes)


def _diagonals(array: np.ndarray[Any, Any], length: int, lanes: int) -> np.ndarray[Any, Any]:
    """A view in which lane i begins i rows lower."""
    step, item = array.strides
    return np.lib.stride_tricks.as_strided(array, (length, lanes), (step, step + item))


def _registers(x: np.ndarray[Any, Any], w: np.ndarray[Any, Any]) -> tuple[type, type]:
    """Types of the operands' and the sums' registers: narrow where no sum can pass them."""
    ends = [(int(matrix.min()), int(matrix.max())) for matrix in (x, w)]
    largest = max(-ends[0][0], ends[0][1]) * max(-ends[1][0], ends[1][1]) * x.shape[1]
    if largest >= 1 << 63:
        raise LeptonError("a sum may pass 63 bits", fix="give smaller operands or fewer terms")
    narrow = largest < 1 << 31 and all(low >= -128 and high <= 127 for low, high in ends)
    return (np.int8, np.int32) if narrow else (np.int64, np.int64)


def _pieces(extent: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(size, extent - first)) for first in range(0, folds(extent, size) * size, size)]


_Pieces = list[tuple[int, int]]


def _weight_folds(along: _Pieces, across: _Pieces, deep: _Pieces, array: Array) -> np.ndarray[Any, Any]:
    """One column a fold, as the weight-stationary machine reads it: along K first, then N, then M."""
    entries = []
    for (i, (_, mf)), (j, (_, nf)), (p, (_, kf)) in itertools.product(enumerate(along), enumerate(across), enumerate(deep)):
        waits = (array.rows, array.columns) if array.padded else (kf, nf)
        entries.append((mf, i * len(deep) + p, *waits, j * len(deep) + p, i * len(across) + j))
    return np.ascontiguousarray(np.array(entries, np.int64).T)


def _output_folds(along: _Pieces, across: _Pieces, array: Array) -> np.ndarray[Any, Any]:
    """One column a fold, as the output-stationary machine reads it: along M first, then N."""
    entries = []
    for (j, (_, nf)), (i, (_, mf)) in itertools.product(enumerate(across), enumerate(along)):
        entries.append((*((array.rows, array.columns) if array.padded else (mf, nf)), i, j))
    return np.ascontiguousarray(np.array(entries, np.int64).T)
