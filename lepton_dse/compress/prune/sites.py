"""Where the weights of a network stand, and each layer's weights as a matrix (M, K): a row an output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op

__all__ = ["Site", "contractions", "output_axis", "refusal", "sites"]

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Site:
    """Weights that can be pruned.

    Parameters
    ----------
    name : str
        The constant.
    op : Op
        The first operation that multiplies with it.
    shape : tuple of int
        Of the constant: (M, C/groups, *K) of a Conv, (K, M) of a MatMul.
    """

    name: str
    op: Op
    shape: tuple[int, ...]

    @property
    def is_conv(self) -> bool:
        """Whether the weights are those of a convolution."""
        return isinstance(self.op.attributes, ops.Conv)

    def rows(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """A value a weight as a matrix of shape (M, K), K running over the input channels and, within each, the taps."""
        return value.reshape(len(value), -1) if self.is_conv else value.T

    def from_rows(self, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The inverse of :meth:`rows`, for a choice of weights."""
        return rows.reshape(self.shape) if self.is_conv else rows.T

    def summed_last(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """A value a weight with the input channels last: (M, taps, C/groups) of a Conv, (M, K) of a MatMul."""
        return np.moveaxis(value.reshape(*self.shape[:2], -1), 1, 2) if self.is_conv else value.T

    def from_summed_last(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The inverse of :meth:`summed_last`, for a choice of weights."""
        return np.moveaxis(chosen, 2, 1).reshape(self.shape) if self.is_conv else chosen.T


def contractions(graph: Graph) -> tuple[Op, ...]:
    """The operations that multiply with weights, or could."""
    return tuple(op for op in graph.ops if isinstance(op.attributes, ops.Conv | ops.MatMul))


def refusal(graph: Graph, op: Op) -> str:
    """Why the weights of a contraction cannot be pruned; empty if they can."""
    name = op.inputs[1]
    if name not in graph.constants:
        return "its second factor is computed, not a constant"
    if not graph.tensors[name].format.is_float:
        return f"its weights are {graph.tensors[name].format}"
    if isinstance(op.attributes, ops.MatMul) and len(graph.tensors[name].shape) != 2:
        return f"its weights have {len(graph.tensors[name].shape)} axes, not two"
    if name in graph.outputs:
        return "its weights are an output of the graph"
    return ""


def sites(graph: Graph) -> tuple[Site, ...]:
    """All weights that can be pruned, each constant once, in order of computation."""
    found: dict[str, Site] = {}
    for op in contractions(graph):
        if not refusal(graph, op):
            found.setdefault(op.inputs[1], Site(op.inputs[1], op, graph.tensors[op.inputs[1]].shape))
    return tuple(found.values())


def output_axis(op: Op) -> int:
    """Axis of the output channels within the weights of a contraction."""
    return 0 if isinstance(op.attributes, ops.Conv) else 1
