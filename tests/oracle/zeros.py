"""Zeros of a convolution's weights, counted one by one in plain Python."""

from __future__ import annotations

__all__ = ["of_convolution"]


def of_convolution(weights: list[list[list[list[float]]]]) -> tuple[int, bool]:
    """How many weights (M, C, H, W) are zero, and whether every four input channels of a tap keep at most two."""
    zeros, patterned = 0, len(weights[0]) % 4 == 0
    for channels in weights:
        for row in range(len(channels[0])):
            for column in range(len(channels[0][0])):
                run = 0
                for place, taps in enumerate(channels):
                    if taps[row][column] == 0:
                        zeros += 1
                    else:
                        run += 1
                    if place % 4 == 3:
                        patterned = patterned and run <= 2
                        run = 0
    return zeros, patterned
