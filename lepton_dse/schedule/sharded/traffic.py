"""What a sharded program sends: each collective with the devices that take part and its bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lepton_dse.memory import stored_bytes
from lepton_dse.numerics.formats import NumberFormat
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Mesh
from lepton_dse.schedule.sharded.program import Exchange, Halo, ShardedProgram

__all__ = ["Sent", "neighbours", "predicted_collectives"]


@dataclass(frozen=True)
class Sent:
    """One collective.

    Parameters
    ----------
    kind : Collective
    groups : tuple of tuple of int
        Devices that exchange, group by group in the order of their parts; of a POINT_TO_POINT, sender and receiver.
    message_bytes : int
        S as in :mod:`lepton_dse.parallel.collectives`: the gathered result, the whole input of a reduce-scatter, what a device
        sends and keeps in an all-to-all, what it adds in an all-reduce, what one sends to its neighbour.
    form : NumberFormat
        Of its elements.
    """

    kind: Collective
    groups: tuple[tuple[int, ...], ...]
    message_bytes: int
    form: NumberFormat


def predicted_collectives(program: ShardedProgram) -> tuple[Sent, ...]:
    """The collectives of a program in order; one for each exchange between more than one device, one a side for each border."""
    return tuple(_sent(program))


def neighbours(mesh: Mesh, axis: str, *, forward: bool) -> tuple[tuple[int, int], ...]:
    """Sender and receiver along an axis: to the device behind, or to the one before."""
    pairs = [pair for group in mesh.groups((axis,)) for pair in itertools.pairwise(group)]
    return tuple(sorted(pairs if forward else [(receiver, sender) for sender, receiver in pairs]))


def _sent(program: ShardedProgram) -> Iterator[Sent]:
    mesh = program.mesh
    for step in program.steps:
        if isinstance(step, Exchange) and mesh.size(step.axes) > 1:
            gathers = step.kind is Collective.ALL_GATHER
            source = program.shards[step.source].tensor
            whole = stored_bytes(source) * (mesh.size(step.axes) if gathers else 1)
            yield Sent(step.kind, mesh.groups(step.axes), whole, source.format)
        if isinstance(step, Halo) and mesh.size((step.axis,)) > 1:
            source = program.shards[step.source].tensor
            row = stored_bytes(source) // source.shape[step.dimension]
            for rows, forward in ((step.before, True), (step.after, False)):
                if rows:
                    pairs = neighbours(mesh, step.axis, forward=forward)
                    yield Sent(Collective.POINT_TO_POINT, pairs, rows * row, source.format)
