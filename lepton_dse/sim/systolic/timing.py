"""Cycles of a matrix product on a systolic array: closed forms for three dataflows.

The array has R rows and C columns of cells and computes Y[M, N] = X[M, K] W[K, N]. A product larger than the array is cut
into folds. Operands enter skewed, one cycle later for each further row or column, and every register moves one cell a cycle.

Symbols
-------
===========  =====================================================================================================
M, N, K      extents of the product
R, C         rows and columns of the array
B            rows of X that stream through one tile of weights (at most the accumulators' depth); M where nothing limits it
F_d          folds along an extent d: ceil(d / R) or ceil(d / C)
k_f, n_f     rows and columns that fold f uses: R and C, and what remains in the last fold along an extent
m_f          rows of X in the stream of fold f: B, and what remains in the last
s_f          cycle in which the first operand of fold f meets the cell in the corner
G            products of the same shape one after the other
===========  =====================================================================================================

Weight stationary: k_f cycles shift a tile of weights in from the top, m_f rows of X stream from the left, sums leave at the
bottom. The result of stream row m leaves column c in cycle ``s_f + m + (R - 1) + c``, so a fold that overlaps nothing takes::

    k_f + m_f + R + n_f - 2

With two weight registers a cell, the next tile shifts in behind the wave of the stream before it, and takes effect with the
first operand of its own: ``s_0 = k_0`` and ``s_(f+1) = s_f + max(m_f, k_(f+1))``; a load longer than the stream stalls. The
end is the latest of all ``s_f + m_f + R + n_f - 2``. Folds go along K first, then N, then the tiles of M.

Output stationary: X streams from the left and W from the top for K cycles; the finished m_f rows of sums then shift out at
the bottom. The wave reaches the last used cell after ``K + m_f + n_f - 2`` cycles and the last sum has R cells to go::

    K + m_f + n_f + R - 2

With a second register for the sums, ``s_(f+1) = s_f + max(K, m_f)``. Folds go along M first, then N.

Input stationary is weight stationary on the transposed product: X is held, W streams.

Padded folds all take as long as a full one (k_f = m_f = R in the stationary extents, n_f = C), as in SCALE-Sim.

Weight-stationary and padded output-stationary folds that overlap nothing are equation 1 of A. Samajdar et al., "A systematic
methodology for characterizing scalability of DNN accelerators using SCALE-Sim", ISPASS 2020: ``2 S_R + S_C + T - 2``. The
other forms follow from the recurrences above; the cell-by-cell simulator in this package executes them, and equals them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lepton_dse.errors import LeptonError
from lepton_dse.jit import kernel

__all__ = [
    "Array",
    "Dataflow",
    "array_cycles",
    "check_extents",
    "folds",
    "output_stationary_cycles",
    "weight_stationary_cycles",
]


class Dataflow(StrEnum):
    """Which operand stays in its cell."""

    WEIGHT = "weight"
    OUTPUT = "output"
    INPUT = "input"


@dataclass(frozen=True)
class Array:
    """An array of cells and how its folds follow each other.

    Parameters
    ----------
    rows, columns : int
    overlapped : bool
        Whether a second register a cell lets consecutive folds overlap.
    padded : bool
        Whether partial folds take as long as full ones.
    """

    rows: int
    columns: int
    overlapped: bool = True
    padded: bool = False

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise LeptonError(f"an array of {self.rows} rows and {self.columns} columns", fix="give it at least one of each")


@kernel
def folds(extent: int, size: int) -> int:
    """Pieces of at most `size` that cover `extent`."""
    return (extent - 1) // size + 1


@kernel
def weight_stationary_cycles(
    m: int, n: int, k: int, rows: int, columns: int, stream: int, overlapped: bool, padded: bool, repeats: int
) -> float:
    """Cycles of G products in the weight-stationary dataflow; see the module's equations.

    Parameters
    ----------
    m, n, k : int
        Extents, at least 1.
    rows, columns : int
        R and C.
    stream : int
        B: rows of X a tile of weights is used for before the next tile.
    overlapped, padded : bool
        As in :class:`Array`.
    repeats : int
        G.

    Returns
    -------
    float
        Exact up to 2**53.
    """
    fk, fn = folds(k, rows), folds(n, columns)
    block = min(stream, m)
    tiles = folds(m, block)
    last_m = float(m - (tiles - 1) * block)
    last_k = float(rows if padded else k - (fk - 1) * rows)
    last_n = float(columns if padded else n - (fn - 1) * columns)
    if not overlapped:
        fold = float(fn) * float(fk)
        loads = float(tiles) * float(fn) * (float(fk - 1) * rows + last_k)
        drains = float(tiles) * float(fk) * (float(fn - 1) * columns + last_n)
        return float(repeats) * (loads + fold * float(m) + float(tiles) * fold * float(rows - 2) + drains)
    first_k = float(rows) if fk > 1 else last_k
    sweep = float(fk - 1) * float(max(block, rows)) + max(float(block), last_k)
    last_sweep = float(fk - 1) * max(last_m, float(rows)) + max(last_m, last_k)
    streams = float(repeats) * float(fn) * (float(tiles - 1) * sweep + last_sweep)
    drain = max(last_n, columns - last_sweep) if fn > 1 else last_n
    return first_k + streams - max(last_m, first_k) + last_m + float(rows - 2) + drain


@kernel
def output_stationary_cycles(m: int, n: int, k: int, rows: int, columns: int, overlapped: bool, padded: bool) -> float:
    """Cycles of one product in the output-stationary dataflow; parameters as in :func:`weight_stationary_cycles`."""
    fm, fn = folds(m, rows), folds(n, columns)
    last_m = float(rows if padded else m - (fm - 1) * rows)
    last_n = float(columns if padded else n - (fn - 1) * columns)
    if not overlapped:
        used_m = float(fn) * (float(fm - 1) * rows + last_m)
        used_n = float(fm) * (float(fn - 1) * columns + last_n)
        return float(fm) * float(fn) * (float(k) + float(rows - 2)) + used_m + used_n
    sweep = float(fm - 1) * float(max(k, rows)) + max(float(k), last_m)
    drain = max(last_n, columns - sweep) if fn > 1 else last_n
    return float(fn) * sweep - max(float(k), last_m) + float(k) + last_m + float(rows - 2) + drain


def check_extents(m: int, n: int, k: int, stream: int | None) -> int:
    """The stream length to use.

    Raises
    ------
    LeptonError
        If an extent is below 1.
    """
    if min(m, n, k) < 1:
        raise LeptonError(f"a product of {m} x {k} by {k} x {n}", fix="every extent is at least 1")
    if stream is not None and stream < 1:
        raise LeptonError(f"streams of {stream} rows", fix="stream at least one row")
    return m if stream is None else stream


def array_cycles(array: Array, dataflow: Dataflow, m: int, n: int, k: int, *, stream: int | None = None) -> float:
    """Cycles of Y[m, n] = X[m, k] W[k, n], from the first operand or weight at the edge to the last result out.

    Parameters
    ----------
    array : Array
    dataflow : Dataflow
    m, n, k : int
    stream : int, optional
        Rows that stream past a stationary tile before the next; all of them by default. The output-stationary dataflow
        has no such limit and ignores it.

    Raises
    ------
    LeptonError
        If an extent is below 1.
    """
    length = check_extents(m, n, k, stream)
    size = (array.rows, array.columns)
    match dataflow:
        case Dataflow.OUTPUT:
            return float(output_stationary_cycles(m, n, k, *size, array.overlapped, array.padded))
        case Dataflow.INPUT:
            length = n if stream is None else stream
            return float(weight_stationary_cycles(n, m, k, *size, length, array.overlapped, array.padded, 1))
        case _:
            return float(weight_stationary_cycles(m, n, k, *size, length, array.overlapped, array.padded, 1))
