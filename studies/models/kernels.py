"""One layer as a kernel of a GPU: planned with a tile of one's own, written, and watched while it runs on the CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import lepton_dse as ld
from lepton_dse.errors import MissingToolError
from lepton_dse.flow import PlannedModel
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.schedule.gpu import Contraction, GpuProgram, Tile, planned_program
from lepton_dse.sim.gpu.machine import limits_of
from lepton_dse.sim.gpu.requests import requests
from lepton_dse.targets import GpuTarget
from lepton_dse.verify.cuda.executed import predicted_counts
from lepton_dse.verify.cuda.program import HostProgram, host_compiler

__all__ = ["contraction", "convolution", "counted", "predicted", "product", "program_of", "with_tile"]


def product(rows: int, columns: int, summed: int, weights: np.ndarray[Any, Any]) -> ld.Graph:
    """Rows times weights of shape (summed, columns)."""
    builder = GraphBuilder("product")
    x = builder.input("x", (1, rows, summed))
    w = builder.constant("w", weights.reshape(summed, columns).astype(np.float32))
    return builder.build([builder.add(ops.MatMul(), [x, w], output="y", name="y")])


def convolution(extent: int, weights: np.ndarray[Any, Any]) -> ld.Graph:
    """Windows of 3 x 3 over square images that keep their size; weights of shape (filters, channels, 3, 3)."""
    builder = GraphBuilder("convolution")
    x = builder.input("x", (1, weights.shape[1], extent, extent))
    w = builder.constant("w", weights.astype(np.float32))
    window = ops.Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    return builder.build([builder.add(ops.Conv(window), [x, w], output="y", name="y")])


def program_of(planned: PlannedModel) -> GpuProgram:
    """The kernels of a plan for a GPU."""
    target = planned.target
    assert isinstance(target, GpuTarget)
    return planned_program(planned.lowered, planned.plan, target.compute_capability.value, limits_of(target))


def contraction(program: GpuProgram) -> tuple[int, Contraction]:
    """Place and work of a program's one kernel that multiplies and sums."""
    ((place, work),) = ((index, k.work) for index, k in enumerate(program.kernels) if isinstance(k.work, Contraction))
    return place, work


def with_tile(planned: PlannedModel, tile: Tile) -> PlannedModel:
    """The plan with another tile for the operation called y."""
    entries = tuple(
        entry.model_copy(update={"mapping": tile.mapping}) if entry.op == "y" else entry for entry in planned.plan.ops
    )
    return PlannedModel(planned.plan.model_copy(update={"ops": entries}), planned.bundle, planned.target)


def predicted(program: GpuProgram) -> list[dict[str, int]]:
    """What each kernel asks of memory, as it is predicted."""
    return [predicted_counts(requests(kernel)) for kernel in program.kernels]


def counted(artefact: Path, program: GpuProgram) -> list[dict[str, int]]:
    """What each kernel of an artefact asks of memory, counted while it runs on this machine's CPU."""
    compiler = host_compiler()
    if compiler is None:
        raise MissingToolError("no C++ compiler", fix="install the system package 'g++'")
    with tempfile.TemporaryDirectory() as scratch:
        host = HostProgram.compile(compiler, artefact, Path(scratch), apart=True)
        return host.outputs("FORWARD", Path(scratch), len(program.outputs), watch=True)[1]
