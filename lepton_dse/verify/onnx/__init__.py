"""Verification of ONNX artefacts: run by onnxruntime, operation by operation and as a whole, against the reference."""

from __future__ import annotations

from lepton_dse.verify.onnx.verifier import VERIFIER

__all__ = ["VERIFIER"]
