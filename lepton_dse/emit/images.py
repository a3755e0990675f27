"""Memory images and test vectors as the hexadecimal text that ``$readmemh`` and the testbenches read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["hex_lines", "pack", "words"]


def pack(fields: Sequence[int], bits: int) -> int:
    """Fields in two's complement, the first in the least significant bits, as one unsigned integer."""
    mask = (1 << bits) - 1
    word = 0
    for field in reversed(fields):
        word = (word << bits) | (field & mask)
    return word


def words(values: NDArray[np.integer], bits: int) -> list[int]:
    """Each row of `values` (rows, fields) packed; see :func:`pack`."""
    return [pack(row, bits) for row in values.tolist()]


def hex_lines(values: Iterable[int], bits: int) -> bytes:
    """One word a line, padded to whole hexadecimal digits."""
    digits = (bits + 3) // 4
    return "".join(f"{value:0{digits}x}\n" for value in values).encode()
