"""Registers that the compiler gives to a contraction kernel, estimated; and the blocks that one multiprocessor then holds.

ptxas decides; what it decides follows from what a thread keeps: its sums, the fragments of a strip, and the place of every chunk
that it carries. The estimate is linear in these, fitted by ``studies/fit_gpu_registers.py`` to what ptxas of CUDA 13.5 reported
for kernels of six shapes and four formats, for capabilities below 10 and from 10 on. The kernels are then compiled with
``__launch_bounds__`` of the blocks that the estimate gives, so that at least so many fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lepton_dse.schedule.gpu.contraction import Contraction
from lepton_dse.schedule.gpu.occupancy import occupancy
from lepton_dse.schedule.gpu.operands import Packed4, Windows

__all__ = ["REGISTER_BAND", "Limits", "estimated_registers", "planned_blocks", "resident_blocks"]

REGISTER_BAND = 24
"""Registers of a thread that the estimate is off for nine kernels of ten."""
_ASKED = 0.92  # of the estimate; registers come in eights, and what is asked for is what most kernels then take
_PACKED = 0.5  # a chunk of packed weights is half as long on its way
_MOST = 255
_BLACKWELL = 10.0


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor holds: 32-bit registers, bytes of shared memory, threads, and blocks."""

    registers: float
    shared_bytes: float
    threads: float
    blocks: float


@dataclass(frozen=True)
class _Fit:
    """Registers: fixed, of each sum and word of a fragment, of each chunk that is carried of windows, of a matrix and of the
    columns' operand, and what chunks in pieces and products on the CUDA cores add."""

    fixed: float
    sums: float
    fragments: float
    windows: float
    matrix: float
    columns: float
    pieces: float
    cuda_cores: float


_BEFORE = _Fit(25.5, 1.06, 0.56, 9.6, 8.9, 9.4, 15.0, 12.7)
_FROM_BLACKWELL = _Fit(23.3, 1.04, 0.01, 9.4, 5.8, 5.6, 0.0, 33.9)


def estimated_registers(kernel: Contraction, capability: float) -> int:
    """Registers of a thread, at most what the instruction set has and what a block of so many threads can have."""
    fit = _FROM_BLACKWELL if capability >= _BLACKWELL else _BEFORE
    tile, tensor_cores = kernel.tile, kernel.engine.tensor_cores
    tall, wide = tile.rows / tile.warp_rows, tile.columns / tile.warp_columns
    fragments = tall / 16 * 4 + wide / 8 * 2 if tensor_cores else tall / 4 * 4 + wide / 8 * 4
    moving = kernel.steps > 1  # one strip: addresses are needed once
    of_rows = math.ceil(tile.rows * (tile.row_pitch // 16) / tile.threads) * moving
    of_columns = math.ceil(tile.columns * (tile.pitch // 16) / tile.threads) * moving
    activations = kernel.b if kernel.swapped else kernel.a
    found = (
        fit.fixed
        + fit.sums * tile.rows * tile.columns / tile.threads
        + fit.fragments * fragments
        + (fit.windows if isinstance(kernel.a, Windows) else fit.matrix) * of_rows
        + fit.columns * of_columns * (_PACKED if isinstance(kernel.b, Packed4) else 1.0)
        + fit.pieces * (activations.piece_bytes < 16)
        + fit.cuda_cores * (not tensor_cores)
    )
    return min(math.ceil(found), _MOST, (1 << 16) // tile.threads)


def planned_blocks(kernel: Contraction, capability: float, limits: Limits) -> int:
    """Blocks that a kernel is compiled for: as many as hold with a little fewer registers than the estimate.

    The compiler keeps to what it is asked for, and rarely takes much less.
    """
    return resident_blocks(kernel, math.ceil(_ASKED * estimated_registers(kernel, capability)), limits)


def resident_blocks(kernel: Contraction, registers: float, limits: Limits) -> int:
    """Blocks that one multiprocessor holds at once when a thread takes so many registers."""
    tile = kernel.tile
    held = (limits.registers, limits.shared_bytes, limits.threads, limits.blocks)
    return int(occupancy(*held, float(registers), float(tile.shared_bytes), float(tile.threads)))
