"""The one definition of quantised arithmetic that every executor and emitter computes.

Symbols
-------
=======  ==================================================================
x        real value
beta     scale: real distance between two neighbouring integers
z        zero point: the integer that stands for real 0
q        stored integer, ``q = clamp(round_half_even(x / beta) + z)``
acc      exact integer accumulator
M, s     requantisation multiplier (unsigned) and right shift
=======  ==================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import NumberFormat

__all__ = [
    "MULTIPLIER_BITS",
    "QuantParams",
    "Requantization",
    "dequantize",
    "encode_float",
    "integer_bounds",
    "quantize",
    "requantization_for",
    "requantize",
]

MULTIPLIER_BITS = 17  # one unsigned operand of a DSP48's 18-bit signed port
_MAX_SHIFT = 46  # (acc of 32 bits) x (M of 17 bits) plus the rounding term stays inside int64


@dataclass(frozen=True)
class QuantParams:
    """Affine quantisation of one tensor.

    Parameters
    ----------
    beta : tuple of float
        Scale; one entry, or one per channel along `axis`, or one per group of each channel, channel by channel. Each is
        exactly representable in float32.
    zero : int
        Zero point, shared by all channels.
    axis : int or None
        Channel axis when there is more than one scale.
    group : int or None
        Consecutive elements of a channel, the other axes in order, that share a scale; None where the whole channel does.
    """

    beta: tuple[float, ...]
    zero: int = 0
    axis: int | None = None
    group: int | None = None

    def __post_init__(self) -> None:
        if not self.beta or not all(np.isfinite(value) and value > 0 for value in self.beta):
            raise LeptonError("a quantisation scale must be finite and positive")
        if (len(self.beta) > 1 or self.group is not None) and self.axis is None:
            raise LeptonError("several quantisation scales need a channel axis")
        if self.group is not None and self.group < 1:
            raise LeptonError("a group of scales holds at least one element")

    def scale(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Scales as a float32 array that broadcasts against a tensor of `shape`.

        Raises
        ------
        LeptonError
            If the number of scales is not that of the tensor's channels or groups.
        """
        beta = np.asarray(self.beta, np.float32)
        if self.axis is None:
            return beta.reshape((1,) * len(shape))
        channels = shape[self.axis]
        others = (*shape[: self.axis], *shape[self.axis :][1:])
        if self.group is None:
            if len(beta) not in (1, channels):
                raise LeptonError(f"{len(beta)} scales for {channels} channels")
            wide = [1] * len(shape)
            wide[self.axis] = len(beta)
            return beta.reshape(wide)
        elements = math.prod(others)
        if len(beta) != channels * -(-elements // self.group):
            raise LeptonError(f"{len(beta)} scales for {channels} channels in groups of {self.group} of {elements}")
        each = np.repeat(beta.reshape(channels, -1), self.group, axis=1)[:, :elements]
        return np.moveaxis(each.reshape(channels, *others), 0, self.axis)


def quantize(x: NDArray[np.floating], params: QuantParams, low: int, high: int) -> NDArray[np.int64]:
    """``clamp(round_half_even(x / beta) + z, low, high)``, the division in IEEE float32.

    Parameters
    ----------
    x : ndarray of float, any shape
        Real values.
    params : QuantParams
        Scale and zero point.
    low, high : int
        Clamp bounds, inclusive.

    Returns
    -------
    ndarray of int64, same shape
    """
    with np.errstate(over="ignore"):  # an infinite ratio is clamped like any other
        ratio = np.divide(x.astype(np.float32, copy=False), params.scale(x.shape), dtype=np.float32)
    # Clamp before the conversion: an out-of-range float has no defined integer value.
    rounded = np.clip(np.rint(ratio).astype(np.float64) + params.zero, low, high)
    return rounded.astype(np.int64)


def encode_float(x: NDArray[np.floating], params: QuantParams, form: NumberFormat) -> NDArray[np.generic]:
    """``x / beta``, clamped to a float format's finite range and rounded to it, halves to even.

    Parameters
    ----------
    x : ndarray of float, any shape
    params : QuantParams
        Scale; the zero point is not used.
    form : NumberFormat
        Float format, for example ``float8_e4m3``.

    Returns
    -------
    ndarray of ``form.numpy``, same shape
    """
    with np.errstate(over="ignore"):
        ratio = np.divide(x.astype(np.float32, copy=False), params.scale(x.shape), dtype=np.float32)
    limit = np.float32(min(float(form.maximum), float(np.finfo(np.float32).max)))
    return np.clip(ratio, -limit, limit).astype(form.numpy)


def dequantize(q: NDArray[Any], params: QuantParams) -> NDArray[np.float32]:
    """``beta * (q - z)`` in float32, any shape; float formats have no zero point, ``beta * q``."""
    if q.dtype.kind not in "iu":
        return q.astype(np.float32) * params.scale(q.shape)
    return (q.astype(np.int64) - params.zero).astype(np.float32) * params.scale(q.shape)


@dataclass(frozen=True)
class Requantization:
    """Integer stand-in for a multiplication by positive real ratios.

    Parameters
    ----------
    multipliers : tuple of int
        Unsigned multiplier per channel (or one).
    shift : int
        Arithmetic right shift, at least 1.
    """

    multipliers: tuple[int, ...]
    shift: int


def requantization_for(ratios: NDArray[np.float64], bits: int = MULTIPLIER_BITS) -> Requantization:
    """Multipliers and the common shift that approximate `ratios`.

    The shift is the largest (1 to 46) with which every ``round(ratio * 2**shift)`` still fits `bits` unsigned bits.

    Parameters
    ----------
    ratios : ndarray of float64, shape (channels,)
        Positive finite real factors, accumulator unit over output unit.
    bits : int
        Width of a multiplier.

    Raises
    ------
    LeptonError
        If a ratio is not positive and finite, or is too large for `bits` bits even at shift 1.
    """
    if not (np.all(np.isfinite(ratios)) and np.all(ratios > 0)):
        raise LeptonError("a requantisation ratio must be finite and positive", fix="check the calibration data")
    largest = float(ratios.max())
    limit = (1 << bits) - 1
    for shift in range(_MAX_SHIFT, 0, -1):
        if largest * 2.0**shift < limit + 0.5:  # rounds to at most the limit
            multipliers = np.rint(ratios * 2.0**shift).astype(np.int64)
            return Requantization(tuple(int(value) for value in multipliers), shift)
    raise LeptonError(f"a requantisation ratio of {largest:.3g} does not fit {bits} bits", fix="use wider activations")


def requantize(
    acc: NDArray[np.integer], multiplier: NDArray[np.integer], shift: int, zero: int, low: int, high: int
) -> NDArray[np.int64]:
    """``clamp(((acc * M + 2**(s-1)) >> s) + z, low, high)`` with an arithmetic shift: halves round up.

    Parameters
    ----------
    acc : ndarray of int, any shape
        Exact accumulators; ``|acc * M|`` must stay below 2**62.
    multiplier : ndarray of int
        Unsigned multipliers that broadcast against `acc`.
    shift, zero, low, high : int
        Right shift (at least 1), zero point of the output and clamp bounds.

    Returns
    -------
    ndarray of int64, shape of the broadcast
    """
    product = acc.astype(np.int64) * multiplier.astype(np.int64)
    rounded: NDArray[np.int64] = np.clip(((product + (1 << (shift - 1))) >> shift) + zero, low, high)
    return rounded


def integer_bounds(form: NumberFormat) -> tuple[int, int]:
    """Least and greatest integer of an integer format."""
    return int(form.minimum), int(form.maximum)
