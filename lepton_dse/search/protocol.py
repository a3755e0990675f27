"""What a planner is asked and what it answers; one planner a target family, registered in ``lepton_dse.planners``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lepton_dse.bundle import Bundle
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport, MemoryMap, OpPlan
from lepton_dse.targets import AnyTarget

__all__ = ["PlanDraft", "PlanRequest", "Planner"]


@dataclass(frozen=True)
class PlanRequest:
    """What to plan.

    Parameters
    ----------
    bundle : Bundle
        The compressed model.
    graph : LoweredGraph
        What it lowers to.
    target : AnyTarget
        Of the planner's family.
    precision : Precision
        Default formats.
    objective : str
        ``latency`` or ``throughput``.
    """

    bundle: Bundle
    graph: LoweredGraph
    target: AnyTarget
    precision: Precision
    objective: str


@dataclass(frozen=True)
class PlanDraft:
    """Decisions and what they are predicted to cost.

    Parameters
    ----------
    predicted : CostReport
    ops : tuple of OpPlan
    memory : MemoryMap or None
        Where the program stores what it computes; None where it runs the operations one by one.
    """

    predicted: CostReport
    ops: tuple[OpPlan, ...]
    memory: MemoryMap | None = None


Planner = Callable[[PlanRequest], PlanDraft]
