"""What a metric sees of a network, what it answers, and how it is found by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lepton_dse import registry
from lepton_dse.data import Interval
from lepton_dse.errors import InvalidDataError, LeptonError

__all__ = ["Labels", "Metric", "MetricLike", "Outputs", "Rows", "UserMetric", "chosen_classes", "finite_rows", "metric_named"]

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]
UserMetric = Callable[[NDArray[np.generic], Labels], float]
"""A figure of scores, shape (N, ...), and labels, shape (N,), for any selection of the samples."""


@dataclass(frozen=True)
class Outputs:
    """A network's outputs for N samples, and what they are held against.

    Parameters
    ----------
    scores : ndarray, shape (N, ...)
        Reals, or integer indices of chosen classes of shape (N,) or (N, 1).
    labels : ndarray of int64, shape (N,), optional
        Class of each sample.
    reference : ndarray, shape (N, ...), optional
        The float network's outputs for the same samples.
    probabilities : bool
        Whether a Softmax made each row of the scores add up to 1.

    Raises
    ------
    InvalidDataError
        If an output is not a number, or the arrays differ in their number of samples.
    """

    scores: NDArray[np.generic]
    labels: Labels | None = None
    reference: NDArray[np.generic] | None = None
    probabilities: bool = False

    def __post_init__(self) -> None:
        for what, values in (("outputs", self.scores), ("reference", self.reference)):
            if values is not None and values.dtype.kind not in "iub":
                wrong = np.isnan(values.reshape(len(values), -1).astype(np.float64)).any(axis=1)
                if wrong.any():
                    found = f"NaN for {np.count_nonzero(wrong):,} of {len(values):,} samples, the first of them {wrong.argmax()}"
                    raise InvalidDataError(found, where=what, fix="look for overflow, a division by zero or damaged weights")
        for what, other in (("labels", self.labels), ("reference", self.reference)):
            if other is not None and len(other) != len(self.scores):
                raise InvalidDataError(f"{len(other):,} for {len(self.scores):,} samples", where=what, fix="give one a sample")

    def rows(self) -> Rows:
        """The scores as one row a sample.

        Raises
        ------
        InvalidDataError
            If a score is infinite.
        """
        return finite_rows(self.scores, "outputs")

    def reference_rows(self) -> Rows:
        """The float network's scores as one row a sample; errors as for :meth:`rows`, or if there are none."""
        if self.reference is None:
            raise InvalidDataError(
                "are not given", where="the float network's outputs", fix="name the float network as reference"
            )
        return finite_rows(self.reference, "reference")

    def checked_labels(self, classes: int | None = None) -> Labels:
        """The labels, each of which names one of the classes.

        Raises
        ------
        InvalidDataError
            If there are none, or one is below 0 or too large.
        """
        if self.labels is None:
            raise InvalidDataError("has no labels", where="y", fix="add an integer array 'y' with one class a sample")
        most = int(self.labels.max())
        if int(self.labels.min()) < 0 or (classes is not None and most >= classes):
            wrong = min(int(self.labels.min()), 0) or most
            fix = "use classes from 0" + ("" if classes is None else f" to {classes - 1}")
            raise InvalidDataError(f"a label of {wrong}", where="y", fix=fix)
        return self.labels


@dataclass(frozen=True)
class Metric:
    """A figure of a network's outputs.

    Parameters
    ----------
    name : str
    title : str
        Heading of a table's column.
    measure : callable
        The figure with its 95% interval.
    lost : callable
        Of the outputs before and after a change, on the same samples: what the figure lost, with the 95% interval of the
        difference of matched samples.
    labels, reference, scores : bool
        Whether it needs labels, the float network's outputs, and scores rather than chosen classes.
    share : bool
        Whether the figure is a share of the samples.
    """

    name: str
    title: str
    measure: Callable[[Outputs], Interval]
    lost: Callable[[Outputs, Outputs], Interval]
    labels: bool = True
    reference: bool = False
    scores: bool = False
    share: bool = False


MetricLike: TypeAlias = str | Metric | UserMetric
"""How a metric can be named: see :func:`~lepton_dse.reference.metrics.bootstrap.metric_of`."""


def finite_rows(values: NDArray[np.generic], where: str) -> Rows:
    """Values as one row a sample in float64.

    Raises
    ------
    InvalidDataError
        If one is infinite.
    """
    rows = np.asarray(values.reshape(len(values), -1), np.float64)
    if not np.isfinite(rows).all():
        raise InvalidDataError("infinite values", where=where, fix="use a format with a wider range, or scale the weights")
    return rows


def chosen_classes(scores: NDArray[np.generic]) -> tuple[Labels, int | None]:
    """The class that each sample's outputs choose, ties to the first, and how many classes there are where scores tell.

    Raises
    ------
    InvalidDataError
        If there is one real score a sample, from which no class follows without a threshold.
    """
    flat = scores.reshape(len(scores), -1)
    if flat.shape[1] > 1:
        return np.asarray(flat.argmax(1), np.int64), flat.shape[1]
    if flat.dtype.kind not in "iu":
        raise InvalidDataError(
            "one real score a sample names no class", where="outputs", fix="use the metric auc, or a network with a score a class"
        )
    return np.asarray(flat[:, 0], np.int64), None


def metric_named(wanted: str) -> Metric:
    """A metric from its name, with a number behind it where it takes one: ``top5``.

    Raises
    ------
    LeptonError
        If the name is not known, or lacks its number or has one too many.
    """
    known = registry.names(registry.Group.METRICS)
    if wanted in known:
        found = registry.load(registry.Group.METRICS, wanted)
        if not isinstance(found, Metric):
            raise LeptonError(f"the metric '{wanted}' needs a number", fix=f"write it behind the name: {wanted}5")
        return found
    named = re.fullmatch(r"(.*\D)([1-9]\d{0,8})", wanted)
    if named is not None and named[1] in known:
        family = registry.load(registry.Group.METRICS, named[1])
        if not isinstance(family, Metric):
            return _checked(family(int(named[2])))
    raise LeptonError(f"no metric '{wanted}'", fix=f"known: {', '.join(known)}; 'top' is followed by a number, as in top5")


def _checked(found: object) -> Metric:
    if not isinstance(found, Metric):
        raise LeptonError(f"a metric's entry point gave a {type(found).__name__}", fix="return a Metric")
    return found
