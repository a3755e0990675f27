"""A model, a target and an objective become a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lepton_dse import registry
from lepton_dse.bundle import Bundle
from lepton_dse.data import Dataset
from lepton_dse.errors import LeptonError
from lepton_dse.flow.compression import quantized, recipe
from lepton_dse.flow.model import PlannedModel, target_of
from lepton_dse.ir.graph import Graph
from lepton_dse.lower import lower_bundle
from lepton_dse.memory import map_memory, stored_bytes
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import Calibration, Plan
from lepton_dse.search.protocol import PlanDraft, Planner, PlanRequest
from lepton_dse.targets import AnyTarget

__all__ = ["OBJECTIVES", "plan", "plan_bundle"]

OBJECTIVES = ("latency", "throughput")


def plan(
    model: Graph | Bundle,
    target: str | Path | AnyTarget,
    *,
    format: str = "int8",
    data: Dataset | None = None,
    minimize: str = "latency",
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> PlannedModel:
    """Decide how a model runs on a target, quantising it first where that was not done.

    Parameters
    ----------
    model : Graph or Bundle
        A float graph, which is quantised, or a bundle, which is planned as it is. It is planned for one sample a pass.
    target : str, Path or hardware model
    format : str
        Default formats, for example ``int8`` or ``w4a8``; of a graph.
    data : Dataset, optional
        Calibration samples; seeded noise where there are none, and the plan says so.
    minimize : {"latency", "throughput"}
        ``throughput`` minimises the time between results.
    seed : int
        Of the noise.
    progress : callable
        Told what is about to be done.
    **options
        Of :func:`recipe`: method, overrides, symmetric, granularity, group, rounding, correct_bias, memory_gib.

    Returns
    -------
    PlannedModel
        ``predicted.feasible`` is false, and ``predicted.violations`` say why, where nothing fits.

    Raises
    ------
    LeptonError
        For wrong arguments.
    """
    hardware = target_of(target)
    if minimize not in OBJECTIVES:
        raise LeptonError(f"cannot minimise '{minimize}'", fix=f"choose {' or '.join(OBJECTIVES)}")
    if isinstance(model, Bundle):
        if options:
            raise LeptonError(f"a bundle is quantised already; {', '.join(options)} came too late", fix="plan the graph instead")
        return plan_bundle(model, hardware, model.precision, minimize, None, seed)
    chosen = recipe(format, **options)
    bundle, calibration = quantized(model, chosen, data, seed, progress)
    return plan_bundle(bundle, hardware, chosen.precision, minimize, calibration, seed)


def plan_bundle(
    bundle: Bundle, target: AnyTarget, precision: Precision, minimize: str, calibration: Calibration | None, seed: int
) -> PlannedModel:
    """Plan a bundle that is already quantised; see :func:`plan`."""
    planner: Planner = registry.load(registry.Group.PLANNERS, target.family)
    lowered = lower_bundle(bundle)
    draft: PlanDraft = planner(PlanRequest(bundle, lowered, target, precision, minimize))
    decided = Plan(
        model=bundle.graph.name,
        bundle_digest=bundle.digest,
        target=target.name,
        target_digest=target.digest,
        precision=str(precision),
        calibration=calibration,
        seed=seed,
        objective=minimize,
        ops=draft.ops,
        memory=draft.memory or map_memory(lowered, bytes_of=stored_bytes),
        predicted=draft.predicted,
    )
    return PlannedModel(decided, bundle, target)
