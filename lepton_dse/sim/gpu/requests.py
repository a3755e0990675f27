"""What a kernel asks of memory, counted exactly: bytes, requests of warps, 32-byte sectors, passes over banks.

Nothing is sampled and nothing is executed: for each warp of each block the addresses follow from the tile and the operands
(:mod:`lepton_dse.schedule.gpu`), and a request of a warp is

* as many bytes as its active threads ask for, and as many sectors as these bytes lie in (CUDA C++ Best Practices Guide, global
  memory of compute capability 6.0 and later: 32-byte transactions). Starts of buffers are multiples of 32 bytes;
* in shared memory as many passes as the fullest bank has different words (:mod:`.banks`).

Blocks that differ only in what lies outside the result are counted one by one; strips that all blocks bring alike are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.jit import kernel
from lepton_dse.schedule.gpu import Blocks, Columns, Contraction, Kernel, Matrix, Operand, Packed4, Tile, Touch, Windows
from lepton_dse.sim.gpu.banks import LANES, request_passes
from lepton_dse.sim.gpu.nest_requests import nest_traffic
from lepton_dse.sim.gpu.traffic import Traffic, distinct

__all__ = ["Requests", "contraction_requests", "requests"]

_MATRIX, _COLUMNS, _WINDOWS, _PACKED = range(4)


@dataclass(frozen=True)
class Requests:
    """All that a kernel asks of memory in one launch.

    Parameters
    ----------
    loads, stores : Traffic
        Of global memory.
    shared_loads, shared_load_passes : int
        Requests of warps, and passes over the banks that they take.
    shared_stores, shared_store_passes : int
    barriers : int
        Of all blocks.
    indirect : bool
        Whether values decide where some loads lie; these are not among `loads`.
    """

    loads: Traffic
    stores: Traffic
    shared_loads: int = 0
    shared_load_passes: int = 0
    shared_stores: int = 0
    shared_store_passes: int = 0
    barriers: int = 0
    indirect: bool = False


def requests(launched: Kernel) -> Requests:
    """Count what one launch of a kernel asks of memory."""
    if isinstance(launched.work, Contraction):
        return contraction_requests(launched.work)
    loads, stores = nest_traffic(launched.work)
    return Requests(loads, stores, indirect=any(read.indirect for read in launched.work.reads))


def contraction_requests(kernel_: Contraction) -> Requests:
    """Count what a contraction asks of memory."""
    tile, strips = kernel_.tile, kernel_.strips
    loads = _rows_operand(kernel_) + _columns_operand(kernel_) + _lists(kernel_) + _positions(kernel_)
    stores = Traffic(0, 0, 0)
    lanes = _lanes_of_sums(kernel_)
    for touch in kernel_.touches:
        counted = _touched(kernel_, touch, lanes)
        loads, stores = (loads, stores + counted) if touch.store else (loads + counted, stores)
    shared_loads, load_passes = _fragments(kernel_)
    put = [_put(tile, tile.rows, tile.row_pitch), _put(tile, tile.columns, tile.pitch)]
    return Requests(
        loads,
        stores,
        shared_loads * strips,
        load_passes * strips,
        sum(count for count, _ in put) * strips,
        sum(passes for _, passes in put) * strips,
        kernel_.barriers,
    )


# --- global memory ------------------------------------------------------------------------------------------------


def _coded(operand: Operand) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Kind and numbers of an operand, as the kernel below reads them."""
    match operand:
        case Matrix():
            fields = [operand.rows, operand.depth, operand.stride, operand.batch]
            return _MATRIX, np.asarray(fields, np.int64)
        case Columns():
            return _COLUMNS, np.asarray([operand.rows, operand.depth, operand.stride, operand.batch], np.int64)
        case Packed4():
            return _PACKED, np.asarray([operand.rows, operand.depth, operand.stride, operand.batch], np.int64)
        case Blocks():
            raise LeptonError("blocks are counted by what is stored", where="requests")
        case Windows():
            extents = [operand.height, operand.width, operand.channels, operand.group_channels]
            outside = [operand.out_height, operand.out_width]
            geometry = [*operand.kernel, *operand.strides, *operand.pads, *operand.dilations]
            return _WINDOWS, np.asarray([operand.rows, operand.depth, *extents, *outside, *geometry], np.int64)


def _rows_operand(kernel_: Contraction) -> Traffic:
    """Loads of the rows' operand: every tile of columns brings the strips that it works through."""
    counted = _strips(kernel_, kernel_.a, kernel_.tile.rows, kernel_.tile.row_pitch, kernel_.grid[0])
    across, found = kernel_.grid[1], Traffic(0, 0, 0)
    for tile, steps in enumerate(kernel_.lists):
        found += Traffic(*(int(value) for value in counted[tile // across, list(steps)].sum(axis=0)))
    return found


def _columns_operand(kernel_: Contraction) -> Traffic:
    """Loads of the columns' operand: once for every tile of rows."""
    b, tile = kernel_.b, kernel_.tile
    if isinstance(b, Blocks):
        chunks = tile.columns * (tile.pitch // 16)
        return Traffic(-(-chunks // LANES), chunks * 16, chunks // 2) * (b.stored * kernel_.grid[0])
    counted = _strips(kernel_, b, tile.columns, tile.pitch, kernel_.grid[1])
    return Traffic(*(int(value) for value in counted.sum(axis=(0, 1)))) * kernel_.grid[0]


def _strips(kernel_: Contraction, operand: Operand, extent: int, pitch: int, tiles: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Requests, bytes and sectors by product and step, all tiles along the operand's rows: shape (products, steps, 3)."""
    kind, numbers = _coded(operand)
    sizes = operand.element_bytes, operand.piece_bytes
    shape = extent, pitch // 16, kernel_.tile.threads, tiles, kernel_.steps, kernel_.products
    counted: np.ndarray[Any, np.dtype[np.int64]] = _count_strips(kind, numbers, *sizes, *shape)
    return counted


def _lists(kernel_: Contraction) -> Traffic:
    """Loads of which blocks are stored: each warp reads where its list begins and ends, and the number of every step."""
    if not isinstance(kernel_.b, Blocks):
        return Traffic(0, 0, 0)
    blocks = kernel_.grid[0] * kernel_.grid[1] * kernel_.grid[2]
    reads = (2 * blocks + kernel_.strips) * (kernel_.tile.threads // LANES)
    return Traffic(reads, reads * LANES * 4, reads)


def _positions(kernel_: Contraction) -> Traffic:
    """Loads of which elements are kept: 16 lanes read a word each for every 16 rows and 64 bytes of the axis."""
    if not kernel_.engine.skips:
        return Traffic(0, 0, 0)
    tile, (down, across, products) = kernel_.tile, kernel_.grid
    tall, segments = tile.rows // tile.warp_rows // 16, kernel_.a.depth // 16
    blocks_of = min(tile.rows // 16, -(-kernel_.a.rows // 16))  # of a tile that lies inside; the last one has what is left
    inside = sum(min(blocks_of, -(-kernel_.a.rows // 16) - tile.rows // 16 * index) for index in range(down))
    assert tall * 16 * tile.warp_rows == tile.rows, "a tile has whole pieces"
    reached = min(segments, kernel_.steps * (tile.pitch // 64))
    reads = inside * reached * tile.warp_columns * across * products
    return Traffic(reads, reads * 64, reads * 2)


@kernel
def _position(kind: int, numbers: np.ndarray[tuple[int], np.dtype[np.int64]], product: int, row: int, k: int) -> int:
    """Element that stands for (row, k); -1 outside."""
    if row >= numbers[0] or k >= numbers[1]:
        return -1
    if kind == _COLUMNS:
        return int(product * numbers[3] + k * numbers[2] + row)
    if kind != _WINDOWS:
        return int(product * numbers[3] + row * numbers[2] + k)
    height, width, channels, of_group = numbers[2], numbers[3], numbers[4], numbers[5]
    pixels = numbers[6] * numbers[7]
    image, pixel = row // pixels, row % pixels
    tap, channel = k // of_group, k % of_group
    y = pixel // numbers[7] * numbers[10] - numbers[12] + tap // numbers[9] * numbers[14]
    x = pixel % numbers[7] * numbers[11] - numbers[13] + tap % numbers[9] * numbers[15]
    if y < 0 or y >= height or x < 0 or x >= width:
        return -1
    return int(((image * height + y) * width + x) * channels + product * of_group + channel)


@kernel
def _count_strips(
    kind: int,
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]],
    element_bytes: int,
    piece_bytes: int,
    extent: int,
    chunks: int,
    threads: int,
    tiles: int,
    steps: int,
    products: int,
) -> np.ndarray[tuple[int, int, int], np.dtype[np.int64]]:
    """Requests, bytes and sectors; thread t brings chunks t, t + threads, ... of a strip, piece by piece."""
    sectors_of = np.empty(32, np.int64)
    found = np.zeros((products, steps, 3), np.int64)
    in_chunk = 16 // element_bytes
    pieces = 1 if kind == _PACKED else 16 // piece_bytes
    in_piece = in_chunk // pieces
    total = extent * chunks
    for product in range(products):
        for tile in range(tiles):
            for step in range(steps):
                for first in range(0, (total + threads - 1) // threads * threads, 32):
                    for piece in range(pieces):
                        active = 0
                        for lane in range(32):
                            chunk = first + lane
                            if chunk >= total:
                                break
                            k = (step * chunks + chunk % chunks) * in_chunk + piece * in_piece
                            place = _position(kind, numbers, product, tile * extent + chunk // chunks, k)
                            if place >= 0:
                                byte = place // 2 if kind == _PACKED else place * element_bytes
                                sectors_of[active] = byte // 32
                                active += 1
                        if active > 0:
                            found[product, step, 0] += 1
                            found[product, step, 1] += active * piece_bytes
                            found[product, step, 2] += distinct(sectors_of, active)
    return found


# --- the epilogue -------------------------------------------------------------------------------------------------


def _lanes_of_sums(kernel_: Contraction) -> np.ndarray[tuple[int, int, int], np.dtype[np.int64]]:
    """Row and column of the sum that each lane treats, request by request: shape (requests of a block, 32, 2)."""
    tile = kernel_.tile
    lane = np.arange(LANES)
    places = []
    for warp in range(tile.warp_rows * tile.warp_columns):
        down, across = divmod(warp, tile.warp_columns)
        first_row, first_column = down * (tile.rows // tile.warp_rows), across * (tile.columns // tile.warp_columns)
        if kernel_.engine.tensor_cores:
            for i in range(tile.rows // tile.warp_rows // 16):
                for j in range(tile.columns // tile.warp_columns // 8):
                    for index in range(4):
                        row = first_row + 16 * i + 8 * (index // 2) + lane // 4
                        places.append((row, first_column + 8 * j + 2 * (lane % 4) + index % 2))
        else:
            for i in range(tile.rows // tile.warp_rows // 4):
                for j in range(tile.columns // tile.warp_columns // 8):
                    places.append((first_row + 4 * i + lane // 8, first_column + 8 * j + lane % 8))
    return np.ascontiguousarray(np.asarray(places, np.int64).transpose(0, 2, 1))


def _touched(kernel_: Contraction, touch: Touch, lanes: np.ndarray[tuple[int, int, int], np.dtype[np.int64]]) -> Traffic:
    tile, grid = kernel_.tile, np.asarray(kernel_.grid, np.int64)
    across = (touch.column, touch.row) if kernel_.swapped else (touch.row, touch.column)
    strides = np.asarray([touch.product, *across], np.int64)
    extents = np.asarray([tile.rows, tile.columns, kernel_.rows, kernel_.columns], np.int64)
    return Traffic(*(int(value) for value in _count_touched(lanes, grid, extents, strides, touch.element_bytes)))


@kernel
def _count_touched(
    lanes: np.ndarray[tuple[int, int, int], np.dtype[np.int64]],
    grid: np.ndarray[tuple[int], np.dtype[np.int64]],
    extents: np.ndarray[tuple[int], np.dtype[np.int64]],
    strides: np.ndarray[tuple[int], np.dtype[np.int64]],
    element_bytes: int,
) -> tuple[int, int, int]:
    sectors_of = np.empty(32, np.int64)
    requests_, bytes_, sectors = 0, 0, 0
    for product in range(grid[2]):
        for down in range(grid[0]):
            for across in range(grid[1]):
                for request in range(lanes.shape[0]):
                    active = 0
                    for lane in range(32):
                        row = down * extents[0] + lanes[request, lane, 0]
                        column = across * extents[1] + lanes[request, lane, 1]
                        if row < extents[2] and column < extents[3]:
                            place = product * strides[0] + row * strides[1] + column * strides[2]
                            sectors_of[active] = place * element_bytes // 32
                            active += 1
                    if active > 0:
                        requests_ += 1
                        bytes_ += active * element_bytes
                        sectors += distinct(sectors_of, active)
    return requests_, bytes_, sectors


# --- shared memory ------------------------------------------------------------------------------------------------


def _offsets(
    tile: Tile, pitch: int, rows: np.ndarray[tuple[int], np.dtype[np.int64]], byte: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Where bytes of rows of a strip lie."""
    chunks = pitch // 16
    rows_in_line, mask = (8 // chunks, chunks - 1) if chunks < 8 else (1, 7)
    exchanged = rows // rows_in_line & mask if tile.swizzled else 0
    return rows * pitch + (byte // 16 ^ exchanged) * 16 + byte % 16


def _put(tile: Tile, extent: int, pitch: int) -> tuple[int, int]:
    """Requests and passes of storing one strip."""
    count = passes = 0
    chunks = pitch // 16
    for first in range(0, extent * chunks, LANES):
        chunk = np.arange(first, min(first + LANES, extent * chunks))
        count += 1
        passes += request_passes(_offsets(tile, pitch, chunk // chunks, chunk % chunks * 16) // 4, 4)
    return count, passes


def _fragments(kernel_: Contraction) -> tuple[int, int]:
    """Requests and passes of reading one strip of both operands, all warps of a block."""
    tile = kernel_.tile
    lane = np.arange(LANES)
    count = passes = 0
    tensor = kernel_.engine.tensor_cores
    words, segment = (1, 32) if tensor else (4, 16)
    for warp in range(tile.warp_rows * tile.warp_columns):
        down, across = divmod(warp, tile.warp_columns)
        parts = (
            (down * (tile.rows // tile.warp_rows), tile.rows // tile.warp_rows, 0, tile.row_pitch),
            (
                across * (tile.columns // tile.warp_columns),
                tile.columns // tile.warp_columns,
                tile.rows * tile.row_pitch,
                tile.pitch,
            ),
        )
        for side, (first, extent, start, pitch) in enumerate(parts):
            inside = lane // 4 if tensor else lane // 8 if side == 0 else lane % 8
            pieces = range(0, extent, 8 if tensor or side else 4)
            for piece in pieces:
                for byte in range(0, pitch, segment):
                    for half in (0, 16) if tensor else (0,):
                        at = byte + half + 4 * (lane % 4) if tensor else np.full(LANES, byte)
                        count += 1
                        passes += request_passes((start + _offsets(tile, pitch, first + piece + inside, at)) // 4, words)
    return count, passes
