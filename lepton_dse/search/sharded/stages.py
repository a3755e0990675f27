"""Where a pipeline's stages begin: the cuts whose slowest stage is fastest, by dynamic programming over consecutive operations.

A stage takes what its operations take under the strategies of the whole graph, and what it sends to the next one. With T[s, j]
the least slowest stage of the first j operations in s stages::

    T[s, j] = min over i < j of max(T[s - 1, i], time(i .. j) + send(j))

Exact over all cuts into consecutive operations; ties go to the earliest.
"""

from __future__ import annotations

import itertools

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.memory import stored_bytes
from lepton_dse.parallel.collectives import Collective
from lepton_dse.schedule.sharded import Compute, ShardedProgram
from lepton_dse.schedule.sharded.stages import crossing
from lepton_dse.search.sharded.pricing import StepPrices
from lepton_dse.sim.network import Group, exchange_time

__all__ = ["operation_seconds", "plan_stages", "send_seconds"]


def operation_seconds(program: ShardedProgram, prices: StepPrices) -> list[float]:
    """Seconds of each operation of a program's graph, exchanges before it and the closing of its sums among them."""
    order = {op.name: number for number, op in enumerate(program.graph.ops)}
    made = {op.output: number for number, op in enumerate(program.graph.ops)}
    found, pending, last = [0.0] * len(order), 0.0, 0
    for step in program.steps:
        seconds = prices.step(step, program)
        if isinstance(step, Compute):
            last = order.get(step.op.name, last)
            found[last] += seconds + pending
            pending = 0.0
        elif program.shards[step.result].source in made and made[program.shards[step.result].source] == last:
            found[last] += seconds  # of the result that was just made
        else:
            pending += seconds
    found[last] += pending
    return found


def send_seconds(graph: Graph, program: ShardedProgram, prices: StepPrices) -> list[float]:
    """Seconds of sending what would pass before each operation, tensor after tensor, part by part."""
    group = Group(2, program.mesh.devices)
    homes = {shard.source: shard for name, shard in program.shards.items() if name == shard.source}
    return [
        sum(
            exchange_time(Collective.POINT_TO_POINT, float(stored_bytes(homes[name].tensor)), group, prices.fabric)
            for name in names
        )
        for names in crossing(graph)
    ]


def plan_stages(program: ShardedProgram, stages: int, prices: StepPrices) -> tuple[tuple[str, ...], float]:
    """Operations with which the stages after the first begin, and seconds of the slowest stage.

    Parameters
    ----------
    program : ShardedProgram
        Of the whole graph on the mesh of one stage.
    stages : int
    prices : StepPrices

    Raises
    ------
    LeptonError
        If there are more stages than operations, or more devices than the cluster has.
    """
    operations = program.graph.ops
    if not 1 <= stages <= len(operations):
        raise LeptonError(f"{stages} stages of {len(operations)} operations", where=program.graph.name, fix="use fewer stages")
    if stages * program.mesh.devices > prices.cluster.size:
        what = f"{stages} stages of {program.mesh.devices} devices on a cluster of {prices.cluster.size}"
        raise LeptonError(what, where=prices.cluster.name, fix="use fewer stages, a smaller mesh or a larger cluster")
    before = [0.0, *itertools.accumulate(operation_seconds(program, prices))]
    sends = [*send_seconds(program.graph, program, prices), 0.0]
    count = len(operations)
    best = [before[j] + sends[j] for j in range(count + 1)]
    choices: list[list[int]] = []
    for stage in range(2, stages + 1):
        row, chosen = [float("inf")] * (count + 1), [0] * (count + 1)
        for j in range(stage, count + 1):
            for i in range(stage - 1, j):
                slowest = max(best[i], before[j] - before[i] + sends[j])
                if slowest < row[j]:
                    row[j], chosen[j] = slowest, i
        best = row
        choices.append(chosen)
    begins, at = [], count
    for chosen in reversed(choices):
        at = chosen[at]
        begins.append(operations[at].name)
    return tuple(reversed(begins)), best[count]
