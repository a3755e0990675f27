"""Formats from names: quantised models, and formats chosen under budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar

from lepton_dse.bundle import Bundle
from lepton_dse.compress import quantize as ptq
from lepton_dse.compress.quantize import Recipe
from lepton_dse.compress.ranges import Granularity
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.flow.model import target_of
from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Calibration, CalibrationMethod
from lepton_dse.reference.metrics.protocol import MetricLike
from lepton_dse.search.allocate import driver
from lepton_dse.search.allocate.trials import Budgets
from lepton_dse.targets import AnyTarget

__all__ = ["allocate", "quantize", "quantized", "recipe"]

Name = TypeVar("Name", bound=StrEnum)

_SAMPLES = 128  # of the data, kept in the bundle for tests of artefacts


def recipe(
    format: str,
    *,
    method: CalibrationMethod | str = CalibrationMethod.MSE,
    overrides: Mapping[str, str] | None = None,
    symmetric: bool = False,
    granularity: Granularity | str = Granularity.CHANNEL,
    group: int | None = None,
    rounding: str = "nearest",
    correct_bias: bool = False,
    memory_gib: float = 1.0,
) -> Recipe:
    """How to quantise, from names; see :class:`~lepton_dse.compress.quantize.Recipe` for each.

    Raises
    ------
    LeptonError
        For a name that is not known.
    """
    return Recipe(
        Precision.parse(format),
        {name: Precision.parse(text) for name, text in (overrides or {}).items()},
        _named(CalibrationMethod, method, "calibration method"),
        symmetric,
        _named(Granularity, granularity, "granularity"),
        group,
        rounding,
        correct_bias,
        memory_gib,
    )


def _named(kind: type[Name], value: str, what: str) -> Name:
    try:
        return kind(value)
    except ValueError:
        raise LeptonError(f"no {what} '{value}'", fix=f"known: {', '.join(entry.value for entry in kind)}") from None


def quantize(
    graph: Graph,
    format: str = "int8",
    data: Dataset | None = None,
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Bundle:
    """Quantise a model without planning it.

    Parameters
    ----------
    graph : Graph
        Float graph.
    format : str
        For example ``int8``, ``w4a8``, ``bfloat16`` or ``w4-float16``.
    data : Dataset, optional
        Calibration samples; seeded noise where there are none, which the bundle's history says.
    seed : int
        Of the noise.
    progress : callable
        Told what is about to be done.
    **options
        Of :func:`recipe`: method, overrides, symmetric, granularity, group, rounding, correct_bias, memory_gib.

    Returns
    -------
    Bundle
        For :func:`plan` and :func:`accuracy`.

    Raises
    ------
    LeptonError
        For wrong arguments.
    """
    return quantized(graph, recipe(format, **options), data, seed, progress)[0]


def quantized(
    graph: Graph, chosen: Recipe, data: Dataset | None, seed: int, progress: Callable[[str], None]
) -> tuple[Bundle, Calibration | None]:
    """A bundle and how it was calibrated; see :func:`quantize`."""
    if seed < 0:
        raise LeptonError(f"a seed of {seed}", fix="use 0 or more")
    graph = graph.with_batch(1)
    samples = data if data is not None else ptq.noise(graph, seed)
    source: Literal["data", "noise"] = "data" if data is not None else "noise"
    bundle, calibration = ptq.quantize(graph, chosen, samples, source=source, progress=progress)
    return replace(bundle, samples=samples.x[:_SAMPLES]), calibration


def allocate(
    graph: Graph,
    target: str | Path | AnyTarget,
    data: Dataset,
    choices: Sequence[str],
    *,
    minimize: str = "latency",
    loss_points: float | None = None,
    divergence: float | None = None,
    latency_s: float | None = None,
    energy_j: float | None = None,
    bytes: float | None = None,
    bits: float | None = None,
    channels: Sequence[float] = (),
    format: str = "int8",
    metric: MetricLike | None = None,
    calibration: Dataset | None = None,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> driver.Allocation:
    """Choose formats, zeros and channels for every layer under budgets, measured on data.

    :mod:`lepton_dse.search.allocate.driver` says how.

    Parameters
    ----------
    graph : Graph
    target : str, Path or hardware model
    data : Dataset
        The split that choices are made on: training data, not what the result will be scored on.
    choices : sequence of str
        For example ``int8``, ``w4a8``, ``int8+2:4``.
    minimize : {"loss", "latency", "energy", "bytes", "bits"}
    loss_points, divergence, latency_s, energy_j, bytes, bits : float, optional
        Budgets; see :class:`~lepton_dse.search.allocate.trials.Budgets`.
    channels : sequence of float
        Shares of its channels that each group of coupled channels may lose, for example 0.25 and 0.5; none by default.
    format : str
        Formats of what is not chosen.
    metric : str, Metric or callable, optional
        What `loss_points` are points of, as for :func:`~lepton_dse.flow.prediction.accuracy`; greater is better. Top-1 accuracy
        by default, without labels agreement with the float network.
    calibration : Dataset, optional
        Samples for ranges and roundings; the first 256 of `data` by default.
    progress : callable
        Told what is about to be done.
    **options
        Of :func:`recipe`, without overrides.

    Returns
    -------
    Allocation
        Its `bundle` can be planned; `violations` say why where nothing keeps the budgets.

    Raises
    ------
    LeptonError
        For wrong arguments, or data that does not fit.
    """
    budgets = Budgets(loss_points, divergence, latency_s, energy_j, bytes, bits)
    return driver.allocate(
        graph,
        target_of(target),
        data,
        choices,
        budgets=budgets,
        minimize=minimize,
        recipe=recipe(format, **options),
        channels=channels,
        metric=metric,
        calibration=calibration,
        progress=progress,
    )
