"""Intervals of any figure of samples, by drawing samples again; and metrics that are a user's function.

The percentile interval (B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3): of B selections of N
samples, drawn with replacement, the figure is computed anew; the interval reaches from the 2.5% to the 97.5% quantile of those
figures. B = 1,000, as the authors advise for percentiles, and the draws are seeded: the same samples give the same interval.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Interval
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.reference.metrics.protocol import Labels, Metric, MetricLike, Outputs, UserMetric, metric_named

__all__ = ["RESAMPLES", "metric_of", "percentile_interval", "user_metric"]

RESAMPLES = 1_000
_SEED = 0

Picked = NDArray[np.intp]


def percentile_interval(figure: Callable[[Picked], float], count: int) -> Interval:
    """A figure of all samples, and its bootstrap interval.

    Parameters
    ----------
    figure : callable
        Of the samples at the given indices.
    count : int
        How many samples there are.

    Raises
    ------
    InvalidDataError
        If there is only one sample.
    """
    if count < 2:
        raise InvalidDataError("an interval of one sample", where="x", fix="give two samples or more")
    value, generator = figure(np.arange(count)), np.random.default_rng(_SEED)
    drawn = [figure(generator.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high), count)


def metric_of(wanted: MetricLike) -> Metric:
    """A metric as it can be given: by name, as it is, or as a user's function.

    Raises
    ------
    LeptonError
        If the name is not known, lacks its number or has one too many, or what is given is no function.
    """
    if isinstance(wanted, Metric):
        return wanted
    return metric_named(wanted) if isinstance(wanted, str) else user_metric(wanted)


def user_metric(function: UserMetric) -> Metric:
    """A metric that is a user's function of scores, shape (N, ...), and labels, shape (N,).

    It is called with the network's outputs as they are, and with selections of them for the interval.

    Raises
    ------
    LeptonError
        If it is no function.
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if not callable(function):
        raise LeptonError(f"{function!r} is no metric", fix="give a name such as 'top1', or a function of scores and labels")

    def call(scores: NDArray[np.generic], labels: Labels) -> float:
        try:
            value = function(scores, labels)
        except Exception as error:  # whatever a user's code may raise
            raise LeptonError(f"raised {type(error).__name__}: {error}", where=f"metric {name}") from error
        whole = value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value
        if isinstance(whole, bool) or not isinstance(whole, numbers.Real) or not math.isfinite(whole):
            text = repr(whole) if isinstance(whole, bool | numbers.Real) else f"a {type(value).__name__}"
            fix = "return one finite number for any selection of the samples, one that lacks a class too"
            raise LeptonError(f"gave {text}", where=f"metric {name}", fix=fix)
        return float(whole)

    def measure(outputs: Outputs) -> Interval:
        scores, labels = outputs.scores, outputs.checked_labels()
        return percentile_interval(lambda picked: call(scores[picked], labels[picked]), len(scores))

    def lost(before: Outputs, after: Outputs) -> Interval:
        labels = before.checked_labels()

        def difference(picked: Picked) -> float:
            first, second = (call(outputs.scores[picked], labels[picked]) for outputs in (before, after))
            return first - second

        return percentile_interval(difference, len(labels))

    return Metric(name, name, measure, lost, scores=True)
