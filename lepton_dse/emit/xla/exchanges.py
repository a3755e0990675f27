"""Collectives and cuts: exactly one StableHLO collective an exchange, two at most a border."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_dse.emit.xla.body import Body, Value
from lepton_dse.emit.xla.types import tensor_type
from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Mesh
from lepton_dse.schedule.sharded import Cut, Exchange, Halo
from lepton_dse.schedule.sharded.traffic import neighbours

__all__ = ["border", "cut", "exchanged"]

_CHANNEL = "channel_handle = #stablehlo.channel_handle<handle = 1, type = 1>"


def exchanged(body: Body, step: Exchange, x: Value, mesh: Mesh) -> Value:
    """The result of a collective; along axes of one device that is the operand."""
    count = mesh.size(step.axes)
    if count == 1:
        return x
    groups = f"{_CHANNEL}, replica_groups = {_pairs(mesh.groups(step.axes))}"
    shape = list(x.shape)
    match step.kind:
        case Collective.ALL_REDUCE:
            text = f'"stablehlo.all_reduce"({x.name}) <{{{groups}, use_global_device_ids}}> {body.region("add", x.kind)}'
        case Collective.REDUCE_SCATTER:
            shape[step.dimension] //= count
            text = (
                f'"stablehlo.reduce_scatter"({x.name}) <{{{groups}, scatter_dimension = {step.dimension} : i64, '
                f"use_global_device_ids}}> {body.region('add', x.kind)}"
            )
        case Collective.ALL_GATHER:
            shape[step.dimension] *= count
            text = (
                f'"stablehlo.all_gather"({x.name}) <{{all_gather_dim = {step.dimension} : i64, {groups}, use_global_device_ids}}>'
            )
        case _:
            shape[step.dimension] //= count
            shape[step.joined] *= count
            text = (
                f'"stablehlo.all_to_all"({x.name}) <{{{_CHANNEL}, concat_dimension = {step.joined} : i64, '
                f"replica_groups = {_pairs(mesh.groups(step.axes))}, split_count = {count} : i64, "
                f"split_dimension = {step.dimension} : i64}}>"
            )
    return body.emit(f"{text} : ({x.type}) -> {tensor_type(tuple(shape), x.kind)}", tuple(shape), x.kind)


def cut(body: Body, step: Cut, x: Value, mesh: Mesh) -> Value:
    """A device's own part."""
    count = mesh.size(step.axes)
    if count == 1:
        return x
    size = x.shape[step.dimension] // count
    starts = [mesh.index(place, step.axes) * size for place in mesh.places()]
    begin = _of_device(body, np.asarray(starts, np.int32), "i32")
    zero = body.splat(0, (), "i32")
    names = ", ".join(begin.name if axis == step.dimension else zero.name for axis in range(len(x.shape)))
    sizes = [size if axis == step.dimension else extent for axis, extent in enumerate(x.shape)]
    types = ", ".join([x.type, *[begin.type] * len(sizes)])
    text = f"stablehlo.dynamic_slice {x.name}, {names}, sizes = {sizes} : ({types}) -> {tensor_type(tuple(sizes), x.kind)}"
    return body.emit(text, tuple(sizes), x.kind)


def border(body: Body, step: Halo, x: Value, mesh: Mesh) -> Value:
    """The rows of both neighbours around one's own. Devices at the ends receive zeros, which `fill` then replaces."""
    extent = x.shape[step.dimension]
    parts = [x]
    if step.before:
        parts.insert(0, _received(body, step, x, mesh, extent - step.before, extent, forward=True))
    if step.after:
        parts.append(_received(body, step, x, mesh, 0, step.after, forward=False))
    return body.concatenate(parts, step.dimension)


def _received(body: Body, step: Halo, x: Value, mesh: Mesh, begin: int, end: int, *, forward: bool) -> Value:
    first = [begin if axis == step.dimension else 0 for axis in range(len(x.shape))]
    last = [end if axis == step.dimension else extent for axis, extent in enumerate(x.shape)]
    rows = body.slice(x, first, last)
    pairs = neighbours(mesh, step.axis, forward=forward)
    if not pairs:
        return body.like(rows, step.fill)
    text = f'"stablehlo.collective_permute"({rows.name}) <{{{_CHANNEL}, source_target_pairs = {_pairs(pairs)}}}>'
    found = body.emit(f"{text} : ({rows.type}) -> {rows.type}", rows.shape, rows.kind)
    if step.fill == 0:
        return found
    receives = {receiver for _, receiver in pairs}
    inside = np.asarray([device in receives for device in range(mesh.devices)])
    return body.select(_of_device(body, inside, "i1"), found, body.like(found, step.fill))


def _of_device(body: Body, table: NDArray[Any], kind: str) -> Value:
    """A device's own entry of a table."""
    number = body.emit("stablehlo.partition_id : tensor<ui32>", (), "ui32")
    entries = body.constant(table.astype(np.int32), "i32")
    text = (
        f"stablehlo.dynamic_slice {entries.name}, {number.name}, sizes = [1] : ({entries.type}, {number.type}) -> tensor<1xi32>"
    )
    entry = body.reshape(body.emit(text, (1,), "i32"), ())
    return body.compare("NE", entry, body.like(entry, 0)) if kind == "i1" else entry


def _pairs(groups: tuple[tuple[int, ...], ...]) -> str:
    rows, columns = len(groups), len(groups[0])
    return f"dense<{[list(group) for group in groups]}> : tensor<{rows}x{columns}xi64>"
