"""Stall traces: seeded bits that hold back the ends of a stream, and the predicted cycle of every beat under them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["StallCase", "stall_bits"]

_LENGTH = 4096  # bits; a trace repeats cyclically


@dataclass(frozen=True, eq=False)
class StallCase:
    """One pair of traces and what is predicted under them.

    Parameters
    ----------
    seed : int
    frames : int
        Frames streamed back to back.
    source, sink : ndarray of bool
        One bit a cycle, repeated cyclically: the source may raise valid, and the sink is ready, on a 1.
    input_cycles, output_cycles : ndarray of int64
        Predicted cycle of every transfer at either end.
    """

    seed: int
    frames: int
    source: NDArray[np.bool_]
    sink: NDArray[np.bool_]
    input_cycles: NDArray[np.int64]
    output_cycles: NDArray[np.int64]


def stall_bits(seed: int, *, length: int = _LENGTH) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Traces for source and sink: seed 0 never stalls; others mix steady rates with long pauses and bursts.

    Returns
    -------
    source, sink : ndarray of bool, shape (length,)
        Each holds at least one 1.
    """
    if seed == 0:
        return np.ones(length, np.bool_), np.ones(length, np.bool_)
    generator = np.random.default_rng(seed)
    return _bits(generator, length), _bits(generator, length)


def _bits(generator: np.random.Generator, length: int) -> NDArray[np.bool_]:
    bits = np.empty(length, np.bool_)
    position = 0
    while position < length:
        run = int(generator.integers(1, 64))
        rate = generator.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        bits[position : position + run] = generator.random(len(bits[position : position + run])) < rate
        position += run
    bits[int(generator.integers(length))] = True
    return bits
