"""What the kernels of the tile search read, in bundles of arrays; the symbols are those of :mod:`.costs`.

D loops with at most O options, H halos an operand, R1 residencies of the buffer, R0 of the registers, K choices of the array.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Bools", "Choices", "Floats", "Goal", "Ints", "Known", "Nest", "Tables", "Tile", "X"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

X = 3
"""Operands of a contraction."""
BLOCK = 32
"""Array choices whose least figures are looked at before their own."""


class Nest(NamedTuple):
    """The nest and the buffer tiles of its loops.

    Parameters
    ----------
    extents : (D,) int64
    options : (D, O) int64
        Tile sizes of each loop.
    counts : (D,) int64
        How many.
    relevant, single : (3, D) bool
        Loops that each operand depends on, and those that are an axis of it by themselves.
    halos : (3, H, 6) int64
        Axes made of two loops: first, second (or -1), a, b, offset, extent.
    halo_counts : (3,) int64
    """

    extents: Ints
    options: Ints
    counts: Ints
    relevant: Bools
    single: Bools
    halos: Ints
    halo_counts: Ints


class Tables(NamedTuple):
    """What each option of a loop contributes.

    Parameters
    ----------
    factors : (3, 3, D, O) float64
        Multiplied into visits, own trips and bytes of each operand.
    axis_f, axis_size : (3, H, O, O) float64
        Of each halo, elements over all tiles and elements of one tile, by the options of its loops.
    """

    factors: Floats
    axis_f: Floats
    axis_size: Floats


class Goal(NamedTuple):
    """What is minimised, and the machine's costs.

    Parameters
    ----------
    objective : int
    limit : float
        Most cycles.
    energies : (3, 3) float64
        Joules a byte by level and operand.
    bandwidths : (3,) float64
        Bytes a cycle by level.
    capacity : float
        Bytes of the buffer.
    widths : (4,) float64
        Bytes of x, w, y and a partial sum.
    """

    objective: int
    limit: float
    energies: Floats
    bandwidths: Floats
    capacity: float
    widths: Floats


class Known(NamedTuple):
    """Residencies, and what is known of every array choice under each.

    Parameters
    ----------
    masks1, masks0 : (R1, 3), (R0, 3) bool
        Operands in the buffer and in the registers.
    fronts : (R1, R0, 8, F, 2) float64
        By residency of both levels and set of operands in place, the array's least (energy, cycles).
    front_counts : (R1, R0, 8) int64
    fixed : (R0,) float64
        Joules of arithmetic and of the registers' fetches.
    floors, most : (3, R0) float64
        Least bytes that each operand moves where it does not stay in place; most bytes of it in any register tile.
    largest : (D, R0) int64
        Largest register tile of each loop.
    kept, register_price : (3, R0) float64
        1 for the operands in the registers, and joules for each byte that the registers take.
    inside, outer_price, inner_price : (3, R1) float64
        1 for the operands in the buffer, joules for each byte that enters its tiles and for each that the array takes.
    least_floor, most_covered : (3,) float64
        `floors` and `most` over all residencies.
    least_fixed, least_steps : float
        Of any choice.
    """

    masks1: Bools
    masks0: Bools
    fronts: Floats
    front_counts: Ints
    fixed: Floats
    floors: Floats
    most: Floats
    largest: Ints
    kept: Floats
    register_price: Floats
    inside: Floats
    outer_price: Floats
    inner_price: Floats
    least_floor: Floats
    most_covered: Floats
    least_fixed: float
    least_steps: float


class Choices(NamedTuple):
    """Choices of the array, sorted by residency of the registers, and least traffic of each.

    Parameters
    ----------
    slices, tiles : (K, D) int64
    group_from : (R0 + 1,) int64
        Where the choices of each residency begin.
    moved, steps : (K, 3), (K,) float64
        From :func:`lepton_dse.search.tiling.bounds.moving_bounds`.
    block_moved, block_steps : (ceil(K / BLOCK), 3), (ceil(K / BLOCK),) float64
        Their least values over blocks of choices.
    """

    slices: Ints
    tiles: Ints
    group_from: Ints
    moved: Floats
    steps: Floats
    block_moved: Floats
    block_steps: Floats


class Tile(NamedTuple):
    """One buffer tile.

    Parameters
    ----------
    sizes : (D,) int64
    elements, visits, own_trips, footprint : (3,) float64
        Of each operand: f at the buffer, product of n_d over irrelevant and over relevant loops, bytes in the buffer.
    """

    sizes: Ints
    elements: Floats
    visits: Floats
    own_trips: Floats
    footprint: Floats
