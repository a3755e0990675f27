"""Canonical Huffman codes over small alphabets (D. Huffman, Proc. IRE 40, 1952).

A code is told by its lengths alone: codes of one length are consecutive numbers in the order of their symbols, and each length
begins where the shorter ones end, shifted by one bit.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import InvalidDataError
from lepton_dse.jit import kernel

__all__ = ["LONGEST", "code_lengths", "coded_bits", "decode", "encode"]

LONGEST = 40
"""Bits of the longest code that a stream may use."""


def code_lengths(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bits of each symbol's code, 0 for symbols that never occur; a lone symbol gets one bit.

    Parameters
    ----------
    counts : ndarray of int64, shape (S,)
        How often each symbol occurs.
    """
    lengths = np.zeros(len(counts), np.uint8)
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (int(count), symbol, (symbol,)) for symbol, count in enumerate(counts) if count > 0
    ]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        members = (*first[2], *second[2])
        lengths[list(members)] += 1
        heapq.heappush(heap, (first[0] + second[0], min(first[1], second[1]), members))
    return lengths


def coded_bits(counts: NDArray[np.int64]) -> int:
    """Bits of a stream with these counts."""
    return int(np.dot(counts, code_lengths(counts).astype(np.int64)))


def encode(symbols: NDArray[np.integer], lengths: NDArray[np.uint8]) -> bytes:
    """The codes of `symbols` one behind another, the first bit in the highest place, padded with zeros to whole bytes."""
    codes = _codes(lengths)
    size = lengths[symbols].astype(np.int64)
    start = np.cumsum(size) - size
    bits = np.zeros(int(size.sum()), np.uint8)
    for place in range(int(size.max(initial=0))):
        here = size > place
        bits[start[here] + place] = (codes[symbols[here]] >> (size[here] - 1 - place)) & 1
    return np.packbits(bits).tobytes()


def decode(stream: bytes, lengths: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """The first `count` symbols of a stream.

    Raises
    ------
    InvalidDataError
        If the lengths are no code, or the stream ends early or holds what is no code.
    """
    if int(lengths.max(initial=0)) > LONGEST or (lengths > 0).sum() == 0:
        raise InvalidDataError("holds no Huffman code", where="lengths")
    room = sum(2.0 ** -int(length) for length in lengths if length)
    if room > 1.0:
        raise InvalidDataError("holds lengths that are no Huffman code", where="lengths")
    order = np.lexsort((np.arange(len(lengths)), lengths))
    symbols = order[lengths[order] > 0].astype(np.int64)
    per_length = np.bincount(lengths[lengths > 0], minlength=LONGEST + 1).astype(np.int64)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))
    found = np.empty(count, np.int64)
    if not _decode(bits, symbols, per_length, found):
        raise InvalidDataError("a stream of codes that ends early or is damaged", where="indices")
    return found


def _codes(lengths: NDArray[np.uint8]) -> NDArray[np.int64]:
    codes = np.zeros(len(lengths), np.int64)
    code, before = 0, 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        length = int(lengths[symbol])
        if length:
            code <<= length - before
            codes[symbol], before = code, length
            code += 1
    return codes


@kernel
def _decode(bits: NDArray[np.uint8], symbols: NDArray[np.int64], per_length: NDArray[np.int64], found: NDArray[np.int64]) -> bool:
    """Fills `found`; false where the bits run out or match no code."""
    place = 0
    for index in range(len(found)):
        code, first, offset = 0, 0, 0
        done = False
        for length in range(1, len(per_length)):
            if place >= len(bits):
                return False
            code = 2 * code + bits[place]
            place += 1
            here = per_length[length]
            first *= 2
            if code - first < here:
                found[index] = symbols[offset + code - first]
                done = True
                break
            first += here
            offset += here
        if not done:
            return False
    return True
