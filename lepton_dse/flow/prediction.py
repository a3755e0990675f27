"""What a model costs on a target, how it is tiled there, and how accurate it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lepton_dse import registry
from lepton_dse.bundle import Bundle
from lepton_dse.data import Dataset, Interval
from lepton_dse.errors import LeptonError
from lepton_dse.flow.model import PlannedModel, target_of
from lepton_dse.ir.graph import Graph
from lepton_dse.lower import lower_bundle
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport
from lepton_dse.reference.accuracy import accuracy as measure
from lepton_dse.reference.metrics.protocol import MetricLike
from lepton_dse.search.tiling import Hierarchy, NetworkTiles, Objective, hierarchy_of, tile_network
from lepton_dse.sim.mixed import mixed_cost
from lepton_dse.sim.protocol import CostModel
from lepton_dse.targets import AnyTarget, TpuTarget

__all__ = ["accuracy", "cost", "tile"]


def cost(model: Graph | Bundle, target: str | Path | AnyTarget, *, format: str | None = None, batch: int = 1) -> CostReport:
    """Predicted cost of a model on a target, without planning it.

    Parameters
    ----------
    model : Graph or Bundle
        A bundle is priced in the formats that it has. Zeros among the weights are priced where the target's kernels skip them;
        each operation's `zeros` says so.
    target : str, Path or hardware model
    format : str, optional
        Of a graph; int8 by default.
    batch : int
        Samples a pass.

    Raises
    ------
    LeptonError
        For an unknown target or format, a format beside a bundle, or a batch below 1.
    """
    hardware, precision = target_of(target), Precision.parse(format or "int8")
    if batch < 1:
        raise LeptonError(f"a batch of {batch}", fix="use 1 or more")
    if isinstance(model, Bundle):
        if format is not None:
            raise LeptonError(f"a bundle has its formats already; '{format}' came too late", fix="leave the format out")
        return mixed_cost(model, hardware, batch=batch)
    price: CostModel = registry.load(registry.Group.COST_MODELS, hardware.family)
    return price(model, hardware, precision, batch)


def tile(
    graph: Graph,
    machine: str | Path | AnyTarget | Hierarchy,
    *,
    format: str = "int8",
    minimize: str = "edp",
    batch: int = 1,
    progress: Callable[[str], None] | None = None,
) -> NetworkTiles:
    """Find the best tiles of every contraction of a model, each with a proof of its optimum.

    Parameters
    ----------
    graph : Graph
    machine : str, Path, TPU target or Hierarchy
        Units over three levels of memory; see :class:`~lepton_dse.search.tiling.Hierarchy`.
    format : str
    minimize : {"latency", "energy", "edp"}
        Of each operation by itself.
    batch : int
    progress : callable, optional
        Told the operation that is about to be searched.

    Raises
    ------
    LeptonError
        For wrong arguments, a target that is no systolic array, or a model without contractions.
    """
    precision = Precision.parse(format)
    try:
        objective = Objective(minimize)
    except ValueError:
        raise LeptonError(f"cannot minimise '{minimize}'", fix=f"choose {' or '.join(Objective)}") from None
    if not isinstance(machine, Hierarchy):
        target = target_of(machine)
        if not isinstance(target, TpuTarget):
            raise LeptonError(f"{target.name} is no systolic array", fix="give a tpu target, or a Hierarchy")
        machine = hierarchy_of(target, precision)
    return tile_network(graph, machine, precision, objective, batch=batch, progress=progress)


def accuracy(
    model: Graph | Bundle | PlannedModel,
    data: Dataset,
    metric: MetricLike = "top1",
    *,
    reference: Graph | Bundle | PlannedModel | None = None,
) -> Interval:
    """Top-1 accuracy, or another metric, with its 95% interval, bundles and planned models integer-exact.

    Parameters
    ----------
    model : Graph, Bundle or PlannedModel
    data : Dataset
        With labels, where the metric needs them.
    metric : str, Metric or callable
        ``top1``, ``top5`` (any number), ``auc``, ``cosine``, ``agreement``, another one that is registered in
        ``lepton_dse.metrics``, or a function of scores, shape (N, ...), and labels, shape (N,), that returns a number.
    reference : Graph, Bundle or PlannedModel, optional
        What ``cosine`` and ``agreement`` compare with: the float network.

    Raises
    ------
    InvalidDataError
        If labels or the reference are needed and not there, samples or labels do not fit, or outputs are not finite.
    LeptonError
        If the metric is not known, or a function gives no number.
    """
    return measure(_executable(model), data, metric, reference=None if reference is None else _executable(reference))


def _executable(model: Graph | Bundle | PlannedModel) -> Graph:
    if isinstance(model, PlannedModel):
        return model.lowered
    return lower_bundle(model) if isinstance(model, Bundle) else model
