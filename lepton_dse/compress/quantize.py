"""Post-training quantisation: a float graph and samples in, a bundle with the scale of every integer tensor out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from lepton_dse.bundle import Bundle, Scale
from lepton_dse.compress.groups import absorbed_clip, scale_groups
from lepton_dse.compress.ranges import Histogram, activation_params, weight_params
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.numerics.quantize import MULTIPLIER_BITS, QuantParams
from lepton_dse.plan import Calibration, CalibrationMethod
from lepton_dse.reference.engine import steps

__all__ = ["noise", "quantize", "weight_axis"]

_BATCH = 64
_NOISE_SAMPLES = 64
_BIAS_BITS = 40


def noise(graph: Graph, seed: int, samples: int = _NOISE_SAMPLES) -> Dataset:
    """Seeded standard-normal samples of the model's input shape, for when a person has no data."""
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    return Dataset(np.random.default_rng(seed).standard_normal((samples, *shape)).astype(np.float32))


def weight_axis(op: ops.Op) -> int | None:
    """Output-channel axis of an operation's second input when that is a weight; None for operations without weights."""
    match op.attributes:
        case ops.Conv():
            return 0
        case ops.MatMul():
            return -1
        case ops.Affine():
            return 0
        case _:
            return None


def quantize(
    graph: Graph,
    precision: Precision,
    data: Dataset,
    *,
    method: CalibrationMethod = CalibrationMethod.MSE,
    overrides: Mapping[str, Precision] | None = None,
    symmetric: bool = False,
    source: str = "data",
) -> tuple[Bundle, Calibration | None]:
    """Scales for every tensor that becomes an integer.

    Parameters
    ----------
    graph : Graph
        Float graph with one input.
    precision : Precision
        Integer formats, 2 to 16 bits. A float precision gives a bundle without scales.
    data : Dataset
        Calibration samples; labels are not looked at.
    method : CalibrationMethod
        How ranges are chosen.
    overrides : mapping of str to Precision, optional
        Weight formats by operation name; activations keep `precision`.
    symmetric : bool
        Symmetric activations.
    source : {"data", "noise"}
        What the samples are; recorded in the result.

    Returns
    -------
    Bundle
        The graph and its scales.
    Calibration or None
        How the scales were found; None for float formats.

    Raises
    ------
    LeptonError
        If the precision mixes integers and floats, an override names no operation with weights, or the model takes integers.
    """
    for name in graph.inputs:
        if not graph.tensors[name].format.is_float:
            raise LeptonError(
                f"takes {graph.tensors[name].format}, which has no scale", where=name, fix="feed the model real numbers"
            )
    if precision.weights.is_float and precision.activations.is_float:
        return Bundle(graph), None
    if not precision.is_integer:
        raise LeptonError(f"'{precision}' keeps float activations", fix="use an integer format such as int8 or w4a8")
    chosen = dict(overrides or {})
    scales: dict[str, Scale] = {}
    for op in graph.ops:
        axis = weight_axis(op)
        if axis is None or op.inputs[1] not in graph.constants:
            continue
        form = chosen.pop(op.name, precision).weights
        weights = np.asarray(graph.constants[op.inputs[1]], np.float32)
        scales[op.inputs[1]] = Scale(form, weight_params(weights, axis % weights.ndim, form, method))
    if chosen:
        raise LeptonError("no operation with weights", where=", ".join(sorted(chosen)), fix="'lepton inspect' lists the names")
    groups = scale_groups(graph)
    histograms = _histograms(graph, data.x, groups)
    params = {
        group: activation_params(histogram, precision.activations, method, symmetric=symmetric)
        for group, histogram in histograms.items()
    }
    scales.update({name: Scale(precision.activations, params[group]) for name, group in groups.items() if group in params})
    _make_room_for_biases(graph, scales)
    return Bundle(graph, scales), Calibration(method=method, samples=len(data), source=source)


def _make_room_for_biases(graph: Graph, scales: dict[str, Scale]) -> None:
    """Raise the weight scales of channels whose bias dwarfs their weights, so that the bias outlives the requantisation.

    All channels of an operation share one shift, so a channel of very small scale has a multiplier of few bits, and a bias
    of very many accumulator units: times an error of half a unit of the multiplier, the bias goes wrong by more than the
    output's step beta_y. The error stays below half a step while ``|bias| <= beta_w[c] * beta_y * 2**16 / max(beta_w)``, and
    the bias within an accumulator of 40 bits while ``|bias| <= beta_x * beta_w[c] * 2**40``. Weights that small are coarser
    then, by less than the coarseness that the channel of greatest weights has anyway.
    """
    for op in graph.ops:
        axis = weight_axis(op)
        if axis is None or len(op.inputs) < 3 or op.inputs[1] not in scales or op.inputs[0] not in scales:
            continue
        clip = absorbed_clip(graph, op)
        x, w, y = scales[op.inputs[0]], scales[op.inputs[1]], scales[op.output if clip is None else clip.output]
        bias = np.abs(np.asarray(graph.constants[op.inputs[2]], np.float64))
        beta = np.asarray(w.params.beta, np.float64)
        least = bias * max(beta.max() / (y.params.beta[0] * 2.0 ** (MULTIPLIER_BITS - 1)), 2.0**-_BIAS_BITS / x.params.beta[0])
        raised = np.maximum(beta, least).astype(np.float32)
        params = QuantParams(tuple(float(value) for value in raised), 0, w.params.axis)
        scales[op.inputs[1]] = Scale(w.format, params)


def _histograms(graph: Graph, x: NDArray[np.float32], groups: Mapping[str, str]) -> dict[str, Histogram]:
    """A histogram per group of activations, in two passes over the samples: first the ends, then the counts."""
    ends: dict[str, tuple[float, float]] = {}
    for name, value in _activations(graph, x):
        low, high = ends.get(groups[name], (np.inf, -np.inf))
        ends[groups[name]] = (min(low, float(value.min())), max(high, float(value.max())))
    histograms = {group: Histogram(low, high) for group, (low, high) in ends.items()}
    for name, value in _activations(graph, x):
        histograms[groups[name]].add(value)
    return histograms


def _activations(graph: Graph, x: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.floating]]]:
    for start in range(0, len(x), _BATCH):
        chunk = x[start : start + _BATCH]
        for name, value in steps(graph.with_batch(len(chunk)), {graph.inputs[0]: chunk}):
            if graph.tensors[name].format.is_float:
                yield name, np.asarray(value, np.float32)
