"""The blocked product that a processor runs: extents, layouts, tiles, loop order. Its text, trace and closed form read this.

::

    for the three block loops, in `order`:  jc by nc, pc by kc, ic by mc
        where jc and pc are known, B packed:  panels of nr columns, within a panel row by row
        where ic and pc are known, A packed:  panels of mr rows, within a panel w columns at a time, of those row by row
        for jr by nr, ir by mr (ir innermost if `rows_inner`):
            acc[mr][nr] = 0
            for p in kc:  acc += A[ir.., p] * B[p, jr..]
            C[ir.., jr..] += acc

after K. Goto and R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008, with the block
loops in any order. A panel of A lies column by column in its buffer but is filled w = 8 elements of a row at a time, so that
rows that meet in one set of a cache do not drive one another out at every element. A convolution is the same nest: row m of A
is an output position, column k a channel and tap, and A's element is read from the image, or is padding and not read at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.ir.ops import Window

__all__ = ["ORDERS", "PACK_COLUMNS", "Addresses", "Blocking", "Layout", "Problem", "conv_problem", "matrix_problem"]

ORDERS = ("npm", "nmp", "pnm", "pmn", "mnp", "mpn")
"""Orders of the block loops, outermost first: m stands for ic, n for jc, p for pc."""

PACK_COLUMNS = 8
"""w, columns of A that packing takes at a time; fewer at the end of a block."""


class Layout(IntEnum):
    """How the nest reads an operand."""

    UNPACKED = 0
    """From where it lies."""
    PACKED = 1
    """From a buffer that the nest fills, one block at a time."""
    PREPACKED = 2
    """From panels made beforehand, as weights can be: for each pc block the panels of all columns, one after another."""


@dataclass(frozen=True)
class Blocking:
    """Tiles of the nest.

    Parameters
    ----------
    rows : int
        mr, rows of the register tile.
    vectors, lanes : int
        The register tile has ``nr = vectors * lanes`` columns, read and written `lanes` at a time.
    mc, nc, kc : int
        Block sizes; mc a multiple of mr, nc of nr.
    a, b : Layout
    order : str
        One of :data:`ORDERS`.
    rows_inner : bool
        Whether ir runs inside jr.

    Raises
    ------
    LeptonError
        If a size is below 1 or not a multiple, or the order is unknown.
    """

    rows: int
    vectors: int
    lanes: int
    mc: int
    nc: int
    kc: int
    a: Layout = Layout.PACKED
    b: Layout = Layout.PACKED
    order: str = "npm"
    rows_inner: bool = True

    def __post_init__(self) -> None:
        if min(self.rows, self.vectors, self.lanes, self.mc, self.nc, self.kc) < 1:
            raise LeptonError("a tile below 1", fix="every tile is at least 1")
        if self.mc % self.rows or self.nc % self.columns:
            tile = f"{self.mc} x {self.nc} in register tiles of {self.rows} x {self.columns}"
            raise LeptonError(f"blocks of {tile}", fix="blocks are whole register tiles")
        if self.order not in ORDERS:
            raise LeptonError(f"no loop order '{self.order}'", fix=f"known: {', '.join(ORDERS)}")

    @property
    def columns(self) -> int:
        """nr, columns of the register tile."""
        return self.vectors * self.lanes


@dataclass(frozen=True)
class Problem:
    """A product C[m, n] += A[m, k] B[k, n] whose elements lie at ``base + row offset + column offset``.

    Parameters
    ----------
    m, n, k : int
    element : int
        Bytes of an element of any operand.
    a_rows, a_columns, b_rows, b_columns, c_rows, c_columns : ndarray of int64
        Byte offsets.
    a_bytes, b_bytes, c_bytes : int
        From an operand's base to its end.
    guard_rows, guard_columns : ndarray of int64, shape (m, 2) and (k, 2)
        Element (m, k) of A is stored if both sums are from 0 to below `guard`, else it is padding.
    guard : (int, int)
        Height and width of the image; (1, 1) with zeros in a plain product.
    """

    m: int
    n: int
    k: int
    element: int
    a_rows: NDArray[np.int64] = field(repr=False)
    a_columns: NDArray[np.int64] = field(repr=False)
    b_rows: NDArray[np.int64] = field(repr=False)
    b_columns: NDArray[np.int64] = field(repr=False)
    c_rows: NDArray[np.int64] = field(repr=False)
    c_columns: NDArray[np.int64] = field(repr=False)
    a_bytes: int
    b_bytes: int
    c_bytes: int
    guard_rows: NDArray[np.int64] = field(repr=False)
    guard_columns: NDArray[np.int64] = field(repr=False)
    guard: tuple[int, int]


@dataclass(frozen=True)
class Addresses:
    """Where operands and pack buffers start, in bytes."""

    a: int
    b: int
    c: int
    packed_a: int
    packed_b: int

    @classmethod
    def in_sequence(cls, problem: Problem, blocking: Blocking, *, start: int = 1 << 20, align: int = 64) -> Addresses:
        """Operands A, B, C and the two buffers one after another."""
        rows = _up(problem.m, blocking.rows) if blocking.a is Layout.PREPACKED else blocking.mc
        buffer = rows * (problem.k if blocking.a is Layout.PREPACKED else min(blocking.kc, problem.k)) * problem.element
        found = [start]
        for size in (problem.a_bytes, problem.b_bytes, problem.c_bytes, buffer):
            found.append(_up(found[-1] + size, align))
        return cls(*found)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def _checked(*extents: int) -> None:
    if min(extents) < 1:
        raise LeptonError(f"a product of extents {', '.join(map(str, extents))}", fix="every extent is at least 1")


def matrix_problem(m: int, n: int, k: int, *, element: int = 4, lda: int | None = None, ldb: int | None = None) -> Problem:
    """A product of row-major matrices.

    Parameters
    ----------
    m, n, k : int
    element : int
        Bytes.
    lda, ldb : int, optional
        Elements from one row to the next; k and n by default.

    Raises
    ------
    LeptonError
        If an extent is below 1 or a row longer than its distance to the next.
    """
    _checked(m, n, k, element)
    lda, ldb = k if lda is None else lda, n if ldb is None else ldb
    if lda < k or ldb < n:
        raise LeptonError(f"rows {lda} and {ldb} elements apart that hold {k} and {n}", fix="rows may not overlap")
    rows, columns, deep = (np.arange(extent, dtype=np.int64) * element for extent in (m, n, k))
    none_m, none_k = np.zeros((m, 2), np.int64), np.zeros((k, 2), np.int64)
    return Problem(
        m,
        n,
        k,
        element,
        rows * lda,
        deep,
        deep * ldb,
        columns,
        rows * n,
        columns,
        m * lda * element,
        k * ldb * element,
        m * n * element,
        none_m,
        none_k,
        (1, 1),
    )


def conv_problem(
    x: tuple[int, int, int, int], filters: int, window: Window, output: tuple[int, int], *, element: int = 4
) -> Problem:
    """A convolution with two spatial axes and one group; images and results in NCHW order, weights [channel, tap, filter].

    Parameters
    ----------
    x : (int, int, int, int)
        Images, channels, height, width.
    filters : int
    window : Window
    output : (int, int)
        Height and width of the result.
    element : int
        Bytes.

    Raises
    ------
    LeptonError
        If an extent is below 1.
    """
    images, channels, height, width = x
    _checked(images, channels, height, width, filters, *output, element)
    (kernel_y, kernel_x), out_y, out_x = window.kernel, *output
    image, row, column = (
        part.ravel() for part in np.meshgrid(np.arange(images), np.arange(out_y), np.arange(out_x), indexing="ij")
    )
    channel, tap_y, tap_x = (
        part.ravel() for part in np.meshgrid(np.arange(channels), np.arange(kernel_y), np.arange(kernel_x), indexing="ij")
    )
    from_rows = np.stack([row * window.strides[0] - window.pads_begin[0], column * window.strides[1] - window.pads_begin[1]], 1)
    from_taps = np.stack([tap_y * window.dilations[0], tap_x * window.dilations[1]], 1)
    m, k, positions = images * out_y * out_x, channels * kernel_y * kernel_x, out_y * out_x
    return Problem(
        m,
        filters,
        k,
        element,
        (image * channels * height * width + from_rows[:, 0] * width + from_rows[:, 1]) * element,
        (channel * height * width + from_taps[:, 0] * width + from_taps[:, 1]) * element,
        np.arange(k, dtype=np.int64) * filters * element,
        np.arange(filters, dtype=np.int64) * element,
        (image * filters * positions + row * out_x + column) * element,
        np.arange(filters, dtype=np.int64) * positions * element,
        images * channels * height * width * element,
        k * filters * element,
        m * filters * element,
        from_rows,
        from_taps,
        (height, width),
    )
