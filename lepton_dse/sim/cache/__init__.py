"""Set-associative LRU caches, exact for every access, over the addresses of a blocked loop nest in program order."""

from lepton_dse.sim.cache.lru import Cache, Counts, Hierarchy, simulate_trace
from lepton_dse.sim.cache.nest import ORDERS, PACK_COLUMNS, Addresses, Blocking, Layout, Problem, conv_problem, matrix_problem
from lepton_dse.sim.cache.simulate import fill, simulate

__all__ = [
    "ORDERS",
    "PACK_COLUMNS",
    "Addresses",
    "Blocking",
    "Cache",
    "Counts",
    "Hierarchy",
    "Layout",
    "Problem",
    "conv_problem",
    "fill",
    "matrix_problem",
    "simulate",
    "simulate_trace",
]
