"""A sharded graph as a pipeline: consecutive operations in stages, each on a mesh of its own, and what passes between these.

Stages run the strategies of the whole graph, so that a tensor arrives in the layout in which it was left: device r of a stage
sends its part to device r of another. What constants alone determine is computed in every stage that reads it, and never sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_dse.errors import InvalidPlanError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.ops import Op
from lepton_dse.memory import stored_bytes
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.schedule.sharded.build import Strategies, sharded_program
from lepton_dse.schedule.sharded.program import ShardedProgram

__all__ = ["StagedProgram", "Transfer", "crossing", "staged_program"]


@dataclass(frozen=True)
class Transfer:
    """A tensor that one stage leaves and another reads.

    Parameters
    ----------
    tensor : str
    source, sink : int
        Stages.
    layout : Layout
    device_bytes : int
        That each device of the stage sends.
    """

    tensor: str
    source: int
    sink: int
    layout: Layout
    device_bytes: int


@dataclass(frozen=True)
class StagedProgram:
    """A graph as stages.

    Parameters
    ----------
    graph : Graph
        The whole one.
    stages : tuple of ShardedProgram
        In order, each of its own part of the graph, on meshes alike.
    transfers : tuple of Transfer
    begins : tuple of str
        Operations with which the stages after the first begin.
    """

    graph: Graph
    stages: tuple[ShardedProgram, ...]
    transfers: tuple[Transfer, ...]
    begins: tuple[str, ...]

    @property
    def mesh(self) -> Mesh:
        """Of one stage."""
        return self.stages[0].mesh

    @property
    def devices(self) -> int:
        """Of all stages."""
        return len(self.stages) * self.mesh.devices


def staged_program(graph: Graph, mesh: Mesh, strategies: Strategies, begins: Sequence[str]) -> StagedProgram:
    """The stages of a graph.

    Parameters
    ----------
    graph : Graph
    mesh : Mesh
        Of each stage.
    strategies : Strategies
    begins : sequence of str
        Operations with which the stages after the first begin, in the graph's order.

    Raises
    ------
    InvalidPlanError
        If one is no operation, they are out of order, or a strategy is missing or does not come out even.
    """
    order = {op.name: number for number, op in enumerate(graph.ops)}
    unknown = [name for name in begins if name not in order]
    if unknown:
        raise InvalidPlanError(
            "a stage begins with an operation that the model does not have", where=unknown[0], fix="plan again"
        )
    starts = [0, *(order[name] for name in begins)]
    if sorted(set(starts)) != starts:
        raise InvalidPlanError("stages begin out of order", where=begins[0], fix="plan again")
    ends = [*starts[1:], len(graph.ops)]
    fixed = _fixed(graph)
    parts = [_part(graph, graph.ops[start:end], fixed) for start, end in zip(starts, ends, strict=True)]
    made = {op.output: stage for stage, part in enumerate(parts) for op in part.ops if op.output not in fixed}
    homes = {op.output: strategies.ops[op.name].home for op in graph.ops if op.name in strategies.ops} | dict(strategies.inputs)
    programs, transfers = [], []
    for stage, part in enumerate(parts):
        arriving = {name: homes[name] for name in part.inputs if name in homes}
        programs.append(sharded_program(part, mesh, Strategies(arriving, strategies.ops)))
        for name in part.inputs:
            if name in made:
                size = stored_bytes(programs[-1].shards[name].tensor)
                transfers.append(Transfer(name, made[name], stage, homes[name], size))
    return StagedProgram(graph, tuple(programs), tuple(transfers), tuple(begins))


def crossing(graph: Graph) -> list[tuple[str, ...]]:
    """For each operation, the tensors that would pass from a stage which ends before it to those behind."""
    fixed, order = _fixed(graph), {op.name: number for number, op in enumerate(graph.ops)}
    made = {op.output: number for number, op in enumerate(graph.ops) if op.output not in fixed}
    last = {name: max((order[op.name] for op in graph.consumers(name)), default=-1) for name in made}
    return [tuple(name for name, number in made.items() if number < position <= last[name]) for position in range(len(graph.ops))]


def _fixed(graph: Graph) -> set[str]:
    """What constants alone determine."""
    fixed = set(graph.constants)
    for op in graph.ops:
        if fixed.issuperset(op.inputs):
            fixed.add(op.output)
    return fixed


def _part(graph: Graph, operations: Sequence[Op], fixed: set[str]) -> Graph:
    """The graph of some consecutive operations, and of those on constants that they need."""
    needed = {name for op in operations for name in op.inputs}
    chosen = {op.name for op in operations}
    for op in reversed(graph.ops):  # from what is read back to the constants
        if op.output in needed and op.output in fixed and op.name not in chosen:
            chosen.add(op.name)
            needed.update(op.inputs)
    ordered = [op for op in graph.ops if op.name in chosen]
    outputs = {op.output for op in ordered}
    inputs = [name for name in graph.tensors if name in needed and name not in outputs and name not in graph.constants]
    read_later = {name for op in graph.ops if op.name not in chosen for name in op.inputs}
    given = [op.output for op in operations if op.output in graph.outputs or (op.output in read_later and op.output not in fixed)]
    constants = {name: graph.constants[name] for name in graph.constants if name in needed}
    names = dict.fromkeys((*inputs, *constants, *outputs))
    return type(graph)(graph.name, [graph.tensors[name] for name in names], ordered, inputs, given, constants)
