"""Executes what every device of a mesh runs, all of them in one process: what emitted programs are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.ir.semantics import evaluate
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Layout, Mesh
from lepton_dse.schedule.sharded import Compute, Cut, Exchange, Halo, ShardedProgram, Step

__all__ = ["joined", "part", "placed", "run_sharded", "run_step"]

Array = NDArray[Any]


def part(whole: Array, layout: Layout, mesh: Mesh, place: Mapping[str, int]) -> Array:
    """What the device at a place holds of a tensor without open sums."""
    found = whole
    for dimension, axes in enumerate(layout.cuts):
        found = _portion(found, dimension, mesh.size(axes), mesh.index(place, axes))
    return found


def joined(parts: list[Array], layout: Layout, mesh: Mesh) -> Array:
    """The whole tensor from the parts of all devices, in the order of their numbers."""
    shape = [extent * mesh.size(axes) for extent, axes in zip(parts[0].shape, layout.cuts, strict=True)]
    whole = np.empty(shape, parts[0].dtype)
    for place, held in zip(mesh.places(), parts, strict=True):
        part(whole, layout, mesh, place)[...] = held
    return whole


def run_sharded(program: ShardedProgram, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The whole outputs of a sharded program.

    Parameters
    ----------
    program : ShardedProgram
    feeds : mapping of str to ndarray
        The whole inputs, in their formats.

    Returns
    -------
    dict of str to ndarray
    """
    held = placed(program, feeds)
    for step in program.steps:
        held[step.op.output if isinstance(step, Compute) else step.result] = run_step(step, program, held)
    return {name: joined(held[shard], program.shards[shard].layout, program.mesh) for name, shard in program.outputs.items()}


def placed(program: ShardedProgram, feeds: Mapping[str, Array]) -> dict[str, list[Array]]:
    """Each device's part of every input and weight, by shard."""
    mesh, found = program.mesh, {}
    wholes = [(shard, feeds[name]) for name, shard in program.inputs.items()]
    wholes += [(shard, program.graph.constants[source]) for shard, source in program.constants.items()]
    for shard, whole in wholes:
        found[shard] = [part(whole, program.shards[shard].layout, mesh, place) for place in mesh.places()]
    return found


def run_step(step: Step, program: ShardedProgram, held: Mapping[str, list[Array]]) -> list[Array]:
    """What one step gives on every device.

    Parameters
    ----------
    step : Step
    program : ShardedProgram
    held : mapping of str to list of ndarray
        Of every shard that the step reads, the part of each device.
    """
    mesh = program.mesh
    if isinstance(step, Compute):
        output = program.shards[step.op.output].tensor
        tensors = [program.shards[name].tensor for name in step.op.inputs]
        return [
            evaluate(step.op, [held[name][device] for name in step.op.inputs], output, tensors) for device in range(mesh.devices)
        ]
    source = held[step.source]
    if isinstance(step, Cut):
        return [
            _portion(source[device], step.dimension, mesh.size(step.axes), mesh.index(place, step.axes))
            for device, place in enumerate(mesh.places())
        ]
    results: list[Array] = list(source)
    axes = (step.axis,) if isinstance(step, Halo) else step.axes
    for group in mesh.groups(axes):
        values = [source[device] for device in group]
        made = _bordered(step, values) if isinstance(step, Halo) else _exchanged(step, values)
        for device, value in zip(group, made, strict=True):
            results[device] = value
    return results


def _exchanged(step: Exchange, values: list[Array]) -> list[Array]:
    count = len(values)
    match step.kind:
        case Collective.ALL_REDUCE:
            return [_sum(values)] * count
        case Collective.REDUCE_SCATTER:
            return [_portion(_sum(values), step.dimension, count, index) for index in range(count)]
        case Collective.ALL_GATHER:
            return [np.concatenate(values, step.dimension)] * count
        case _:
            sent = [[_portion(value, step.dimension, count, index) for index in range(count)] for value in values]
            return [np.concatenate([pieces[index] for pieces in sent], step.joined) for index in range(count)]


def _sum(values: list[Array]) -> Array:
    total = values[0].astype(np.int64) if values[0].dtype.kind in "iu" else values[0]
    for value in values[1:]:
        total = total + value
    return total.astype(values[0].dtype)


def _bordered(step: Halo, values: list[Array]) -> list[Array]:
    def edge(value: Array, count: int) -> Array:
        shape = list(value.shape)
        shape[step.dimension] = count
        return np.full(shape, step.fill, value.dtype)

    def rows(value: Array, begin: int, end: int) -> Array:
        index = [slice(None)] * value.ndim
        index[step.dimension] = slice(begin, end)
        return value[tuple(index)]

    found = []
    for place, value in enumerate(values):
        extent = value.shape[step.dimension]
        first, last = place == 0, place == len(values) - 1
        before = edge(value, step.before) if first else rows(values[place - 1], extent - step.before, extent)
        after = edge(value, step.after) if last else rows(values[place + 1], 0, step.after)
        found.append(np.concatenate([before, value, after], step.dimension))
    return found


def _portion(value: Array, dimension: int, count: int, index: int) -> Array:
    size = value.shape[dimension] // count
    place = [slice(None)] * value.ndim
    place[dimension] = slice(index * size, (index + 1) * size)
    return value[tuple(place)]
