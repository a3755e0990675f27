"""The graph: tensors, operations as loop nests, their meaning in NumPy, and their file form."""

from lepton_dse.ir.graph import Graph, GraphBuilder, LoweredGraph
from lepton_dse.ir.loops import LoopNest
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor

__all__ = ["Graph", "GraphBuilder", "LoopNest", "LoweredGraph", "Op", "Tensor"]
