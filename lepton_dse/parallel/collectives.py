"""Collectives: who sends what to whom, in how many steps and bytes.

Rings (P. Patarasuk and X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel Distrib.
Comput. 69, 2009): each device sends a part to its neighbour, step after step. Trees (R. Thakur, R. Rabenseifner and W. Gropp,
"Optimization of Collective Communication Operations in MPICH", Int. J. High Perform. Comput. Appl. 19, 2005): halving and
doubling over ``log2 n`` steps move the bytes of a ring, a binomial tree sends the whole message ``log2 n`` times in a row.

S counts the gathered result of an all-gather, the whole input of a reduce-scatter, and what one device sends and keeps in an
all-to-all.
"""

from __future__ import annotations

import math
from enum import StrEnum

__all__ = ["Algorithm", "Collective", "steps", "volume"]


class Collective(StrEnum):
    """Which devices send what to whom."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "all_to_all"
    BROADCAST = "broadcast"
    POINT_TO_POINT = "point_to_point"


class Algorithm(StrEnum):
    """In which order."""

    RING = "ring"
    TREE = "tree"


def steps(kind: Collective, devices: int, algorithm: Algorithm = Algorithm.RING) -> int:
    """Steps between devices that follow one another; 0 on one device."""
    if devices < 2:
        return 0
    if kind in (Collective.ALL_TO_ALL, Collective.POINT_TO_POINT):
        return 1
    across = devices - 1 if algorithm is Algorithm.RING else math.ceil(math.log2(devices))
    return (2 if kind is Collective.ALL_REDUCE else 1) * across


def volume(kind: Collective, message_bytes: float, devices: int, algorithm: Algorithm = Algorithm.RING) -> float:
    """Bytes that each device sends; of a broadcast the most that one does, one step's after another's."""
    if devices < 2:
        return 0.0
    if kind is Collective.POINT_TO_POINT:
        return message_bytes
    if kind is Collective.BROADCAST:
        return message_bytes * (1 if algorithm is Algorithm.RING else steps(kind, devices, algorithm))
    return (2 if kind is Collective.ALL_REDUCE else 1) * message_bytes * (devices - 1) / devices
