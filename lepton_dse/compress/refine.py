"""Better integers than the nearest, and biases that make up for what rounding shifts, layer after layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from lepton_dse.bundle import Scale
from lepton_dse.compress.ranges import rounded
from lepton_dse.compress.rounding.protocol import Layer, Rounding
from lepton_dse.compress.walk import Change, Visit, channel_rows, patches, rows_to_weights, samples_within, walk
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.quantize import dequantize, integer_bounds

__all__ = ["refine", "refined_alone"]

_LEAST_PATCHES, _MOST_PATCHES, _PATCHES_OF_WEIGHT = 4096, 32768, 16


def refine(
    graph: Graph,
    scales: Mapping[str, Scale],
    x: NDArray[np.float32],
    *,
    rounding: Rounding,
    correct_bias: bool = False,
    memory_bytes: int = 1 << 30,
    progress: Callable[[str], None] = lambda text: None,
) -> Graph:
    """The graph with weights on their grid, chosen for the layers' outputs, and biases corrected.

    Parameters
    ----------
    graph : Graph
        Float graph.
    scales : mapping of str to Scale
        As :func:`lepton_dse.compress.quantize.quantize` found them.
    x : ndarray of float32, shape (N, ...)
        Calibration samples; as many are used as fit into the memory.
    rounding : callable
        One of the registered roundings; see :mod:`lepton_dse.compress.rounding.protocol`.
    correct_bias : bool
        Shift each bias so that every channel keeps its mean over the samples (M. Nagel et al., "Data-Free Quantization through
        Weight Equalization and Bias Correction", ICCV 2019, with measured means).
    memory_bytes : int
        For both networks' live tensors.
    progress : callable
        Told the operation that is about to be rounded.

    Returns
    -------
    Graph
        Quantising its weights again gives exactly the chosen integers.
    """
    done: set[str] = set()

    def visit(visited: Visit) -> Change:
        op = visited.op
        if not _refinable(graph, scales, op) or op.inputs[1] in done:
            return {}
        progress(op.name)
        done.add(op.inputs[1])
        return _refined(graph, scales[op.inputs[1]], visited, rounding, correct_bias=correct_bias)

    return walk(graph, scales, x[: samples_within(graph, len(x), memory_bytes)], visit)


def refined_alone(
    graph: Graph,
    scales: Mapping[str, Scale],
    x: NDArray[np.float32],
    *,
    rounding: Rounding,
    correct_bias: bool = False,
    memory_bytes: int = 1 << 30,
    source: Graph | None = None,
) -> Change:
    """Every layer's new constants as if it were the only one that is rounded: its inputs are the float network's.

    Parameters
    ----------
    graph : Graph
        Float graph.
    scales : mapping of str to Scale
        Of the weights to round.
    x : ndarray of float32, shape (N, ...)
        Calibration samples; as many are used as fit into the memory.
    rounding, correct_bias, memory_bytes
        As of :func:`refine`.
    source : Graph, optional
        Where the weights to round are from, for example the graph pruned; `graph` by default.

    Returns
    -------
    dict of str to ndarray
        Weights, and biases where they are corrected.
    """
    found: Change = {}

    def visit(visited: Visit) -> Change:
        op = visited.op
        if _refinable(graph, scales, op) and op.inputs[1] not in found:
            found.update(_refined(source or graph, scales[op.inputs[1]], visited, rounding, correct_bias=correct_bias))
        return {}

    walk(graph, {}, x[: samples_within(graph, len(x), memory_bytes)], visit)
    return found


def _refinable(graph: Graph, scales: Mapping[str, Scale], op: Op) -> bool:
    if not isinstance(op.attributes, ops.Conv | ops.MatMul) or op.inputs[1] not in scales:
        return False
    return isinstance(op.attributes, ops.Conv) or len(graph.tensors[op.inputs[1]].shape) == 2


def _refined(graph: Graph, scale: Scale, visited: Visit, rounding: Rounding, *, correct_bias: bool) -> Change:
    op = visited.op
    weights = np.asarray(graph.constants[op.inputs[1]], np.float32)
    rows = channel_rows(op, weights)
    most = min(max(_PATCHES_OF_WEIGHT * rows.shape[1], _LEAST_PATCHES), _MOST_PATCHES)
    exact, given = (patches(op, value, most) for value in (visited.exact, visited.given))
    if scale.format.is_float:
        changed = channel_rows(op, rounded(weights, scale.params, scale.format))
    else:
        beta = channel_rows(op, np.broadcast_to(scale.params.scale(weights.shape), weights.shape))
        limit = integer_bounds(scale.format)[1]
        per_group = len(rows) // len(exact)
        integers = np.concatenate(
            [
                rounding(_layer(rows[part], beta[part], limit, x, y))
                for part, x, y in zip(_parts(len(rows), per_group), exact, given, strict=True)
            ]
        )
        stored = rows_to_weights(op, integers, weights.shape)
        changed = channel_rows(op, dequantize(stored.astype(np.int64), scale.params))
    found: Change = {op.inputs[1]: rows_to_weights(op, changed, weights.shape).astype(np.float32)}
    if correct_bias and len(op.inputs) > 2:
        means = [np.stack([part.mean(axis=0, dtype=np.float64) for part in side]) for side in (exact, given)]
        of_row = np.repeat(np.arange(len(exact)), len(rows) // len(exact))
        shift = np.einsum("mk,mk->m", rows, means[0][of_row]) - np.einsum("mk,mk->m", changed, means[1][of_row])
        bias = np.asarray(graph.constants[op.inputs[2]], np.float64)
        found[op.inputs[2]] = (bias + shift.reshape(bias.shape)).astype(np.float32)
    return found


def _parts(rows: int, per_group: int) -> list[slice]:
    return [slice(start, start + per_group) for start in range(0, rows, per_group)]


def _layer(
    rows: NDArray[np.float64], beta: NDArray[np.float64], limit: int, exact: NDArray[np.float32], given: NDArray[np.float32]
) -> Layer:
    count = len(exact)
    gram = (given.T @ given).astype(np.float64) / count
    cross = (given.T @ exact).astype(np.float64) / count
    return Layer(rows, beta, limit, (gram + gram.T) / 2, cross)
