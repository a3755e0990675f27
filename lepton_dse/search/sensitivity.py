"""What every layer's every choice costs in accuracy: one layer changed, all others as a recipe has them.

The others stay quantised, not float: every variant then executes exactly, in integers, as it would be emitted; all variants share
the activations in front of the changed layer (:mod:`lepton_dse.search.allocate.suffix`); and the loss is what the choice adds to
a network that is quantised anyway. That losses of single layers add up is an assumption, which
:func:`lepton_dse.search.allocate.driver.allocate` measures.

Each entry is kept on disk as soon as its layer is done, under a digest of the network, the recipe, the samples, the choice and
the code. A cache that is damaged or cannot be written costs a measurement, no more.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lepton_dse.compress.quantize import Recipe, quantize
from lepton_dse.data import Dataset, Interval
from lepton_dse.errors import InvalidDataError, LeptonError
from lepton_dse.files import cache_folder, read_text, write_text
from lepton_dse.ir.graph import Graph
from lepton_dse.lower import lower_bundle
from lepton_dse.reference import engine, fast
from lepton_dse.reference.metrics.protocol import MetricLike
from lepton_dse.search.allocate.channels import Widths
from lepton_dse.search.allocate.choice import Choice, Layer, Pruned, layers_of, parse_choices
from lepton_dse.search.allocate.scales import Variants
from lepton_dse.search.allocate.score import Scored, Scorer, classifies, scoring_graph
from lepton_dse.search.allocate.suffix import Baseline, Suffix

__all__ = ["CALIBRATION", "Sensitivities", "check_data", "sensitivities", "width_losses"]

CALIBRATION = 256  # samples for ranges by default
_FIGURES = ("divergence", "correct", "loss")


@dataclass(frozen=True)
class Sensitivities:
    """Figures of every layer and choice.

    Parameters
    ----------
    layers : tuple of Layer
    choices : tuple of Choice
    baseline : Scored
        All layers as the recipe has them.
    entries : mapping of (layer name, Choice) to Scored
        Each with one layer changed.
    refused : mapping of (layer name, Choice) to str
        What cannot be, and why.
    metric : str
        Of the divergence: ``kl`` of classifiers, in nats; ``mse`` of other networks.
    measured : int
        Entries that were not in the cache.
    """

    layers: tuple[Layer, ...]
    choices: tuple[Choice, ...]
    baseline: Scored
    entries: dict[tuple[str, Choice], Scored]
    refused: dict[tuple[str, Choice], str]
    metric: str
    measured: int

    def added(self, layer: str, choice: Choice) -> float:
        """What a choice adds to the baseline's divergence; below 0 counts as nothing."""
        return max(self.entries[layer, choice].divergence.value - self.baseline.divergence.value, 0.0)


def sensitivities(
    graph: Graph,
    data: Dataset,
    choices: Sequence[Choice | str],
    *,
    recipe: Recipe,
    calibration: Dataset | None = None,
    ops: Sequence[str] | None = None,
    metric: MetricLike | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Sensitivities:
    """Measure every choice of every layer.

    Parameters
    ----------
    graph : Graph
        Float graph with one input and one output.
    data : Dataset
        What is measured on.
    choices : sequence of Choice or str
        For every layer, for example ``int8``, ``w4a8``, ``int8+2:4``.
    recipe : Recipe
        Of the other layers: its formats should be the widest that a layer may have.
    calibration : Dataset, optional
        Samples for ranges; the first 256 of `data` by default.
    ops : sequence of str, optional
        Operations to change; all that have weights by default.
    metric : str, Metric or callable, optional
        What the loss is in points of: top-1 accuracy with labels, agreement with float without them, where none is given. Figures
        of a function, or of a Metric that is no registered one's name, are not kept on disk.
    progress : callable
        Told which layer is about to be measured. What is done when it, or a person, interrupts is kept.

    Raises
    ------
    LeptonError
        For an unknown operation, no choices, data that does not fit the network, or a recipe that cannot be carried out.
    """
    graph = scoring_graph(graph.with_batch(1))
    check_data(graph, data)
    calibration = calibration if calibration is not None else data.take(CALIBRATION)
    check_data(graph, calibration)
    wanted, every = layers_of(graph, ops), parse_choices(choices)
    kept_on_disk = metric is None or isinstance(metric, str)
    common = _digest(graph, recipe, data, calibration, str(metric))
    found: dict[tuple[str, Choice], Scored | str] = {}
    for layer in wanted if kept_on_disk else ():
        found.update({(layer.name, choice): kept for choice in every if (kept := _read(_path(common, layer.name, str(choice))))})
    baseline = _read(_path(common, "", "")) if kept_on_disk else None
    missing = {layer: [choice for choice in every if (layer.name, choice) not in found] for layer in wanted}
    if any(missing.values()) or not isinstance(baseline, Scored):
        measurement = _Measurement(graph, recipe, data, calibration, metric)
        baseline = measurement.baseline()
        if kept_on_disk:
            _write(_path(common, "", ""), baseline)
        for index, (layer, left) in enumerate(missing.items()):
            if left:
                progress(f"layer {index + 1} of {len(wanted)}: {layer.name}")
                for choice, entry in measurement.layer(layer, left).items():
                    found[layer.name, choice] = entry
                    if kept_on_disk:
                        _write(_path(common, layer.name, str(choice)), entry)
    scored = {key: entry for key, entry in found.items() if isinstance(entry, Scored)}
    refused = {key: entry for key, entry in found.items() if isinstance(entry, str)}
    divergence = "kl" if classifies(graph) else "mse"
    return Sensitivities(wanted, every, baseline, scored, refused, divergence, sum(map(len, missing.values())))


def width_losses(
    graph: Graph,
    data: Dataset,
    widths: Widths,
    *,
    recipe: Recipe,
    calibration: Dataset,
    metric: MetricLike | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[tuple[int, int], Scored]:
    """Measure every width of every group of channels, the others at full width and all layers as the recipe has them.

    Each network that shrinks is quantised with ranges of its own and executed whole. Kept on disk as choices of layers are.

    Returns
    -------
    dict of (group, width) to Scored
        For all widths but the full one.
    """
    whole = scoring_graph(graph.with_batch(1))
    kept_on_disk = metric is None or isinstance(metric, str)
    common = _digest(whole, recipe, data, calibration, str(metric))
    scorer: Scorer | None = None
    found: dict[tuple[int, int], Scored] = {}
    for place, group in enumerate(widths.groups):
        for width, ratio in enumerate(group.ratios):
            if not width:
                continue
            path = _path(common, f"channels of {group.name}", f"{ratio!r}")
            entry = _read(path) if kept_on_disk else None
            if not isinstance(entry, Scored):
                progress(f"channels of {group.name}, {100 * ratio:g}% less")
                scorer = scorer or Scorer(whole, data, metric)
                small = scoring_graph(widths.graph([width if other == place else 0 for other in range(len(widths.groups))]))
                lowered = lower_bundle(quantize(small, recipe, calibration)[0])
                entry = scorer.score(engine.run(lowered, data.x, evaluate=fast.evaluate)[lowered.outputs[0]])
                if kept_on_disk:
                    _write(path, entry)
            found[place, width] = entry
    return found


def check_data(graph: Graph, data: Dataset) -> None:
    """Hold samples against a network's input.

    Raises
    ------
    InvalidDataError
        If they have another shape.
    """
    expected = graph.tensors[graph.inputs[0]].shape[1:]
    if data.x.shape[1:] != expected:
        found = f"samples of shape {list(data.x.shape[1:])}, the model takes {list(expected)}"
        raise InvalidDataError(found, where=graph.inputs[0], fix="give samples of the model's input shape")


@dataclass
class _Measurement:
    """The baseline, executed once, and variants of it."""

    graph: Graph
    recipe: Recipe
    data: Dataset
    calibration: Dataset
    metric: MetricLike | None
    variants: Variants = field(init=False)
    scorer: Scorer = field(init=False)
    run: Baseline = field(init=False)
    pruned: Pruned = field(init=False)

    def __post_init__(self) -> None:
        self.scorer = Scorer(self.graph, self.data, self.metric)
        self.variants = Variants(self.graph, self.recipe, self.calibration)
        self.run = Baseline(lower_bundle(self.variants.baseline), self.data.x)
        self.pruned = Pruned(self.graph)

    def baseline(self) -> Scored:
        return self.scorer.score(self._scores([Suffix(self.run, self.run.graph)])[0])

    def layer(self, layer: Layer, choices: Sequence[Choice]) -> dict[Choice, Scored | str]:
        """All choices of a layer, over one pass of the samples through what they share."""
        found: dict[Choice, Scored | str] = {}
        suffixes: dict[Choice, Suffix] = {}
        for choice in choices:
            if choice.precision.activations.is_float != self.recipe.precision.activations.is_float:
                found[choice] = f"integer and float activations do not meet in one network; the recipe is {self.recipe.precision}"
                continue
            try:
                if self.pruned.weights(layer, choice) is None:
                    found[choice] = "its weights cannot be pruned this way"
                    continue
                source = self.pruned.graph(choice) if choice.ratio else self.graph
                lowered = lower_bundle(self.variants.bundle(layer, choice, source))
            except LeptonError as error:
                found[choice] = str(error)
                continue
            suffixes[choice] = Suffix(self.run, lowered)
        for choice, scores in zip(suffixes, self._scores(list(suffixes.values())), strict=True):
            try:
                found[choice] = self.scorer.score(scores)
            except InvalidDataError as error:  # outputs that are no numbers
                found[choice] = str(error)
        return found

    def _scores(self, suffixes: Sequence[Suffix]) -> list[NDArray[np.generic]]:
        parts: list[list[NDArray[np.generic]]] = [[] for _ in suffixes]
        needed = tuple(dict.fromkeys(name for suffix in suffixes for name in suffix.needs))
        for chunk in range(len(self.run.chunks)):
            values = self.run.values(chunk, needed)
            for part, suffix in zip(parts, suffixes, strict=True):
                part.append(suffix.scores({name: values[name] for name in suffix.needs}))
        return [np.concatenate(part) for part in parts]


def _digest(graph: Graph, recipe: Recipe, data: Dataset, calibration: Dataset, metric: str) -> str:
    hasher = hashlib.sha256((_sources() + graph.digest + metric).encode())
    overrides = {name: str(form) for name, form in recipe.overrides.items()}
    plain = {entry.name: str(getattr(recipe, entry.name)) for entry in fields(recipe)} | {"overrides": overrides}
    hasher.update(json.dumps(plain, sort_keys=True).encode())
    for array in (data.x, data.y, calibration.x):
        hasher.update(b"none" if array is None else f"{array.dtype.str}{array.shape}".encode())
        if array is not None:
            hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


@cache
def _sources() -> str:
    """Digest of the code that decides a figure."""
    package = Path(__file__).resolve().parents[1]
    parts = ("compress", "ir", "numerics", "reference", "search/allocate")
    files = [path for part in parts for path in sorted((package / part).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in (*files, package / "lower.py", Path(__file__).resolve()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _path(common: str, what: str, choice: str) -> Path:
    name = f"{common}\0{what}\0{choice}"
    return cache_folder() / "sensitivity" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _write(path: Path, entry: Scored | str) -> None:
    try:
        write_text(path, json.dumps({"refused": entry} if isinstance(entry, str) else asdict(entry)))
    except LeptonError:
        return  # a cache that cannot be written is no error


def _read(path: Path) -> Scored | str | None:
    try:
        document = json.loads(read_text(path, limit_bytes=1 << 16))
        if "refused" in document:
            return str(document["refused"])
        figures = {name: Interval(**document[name]) for name in _FIGURES}
        if not all(math.isfinite(figure.value) for figure in figures.values()):
            return None
        return Scored(**figures)
    except (LeptonError, ValueError, KeyError, TypeError, RecursionError):
        return None
