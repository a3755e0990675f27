"""Weights without their zeros, unpacked and packed by plain loops, from the definition of the fragments in the PTX ISA."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def kept_of(four: list[float]) -> tuple[int, int]:
    """Places of the two elements that a run of four keeps: those that are not zero, filled up with the first zeros."""
    chosen = [place for place in range(4) if four[place] != 0]
    for place in range(4):
        if len(chosen) < 2 and place not in chosen:
            chosen.append(place)
    first, second = sorted(chosen)
    return first, second


def stored_halves(rows: list[list[float]]) -> list[list[float]]:
    """What is stored of rows whose length is a multiple of four."""
    found = []
    for row in rows:
        kept = []
        for start in range(0, len(row), 4):
            for place in kept_of(row[start : start + 4]):
                kept.append(row[start + place])
        found.append(kept)
    return found


def position_words(rows: list[list[float]]) -> list[int]:
    """Words of positions, for whole blocks of 16 rows and whole segments of 32 elements.

    A product of 16 x 32 takes from lanes 4 g and 4 g + 1 a word each: of elements 0 to 15 and 16 to 31, four bits for each run
    of four (the place of the first kept element in the lower two), those of row g in the lower half and of row g + 8 above.
    """
    words = []
    for block in range(0, len(rows), 16):
        for segment in range(0, len(rows[0]), 32):
            for group in range(8):
                for half in range(2):
                    word = 0
                    for upper in range(2):
                        row = rows[block + group + 8 * upper]
                        for run in range(4):
                            start = segment + 16 * half + 4 * run
                            first, second = kept_of(row[start : start + 4])
                            word |= (first | second << 2) << (16 * upper + 4 * run)
                    words.append(word)
    return words


def dense_of(kept: Array, words: Array, columns: int) -> Array:
    """The dense rows that stored halves and positions stand for."""
    count = len(kept)
    dense = np.zeros((count, columns), np.float64)
    segments = -(-columns // 32)
    for row in range(count):
        for index in range(kept.shape[1]):
            segment, inside = divmod(index, 16)
            run, which = divmod(inside, 2)
            block, group = row // 16, row % 16
            word = int(words[((block * segments + segment) * 8 + group % 8) * 2 + run // 4])
            place = word >> (16 * (group // 8) + 4 * (run % 4) + 2 * which) & 3
            column = segment * 32 + run * 4 + place
            if column < columns:
                dense[row, column] += float(kept[row, index])
    return dense


def dense_of_blocks(blocks: Array, lists: tuple[tuple[int, ...], ...], extent: int, rows: int, columns: int) -> Array:
    """The dense rows of one product that stored blocks stand for; `extent` rows a block."""
    stored, width = 0, blocks.shape[-1]
    dense = np.zeros((-(-rows // extent) * extent, -(-columns // width) * width), np.float64)
    for tile, steps in enumerate(lists):
        for step in steps:
            for row in range(extent):
                for column in range(width):
                    dense[tile * extent + row, step * width + column] = float(blocks[stored, row, column])
            stored += 1
    assert stored == len(blocks)
    return dense[:rows, :columns]
