"""What the weights of each layer are multiplied with, over samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune.scores.protocol import Values, WeightScores, samples
from lepton_dse.compress.prune.sites import Site, contractions, sites
from lepton_dse.compress.walk import Change, Visit, patches, samples_within, walk
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph

__all__ = ["Moments", "moments", "spread"]

_PATCHES = 4096  # most patches taken from one pass through a layer
_BYTES = 1 << 28


@dataclass(frozen=True)
class Moments:
    """Of the inputs that one operation's weights are multiplied with.

    Parameters
    ----------
    means, squares : ndarray of float64, shape (groups, K)
        Mean of each input, and of its square.
    """

    means: Values
    squares: Values

    @property
    def variances(self) -> Values:
        """Mean squared distance from the mean."""
        return np.maximum(self.squares - self.means**2, 0.0)


def moments(graph: Graph, data: Dataset | None, score: str, most: int) -> dict[str, Moments]:
    """Moments by the name of the operation, over the first `most` samples.

    Raises
    ------
    InvalidDataError
        If there are no samples or they do not fit.
    """
    x = samples(graph, data, score).x[:most]
    places = {site.name for site in sites(graph)}
    readers = {op.name for op in contractions(graph) if op.inputs[1] in places}
    totals: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}

    def visit(seen: Visit) -> Change:
        if seen.op.name in readers:
            parts = patches(seen.op, seen.exact, _PATCHES)
            sums = np.stack(
                [[part.sum(axis=0, dtype=np.float64), np.square(part, dtype=np.float64).sum(axis=0)] for part in parts]
            )
            totals[seen.op.name] = totals.get(seen.op.name, np.zeros(sums.shape)) + sums
            counts[seen.op.name] = counts.get(seen.op.name, 0) + len(parts[0])
        return {}

    step = samples_within(graph, len(x), _BYTES)
    for start in range(0, len(x), step):
        walk(graph, {}, x[start : start + step], visit)
    return {name: Moments(total[:, 0] / counts[name], total[:, 1] / counts[name]) for name, total in totals.items()}


def spread(graph: Graph, powers: Mapping[str, Values]) -> WeightScores:
    """Each weight squared times a number of its input; several readers of a constant add up.

    Parameters
    ----------
    graph : Graph
    powers : mapping of str to ndarray of float64, shape (groups, K)
        By the name of the operation.
    """
    places = {site.name: site for site in sites(graph)}

    def scores(name: str) -> Values:
        read_by = [op.name for op in contractions(graph) if op.inputs[1] == name and op.name in powers]
        return np.square(np.asarray(graph.constants[name], np.float64)) * sum(
            _of_weights(places[name], powers[op]) for op in read_by
        )

    return scores


def _of_weights(site: Site, power: Values) -> Values:
    """A number of each input, shape (groups, K), as one a weight in the weights' own shape."""
    if not isinstance(site.op.attributes, ops.Conv):
        return np.broadcast_to(power[0][:, None], site.shape)
    return np.repeat(power, site.shape[0] // len(power), axis=0).reshape(site.shape)
