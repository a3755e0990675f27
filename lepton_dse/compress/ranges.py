"""The scale beta that each method makes of the values seen, for activations and for weights.

=============  =======================================================================================================
minmax         the range spans every value seen
percentile     the range leaves out a given share of the values at either end
mse            the range, shrunk in steps, whose quantisation error has the least mean square over the values seen
kl             the range, shrunk in steps, whose integers keep most information: least Kullback-Leibler divergence of the
               quantised histogram from the clipped one (S. Migacz, "8-bit inference with TensorRT", GTC 2017)
output         the range, shrunk in steps, for which the products that read the activation err least
               (:mod:`lepton_dse.compress.output_error`)
=============  =======================================================================================================

Weights know no data: for them ``minmax``, ``percentile`` and ``kl`` span the greatest magnitude, ``mse`` and ``output`` search
the least squared error of each scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.histogram import Histogram
from lepton_dse.errors import LeptonError
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.numerics.quantize import QuantParams, dequantize, encode_float, integer_bounds, quantize
from lepton_dse.plan import CalibrationMethod

__all__ = ["SHARES", "Granularity", "activation_params", "rounded", "shrunk", "weight_params"]

SHARES = np.concatenate([np.geomspace(0.01, 0.2, 30, endpoint=False), np.linspace(0.2, 1.0, 81)])
"""Candidate ranges of activations, as shares of the greatest magnitude seen."""
_WEIGHT_SHARES = np.linspace(0.2, 1.0, 81)  # of weights, which have no far outliers
_TAIL = 1e-4  # share of values that the percentile method leaves out at either end
_SMOOTH = 1e-4  # share of the quantised histogram spread over all bins, so that a bin it misses costs a finite amount
_TINY = float(np.finfo(np.float32).tiny)
_WEIGHT_ROWS = 4096  # scales whose candidates are compared at once, to bound memory
_NARROW = 8  # float formats of more bits hold values as they are, without a scale


class Granularity(StrEnum):
    """How many weights share one scale."""

    TENSOR = "tensor"
    CHANNEL = "channel"
    GROUP = "group"


def activation_params(
    histogram: Histogram, form: NumberFormat, method: CalibrationMethod, *, symmetric: bool = False
) -> QuantParams:
    """Scale and zero point of an activation.

    Parameters
    ----------
    histogram : Histogram
        Values seen.
    form : NumberFormat
        Signed integer format of the tensor, or a float format.
    method : CalibrationMethod
        How the range is chosen; ``output`` begins where ``mse`` ends.
    symmetric : bool
        Zero point 0 instead of the affine one.
    """
    if method is CalibrationMethod.PERCENTILE:
        return _params(*histogram.quantiles(_TAIL), form, symmetric)
    if method is CalibrationMethod.MINMAX or histogram.low == histogram.high:  # one value is counted in no bin
        return shrunk(histogram, form, 1.0, symmetric=symmetric)
    error = _divergence if method is CalibrationMethod.KL and form.is_integer else _squared_error
    share = _least(lambda share: error(histogram, shrunk(histogram, form, share, symmetric=symmetric), form), SHARES)
    return shrunk(histogram, form, share, symmetric=symmetric)


def shrunk(histogram: Histogram, form: NumberFormat, share: float, *, symmetric: bool = False) -> QuantParams:
    """Scale and zero point of the range seen, without what is greater in magnitude than `share` of the greatest."""
    limit = share * max(-histogram.low, histogram.high)
    return _params(max(histogram.low, -limit), min(histogram.high, limit), form, symmetric)


def rounded(x: NDArray[np.floating], params: QuantParams, form: NumberFormat) -> NDArray[np.float32]:
    """The reals that `x` becomes when it is stored in a format."""
    stored = encode_float(x, params, form) if form.is_float else quantize(x, params, *integer_bounds(form))
    return dequantize(stored, params)


def _squared_error(histogram: Histogram, params: QuantParams, form: NumberFormat) -> float:
    centres = histogram.centres
    difference = rounded(centres, params, form).astype(np.float64) - centres
    return float(np.dot(histogram.counts.astype(np.float64), difference**2))


def _divergence(histogram: Histogram, params: QuantParams, form: NumberFormat) -> float:
    """Kullback-Leibler divergence of what the integers tell from the histogram with its outliers at the ends.

    Bins that one integer stands for share their counts equally, as far as they hold any. A clipped range pays twice: its end bins
    get the outliers, which the integers' side does not know of.
    """
    counts, centres = histogram.counts.astype(np.float64), histogram.centres
    level = quantize(centres, params, *integer_bounds(form))
    inside = np.abs(dequantize(level, params) - centres) <= 0.5001 * params.beta[0]
    if not counts[inside].any():
        return float("inf")
    clipped = np.where(inside, counts, 0.0)
    first, last = np.flatnonzero(inside)[[0, -1]]
    clipped[first] += counts[:first].sum()
    clipped[last] += counts[last + 1 :].sum()
    index = level - level.min()
    held, bins = (
        np.bincount(index, weights=values) for values in (np.where(inside, counts, 0.0), (inside & (clipped > 0)) * 1.0)
    )
    told = np.where(clipped > 0, held[index] / np.maximum(bins[index], 1.0), 0.0)
    seen = clipped > 0
    p, q = clipped[seen] / clipped.sum(), told[seen] / max(told.sum(), 1.0)
    q = (1 - _SMOOTH) * q + _SMOOTH / len(q)
    return float(np.sum(p * np.log(p / q)))


def weight_params(
    weights: NDArray[np.floating],
    axis: int,
    form: NumberFormat,
    method: CalibrationMethod,
    *,
    granularity: Granularity = Granularity.CHANNEL,
    group: int | None = None,
) -> QuantParams:
    """Symmetric scales of weights, so that each lies within ``±(2**(bits-1) - 1)`` or a float format's finite range.

    Parameters
    ----------
    weights : ndarray
        Weights; channels along `axis`.
    axis : int
        Output-channel axis.
    form : NumberFormat
        Signed integer format, or a float format.
    method : CalibrationMethod
        ``mse`` and ``output`` search the least squared error of each scale; the others span the greatest magnitude.
    granularity : Granularity
        What shares a scale: the whole tensor, a channel, or `group` consecutive weights of a channel.
    group : int, optional
        Weights of a group.

    Raises
    ------
    LeptonError
        If groups are asked for without their size.
    """
    if form.is_float and form.bits > _NARROW:
        return QuantParams((1.0,))
    channels = weights.shape[axis]
    rows = np.moveaxis(np.asarray(weights, np.float32), axis, 0).reshape(channels, -1)
    if granularity is Granularity.GROUP:
        if group is None or group < 1:
            raise LeptonError("groups of scales need a size of 1 or more", fix="for example group=64")
        padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % group)))
        rows = padded.reshape(-1, group)
    elif granularity is Granularity.TENSOR:
        rows = rows.reshape(1, -1)
    limit = float(form.maximum) if form.is_float else integer_bounds(form)[1]
    peak = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    # An all-zero channel quantises to zeros under any scale; a larger one would cost the others multiplier bits.
    peak[peak == 0] = peak.max(initial=0.0) or 1.0
    if method in (CalibrationMethod.MSE, CalibrationMethod.OUTPUT) and form.is_integer:
        peak = _best_peaks(rows, peak, limit)
    beta = _exact(peak / limit)
    if granularity is Granularity.TENSOR:
        return QuantParams(beta)
    return QuantParams(beta, 0, axis, group if granularity is Granularity.GROUP else None)


def _best_peaks(rows: NDArray[np.float32], peak: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """The clipped magnitude of each row that gives the least squared error."""
    best, chosen = np.full(len(rows), np.inf), peak.copy()
    for start in range(0, len(rows), _WEIGHT_ROWS):
        part = slice(start, start + _WEIGHT_ROWS)
        block, span = rows[part], peak[part]
        for share in _WEIGHT_SHARES:
            beta = np.maximum(span * share / limit, _TINY).astype(np.float32)[:, None]
            error = ((np.clip(np.rint(block / beta), -limit, limit) * beta - block) ** 2).sum(axis=1)
            better = error < best[part]
            best[part][better] = error[better]
            chosen[part][better] = (span * share)[better]
    return chosen


def _params(low: float, high: float, form: NumberFormat, symmetric: bool) -> QuantParams:
    """Parameters of the range widened to include 0, which padding and Relu need to be exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if form.is_float:
        if form.bits > _NARROW or low == high:
            return QuantParams((1.0,))
        return QuantParams(_exact([max(-low, high) / float(form.maximum)]))
    least, most = integer_bounds(form)
    if low == high:
        return QuantParams((1.0,), 0)
    if symmetric:
        return QuantParams(_exact([max(-low, high) / most]), 0)
    beta = _exact([(high - low) / (most - least)])
    zero = int(np.clip(np.rint(least - low / beta[0]), least, most))
    return QuantParams(beta, zero)


def _exact(values: Iterable[float]) -> tuple[float, ...]:
    """Rounded to float32 and kept above its smallest normal, so that a scale is the same number everywhere."""
    return tuple(max(float(np.float32(value)), _TINY) for value in values)


def _least(error: Callable[[float], float], candidates: NDArray[np.float64]) -> float:
    errors = [error(float(candidate)) for candidate in candidates]
    return float(candidates[int(np.argmin(errors))])
