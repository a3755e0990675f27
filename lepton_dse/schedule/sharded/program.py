"""What every device of a mesh runs: the same steps on its part of each tensor, and exchanges between them.

A :class:`ShardedProgram` is the list that the cost model prices, the interpreter executes and the emitter writes. Shapes of
tensors are those of one device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Layout, Mesh

__all__ = ["Compute", "Cut", "Exchange", "Halo", "Shard", "ShardedProgram", "Step", "operands_of", "result_of"]


@dataclass(frozen=True)
class Shard:
    """A tensor as one device sees it.

    Parameters
    ----------
    tensor : Tensor
        With a name of its own in the program, and the extents on one device.
    source : str
        The tensor of the whole graph that it is, or is a part or an addend of; empty for one that a step made up in between.
    layout : Layout
    """

    tensor: Tensor
    source: str
    layout: Layout


@dataclass(frozen=True)
class Compute:
    """An operation on parts, which needs nothing of other devices.

    Parameters
    ----------
    op : Op
        Inputs and output name shards; attributes are those on one device. Its name is that of the whole graph's operation, or
        that and a suffix where an operation takes several steps.
    """

    op: Op


@dataclass(frozen=True)
class Exchange:
    """A collective among the devices along some axes.

    Parameters
    ----------
    kind : Collective
        ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER or ALL_TO_ALL.
    axes : tuple of str
        The first one outermost.
    source, result : str
        Shards.
    dimension : int
        That an all-gather joins, a reduce-scatter cuts, and an all-to-all cuts.
    joined : int
        That an all-to-all joins; -1 for the other kinds.
    """

    kind: Collective
    axes: tuple[str, ...]
    source: str
    result: str
    dimension: int = -1
    joined: int = -1


@dataclass(frozen=True)
class Cut:
    """A device keeps its own part of what all devices along some axes hold alike; nothing is sent.

    Parameters
    ----------
    axes : tuple of str
    source, result : str
        Shards.
    dimension : int
    """

    axes: tuple[str, ...]
    source: str
    result: str
    dimension: int


@dataclass(frozen=True)
class Halo:
    """Neighbours along an axis send the rows next to the cut; devices at either end fill theirs with one value.

    Parameters
    ----------
    axis : str
    source, result : str
        Shards; the result has ``before + after`` more elements along `dimension`.
    dimension : int
    before, after : int
        Elements from the device before and from the one behind, at most what one device holds.
    fill : float
        What stands beyond both ends of the whole tensor.
    """

    axis: str
    source: str
    result: str
    dimension: int
    before: int
    after: int
    fill: float


Step = Compute | Exchange | Cut | Halo


def operands_of(step: Step) -> tuple[str, ...]:
    """The shards that a step reads."""
    return step.op.inputs if isinstance(step, Compute) else (step.source,)


def result_of(step: Step) -> str:
    """The shard that a step gives."""
    return step.op.output if isinstance(step, Compute) else step.result


@dataclass(frozen=True)
class ShardedProgram:
    """A graph on a mesh.

    Parameters
    ----------
    mesh : Mesh
    graph : Graph
        The whole one, lowered or not; its constants hold the whole weights.
    shards : mapping of str to Shard
        By name, all that steps name.
    inputs : mapping of str to str
        Shard of each of the graph's inputs.
    constants : mapping of str to str
        Source of each shard that is a part of a constant: a device's part is :func:`part` of the whole.
    steps : tuple of Step
        In order.
    outputs : mapping of str to str
        Shard of each of the graph's outputs; no sum of them is open.
    """

    mesh: Mesh
    graph: Graph
    shards: Mapping[str, Shard]
    inputs: Mapping[str, str]
    constants: Mapping[str, str]
    steps: tuple[Step, ...]
    outputs: Mapping[str, str]
