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
from lepton_dse.search.tiling import Hierarchy, NetworkTiles, Objective, hierarchy_of, tile_network
from lepton_dse.sim.protocol import CostModel
from lepton_dse.targets import AnyTarget, TpuTarget

__all__ = ["accuracy", "cost", "tile"]


def cost(graph: Graph, target: str | Path | AnyTarget, *, format: str = "int8", batch: int = 1) -> CostReport:
    """Predicted cost of a model on a target, without planning it.

    Raises
    ------
    LeptonError
        For an unknown target or format, or a batch below 1.
    """
    hardware, precision = target_of(target), Precision.parse(format)
    if batch < 1:
        raise LeptonError(f"a batch of {batch}", fix="use 1 or more")
    model: CostModel = registry.load(registry.Group.COST_MODELS, hardware.family)
    return model(graph, hardware, precision, batch)


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


def accuracy(model: Graph | Bundle | PlannedModel, data: Dataset) -> Interval:
    """Top-1 accuracy on labelled data with its 95% interval, bundles and planned models integer-exact.

    Raises
    ------
    InvalidDataError
        If the data has no labels or does not fit.
    """
    if isinstance(model, PlannedModel):
        model = model.lowered
    return measure(lower_bundle(model) if isinstance(model, Bundle) else model, data)
