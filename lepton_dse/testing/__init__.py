"""Hypothesis strategies, shipped for authors of plug-ins; needs hypothesis."""

from lepton_dse.testing.strategies import StreamCase, graphs, precisions, stream_cases

__all__ = ["StreamCase", "graphs", "precisions", "stream_cases"]
