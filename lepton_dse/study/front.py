"""Pareto fronts and the volume that they dominate; both exact, all objectives minimised.

A point dominates another if it is nowhere greater and somewhere smaller. Of equal points only the first belongs to a front.

The hypervolume of a set is the volume of all that lies between it and a reference point. It is summed point by point: what each
adds to those after it is its own box less the volume of those others cut down to that box (L. While, L. Bradstreet, L. Barone,
"A Fast Way of Calculating Exact Hypervolumes", IEEE Trans. Evolutionary Computation 16(1), 2012), and in the plane by one sweep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lepton_dse.jit import kernel

__all__ = ["crowding", "hypervolume", "pareto_front", "relative_hypervolume"]

Points = NDArray[np.float64]


def pareto_front(points: ArrayLike) -> NDArray[np.intp]:
    """Indices of the points that no other dominates, ascending.

    Parameters
    ----------
    points : array_like of float, shape (N, objectives)
        Without NaN. Two objectives take O(N log N).
    """
    values = np.asarray(points, np.float64)
    if len(values) == 0:
        return np.zeros(0, np.intp)
    order = np.lexsort(values.T[::-1])  # by the first objective, then the second ...; stable, so the first of equals leads
    kept = _sweep(values[order]) if values.shape[1] <= 2 else _archive(values[order])
    return np.sort(order[kept])


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that a set of points dominates, up to a reference point.

    Parameters
    ----------
    points : array_like of float, shape (N, objectives)
    reference : array_like of float, shape (objectives,)
        A point that is not below it in every objective adds nothing.
    """
    corner = np.asarray(reference, np.float64)
    values = np.asarray(points, np.float64).reshape(-1, len(corner))
    values = values[(values < corner).all(axis=1)]
    return _volume(values[pareto_front(values)], corner)


def relative_hypervolume(front: Points, best: Points, worst: Points) -> float:
    """Share of the box between two points that a front dominates; a side without length does not count.

    Parameters
    ----------
    front : ndarray, shape (N, objectives)
    best, worst : ndarray, shape (objectives,)
    """
    wide = worst > best
    if not wide.any():
        return 1.0 if len(front) else 0.0
    scaled = (front[:, wide] - best[wide]) / (worst[wide] - best[wide])
    return hypervolume(np.maximum(scaled, 0.0), np.ones(int(wide.sum())))


def crowding(points: Points) -> Points:
    """Distance of each point's neighbours along every objective, summed, as a share of that objective's range.

    Infinite at either end of an objective (K. Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE
    Trans. Evolutionary Computation 6(2), 2002).
    """
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        width = column[order[-1]] - column[order[0]]
        if width <= 0:
            continue
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / width
    return distance


def _sweep(ordered: Points) -> NDArray[np.bool_]:
    """One or two objectives, in lexical order: a point stays where its last objective is below all before it."""
    last = ordered[:, -1]
    before = np.minimum.accumulate(np.concatenate(([np.inf], last[:-1])))
    kept: NDArray[np.bool_] = last < before
    kept[0] = True  # even where it is infinite
    return kept


@kernel
def _archive(ordered: Any) -> Any:
    """Any number of objectives, in lexical order: no point is dominated by a later one, so each is held against those kept."""
    count, objectives = ordered.shape
    kept = np.zeros(count, np.bool_)
    members = np.empty(count, np.int64)
    size = 0
    for point in range(count):
        free = True
        for member in range(size):
            nowhere_greater = True
            for axis in range(objectives):
                if ordered[members[member], axis] > ordered[point, axis]:
                    nowhere_greater = False
                    break
            if nowhere_greater:
                free = False
                break
        if free:
            kept[point] = True
            members[size] = point
            size += 1
    return kept


def _volume(front: Points, corner: Points) -> float:
    """Of points that do not dominate one another, all below the corner."""
    if len(front) == 0:
        return 0.0
    if front.shape[1] <= 2:
        return _area(front, corner)
    front = front[np.argsort(-front[:, -1], kind="stable")]  # the worst in the last objective first: what follows is cut least
    total = 0.0
    for position, point in enumerate(front):
        others = np.maximum(front[position + 1 :], point)
        total += float(np.prod(corner - point)) - _volume(others[pareto_front(others)], corner)
    return total


def _area(front: Points, corner: Points) -> float:
    if front.shape[1] == 1:
        return float(corner[0] - front[0, 0])
    ordered = front[np.argsort(front[:, 0])]
    right = np.append(ordered[1:, 0], corner[0])
    return float(np.sum((right - ordered[:, 0]) * (corner[1] - ordered[:, 1])))
