"""Verification of CUDA artefacts: their text run on the CPU thread by thread, compiled by NVIDIA's compiler, timed on a GPU."""

from __future__ import annotations

from lepton_dse.verify.cuda.verifier import VERIFIER

__all__ = ["VERIFIER"]
