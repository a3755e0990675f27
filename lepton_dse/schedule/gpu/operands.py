"""Where an operand of a contraction kernel lies in global memory, and in which pieces its chunks of 16 bytes are read.

Positions are in elements from the operand's start, which is aligned to 16 bytes. A piece is wholly inside or wholly outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

__all__ = ["Blocks", "Columns", "Matrix", "Operand", "Packed4", "Windows"]

_CHUNK = 16


@dataclass(frozen=True)
class Matrix:
    """Rows one after another.

    Parameters
    ----------
    rows, depth : int
        Extent, and elements of the summed axis.
    stride, batch : int
        Elements from one row to the next, and from one product to the next (0 where all products share it).
    element_bytes : int
        1, 2 or 4.
    """

    rows: int
    depth: int
    stride: int
    batch: int
    element_bytes: int

    @property
    def piece_bytes(self) -> int:
        """Widest piece that always lies inside a row and is aligned."""
        return _CHUNK if not self.depth else gcd(_CHUNK, *(self.element_bytes * n for n in (self.depth, self.stride, self.batch)))

    @property
    def whole(self) -> bool:
        """Whether every chunk is one piece, zeros outside, as an asynchronous copy wants it."""
        return self.piece_bytes == _CHUNK


@dataclass(frozen=True)
class Columns:
    """The same stored the other way round: neighbours along the rows side by side, `stride` apart along the summed axis."""

    rows: int
    depth: int
    stride: int
    batch: int
    element_bytes: int

    @property
    def piece_bytes(self) -> int:
        """One element."""
        return self.element_bytes

    @property
    def whole(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True)
class Windows:
    """Windows of images (N, H, W, C), channels innermost; the summed axis is (kernel row, kernel column, channel of the group).

    Parameters
    ----------
    images, height, width, channels : int
        Extents; `channels` of all groups.
    group_channels : int
    out_height, out_width : int
    kernel, strides, pads, dilations : tuple of two int
        Along height and width; `pads` before.
    padding : int
        The 32 bits that stand for what lies outside, its elements side by side.
    element_bytes : int
    """

    images: int
    height: int
    width: int
    channels: int
    group_channels: int
    out_height: int
    out_width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int]
    dilations: tuple[int, int]
    padding: int
    element_bytes: int

    @property
    def rows(self) -> int:
        """Windows of all images."""
        return self.images * self.out_height * self.out_width

    @property
    def depth(self) -> int:
        """Products that a sum of one group has."""
        return self.kernel[0] * self.kernel[1] * self.group_channels

    @property
    def piece_bytes(self) -> int:
        """Widest piece that always lies in one pixel's channels of one group and is aligned."""
        return gcd(_CHUNK, self.element_bytes * self.group_channels, self.element_bytes * self.channels)

    @property
    def whole(self) -> bool:
        """Whether every chunk is one piece and what lies outside is zero."""
        return self.piece_bytes == _CHUNK and self.padding == 0


@dataclass(frozen=True)
class Packed4:
    """Integers of 4 bits, two a byte, the first in the low half, which become bytes on their way to shared memory.

    `stride` and `batch` are in elements, multiples of 16.
    """

    rows: int
    depth: int
    stride: int
    batch: int

    @property
    def element_bytes(self) -> int:
        """Bytes of an element in shared memory."""
        return 1

    @property
    def piece_bytes(self) -> int:
        """Bytes that are read at once; they become a whole chunk."""
        return _CHUNK // 2

    @property
    def whole(self) -> bool:
        """Never: they are unpacked on the way."""
        return False


@dataclass(frozen=True)
class Blocks:
    """Blocks of weights that are not all zero, one after another; a block is a strip of a tile's columns.

    Parameters
    ----------
    rows : int
        Columns of the result.
    depth : int
        Elements of the summed axis, zeros included.
    extent, pitch : int
        Rows of a block, and bytes of each.
    element_bytes : int
    lists : tuple of tuple of int
        For each product and each tile of columns, the steps whose block is stored.
    """

    rows: int
    depth: int
    extent: int
    pitch: int
    element_bytes: int
    lists: tuple[tuple[int, ...], ...]

    @property
    def piece_bytes(self) -> int:
        """A whole chunk."""
        return _CHUNK

    @property
    def whole(self) -> bool:
        """Always."""
        return True

    @property
    def stored(self) -> int:
        """How many blocks are stored."""
        return sum(map(len, self.lists))


Operand = Matrix | Columns | Windows | Packed4 | Blocks
