"""The float network and the compressed one, side by side over the calibration samples, operation by operation.

Every method that looks at a layer's output needs its inputs twice: as the float network gives them, and as the layers
compressed so far give them. One walk holds both, no longer than their last reader needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.bundle import Scale
from lepton_dse.compress.groups import stored_scale
from lepton_dse.compress.ranges import rounded
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.semantics import evaluate
from lepton_dse.ir.semantics.windows import windows
from lepton_dse.reference.engine import as_fed

__all__ = ["Change", "Visit", "channel_rows", "patches", "rows_to_weights", "samples_within", "walk"]

Array = NDArray[np.float32]
Change = dict[str, NDArray[np.generic]]
"""New values of constants, by name."""


@dataclass(frozen=True)
class Visit:
    """One operation as the walk comes to it.

    Parameters
    ----------
    op : Op
    exact : ndarray
        Its first input in the float network.
    given : ndarray
        The same as the compressed network gives it.
    """

    op: Op
    exact: Array
    given: Array


def walk(graph: Graph, scales: Mapping[str, Scale], x: Array, visit: Callable[[Visit], Change]) -> Graph:
    """Run both networks; `visit` says which constants of the compressed one change before each operation.

    Parameters
    ----------
    graph : Graph
        Float graph of any batch.
    scales : mapping of str to Scale
        Formats of the tensors that the compressed network stores.
    x : ndarray of float32, shape (N, ...)
        Samples.
    visit : callable
        Called for every operation in order of computation; what it returns is in force from that operation on.

    Returns
    -------
    Graph
        `graph` with the changed constants.
    """
    whole = graph.with_batch(len(x))
    name = whole.inputs[0]
    fed = as_fed(x, whole.tensors[name])
    exact: dict[str, NDArray[np.generic]] = {**whole.constants, name: fed}
    given: dict[str, NDArray[np.generic]] = {**whole.constants, name: _stored(whole, scales, name, fed)}
    for name in whole.constants:
        given[name] = _stored(whole, scales, name, given[name])
    remaining = {name: len(whole.consumers(name)) for name in whole.tensors}
    changed: Change = {}
    for op in whole.ops:
        first = op.inputs[0]
        found = visit(Visit(op, np.asarray(exact[first], np.float32), np.asarray(given[first], np.float32)))
        changed.update(found)
        for name, value in found.items():
            given[name] = _stored(whole, scales, name, value)
        tensors = [whole.tensors[name] for name in op.inputs]
        output = whole.tensors[op.output]
        exact[op.output] = evaluate(op, [exact[name] for name in op.inputs], output, tensors)
        value = evaluate(op, [given[name] for name in op.inputs], output, tensors)
        given[op.output] = _stored(whole, scales, op.output, value)
        for name in dict.fromkeys(op.inputs):
            remaining[name] -= 1
            if remaining[name] == 0:
                del exact[name], given[name]
    return graph.with_constants(changed)


def _stored(graph: Graph, scales: Mapping[str, Scale], name: str, value: NDArray[np.generic]) -> NDArray[np.generic]:
    """What reading a tensor gives after it was stored in its format; tensors without one stay as they are."""
    scale = stored_scale(graph, scales, name)
    return value if scale is None else rounded(np.asarray(value, np.float32), scale.params, scale.format)


def samples_within(graph: Graph, count: int, limit_bytes: int) -> int:
    """How many of `count` samples a walk may hold at once, so that the tensors alive together stay under `limit_bytes`."""
    single = graph.with_batch(1)
    remaining = {name: len(single.consumers(name)) for name in single.tensors}
    alive = single.tensors[single.inputs[0]].elements
    peak = alive
    for op in single.ops:
        alive += single.tensors[op.output].elements
        peak = max(peak, alive)
        for name in dict.fromkeys(op.inputs):
            remaining[name] -= 1
            if remaining[name] == 0 and name not in single.constants:
                alive -= single.tensors[name].elements
    return max(1, min(count, limit_bytes // max(1, 2 * 4 * peak)))


def patches(op: Op, x: Array, most: int) -> list[NDArray[np.float32]]:
    """The vectors that a contraction multiplies its channels with, one array of shape (P, K) per group of a convolution.

    Parameters
    ----------
    op : Op
        A Conv, or a MatMul with a weight of two axes.
    x : ndarray
        Its input.
    most : int
        Vectors to take at most, evenly spread.
    """
    if not isinstance(op.attributes, ops.Conv):
        rows = x.reshape(-1, x.shape[-1])
        return [rows[_spread(len(rows), most)]]
    window, groups = op.attributes.window, op.attributes.groups
    axes = len(window.kernel)
    taps = np.moveaxis(windows(x, window, 0.0), 1, 1 + axes)  # (N, *T, C, *K)
    places = taps.shape[: 1 + axes]
    picked = taps[np.unravel_index(_spread(math.prod(places), most), places)]
    return [part.reshape(len(picked), -1) for part in np.split(picked, groups, axis=1)]


def _spread(count: int, most: int) -> NDArray[np.intp]:
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.intp)


def channel_rows(op: Op, value: NDArray[np.generic]) -> NDArray[np.float64]:
    """Weights of a contraction as rows, a channel each, shape (M, K)."""
    rows = value.reshape(len(value), -1) if isinstance(op.attributes, ops.Conv) else value.T
    return np.ascontiguousarray(rows, np.float64)


def rows_to_weights(op: Op, rows: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The inverse of :func:`channel_rows`."""
    return rows.reshape(shape) if isinstance(op.attributes, ops.Conv) else np.ascontiguousarray(rows.T)
