"""Moving magnitude between neighbouring layers, which leaves the function of the network as it is.

Between two contractions joined by operations f with ``f(x / s) = f(x) / s`` for every positive s of a channel, the outputs of
the first may be divided by s, channel by channel, if the second multiplies its weights of those channels by s. What s is chosen
for:

* cross-layer equalisation: both layers' weights get the same range in every channel, ``s_i = sqrt(r1_i / r2_i)`` with r the
  greatest magnitude (M. Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction", ICCV 2019);
* SmoothQuant: outliers of an activation move into the weights that read it, ``s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)`` (G.
  Xiao et al., "SmoothQuant", ICML 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.reference.engine import steps

__all__ = ["Pair", "equalize", "pairs", "smooth"]

_ROUNDS = 40
_SETTLED = 1e-3  # greatest change of a scale, in logarithms, at which equalisation ends
_SAMPLES = 64

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Two contractions between which magnitude can move.

    Parameters
    ----------
    first, second : Op
    repeat : int
        Consecutive inputs of `second` that one channel of `first` became by flattening.
    """

    first: Op
    second: Op
    repeat: int


def pairs(graph: Graph) -> tuple[Pair, ...]:
    """All pairs of neighbours, in order of computation.

    Between them stand only operations that are linear under a positive factor of a channel: Relu, LeakyRelu, pools, flattening. A
    Clip with a finite bound above (Relu6) is not, nor is a tensor that anything else reads.
    """
    found = []
    for op in graph.ops:
        if not _own_weights(graph, op):
            continue
        reached = _next(graph, op)
        if reached is not None:
            found.append(reached)
    return tuple(found)


def equalize(graph: Graph) -> Graph:
    """Equal weight ranges on both sides of every pair, repeated until chains of pairs settle; the function stays the same."""
    found = pairs(graph)
    for _ in range(_ROUNDS):
        moved = 0.0
        for pair in found:
            ranges = [_peaks(graph, pair, side) for side in (0, 1)]
            usable = (ranges[0] > 0) & (ranges[1] > 0)
            scale = np.where(usable, np.sqrt(ranges[0] / np.where(usable, ranges[1], 1.0)), 1.0)
            graph = _move(graph, pair, np.where(usable, scale, 1.0))
            moved = max(moved, float(np.abs(np.log(scale)).max(initial=0.0)))
        if moved < _SETTLED:
            break
    return graph


def smooth(graph: Graph, x: NDArray[np.float32], *, alpha: float = 0.5) -> Graph:
    """Outliers of activations moved into the weights that read them; the function stays the same.

    Parameters
    ----------
    graph : Graph
    x : ndarray of float32, shape (N, ...)
        Calibration samples; the first 64 are used.
    alpha : float
        How far: 0 moves nothing but weights, 1 makes all channels of an activation equally large.

    Raises
    ------
    LeptonError
        If `alpha` lies outside 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise LeptonError(f"an alpha of {alpha:g}", fix="use 0 to 1")
    found = {pair.second.inputs[0]: pair for pair in pairs(graph)}
    batch = graph.with_batch(min(len(x), _SAMPLES))
    peaks: dict[str, Vector] = {}
    for name, value in steps(batch, {batch.inputs[0]: x[: batch.batch]}):
        if name in found:
            channels = np.moveaxis(np.abs(np.asarray(value, np.float64)), _channel_axis(found[name].second, value.ndim), 0)
            peaks[name] = channels.reshape(len(channels), -1).max(axis=1)
    for name, pair in found.items():
        activation = peaks[name].reshape(-1, pair.repeat).max(axis=1)
        weights = _peaks(graph, pair, 1)
        usable = (activation > 0) & (weights > 0)
        scale = np.where(usable, activation, 1.0) ** alpha / np.where(usable, weights, 1.0) ** (1 - alpha)
        graph = _move(graph, pair, np.where(usable, scale, 1.0))
    return graph


def _own_weights(graph: Graph, op: Op) -> bool:
    """Whether an operation is a contraction whose weights, and bias, are constants of its own."""
    if not isinstance(op.attributes, ops.Conv | ops.MatMul):
        return False
    own = all(name in graph.constants and len(graph.consumers(name)) == 1 for name in op.inputs[1:])
    return own and (isinstance(op.attributes, ops.Conv) or len(graph.tensors[op.inputs[1]].shape) == 2)


def _next(graph: Graph, first: Op) -> Pair | None:
    """The contraction that alone reads what `first` gives, if all between them keeps positive factors of its channels."""
    name, repeat = first.output, 1
    while True:
        readers = graph.consumers(name)
        if len(readers) != 1 or name in graph.outputs:
            return None
        op = readers[0]
        if _own_weights(graph, op) and op.inputs[0] == name:
            return Pair(first, op, repeat) if repeat == 1 or isinstance(op.attributes, ops.MatMul) else None
        match op.attributes:
            case ops.Clip(low, high) if low in (0.0, -math.inf) and high == math.inf:
                pass
            case ops.LeakyRelu() | ops.MaxPool() | ops.AveragePool() if repeat == 1 or isinstance(op.attributes, ops.LeakyRelu):
                pass
            case ops.Reshape(shape) if len(shape) == 2 and shape[0] == graph.tensors[name].shape[0] and repeat == 1:
                channels = graph.tensors[name].shape[_channel_axis(first, len(graph.tensors[name].shape))]
                if len(graph.tensors[name].shape) > 2 and not isinstance(first.attributes, ops.Conv):
                    return None
                repeat = shape[1] // channels
            case _:
                return None
        name = op.output


def _channel_axis(op: Op, rank: int) -> int:
    return 1 if isinstance(op.attributes, ops.Conv) else rank - 1


def _peaks(graph: Graph, pair: Pair, side: int) -> Vector:
    """Greatest magnitude of the weights of each channel between the pair, in the first (0) or the second (1) layer."""
    op = pair.second if side else pair.first
    weights = np.abs(np.asarray(graph.constants[op.inputs[1]], np.float64))
    rows: Vector
    if not isinstance(op.attributes, ops.Conv):
        rows = weights.T if side == 0 else weights.reshape(-1, pair.repeat * weights.shape[1])
    elif side == 0:
        rows = weights.reshape(len(weights), -1)
    else:
        groups, per_group = op.attributes.groups, weights.shape[1]
        by_group = weights.reshape(groups, len(weights) // groups, per_group, -1)
        rows = np.moveaxis(by_group, 2, 1).reshape(groups * per_group, -1)
    peaks: Vector = rows.max(axis=1)
    return peaks


def _move(graph: Graph, pair: Pair, scale: Vector) -> Graph:
    """The first layer's channels divided by `scale`, and the second's weights that read them multiplied by it."""
    first, second = pair.first, pair.second
    w1, w2 = (np.asarray(graph.constants[op.inputs[1]], np.float64) for op in (first, second))
    changed: dict[str, NDArray[np.generic]] = {}
    if isinstance(first.attributes, ops.Conv):
        changed[first.inputs[1]] = w1 / scale.reshape(-1, *[1] * (w1.ndim - 1))
    else:
        changed[first.inputs[1]] = w1 / scale
    if len(first.inputs) > 2:
        bias = np.asarray(graph.constants[first.inputs[2]], np.float64)
        changed[first.inputs[2]] = bias / scale.reshape(bias.shape)
    if isinstance(second.attributes, ops.Conv):
        groups, per_group = second.attributes.groups, w2.shape[1]
        factors = np.repeat(scale.reshape(groups, 1, per_group), len(w2) // groups, axis=1)
        changed[second.inputs[1]] = w2 * factors.reshape(len(w2), per_group, *[1] * (w2.ndim - 2))
    else:
        changed[second.inputs[1]] = w2 * np.repeat(scale, pair.repeat)[:, None]
    return graph.with_constants({name: value.astype(np.float32) for name, value in changed.items()})
