"""ONNX models of graphs: float operators, or QDQ form (QuantizeLinear, DequantizeLinear) where numbers are integers."""

from __future__ import annotations

from lepton_dse.emit.onnx.exporter import Applied, Exported, export, export_graph

__all__ = ["Applied", "Exported", "export", "export_graph"]
