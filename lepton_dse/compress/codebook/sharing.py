"""Weights that share values: k-means over each layer's weights.

After S. Han, H. Mao and W. Dally, "Deep Compression", ICLR 2016. The weights of a layer that are not zero are grouped around at
most 2**b values, begun evenly spaced between the least and the greatest (their best start); zero is a value of its own, so that
a pruned network stays pruned. On one axis Lloyd's steps are exact and fast: sorted weights fall into runs, whose means are
differences of running sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph

__all__ = ["MOST_BITS", "Codebook", "cluster", "reread", "share", "shareable"]

MOST_BITS = 12
_STEPS = 300


@dataclass(frozen=True)
class Codebook:
    """The values that the weights of one tensor take.

    Parameters
    ----------
    values : ndarray of float32, shape (V,)
        Zero first, where any weight is zero; the others increase.
    indices : ndarray of uint16
        For each weight the number of its value; the shape of the weights.
    """

    values: NDArray[np.float32]
    indices: NDArray[np.uint16]

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or not len(self.values):
            raise LeptonError("a codebook without values")
        if self.indices.size and int(self.indices.max()) >= len(self.values):
            raise LeptonError(f"index {int(self.indices.max())} into a codebook of {len(self.values)} values")

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights themselves."""
        return self.values[self.indices]


def shareable(graph: Graph) -> tuple[str, ...]:
    """Names of the weights that can share values: those of convolutions and matrix products, in order of use."""
    contractions = (op for op in graph.ops if isinstance(op.attributes, ops.Conv | ops.MatMul))
    return tuple(dict.fromkeys(op.inputs[1] for op in contractions if op.inputs[1] in graph.constants))


def share(
    graph: Graph, bits: int | Mapping[str, int], *, importance: Mapping[str, NDArray[np.floating]] | None = None
) -> tuple[Graph, dict[str, Codebook]]:
    """The graph with shared weights, and the codebook of each.

    Parameters
    ----------
    graph : Graph
    bits : int or mapping of str to int
        At most 2**bits values other than zero a tensor, 1 to 12; of all weights, or by name.
    importance : mapping of str to ndarray, optional
        Weight of each weight's squared error, of its shape; all equal where there is none.

    Raises
    ------
    LeptonError
        If a name is no weight that can be shared, or a width lies outside 1 to 12.
    """
    names = shareable(graph)
    chosen = dict.fromkeys(names, bits) if isinstance(bits, int) else dict(bits)
    for name, width in chosen.items():
        if name not in names:
            raise LeptonError("is no weight of a convolution or a matrix product", where=name, fix=f"share {', '.join(names)}")
        if not 1 <= width <= MOST_BITS:
            raise LeptonError(f"a codebook of {width} bits", where=name, fix=f"use 1 to {MOST_BITS}")
    books = {}
    for name, width in chosen.items():
        weights = np.asarray(graph.constants[name], np.float32)
        matter = None if importance is None or name not in importance else np.asarray(importance[name], np.float64)
        books[name] = cluster(weights, 1 << width, matter)
    return graph.with_constants({name: book.weights for name, book in books.items()}), books


def reread(graph: Graph, codebooks: Mapping[str, Codebook]) -> dict[str, Codebook]:
    """The codebooks after training: the same indices into the values that the graph's weights have now.

    Raises
    ------
    LeptonError
        If weights that shared a value no longer do.
    """
    found = {}
    for name, book in codebooks.items():
        weights = np.asarray(graph.constants[name], np.float32)
        values = book.values.copy()
        values[book.indices.reshape(-1)] = weights.reshape(-1)
        found[name] = Codebook(values, book.indices)
        if not np.array_equal(found[name].weights, weights):
            raise LeptonError("weights that shared a value no longer do", where=name, fix="train with the codebooks")
    return found


def cluster(weights: NDArray[np.float32], count: int, importance: NDArray[np.float64] | None = None) -> Codebook:
    """At most `count` values for the weights that are not zero, and zero for those that are.

    Parameters
    ----------
    weights : ndarray of float32, any shape
    count : int
        Values other than zero.
    importance : ndarray of float64, same shape, optional
        Weight of each squared error; none may be negative.
    """
    flat = weights.reshape(-1)
    kept = flat[flat != 0]
    zero = np.zeros(1 if kept.size < flat.size or not kept.size else 0, np.float32)
    if not kept.size:
        return Codebook(zero, np.zeros(weights.shape, np.uint16))
    order = np.argsort(kept, kind="stable")
    ordered = kept[order].astype(np.float64)
    matter = np.ones(len(ordered)) if importance is None else importance.reshape(-1)[flat != 0][order] + 1e-12
    different = np.unique(ordered)
    means = different if len(different) <= count else _lloyd(ordered, matter, count)
    values = np.unique(means.astype(np.float32))
    values = values[values != 0] if (values != 0).any() else values
    nearest = np.searchsorted((values[1:].astype(np.float64) + values[:-1]) / 2, kept.astype(np.float64))
    indices = np.zeros(flat.size, np.uint16)
    indices[flat != 0] = nearest + len(zero)
    return Codebook(np.concatenate([zero, values]), indices.reshape(weights.shape))


def _lloyd(ordered: NDArray[np.float64], matter: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Means of `count` runs of sorted values, from even spacing until they settle."""
    mass, moment = (np.concatenate([[0.0], np.cumsum(part)]) for part in (matter, matter * ordered))
    means = np.linspace(ordered[0], ordered[-1], count)
    for _ in range(_STEPS):
        ends = np.concatenate([[0], np.searchsorted(ordered, (means[1:] + means[:-1]) / 2), [len(ordered)]])
        held = np.diff(mass[ends])
        moved = np.where(held > 0, np.diff(moment[ends]) / np.where(held > 0, held, 1.0), means)
        if np.array_equal(moved, means):
            break
        means = np.sort(moved)
    return means
