"""What a program takes and gives, position by position."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.emit.xla.types import element_type
from lepton_dse.schedule.sharded import FoldedProgram

__all__ = ["Argument", "Result", "arguments", "results"]


@dataclass(frozen=True)
class Argument:
    """What ``main`` takes at one position.

    Parameters
    ----------
    shards : tuple of str
        In the program: one, or those of all rounds of a loop, which lie behind one another along a new first axis.
    sources : tuple of str
        Inputs or constants of the whole graph, likewise.
    constant : bool
        Whether it is a weight.
    shape : tuple of int
        Of the whole tensor.
    kind : str
        Element type.
    cuts : tuple of tuple of str
        Axes of the mesh that cut each dimension.
    """

    shards: tuple[str, ...]
    sources: tuple[str, ...]
    constant: bool
    shape: tuple[int, ...]
    kind: str
    cuts: tuple[tuple[str, ...], ...]

    @property
    def label(self) -> str:
        """Its name for a person."""
        return self.sources[0] if len(self.sources) == 1 else f"{self.sources[0]} and {len(self.sources) - 1} more"


@dataclass(frozen=True)
class Result:
    """What ``main`` gives at one position: the output of the graph, and as of :class:`Argument`."""

    shard: str
    source: str
    shape: tuple[int, ...]
    kind: str
    cuts: tuple[tuple[str, ...], ...]

    @property
    def label(self) -> str:
        """Its name for a person."""
        return self.source


def arguments(folded: FoldedProgram) -> tuple[Argument, ...]:
    """Inputs in the graph's order, then weights as steps first need them; one that lies in two ways on the mesh stands twice."""
    program = folded.program
    stacks = {shard: names for loop in folded.loops for names in loop.stacked for shard in names}
    columns: list[tuple[tuple[str, ...], bool]] = [((shard,), False) for shard in program.inputs.values()]
    columns += [(names, True) for names in dict.fromkeys(stacks.get(shard, (shard,)) for shard in program.constants)]
    of_inputs = {shard: source for source, shard in program.inputs.items()}
    found = []
    for shards, constant in columns:
        sources = tuple((program.constants if constant else of_inputs)[shard] for shard in shards)
        tensor, cuts = program.graph.tensors[sources[0]], program.shards[shards[0]].layout.cuts
        shape, along = ((len(shards), *tensor.shape), ((), *cuts)) if len(shards) > 1 else (tensor.shape, cuts)
        found.append(Argument(shards, sources, constant, shape, element_type(tensor.format), along))
    return tuple(found)


def results(folded: FoldedProgram) -> tuple[Result, ...]:
    """Outputs in the graph's order."""
    program, found = folded.program, []
    for source, shard in program.outputs.items():
        tensor = program.graph.tensors[source]
        found.append(Result(shard, source, tensor.shape, element_type(tensor.format), program.shards[shard].layout.cuts))
    return tuple(found)
