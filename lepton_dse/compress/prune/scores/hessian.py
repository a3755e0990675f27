"""Optimal Brain Damage, layer by layer: what the squared error of a layer's output gains when a weight becomes zero.

Y. LeCun, J. Denker and S. Solla, "Optimal Brain Damage", NIPS 1989, rank a weight by ``w^2 H_kk / 2`` with H the Hessian of the
loss. Here the loss is the mean squared change of the layer's own output over the patches x that it multiplies with, as in B.
Hassibi and D. Stork, "Optimal Brain Surgeon", NIPS 1992, and in GPTQ:

    E = mean of (delta w . x)^2,      H = 2 mean of x x',      w_k^2 H_kk / 2 = w_k^2 * mean of x_k^2

which for a single weight is exactly the rise of E.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune.scores.protocol import Values, WeightScores, samples
from lepton_dse.compress.prune.sites import Site, contractions, sites
from lepton_dse.compress.walk import Change, Visit, patches, samples_within, walk
from lepton_dse.data import Dataset
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph

__all__ = ["SCORE", "hessian"]

_SAMPLES = 64
_PATCHES = 4096  # most patches taken from one pass through a layer
_BYTES = 1 << 28


def hessian(graph: Graph, data: Dataset | None) -> WeightScores:
    """``w^2 H_kk / 2`` over the first 64 samples; several readers of a constant add up.

    Raises
    ------
    InvalidDataError
        If there are no samples or they do not fit.
    """
    x = samples(graph, data, "hessian").x[:_SAMPLES]
    places = {site.name: site for site in sites(graph)}
    readers = {op.name for op in contractions(graph) if op.inputs[1] in places}
    squares: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}

    def visit(seen: Visit) -> Change:
        if seen.op.name in readers:
            parts = patches(seen.op, seen.exact, _PATCHES)
            power = np.stack([np.square(part, dtype=np.float64).sum(axis=0) for part in parts])
            squares[seen.op.name] = squares.get(seen.op.name, np.zeros(power.shape)) + power
            counts[seen.op.name] = counts.get(seen.op.name, 0) + len(parts[0])
        return {}

    step = samples_within(graph, len(x), _BYTES)
    for start in range(0, len(x), step):
        walk(graph, {}, x[start : start + step], visit)

    def scores(name: str) -> Values:
        powers = [squares[op.name] / counts[op.name] for op in contractions(graph) if op.inputs[1] == name and op.name in squares]
        return np.square(np.asarray(graph.constants[name], np.float64)) * sum(_spread(places[name], power) for power in powers)

    return scores


def _spread(site: Site, power: NDArray[np.float64]) -> Values:
    """Mean squares of a layer's inputs, shape (groups, K), as one a weight in the weights' own shape."""
    if not isinstance(site.op.attributes, ops.Conv):
        return np.broadcast_to(power[0][:, None], site.shape)
    return np.repeat(power, site.shape[0] // len(power), axis=0).reshape(site.shape)


SCORE = hessian
