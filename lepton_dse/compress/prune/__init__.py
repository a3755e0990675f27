"""Pruning of a float graph: weights that become exact zeros, and channels that leave so that shapes shrink."""

from lepton_dse.compress.prune.pruning import masked, prune
from lepton_dse.compress.prune.report import OpReport, report
from lepton_dse.compress.prune.settings import Kind, Scope

__all__ = ["Kind", "OpReport", "Scope", "masked", "prune", "report"]
