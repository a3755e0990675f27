"""The tiles that a contraction may take on a device, and the one that it takes where a plan names none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from lepton_dse.errors import LeptonError
from lepton_dse.schedule.gpu.contraction import Engine
from lepton_dse.schedule.gpu.products import Problem
from lepton_dse.schedule.gpu.tile import Tile

__all__ = ["default_tile", "engine_for", "tiles_of"]

_ROWS = (16, 32, 64, 128)
_COLUMNS = (8, 16, 32, 64, 128)
_WARPS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1), (4, 2))
_COPIES = 8.0  # least compute capability of asynchronous copies


def engine_for(problem: Problem, capability: float) -> Engine | None:
    """What multiplies on a device: tensor cores where it has them for the formats, CUDA cores otherwise; None where neither does.

    What no engine multiplies is computed by a thread for each result, in float32 or wide integers.
    """
    engine = problem.engine
    if capability >= engine.capability:
        return engine
    return Engine.DOT4 if engine is Engine.INT8 and capability >= Engine.DOT4.capability else None


def tiles_of(problem: Problem, engine: Engine, capability: float) -> Iterator[Tile]:
    """Every tile of the declared lists that is a kernel for a problem on a device, in a fixed order.

    A tile whose rows or columns are twice what the problem has is left out, except for the smallest.
    """
    copies = capability >= _COPIES and problem.a.whole and problem.b.whole
    depth = problem.a.depth * engine.element_bytes
    for rows, columns, (down, across) in itertools.product(_ROWS, _COLUMNS, _WARPS):
        if (rows > _ROWS[0] and rows >= 2 * problem.a.rows) or (columns > _COLUMNS[0] and columns >= 2 * problem.b.rows):
            continue
        for pitch in (64, 128) if engine.skips else (32, 64, 128):
            if pitch > 64 and pitch >= 2 * depth:
                continue
            for stages in (1, 2, 3, 4):
                tile = Tile(rows, columns, pitch, down, across, stages, True, copies and stages > 1, engine.skips)
                if stages > 2 and not copies:
                    continue
                if not tile.violations(tensor_cores=engine.tensor_cores):
                    yield tile


def default_tile(problem: Problem, engine: Engine, capability: float) -> Tile:
    """A tile that fits any problem well enough: as large as fills it, at least 16 sums a thread where there are so many.

    Raises
    ------
    LeptonError
        If no tile fits, which no problem with elements brings about.
    """

    def rank(tile: Tile) -> tuple[float, ...]:
        covered = -(-problem.a.rows // tile.rows) * tile.rows * -(-problem.b.rows // tile.columns) * tile.columns
        waste = covered / (problem.a.rows * problem.b.rows)
        sums = tile.rows * tile.columns / tile.threads
        loads = 1 / tile.rows + 1 / tile.columns
        return (waste * (1 + 24 * loads) + abs(sums - 32) / 64, abs(tile.stages - (3 if tile.asynchronous else 2)), -tile.pitch)

    found = min(tiles_of(problem, engine, capability), key=rank, default=None)
    if found is None:
        raise LeptonError("no tile of the declared list fits", fix="another device")
    return found
