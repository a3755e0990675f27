"""From one layout of a tensor to another: the exchanges, in an order that depends on the two layouts alone.

Open sums close first: an axis whose addends are wanted cut is a reduce-scatter, else an all-reduce. An axis that moves from one
dimension to another is an all-to-all. What is cut and wanted whole is gathered, innermost axis first; what is whole and wanted
cut is cut where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lepton_dse.parallel.collectives import Collective
from lepton_dse.parallel.layout import Layout

__all__ = ["Move", "moves"]


@dataclass(frozen=True)
class Move:
    """One exchange, or a cut that sends nothing.

    Parameters
    ----------
    kind : Collective or None
        None for a cut.
    axes : tuple of str
    dimension, joined : int
        As of :class:`~lepton_dse.schedule.sharded.program.Exchange`.
    result : Layout
    """

    kind: Collective | None
    axes: tuple[str, ...]
    dimension: int
    joined: int
    result: Layout


def moves(source: Layout, wanted: Layout) -> list[Move]:
    """The exchanges from a layout to another without open sums.

    Parameters
    ----------
    source, wanted : Layout
        Of one tensor; `wanted` has no open sum.
    """
    found = list(_moves([list(axes) for axes in source.cuts], list(source.partial), wanted))
    end = found[-1].result if found else source
    assert end == wanted, f"{source} to {wanted} ended at {end}"
    return found


def _moves(cuts: list[list[str]], partial: list[str], wanted: Layout) -> Iterator[Move]:
    def now() -> Layout:
        return Layout(tuple(map(tuple, cuts)), tuple(partial))

    target = {axis: dimension for dimension, axes in enumerate(wanted.cuts) for axis in axes}
    whole = tuple(axis for axis in partial if not _joins(axis, cuts, wanted))
    if whole:
        for axis in whole:
            partial.remove(axis)
        yield Move(Collective.ALL_REDUCE, whole, -1, -1, now())
    for axis in tuple(partial):
        dimension = target[axis]
        if not _joins(axis, cuts, wanted):
            partial.remove(axis)
            yield Move(Collective.ALL_REDUCE, (axis,), -1, -1, now())
            continue
        partial.remove(axis)
        cuts[dimension].append(axis)
        yield Move(Collective.REDUCE_SCATTER, (axis,), dimension, -1, now())
    for dimension, axes in enumerate(cuts):
        # The innermost axis moves to where it is wanted next.
        while axes and axes[-1] in target and target[axes[-1]] != dimension and _joins(axes[-1], cuts, wanted):
            axis = axes.pop()
            cuts[target[axis]].append(axis)
            yield Move(Collective.ALL_TO_ALL, (axis,), target[axis], dimension, now())
    for dimension, axes in enumerate(cuts):
        kept = 0
        while kept < len(axes) and kept < len(wanted.cuts[dimension]) and axes[kept] == wanted.cuts[dimension][kept]:
            kept += 1
        if kept < len(axes):
            gathered = tuple(axes[kept:])
            del axes[kept:]
            yield Move(Collective.ALL_GATHER, gathered, dimension, -1, now())
    for dimension, axes in enumerate(cuts):
        missing = wanted.cuts[dimension][len(axes) :]
        if missing:
            axes.extend(missing)
            yield Move(None, tuple(missing), dimension, -1, now())


def _joins(axis: str, cuts: list[list[str]], wanted: Layout) -> bool:
    """Whether cutting a dimension by this axis next leads to what is wanted."""
    for dimension, axes in enumerate(wanted.cuts):
        if axis in axes:
            place = axes.index(axis)
            return tuple(cuts[dimension]) == axes[:place]
    return False
