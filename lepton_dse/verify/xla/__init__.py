"""Verification of XLA artefacts: run on as many devices of the processor as the mesh has, the compiled program looked through."""

from __future__ import annotations

from lepton_dse.verify.xla.verifier import VERIFIER

__all__ = ["VERIFIER"]
