"""Ranges of activations over calibration samples, and the scale beta that each method makes of them.

=============  =======================================================================================================
minmax         the range spans every value seen
percentile     the range leaves out a given share of the values at either end
mse            the range, shrunk in steps, whose quantisation error has the least mean square over the values seen
=============  =======================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.numerics.quantize import QuantParams, dequantize, integer_bounds, quantize
from lepton_dse.plan import CalibrationMethod

__all__ = ["Histogram", "activation_params", "weight_params"]

_BINS = 4096
_SHRINK = np.linspace(0.2, 1.0, 81)  # candidate ranges for the least mean square error, as shares of the full range
_TAIL = 1e-4  # share of values that the percentile method leaves out at either end
_TINY = float(np.finfo(np.float32).tiny)
_WEIGHT_ROWS = 4096  # channels whose candidates are compared at once, to bound memory


@dataclass
class Histogram:
    """Counts of a tensor's values between fixed ends."""

    low: float
    high: float
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, values: NDArray[np.floating]) -> None:
        """Count `values`, of any shape, all within the ends."""
        if self.high > self.low:
            # In double precision, since the ends may be a few float32 apart.
            self.counts += np.histogram(values.astype(np.float64), bins=_BINS, range=(self.low, self.high))[0]

    @property
    def centres(self) -> NDArray[np.float32]:
        """Middle of each bin."""
        edges = np.linspace(self.low, self.high, _BINS + 1)
        return ((edges[:-1] + edges[1:]) / 2).astype(np.float32)

    def quantiles(self, tail: float) -> tuple[float, float]:
        """Values that leave out a share `tail` of the counts at either end."""
        cumulative = np.cumsum(self.counts) / max(1, self.counts.sum())
        edges = np.linspace(self.low, self.high, _BINS + 1)
        first = int(np.searchsorted(cumulative, tail))
        last = int(np.searchsorted(cumulative, 1 - tail))
        return float(edges[min(first, _BINS - 1)]), float(edges[min(last + 1, _BINS)])


def activation_params(
    histogram: Histogram, form: NumberFormat, method: CalibrationMethod, *, symmetric: bool = False
) -> QuantParams:
    """Scale and zero point of an activation.

    Parameters
    ----------
    histogram : Histogram
        Values seen.
    form : NumberFormat
        Signed integer format of the tensor.
    method : CalibrationMethod
        How the range is chosen.
    symmetric : bool
        Zero point 0 instead of the affine one.
    """
    if method is CalibrationMethod.PERCENTILE:
        return _params(*histogram.quantiles(_TAIL), form, symmetric)
    if method is CalibrationMethod.MINMAX or histogram.low == histogram.high:  # one value is counted in no bin
        return _params(histogram.low, histogram.high, form, symmetric)
    centres, counts = histogram.centres, histogram.counts.astype(np.float64)
    low, high = integer_bounds(form)

    def error(share: float) -> float:
        params = _params(histogram.low * share, histogram.high * share, form, symmetric)
        difference = dequantize(quantize(centres, params, low, high), params).astype(np.float64) - centres
        return float(np.dot(counts, difference**2))

    share = _least(error, _SHRINK)
    return _params(histogram.low * share, histogram.high * share, form, symmetric)


def weight_params(weights: NDArray[np.floating], axis: int, form: NumberFormat, method: CalibrationMethod) -> QuantParams:
    """Symmetric scale of each output channel, so that the channel lies within ``±(2**(bits-1) - 1)``.

    Parameters
    ----------
    weights : ndarray
        Weights; channels along `axis`.
    axis : int
        Channel axis.
    form : NumberFormat
        Signed integer format.
    method : CalibrationMethod
        ``mse`` searches the least squared error per channel; the other two span the greatest magnitude, since weights
        have no outliers that a data set could add.
    """
    rows = np.moveaxis(np.asarray(weights, np.float32), axis, 0).reshape(weights.shape[axis], -1)
    limit = integer_bounds(form)[1]
    peak = np.abs(rows).max(axis=1).astype(np.float64)
    # An all-zero channel quantises to zeros under any scale; a larger one would cost the others multiplier bits.
    peak[peak == 0] = peak.max() or 1.0
    if method is not CalibrationMethod.MSE:
        return QuantParams(_exact(peak / limit), 0, axis)
    best = np.full(len(rows), np.inf)
    chosen = peak.copy()
    for start in range(0, len(rows), _WEIGHT_ROWS):
        block, span = rows[start : start + _WEIGHT_ROWS], peak[start : start + _WEIGHT_ROWS]
        for share in _SHRINK:
            beta = np.maximum(span * share / limit, _TINY).astype(np.float32)[:, None]
            error = ((np.clip(np.rint(block / beta), -limit, limit) * beta - block) ** 2).sum(axis=1)
            better = error < best[start : start + _WEIGHT_ROWS]
            best[start : start + _WEIGHT_ROWS][better] = error[better]
            chosen[start : start + _WEIGHT_ROWS][better] = (span * share)[better]
    return QuantParams(_exact(chosen / limit), 0, axis)


def _params(low: float, high: float, form: NumberFormat, symmetric: bool) -> QuantParams:
    """Parameters of the range widened to include 0, which padding and Relu need to be exact."""
    low, high = min(low, 0.0), max(high, 0.0)
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
