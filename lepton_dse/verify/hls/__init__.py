"""Verification of C++ for high-level synthesis: its C simulation with g++, every word of the vectors."""

from lepton_dse.verify.hls.verify import VERIFIER

__all__ = ["VERIFIER"]
