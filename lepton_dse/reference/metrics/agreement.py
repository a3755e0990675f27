"""Share of samples for which a network chooses the float network's class.

Interval: Wilson's score interval (E. B. Wilson, JASA 22, 1927).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.data import Interval
from lepton_dse.errors import InvalidDataError
from lepton_dse.reference.metrics.proportion import matched_loss, wilson
from lepton_dse.reference.metrics.protocol import Metric, Outputs, chosen_classes

__all__ = ["METRIC"]


def _hits(outputs: Outputs) -> NDArray[np.bool_]:
    if outputs.reference is None:
        raise InvalidDataError("are not given", where="the float network's outputs", fix="name the float network as reference")
    (own, classes), (exact, others) = chosen_classes(outputs.scores), chosen_classes(outputs.reference)
    if classes is not None and others is not None and classes != others:
        raise InvalidDataError(
            f"{others} scores a sample, the network gives {classes}", where="reference", fix="name its own float network"
        )
    return np.equal(own, exact)


def _measure(outputs: Outputs) -> Interval:
    hits = _hits(outputs)
    return wilson(int(np.count_nonzero(hits)), len(hits))


def _lost(before: Outputs, after: Outputs) -> Interval:
    return matched_loss(_hits(before), _hits(after))


METRIC = Metric("agreement", "agreement", _measure, _lost, labels=False, reference=True, share=True)
