"""The declared space of mappings, as a value that is printed with every result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lepton_dse.search.tiling.hierarchy import Hierarchy
from lepton_dse.sim.loopnest import Problem

__all__ = ["MapSpace", "Objective", "Tiles", "tile_options"]


class Objective(StrEnum):
    """What is minimised."""

    LATENCY = "latency"
    ENERGY = "energy"
    EDP = "edp"
    """Energy times latency."""


class Tiles(StrEnum):
    """Which tile sizes of a loop are in the space."""

    CEIL = "ceil-distinct"
    """For each trip count the smallest tile that gives it."""
    DIVISOR = "divisor"
    """Those that divide the loop."""


def tile_options(extent: int, tiles: Tiles) -> NDArray[np.int64]:
    """Tile sizes of a loop, ascending: at most ``2 sqrt(extent)``."""
    root = math.isqrt(extent)
    if tiles is Tiles.DIVISOR:
        small = [size for size in range(1, root + 1) if extent % size == 0]
        return np.array(sorted({*small, *(extent // size for size in small)}), np.int64)
    trips = range(1, root + 2)
    return np.array(sorted({*(-(-extent // count) for count in trips), *range(1, -(-extent // (root + 1)) + 1)}), np.int64)


@dataclass(frozen=True)
class MapSpace:
    """Every mapping that a search ranges over.

    Parameters
    ----------
    tiles : Tiles
        Sizes of the buffer's tiles, and of the register tile of one unit.
    spatial : tuple of (tuple of str, tuple of str) or None
        Loops that the rows and the columns may unroll; None for any loop. Each axis unrolls one loop or none, by any factor
        up to its size.
    """

    tiles: Tiles = Tiles.CEIL
    spatial: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    def describe(self, problem: Problem, hierarchy: Hierarchy) -> str:
        """The space in words, with its rules, for people."""
        loops = ", ".join(f"{loop} {extent}" for loop, extent in zip(problem.loops, problem.extents, strict=True))
        if self.spatial is None:
            spatial = "any loop on either axis"
        else:
            spatial = f"{'|'.join(self.spatial[0]) or 'none'} on rows, {'|'.join(self.spatial[1]) or 'none'} on columns"
        registers, buffer, memory = hierarchy.levels
        resident = [
            f"{level.name} keeps {'any of' if level.bypass else 'all of'} {', '.join(level.keeps) or 'nothing'}"
            for level in (registers, buffer)
        ]
        return (
            f"loops {loops}; {hierarchy.rows}x{hierarchy.columns} units, {spatial}, any factor up to the axis; "
            f"{self.tiles.value} tiles in {registers.name} (of one unit) and {buffer.name}, all of it in {memory.name}; "
            f"{'; '.join(resident)}; the operand whose loops stand innermost at each of two levels; "
            "tiles load their whole halo, padding excluded; partial sums at "
            f"{problem.accumulator_bits} bits; ties: least bound first, then tiles in ascending order"
        )

    def size(self, problem: Problem, hierarchy: Hierarchy) -> float:
        """Mappings in the space before any capacity is looked at: a measure of its size, counted with repetition."""
        buffer = math.prod(len(tile_options(extent, self.tiles)) for extent in problem.extents)
        axes = 1
        for size, allowed in zip((hierarchy.rows, hierarchy.columns), self.spatial or (None, None), strict=True):
            loops = [
                extent for loop, extent in zip(problem.loops, problem.extents, strict=True) if allowed is None or loop in allowed
            ]
            axes *= 1 + sum(min(extent, size) - 1 for extent in loops)
        masks = len(hierarchy.levels[0].residencies()) * len(hierarchy.levels[1].residencies())
        return float(buffer) * buffer * axes * masks * 9
