"""What a cost model is; one a target family, registered in ``lepton_dse.cost_models``."""

from __future__ import annotations

from collections.abc import Callable

from lepton_dse.ir.graph import Graph
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CostReport
from lepton_dse.targets import AnyTarget

__all__ = ["CostModel"]

CostModel = Callable[[Graph, AnyTarget, Precision, int], CostReport]
"""Predicted cost of a float graph on a target of the model's family, at a precision, for a batch of samples."""
