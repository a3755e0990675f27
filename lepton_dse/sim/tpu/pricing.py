"""Price of a matrix product on a TPU for one tiling: cycles of the arrays, bytes at each level, seconds.

Symbols
-------
=============  ===================================================================================================
G, M, N, K     products and their extents
t_m, t_n, t_k  tile that the on-chip memory holds; T_m, T_n, T_k tiles along each extent
A              arrays, split over groups, M and N: a_g a_m a_n <= A
R, C           rows and columns of an array
P              multiply-accumulates a second in the formats; R C A / P seconds is one array cycle
k_f, F_k       rows of weights in fold f; folds of K over R
B_0, B_1       bytes a second of the on-chip memory and of main memory
Z              bytes of the on-chip memory
x, w, y        bytes of an element of each operand
=============  ===================================================================================================

**Arrays.** Weights are stationary and load behind the stream before them (:mod:`lepton_dse.sim.systolic.timing`). An array takes
ceil(G/a_g) products; in each tile ceil(t_m/a_m) rows stream past ceil(ceil(t_n/a_n)/C) F_k tiles of weights, each of which
takes ``max(rows, k_f)`` cycles; the first load and the last drain are exposed once. For one array and one tile this is
the closed form that the cell-by-cell machine executes.

**Main memory.** K is the innermost loop over tiles, so sums never leave the chip. X is read once for every tile of N and W once
for every tile of M, except that the operand of the outer loop stays where a tile holds all of K, and any operand
stays that is one tile. A tile of a convolution reads whole input rows, those that its window shares with the next tile again.

**On-chip memory.** It holds ``2 (X tile + W tile + Y tile) + 4 t_m t_n`` bytes (two of each to overlap copies, and 32-bit
sums), one of each where the product is a single tile. Through its ports go what main memory sends and gets, X once for
every column fold, W once for every tile of M and array, and Y.

**Time.** Copies overlap with the arrays except for the first tile in, and the last tile's work or result::

    t = max(bytes_1 / B_1 + work / tiles,  first / B_1 + work + last / B_1)     work = max(cycles R C A / P, bytes_0 / B_0)

Where activations stay on chip, main memory sends weights alone, tiles of R x C that wait in a queue before the array, each
no sooner than `tile_s` after the one before; the queue runs ahead of the arrays::

    t = max(bytes_1 / B_1, tiles tile_s, work)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lepton_dse.jit import kernel
from lepton_dse.sim.product import Product
from lepton_dse.sim.systolic.timing import folds

__all__ = ["Chip", "Price", "Tiling", "best_tiling", "price"]


class Chip(NamedTuple):
    """What pricing looks at, from the hardware model, for one pair of formats."""

    rows: int
    columns: int
    arrays: int
    step_s: float
    """One cycle of the arrays; 0 where they do not compute the formats."""
    capacity: float
    """Bytes of the on-chip memory."""
    inner_s: float
    """Seconds a byte of the on-chip memory."""
    outer_s: float
    """Seconds a byte of main memory, or of a slower level before it."""
    accumulators: int
    """Rows of sums an array can hold."""
    resident: bool
    """Whether activations stay on chip."""
    tile_s: float
    """Least time between two tiles of weights from main memory."""


class Tiling(NamedTuple):
    """A tile, how arrays share it, and the order of tiles."""

    m: int
    n: int
    k: int
    over_groups: int
    over_m: int
    over_n: int
    n_outer: bool
    """Whether the loop over N is outside the loop over M."""


class Price(NamedTuple):
    """Cost of a product under a tiling."""

    total_s: float
    cycles: float
    arrays_s: float
    inner_s: float
    outer_s: float
    inner_bytes: float
    outer_bytes: float
    held_bytes: float
    fits: bool


@kernel
def _input_rows(product: Product, m: int) -> float:
    """Input rows that `m` consecutive values of M look at."""
    image = product.rows * product.positions
    if m >= image:
        return float(folds(m, image)) * product.in_rows
    return float(min(product.in_rows, (folds(m, product.positions) - 1) * product.stride + product.extent))


@kernel
def _passes(n: int, over: int, columns: int) -> float:
    """Folds of `n` columns over all arrays that share them; each fold reads X once."""
    share = folds(n, over)
    used = folds(n, share)
    return float(used - 1) * float(folds(share, columns)) + float(folds(n - (used - 1) * share, columns))


@kernel
def _cycles(product: Product, chip: Chip, tiling: Tiling) -> float:
    fk = folds(product.k, chip.rows)
    rows, columns = float(chip.rows), float(chip.columns)
    last_k = float(product.k - (fk - 1) * chip.rows)
    first_k = rows if fk > 1 else last_k
    tiles_m, tiles_n = folds(product.m, tiling.m), folds(product.n, tiling.n)
    stream = float(folds(tiling.m, tiling.over_m))
    last_m = float(folds(product.m - (tiles_m - 1) * tiling.m, tiling.over_m))
    share, last_share = folds(tiling.n, tiling.over_n), folds(product.n - (tiles_n - 1) * tiling.n, tiling.over_n)
    last_folds = folds(last_share, chip.columns)
    across = float(tiles_n - 1) * float(folds(share, chip.columns)) + float(last_folds)
    last_sweep = float(fk - 1) * max(last_m, rows) + max(last_m, last_k)
    along = float(tiles_m - 1) * (float(fk - 1) * max(stream, rows) + max(stream, last_k)) + last_sweep
    drain = float(last_share - (last_folds - 1) * chip.columns)
    if across > 1.0:
        drain = max(drain, columns - last_sweep)
    products = float(folds(product.groups, tiling.over_groups))
    return first_k + products * across * along - max(last_m, first_k) + last_m + rows - 2.0 + drain


@kernel
def price(product: Product, chip: Chip, tiling: Tiling) -> Price:
    """Cost of a product under a tiling; see the module's equations.

    Parameters
    ----------
    product : Product
    chip : Chip
    tiling : Tiling
        Tiles no larger than the extents; `n` and `k` are multiples of the array or the whole extent.

    Returns
    -------
    Price
        `fits` is False where the on-chip memory or the accumulators cannot hold the tile.
    """
    g, m, n, k = float(product.groups), float(product.m), float(product.n), float(product.k)
    tiles_m, tiles_n, tiles_k = folds(product.m, tiling.m), folds(product.n, tiling.n), folds(product.k, tiling.k)
    cycles = _cycles(product, chip, tiling)
    x_tile = _input_rows(product, tiling.m) * product.row_bytes * (float(tiling.k) / k)
    w_tile = float(tiling.k) * float(tiling.n) * product.w_element
    y_tile = float(tiling.m) * float(tiling.n) * product.y_element
    w_bytes, y_bytes = g * k * n * product.w_element, g * m * n * product.y_element
    whole = tiles_k == 1
    x_stays = tiles_n == 1 or (whole and (tiles_m == 1 if tiling.n_outer else True))
    w_stays = tiles_m == 1 or (whole and (True if tiling.n_outer else tiles_n == 1))
    x_reads = 1.0 if x_stays else float(tiles_n)
    w_reads = float(tiles_m) if chip.resident or not w_stays else 1.0
    last_rows = _input_rows(product, product.m - (tiles_m - 1) * tiling.m)
    x_pass = g * product.row_bytes * (float(tiles_m - 1) * _input_rows(product, tiling.m) + last_rows)
    passes = float(tiles_n - 1) * _passes(tiling.n, tiling.over_n, chip.columns)
    passes += _passes(product.n - (tiles_n - 1) * tiling.n, tiling.over_n, chip.columns)
    streamed = g * m * k * product.x_element * passes + y_bytes
    tiles = g * float(tiles_m) * float(tiles_n) * float(tiles_k)
    fits = folds(tiling.m, tiling.over_m) <= chip.accumulators
    if chip.resident:
        outer_bytes = w_bytes * w_reads + product.other_bytes
        inner_bytes = streamed
        held = product.x_bytes + y_bytes
        queue = g * float(tiles_m) * float(folds(product.k, chip.rows)) * float(folds(product.n, chip.columns)) * chip.tile_s
        arrays_s, inner_s, outer_s = cycles * chip.step_s, inner_bytes * chip.inner_s, max(outer_bytes * chip.outer_s, queue)
        total = max(arrays_s, inner_s, outer_s)
    else:
        outer_bytes = max(product.x_bytes, x_pass) * x_reads + w_bytes * w_reads + y_bytes + product.other_bytes
        inner_bytes = outer_bytes + streamed + w_bytes * float(tiles_m) * float(tiling.over_m)
        held = (1.0 if tiles == 1.0 else 2.0) * (x_tile + w_tile + y_tile) + 4.0 * float(tiling.m) * float(tiling.n)
        arrays_s, inner_s, outer_s = cycles * chip.step_s, inner_bytes * chip.inner_s, outer_bytes * chip.outer_s
        work = max(arrays_s, inner_s)
        total = max(outer_s + work / tiles, (x_tile + w_tile) * chip.outer_s + work + y_tile * chip.outer_s)
    fits = fits and held <= chip.capacity
    return Price(total, cycles, arrays_s, inner_s, outer_s, inner_bytes, outer_bytes, held, fits)


@kernel
def best_tiling(product: Product, chip: Chip, ms: Any, ns: Any, ks: Any, splits: Any) -> tuple[Tiling, bool, int]:
    """The first tiling of least time that fits, over every combination; the smallest tile where none fits.

    Parameters
    ----------
    product : Product
    chip : Chip
    ms, ns, ks : int64 arrays
        Candidate tiles, largest first.
    splits : int64 array (S, 3)
        Arrays over groups, M and N.

    Returns
    -------
    Tiling
    bool
        Whether it fits.
    int
        Tilings looked at.
    """
    chosen = Tiling(ms[-1], ns[-1], ks[-1], splits[0, 0], splits[0, 1], splits[0, 2], False)
    best, count, found = 0.0, 0, False
    for m in ms:
        for n in ns:
            for k in ks:
                for s in range(splits.shape[0]):
                    for n_outer in (False, True):
                        tiling = Tiling(m, n, k, splits[s, 0], splits[s, 1], splits[s, 2], n_outer)
                        cost = price(product, chip, tiling)
                        count += 1
                        if cost.fits and (not found or cost.total_s < best):
                            chosen, best, found = tiling, cost.total_s, True
    return chosen, found, count
