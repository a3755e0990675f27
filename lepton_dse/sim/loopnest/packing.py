"""A problem as the arrays that the kernels read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lepton_dse.sim.loopnest.problem import ALONE, Problem

__all__ = ["HALO_FIELDS", "PackedProblem", "pack"]

HALO_FIELDS = 6
"""First loop, second loop or -1, stride, dilation, offset, extent."""


@dataclass(frozen=True)
class PackedProblem:
    """Arrays of a problem of D loops and X operands, the last of which is written.

    Parameters
    ----------
    extents : (D,) int64
    relevant : (X, D) bool
        Whether a step of a loop may change which elements an operand gives.
    single : (X, D) bool
        Whether the loop addresses the operand one to one.
    halos : (X, H, 6) int64
        See :data:`HALO_FIELDS`; unused rows are zero.
    halo_counts : (X,) int64
    """

    extents: NDArray[np.int64]
    relevant: NDArray[np.bool_]
    single: NDArray[np.bool_]
    halos: NDArray[np.int64]
    halo_counts: NDArray[np.int64]


def pack(problem: Problem) -> PackedProblem:
    """Arrays of a problem."""
    operands, loops = problem.operands, len(problem.loops)
    most = max(1, *(len(operand.halos) for operand in operands))
    relevant = np.zeros((len(operands), loops), np.bool_)
    single = np.zeros((len(operands), loops), np.bool_)
    halos = np.zeros((len(operands), most, HALO_FIELDS), np.int64)
    for row, operand in enumerate(operands):
        relevant[row, sorted(operand.relevant)] = True
        single[row, list(operand.loops)] = True
        for column, halo in enumerate(operand.halos):
            second = halo.second if halo.second != ALONE else -1
            halos[row, column] = (halo.first, second, halo.stride, halo.dilation, halo.offset, halo.extent)
    counts = np.array([len(operand.halos) for operand in operands], np.int64)
    return PackedProblem(np.array(problem.extents, np.int64), relevant, single, halos, counts)
