"""Shared-memory bank conflicts of an access, exact by counting.

Shared memory has 32 banks of 4 bytes; word w lies in bank w mod 32. A warp's request takes as many passes as the most
*different* words that fall into one bank; lanes that read the same word share a pass. Requests wider than 4 bytes a lane are
served for 32 / (bytes / 4) lanes at a time (CUDA C++ Programming Guide, shared memory of compute capability 5.0 and later).

A tile lies row by row with a pitch of p words. A swizzle exchanges the 16-byte chunks of a row: chunk c of row r is stored at
chunk ``c xor (r mod 2^b)`` (the XOR layouts of CUTLASS, b = 3 for rows of 128 bytes).
"""

from __future__ import annotations

import numpy as np

from lepton_dse.errors import LeptonError

__all__ = ["BANKS", "LANES", "conflict_degree", "request_passes", "tile_words"]

BANKS = LANES = 32
_CHUNK_WORDS = 4


def conflict_degree(words: np.ndarray[tuple[int], np.dtype[np.int64]], words_per_lane: int = 1) -> int:
    """Passes that one request of a warp takes, over the least it could take with the same width.

    Parameters
    ----------
    words : ndarray of int64, shape (32,)
        Address of each lane's first word, in words of 4 bytes.
    words_per_lane : int
        1, 2 or 4 consecutive words that each lane reads.

    Returns
    -------
    int
        Passes of the slowest group of lanes; 1 means free of conflicts.

    Raises
    ------
    LeptonError
        If there are not 32 lanes, a width is none of these, or an address is negative or not aligned to the width.
    """
    if words.shape != (LANES,) or words_per_lane not in (1, 2, 4):
        raise LeptonError(
            f"a request of {words.size} lanes with {words_per_lane} words each", fix="32 lanes with 1, 2 or 4 words each"
        )
    if (words < 0).any() or (words % words_per_lane).any():
        raise LeptonError("an address is negative or not aligned to the width of the request", fix="align it to the width")
    return max(_passes(words, words_per_lane))


def request_passes(words: np.ndarray[tuple[int], np.dtype[np.int64]], words_per_lane: int = 1) -> int:
    """Passes that one request takes, all its groups of lanes together.

    Parameters
    ----------
    words : ndarray of int64, shape (L,)
        Address of each active lane's first word, in order of the lanes; at most 32.
    words_per_lane : int
        1, 2 or 4.
    """
    return sum(_passes(words, words_per_lane))


def _passes(words: np.ndarray[tuple[int], np.dtype[np.int64]], words_per_lane: int) -> list[int]:
    """Passes of each group of lanes that is served at a time."""
    group = LANES // words_per_lane
    groups = [words[first : first + group, None] + np.arange(words_per_lane) for first in range(0, len(words), group)]
    return [int(np.bincount(np.unique(touched) % BANKS).max()) for touched in groups]


def tile_words(
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    columns: np.ndarray[tuple[int], np.dtype[np.int64]],
    pitch: int,
    swizzle: int = 0,
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Addresses of elements of a tile, in words.

    Parameters
    ----------
    rows, columns : ndarray of int64
        Row, and word inside the row.
    pitch : int
        Words from one row to the next.
    swizzle : int
        Bits of the row number that are combined into the chunk number; 0 for none.

    Raises
    ------
    LeptonError
        If a column lies outside the pitch, or a swizzle would leave the row.
    """
    if pitch < 1 or (columns < 0).any() or (columns >= pitch).any() or (rows < 0).any():
        raise LeptonError(f"a word outside a row of {pitch} words", fix="columns from 0 to the pitch, rows from 0")
    if swizzle < 0 or (swizzle and pitch % (_CHUNK_WORDS << swizzle)):
        raise LeptonError(
            f"a swizzle of {swizzle} bits in rows of {pitch} words",
            fix=f"rows of a multiple of {_CHUNK_WORDS << max(swizzle, 0)} words",
        )
    chunk, inside = columns // _CHUNK_WORDS, columns % _CHUNK_WORDS
    return rows * pitch + (chunk ^ (rows & ((1 << swizzle) - 1))) * _CHUNK_WORDS + inside
