"""The sharded program of a plan, and a plan's sharding from the strategies that a search found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lepton_dse.errors import InvalidPlanError, LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.parallel.layout import Layout, Mesh, replicated
from lepton_dse.plan import Sharding, Shared
from lepton_dse.schedule.sharded.build import OpStrategy, Strategies, sharded_program
from lepton_dse.schedule.sharded.program import ShardedProgram
from lepton_dse.schedule.sharded.stages import StagedProgram, staged_program

__all__ = ["planned_sharding", "planned_stages", "sharding_of", "unshared_program"]

P = TypeVar("P")


def planned_sharding(graph: Graph, sharding: Sharding) -> ShardedProgram:
    """The steps that a plan means, its stages left out.

    Parameters
    ----------
    graph : Graph
        What the plan lowers to, for the plan's batch.
    sharding : Sharding

    Raises
    ------
    InvalidPlanError
        If the sharding is not of this graph, or contradicts itself.
    """
    return _planned(graph, sharding, sharded_program)


def planned_stages(graph: Graph, sharding: Sharding) -> StagedProgram:
    """The stages that a plan means; see :func:`planned_sharding`."""

    def staged(graph: Graph, mesh: Mesh, strategies: Strategies) -> StagedProgram:
        return staged_program(graph, mesh, strategies, sharding.stages)

    return _planned(graph, sharding, staged)


def _planned(graph: Graph, sharding: Sharding, build: Callable[[Graph, Mesh, Strategies], P]) -> P:
    unknown = set(sharding.ops) - {op.name for op in graph.ops} or set(sharding.inputs) - set(graph.inputs)
    if unknown:
        raise InvalidPlanError("the sharding names what the model does not have", where=min(unknown), fix="plan again")
    try:
        mesh = Mesh.parse(sharding.mesh)
        strategies = Strategies(
            {name: Layout(cuts) for name, cuts in sharding.inputs.items()},
            {name: OpStrategy(dict(entry.loops), Layout(entry.home)) for name, entry in sharding.ops.items()},
        )
        used = {axis for entry in sharding.ops.values() for axes in (*entry.home, *entry.loops.values()) for axis in axes}
        used |= {axis for cuts in sharding.inputs.values() for axes in cuts for axis in axes}
        if not used <= set(mesh.names):
            raise InvalidPlanError("the mesh has no such axis", where=min(used - set(mesh.names)), fix="plan again")
        return build(graph, mesh, strategies)
    except InvalidPlanError:
        raise
    except LeptonError as error:
        raise InvalidPlanError(error.what, where=error.where or "sharding", fix="plan again") from error


def sharding_of(strategies: Strategies, mesh: Mesh, cluster: str, batch: int, stages: tuple[str, ...] = ()) -> Sharding:
    """Strategies as a plan keeps them."""
    return Sharding(
        cluster=cluster,
        mesh=str(mesh),
        batch=batch,
        inputs={name: layout.cuts for name, layout in strategies.inputs.items()},
        ops={name: Shared(loops=dict(entry.shared), home=entry.home.cuts) for name, entry in strategies.ops.items()},
        stages=stages,
    )


def unshared_program(graph: Graph) -> ShardedProgram:
    """A graph on one device."""

    def whole(name: str) -> Layout:
        return replicated(len(graph.tensors[name].shape))

    strategies = Strategies(
        {name: whole(name) for name in graph.inputs}, {op.name: OpStrategy({}, whole(op.output)) for op in graph.ops}
    )
    return sharded_program(graph, Mesh((("x", 1),)), strategies)
