"""What kernels with a thread for each element, or a warp for each row, ask of global memory; counted from their loops.

Every warp's addresses follow from the numbers of its threads. Reads whose place a value decides (tables, embeddings) are not
among them: how many they are is known, where they lie is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lepton_dse.schedule.gpu import ELEMENT_THREADS, ROW_THREADS, Edge, Nest, Read, Subscript
from lepton_dse.sim.gpu.traffic import Traffic, count_places

__all__ = ["nest_traffic"]

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
_LANES = 32


def nest_traffic(nest: Nest) -> tuple[Traffic, Traffic]:
    """Loads and stores of one launch; reads whose place a value decides are left out."""
    loads = Traffic(0, 0, 0)
    for read in nest.reads:
        if not read.indirect:
            size = read.source.buffer.element_bytes
            for places in _read_places(nest, read):
                loads += count_places(places, size) * (read.times if nest.rows else 1)
    stores = Traffic(0, 0, 0)
    for places in _written_places(nest):
        stores += count_places(places, nest.write_bytes)
    return loads, stores


def _warps(nest: Nest) -> tuple[dict[str, Ints], Flags]:
    """Outer loops of every lane of every warp, shape (warps, 32), and whether it has work."""
    if nest.rows:
        number = np.repeat(np.arange(nest.blocks * (ROW_THREADS // _LANES))[:, None], _LANES, axis=1)
    else:
        number = np.arange(nest.blocks * ELEMENT_THREADS).reshape(-1, _LANES)
    inside = number < nest.results
    steps = [int(np.prod(nest.extents[place + 1 :], dtype=np.int64)) for place in range(len(nest.extents))]
    counted = np.where(inside, number, 0)
    loops = {}
    for name, place, divisor, modulus in nest.coordinates:
        step = steps[place] * divisor if nest.extents else 1
        loops[name] = counted // step % modulus
    return loops, inside


def _inner_points(nest: Nest, loops: dict[str, Ints], inside: Flags) -> Iterator[tuple[dict[str, Ints], Flags]]:
    """Loops and activity at each step of the inner loops: a point of them, or 32 neighbours of a row."""
    if not nest.rows:
        for point in itertools.product(*(range(extent) for _, extent in nest.inner)):
            yield loops | {name: np.asarray(value) for (name, _), value in zip(nest.inner, point, strict=True)}, inside
        return
    lane = np.arange(_LANES)
    for first in range(0, nest.length, _LANES):
        element = np.minimum(first + lane, nest.length - 1)
        step, along = nest.length, {}
        for name, extent in nest.inner:
            step //= extent
            along[name] = np.broadcast_to(element // step % extent, inside.shape)
        yield loops | along, inside & (first + lane < nest.length)


def _read_places(nest: Nest, read: Read) -> Iterator[Ints]:
    loops, inside = _warps(nest)
    # A warp that writes along its row does so in its last pass, with everything that belongs to the element.
    if read.inner or (nest.rows and nest.written_along):
        for point, active in _inner_points(nest, loops, inside):
            yield _places(read.subscripts, point, active)
    else:
        yield _places(read.subscripts, loops, inside)


def _written_places(nest: Nest) -> Iterator[Ints]:
    loops, inside = _warps(nest)
    if not nest.rows:
        yield _places(nest.write, loops, inside)
    elif nest.written_along:
        for point, active in _inner_points(nest, loops, inside):
            yield _places(nest.write, point, active)
    else:
        yield _places(nest.write, loops, inside & (np.arange(_LANES) == 0))


def _places(subscripts: Sequence[Subscript], loops: dict[str, Ints], active: Flags) -> Ints:
    """Elements that the lanes reach, -1 where they reach none."""
    place = np.zeros(active.shape, np.int64)
    for subscript in subscripts:
        index = subscript.index.offset + sum((loops[name] * factor for name, factor in subscript.index.terms), np.int64(0))
        index = np.broadcast_to(index, active.shape)
        last = subscript.extent - 1
        if subscript.edge is Edge.OUTSIDE:
            active = active & (index >= 0) & (index <= last)
        elif subscript.edge is Edge.CLAMP:
            index = np.clip(index, 0, last)
        elif subscript.edge is Edge.REFLECT:
            index = last - np.abs(last - np.abs(index))
        place = place + index * subscript.stride
    return np.where(active, place, -1)
