"""The sequential schedule: operations in order, each a loop nest over named buffers.

This is what a processor runs. A simulator prices exactly this list and an emitter writes exactly this list.
"""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import LoopNest
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor

__all__ = ["Program", "Step", "program"]


@dataclass(frozen=True)
class Step:
    """One operation as it runs: its loop nest, the buffers it reads, and the one it writes."""

    op: Op
    nest: LoopNest
    reads: tuple[Tensor, ...]
    write: Tensor


@dataclass(frozen=True)
class Program:
    """Steps in order; views (Reshape) are no steps, their tensors alias a buffer.

    Parameters
    ----------
    name : str
    inputs, outputs : tuple of Tensor
        What a caller hands in and gets back.
    constants : tuple of Tensor
        Read-only buffers.
    buffers : tuple of Tensor
        Working buffers, one for each result that owns its storage.
    aliases : mapping of str to str
        Tensor name to the name of the buffer that holds it, for every tensor.
    steps : tuple of Step
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    buffers: tuple[Tensor, ...]
    aliases: dict[str, str]
    steps: tuple[Step, ...]


def program(graph: Graph) -> Program:
    """The sequential schedule of a graph: topological order, one buffer a tensor, views aliased."""
    aliases = {name: name for name in graph.tensors}
    steps, buffers = [], []
    for op in graph.ops:
        if isinstance(op.attributes, ops.Reshape):
            aliases[op.output] = aliases[op.inputs[0]]
            continue
        write = graph.tensors[op.output]
        buffers.append(write)
        steps.append(Step(op, graph.nest(op), tuple(graph.tensors[name] for name in op.inputs), write))
    return Program(
        graph.name,
        tuple(graph.tensors[name] for name in graph.inputs),
        tuple(graph.tensors[name] for name in graph.outputs),
        tuple(graph.tensors[name] for name in graph.constants),
        tuple(buffers),
        aliases,
        tuple(steps),
    )
