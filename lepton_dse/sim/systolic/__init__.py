"""Systolic arrays: closed forms of their cycles, and a machine that executes them cell by cell."""

from lepton_dse.sim.systolic.array import ArrayRun, simulate
from lepton_dse.sim.systolic.timing import (
    Array,
    Dataflow,
    array_cycles,
    folds,
    output_stationary_cycles,
    weight_stationary_cycles,
)

__all__ = [
    "Array",
    "ArrayRun",
    "Dataflow",
    "array_cycles",
    "folds",
    "output_stationary_cycles",
    "simulate",
    "weight_stationary_cycles",
]
