"""Importer of ONNX files: the operators of perceptrons, convolutional networks and transformers, opsets 9 to 28.

Tensors of a graph are float32, whatever real type the file stores. Operators on constants are evaluated, batch
normalisations go into the weights before them, layer normalisations, Gelu and softmax that an exporter spelt out become one
operation each, and nothing in a file is executed.
"""

from __future__ import annotations

from lepton_dse.importers.onnx.importer import IMPORTER, load_onnx

__all__ = ["IMPORTER", "load_onnx"]
