"""Weights that become exact zeros: single ones, n of m neighbours, or blocks. A zero is its own mask."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.prune.scores.protocol import WeightScores
from lepton_dse.compress.prune.scoring import ALREADY, lowest
from lepton_dse.compress.prune.settings import LEAST_KEPT, Kind, Scope, Settings, share_of
from lepton_dse.compress.prune.sites import Site, sites
from lepton_dse.ir.graph import Graph

__all__ = ["block_scores", "refused_shape", "zeroed"]

Values = NDArray[np.float64]
Chosen = NDArray[np.bool_]


def zeroed(graph: Graph, settings: Settings, scores: WeightScores) -> Graph:
    """`graph` with the weights of the lowest scores at zero.

    Parameters
    ----------
    graph : Graph
    settings : Settings
        Of any kind but channels.
    scores : callable
        Scores of a constant's weights.
    """
    places = [site for site in sites(graph) if not refused_shape(site, settings)]
    if settings.kind is Kind.N_OF_M:
        chosen = {site.name: _pattern(site, scores(site.name), settings.n, settings.m) for site in places}
    elif settings.kind is Kind.BLOCK:
        chosen = _by_block(places, settings, scores)
    else:
        chosen = _pick({site.name: scores(site.name) for site in places}, settings)
    changed = {name: _with_zeros(graph.constants[name], mask) for name, mask in chosen.items() if mask.any()}
    return graph.with_constants(changed)


def refused_shape(site: Site, settings: Settings) -> str:
    """Why weights of this shape cannot take the pattern; empty if they can."""
    if settings.kind is Kind.N_OF_M:
        summed = site.shape[1] if site.is_conv else site.shape[0]
        if summed % settings.m:
            return f"{settings.m} does not divide the {summed} input channels that each output channel sums"
    if settings.kind is Kind.BLOCK:
        rows = site.shape[0] if site.is_conv else site.shape[1]
        columns = math.prod(site.shape) // rows
        if rows <= settings.block[0] and columns <= settings.block[1]:
            return f"one block covers its {rows} x {columns} weights"
    return ""


def _pattern(site: Site, scores: Values, n: int, m: int) -> Chosen:
    """All but the `n` best of every `m` neighbours along the input channels, of equals the first go."""
    runs = site.summed_last(scores)
    order = np.argsort(runs.reshape(-1, m), axis=1, kind="stable")
    chosen = np.zeros(order.shape, np.bool_)
    np.put_along_axis(chosen, order[:, : m - n], True, axis=1)
    return site.from_summed_last(chosen.reshape(runs.shape))


def _by_block(places: list[Site], settings: Settings, scores: WeightScores) -> dict[str, Chosen]:
    chosen = _pick({site.name: block_scores(site.rows(scores(site.name)), settings.block) for site in places}, settings)
    found = {}
    for site in places:
        rows = site.shape[0] if site.is_conv else site.shape[1]
        grown = np.repeat(np.repeat(chosen[site.name], settings.block[0], axis=0), settings.block[1], axis=1)
        found[site.name] = site.from_rows(grown[:rows, : math.prod(site.shape) // rows])
    return found


def block_scores(rows: Values, block: tuple[int, int]) -> Values:
    """Mean score of each block, those at the lower and right edges being what is left of the matrix; zeros throughout come first.

    Parameters
    ----------
    rows : ndarray of float64, shape (M, K)
        A score a weight.
    block : (int, int)

    Returns
    -------
    ndarray of float64, shape (ceil(M / rows), ceil(K / columns))
    """
    starts = [np.arange(0, extent, size) for extent, size in zip(rows.shape, block, strict=True)]
    sizes = [np.diff(start, append=extent) for start, extent in zip(starts, rows.shape, strict=True)]

    def total(values: Values) -> Values:
        return np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)

    means = total(np.maximum(rows, 0.0)) / np.outer(*sizes)
    return np.where(total((rows != ALREADY).astype(np.float64)) == 0, ALREADY, means)


def _pick(scores: Mapping[str, Values], settings: Settings) -> dict[str, Chosen]:
    """The lowest share of every layer, or of all layers together with a least share of each kept."""
    if settings.scope is Scope.LAYER:
        return {name: lowest(values, share_of(settings.ratio, values.size)) for name, values in scores.items()}
    kept = min(LEAST_KEPT, 1 - settings.ratio)
    open_to_all = {name: lowest(values, share_of(1 - kept, values.size)) for name, values in scores.items()}
    candidates = [np.where(open_to_all[name], values, np.inf).reshape(-1) for name, values in scores.items()]
    if not candidates:
        return {}
    total = share_of(settings.ratio, sum(values.size for values in candidates))
    available = sum(int(np.count_nonzero(mask)) for mask in open_to_all.values())
    picked = lowest(np.concatenate(candidates), min(total, available))
    ends = np.cumsum([values.size for values in candidates])[:-1]
    parts = zip(scores.items(), np.split(picked, ends), strict=True)
    return {name: part.reshape(values.shape) for (name, values), part in parts}


def _with_zeros(value: NDArray[np.generic], mask: Chosen) -> NDArray[np.generic]:
    changed = np.array(value)
    changed[mask] = 0
    return changed
