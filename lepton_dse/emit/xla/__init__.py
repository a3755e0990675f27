"""XLA programs: StableHLO text that every device of a mesh runs, and the same as JAX source."""

from __future__ import annotations

from lepton_dse.emit.xla.module import module_text
from lepton_dse.emit.xla.signature import Argument, Result, arguments, results

__all__ = ["Argument", "Result", "arguments", "module_text", "results"]
