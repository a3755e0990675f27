"""Post-training quantisation: a float graph and samples in, a bundle with the scale of every integer tensor out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lepton_dse import registry
from lepton_dse.bundle import Bundle, Scale
from lepton_dse.compress.groups import absorbed_clip, scale_groups
from lepton_dse.compress.histogram import Histogram
from lepton_dse.compress.output_error import by_output_error
from lepton_dse.compress.ranges import Granularity, activation_params, weight_params
from lepton_dse.compress.refine import refine
from lepton_dse.compress.rounding.protocol import Rounding
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import FLOAT32, INT8, NumberFormat, Precision
from lepton_dse.numerics.quantize import MULTIPLIER_BITS
from lepton_dse.plan import Calibration, CalibrationMethod
from lepton_dse.reference.engine import steps

__all__ = [
    "Recipe",
    "activation_formats",
    "activation_histograms",
    "drowning_sums",
    "make_room_for_biases",
    "noise",
    "quantize",
    "weight_axis",
]

_BATCH = 64
_NOISE_SAMPLES = 64
_BIAS_BITS = 40
_DROWNED = 8


def noise(graph: Graph, seed: int, samples: int = _NOISE_SAMPLES) -> Dataset:
    """Seeded standard-normal samples of the model's input shape, for when a person has no data; whole numbers for integers.

    Those are below 256, within the input's format, and below the extent of every table that they pick from directly.
    """
    source = graph.tensors[graph.inputs[0]]
    rng, size = np.random.default_rng(seed), (samples, *source.shape[1:])
    if source.format.is_float:
        return Dataset(rng.standard_normal(size).astype(np.float32))
    picks = [op for op in graph.consumers(source.name) if isinstance(op.attributes, ops.Gather) and op.inputs[1] == source.name]
    extents = [graph.tensors[op.inputs[0]].shape[op.attributes.axis] for op in picks if isinstance(op.attributes, ops.Gather)]
    return Dataset(rng.integers(0, min(256, int(source.format.maximum) + 1, *extents), size).astype(np.float32))


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


@dataclass(frozen=True)
class Recipe:
    """How a model is quantised.

    Parameters
    ----------
    precision : Precision
        Formats of weights and activations: integers of 2 to 16 bits, floats, or integer weights with float activations.
    overrides : mapping of str to Precision
        Formats of single operations with weights. An activation takes the widest format that an operation reading it asks for.
    method : CalibrationMethod
        How ranges are chosen.
    symmetric : bool
        Symmetric activations.
    granularity : Granularity
        How many weights share a scale.
    group : int or None
        Weights of a group.
    rounding : str
        A method registered in ``lepton_dse.roundings``: nearest, adaround, gptq, quantease.
    correct_bias : bool
        Biases make up for what rounding shifts in the mean of each channel.
    memory_gib : float
        What `rounding` and `correct_bias` may hold samples in: both networks' live tensors. As many samples are looked at as fit.
    """

    precision: Precision
    overrides: Mapping[str, Precision] = field(default_factory=dict)
    method: CalibrationMethod = CalibrationMethod.MSE
    symmetric: bool = False
    granularity: Granularity = Granularity.CHANNEL
    group: int | None = None
    rounding: str = "nearest"
    correct_bias: bool = False
    memory_gib: float = 1.0

    def of(self, op: ops.Op) -> Precision:
        """Formats of one operation."""
        return self.overrides.get(op.name, self.precision)

    @property
    def memory_bytes(self) -> int:
        """Of :attr:`memory_gib`."""
        return int(self.memory_gib * (1 << 30))


def quantize(
    graph: Graph,
    recipe: Recipe,
    data: Dataset,
    *,
    source: Literal["data", "noise"] = "data",
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[Bundle, Calibration | None]:
    """Scales for every tensor that is stored in a narrower format, and weights that are chosen for it.

    Parameters
    ----------
    graph : Graph
        Float graph with one input.
    recipe : Recipe
        Formats and methods.
    data : Dataset
        Calibration samples; labels are not looked at.
    source : {"data", "noise"}
        What the samples are; recorded in the result.
    progress : callable
        Told what is about to be done.

    Returns
    -------
    Bundle
        The graph and its scales.
    Calibration or None
        How the scales were found; None where all formats are float32.

    Raises
    ------
    LeptonError
        If the precision mixes integers and floats in a way that nothing executes, an override names no operation with weights, or
        the model has several inputs.
    """
    _check(graph, recipe)
    if recipe.precision == Precision(FLOAT32, FLOAT32) and not recipe.overrides:
        return Bundle(graph), None
    scales = _weight_scales(graph, recipe)
    groups = scale_groups(graph)
    formats = {group: form for group, form in activation_formats(graph, recipe, groups).items() if form != FLOAT32}
    if formats:
        progress("ranges of activations")
        histograms = activation_histograms(graph, data.x, groups)
        params = {
            group: activation_params(histogram, formats[group], recipe.method, symmetric=recipe.symmetric)
            for group, histogram in histograms.items()
            if group in formats
        }
        found = {group: Scale(formats[group], entry) for group, entry in params.items()}
        if recipe.method is CalibrationMethod.OUTPUT:
            better = by_output_error(graph, data.x, groups, histograms, {**scales, **found}, symmetric=recipe.symmetric)
            found.update({group: Scale(formats[group], entry) for group, entry in better.items()})
        for group in drowning_sums(graph, found, groups):
            del found[group]
        scales.update({name: found[group] for name, group in groups.items() if group in found})
    make_room_for_biases(graph, scales)
    if recipe.rounding != "nearest" or recipe.correct_bias:
        rounding: Rounding = registry.load(registry.Group.ROUNDINGS, recipe.rounding)
        graph = refine(
            graph,
            scales,
            data.x,
            rounding=rounding,
            correct_bias=recipe.correct_bias,
            memory_bytes=recipe.memory_bytes,
            progress=progress,
        )
    calibration = Calibration(
        method=recipe.method,
        samples=len(data),
        source=source,
        rounding=recipe.rounding,
        bias_correction=recipe.correct_bias,
    )
    return Bundle(graph, scales), calibration


def _check(graph: Graph, recipe: Recipe) -> None:
    if len(graph.inputs) != 1:
        names = ", ".join(graph.inputs)
        raise LeptonError(
            f"{len(graph.inputs)} inputs ({names}), and samples are for one",
            where=graph.name,
            fix="import it with the others bound",
        )
    weighted = {op.name for op in graph.ops if _weights_of(graph, op) is not None}
    unknown = sorted(set(recipe.overrides) - weighted)
    if unknown:
        raise LeptonError("no operation with weights", where=", ".join(unknown), fix="'lepton inspect' lists the names")
    if not 0 < recipe.memory_gib < float("inf"):
        raise LeptonError(f"{recipe.memory_gib} GiB to hold samples in", fix="use a number above 0")
    every = (recipe.precision, *recipe.overrides.values())
    if recipe.granularity is Granularity.GROUP and any(entry.activations.is_integer for entry in every):
        raise LeptonError(
            "groups of weights inside a channel need float activations: an integer sum has one scale",
            fix="use a format such as w4-float16, or one scale a channel",
        )
    for entry in every:
        if entry.weights.is_float and entry.activations.is_integer:
            raise LeptonError(
                f"'{entry}' has float weights and integer activations", fix="use an integer format such as int8 or w4a8"
            )
    if recipe.rounding != "nearest" and not any(entry.weights.is_integer for entry in every):
        raise LeptonError(f"'{recipe.rounding}' chooses integers, and no weight is one", fix="use an integer format, or nearest")


def _weights_of(graph: Graph, op: ops.Op) -> str | None:
    """Name of an operation's weights, where they are a constant."""
    return op.inputs[1] if weight_axis(op) is not None and op.inputs[1] in graph.constants else None


def _weight_scales(graph: Graph, recipe: Recipe) -> dict[str, Scale]:
    scales: dict[str, Scale] = {}
    for op in graph.ops:
        name, axis = _weights_of(graph, op), weight_axis(op)
        form = recipe.of(op).weights
        if name is None or axis is None or form == FLOAT32:
            continue
        if name in scales and scales[name].format != form:
            raise LeptonError("shares its weights with an operation of another format", where=op.name, fix="give both one format")
        weights = np.asarray(graph.constants[name], np.float32)
        granularity = Granularity.CHANNEL if isinstance(op.attributes, ops.Affine) else recipe.granularity
        params = weight_params(weights, axis % weights.ndim, form, recipe.method, granularity=granularity, group=recipe.group)
        scales[name] = Scale(form, params)
    return scales


def activation_formats(graph: Graph, recipe: Recipe, groups: Mapping[str, str]) -> dict[str, NumberFormat]:
    """The format of each group of activations: the widest that an operation reading it asks for.

    What no operation with weights reads has the recipe's own format; the scores at the end have at least 8 bits, since
    classes that share one of few integers could not be told apart.
    """
    asked: dict[str, list[NumberFormat]] = {group: [] for group in groups.values()}
    for op in graph.ops:
        if _weights_of(graph, op) is not None and op.inputs[0] in groups:
            asked[groups[op.inputs[0]]].append(recipe.of(op).activations)
    default = recipe.precision.activations
    if default == FLOAT32:
        integers = [form for forms in asked.values() for form in forms if form.is_integer]
        default = max(integers, key=lambda form: form.bits, default=FLOAT32)
    found = {group: max(forms, key=lambda form: form.bits, default=default) for group, forms in asked.items()}
    for name, group in groups.items():
        ends = name in graph.outputs or any(isinstance(op.attributes, ops.Softmax | ops.ArgMax) for op in graph.consumers(name))
        if ends and not asked[group] and found[group].is_integer and found[group].bits < INT8.bits:
            found[group] = INT8
    return found


def drowning_sums(graph: Graph, found: Mapping[str, Scale], groups: Mapping[str, str]) -> tuple[str, ...]:
    """Groups of sums in whose step the whole range of an operand would vanish: they stay real.

    Of fewer than 8 bits the step of 8 counts: coarse sums are what such formats ask for.

    A mask of attention is added as zero or as the least number there is; a scale wide enough for it leaves nothing of the scores.

    Parameters
    ----------
    graph : Graph
    found : mapping of str to Scale
        By group.
    groups : mapping of str to str
        Group of each activation.
    """
    drowning: dict[str, None] = {}
    for op in graph.ops:
        sum_scale = found.get(groups[op.output])
        if not isinstance(op.attributes, ops.Add) or sum_scale is None or not sum_scale.format.is_integer:
            continue
        least = sum_scale.params.beta[0] * min(1.0, 2.0 ** (sum_scale.format.bits - _DROWNED))
        for name in op.inputs:
            scale = found.get(groups[name]) if name in groups else None
            if scale is not None and scale.params.beta[0] * 2.0**scale.format.bits < least:
                drowning[groups[op.output]] = None
    return tuple(drowning)


def make_room_for_biases(graph: Graph, scales: dict[str, Scale]) -> None:
    """Raise the weight scales of channels whose bias dwarfs their weights, so that the bias outlives the requantisation.

    All channels of an operation share one shift, so a channel of very small scale has a multiplier of few bits, and a bias
    of very many accumulator units: times an error of half a unit of the multiplier, the bias goes wrong by more than the
    output's step beta_y. The error stays below half a step while ``|bias| <= beta_w[c] * beta_y * 2**16 / max(beta_w)``, and
    the bias within an accumulator of 40 bits while ``|bias| <= beta_x * beta_w[c] * 2**40``. Weights that small are coarser
    then, by less than the coarseness that the channel of greatest weights has anyway.
    """
    for op in graph.ops:
        axis = weight_axis(op)
        clip = absorbed_clip(graph, op)
        ends = (*op.inputs[:2], op.output if clip is None else clip.output)
        if axis is None or len(op.inputs) < 3 or not all(name in scales and scales[name].format.is_integer for name in ends):
            continue
        x, w, y = (scales[name] for name in ends)
        bias = np.abs(np.asarray(graph.constants[op.inputs[2]], np.float64))
        beta = np.asarray(w.params.beta, np.float64)
        least = bias * max(beta.max() / (y.params.beta[0] * 2.0 ** (MULTIPLIER_BITS - 1)), 2.0**-_BIAS_BITS / x.params.beta[0])
        raised = np.maximum(beta, least if beta.size > 1 else least.max()).astype(np.float32)
        params = replace(w.params, beta=tuple(float(value) for value in raised))
        scales[op.inputs[1]] = Scale(w.format, params)


def activation_histograms(graph: Graph, x: NDArray[np.float32], groups: Mapping[str, str]) -> dict[str, Histogram]:
    """A histogram per group of activations: of one batch in one pass, of more in two, first the ends, then the counts."""
    if len(x) <= _BATCH:
        return _histograms_of_a_batch(graph, x, groups)
    ends: dict[str, tuple[float, float]] = {}
    for name, value in _activations(graph, x):
        ends[groups[name]] = _widened(ends.get(groups[name]), value)
    histograms = {group: Histogram(low, high) for group, (low, high) in ends.items()}
    for name, value in _activations(graph, x):
        histograms[groups[name]].add(value)
    return histograms


def _histograms_of_a_batch(graph: Graph, x: NDArray[np.float32], groups: Mapping[str, str]) -> dict[str, Histogram]:
    """Values wait until the last tensor of their group is there; groups are neighbours, so that few wait."""
    to_come = Counter(groups.values())
    waiting: dict[str, list[NDArray[np.float32]]] = {}
    histograms = {}
    for name, value in _activations(graph, x):
        group = groups[name]
        waiting.setdefault(group, []).append(value)
        to_come[group] -= 1
        if to_come[group] == 0:
            histograms[group] = _histogram(waiting.pop(group))
    return histograms | {group: _histogram(values) for group, values in waiting.items()}


def _histogram(values: list[NDArray[np.float32]]) -> Histogram:
    ends = None
    for value in values:
        ends = _widened(ends, value)
    histogram = Histogram(*(ends or (np.inf, -np.inf)))
    for value in values:
        histogram.add(value)
    return histogram


def _widened(ends: tuple[float, float] | None, value: NDArray[np.float32]) -> tuple[float, float]:
    low, high = ends or (np.inf, -np.inf)
    return min(low, float(value.min())), max(high, float(value.max()))


def _activations(graph: Graph, x: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.floating]]]:
    for start in range(0, len(x), _BATCH):
        chunk = x[start : start + _BATCH]
        for name, value in steps(graph.with_batch(len(chunk)), {graph.inputs[0]: chunk}):
            if graph.tensors[name].format.is_float:
                yield name, np.asarray(value, np.float32)
