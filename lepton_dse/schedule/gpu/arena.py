"""Where inputs and results of kernels lie in one arena, by when kernels need them."""

from __future__ import annotations

from lepton_dse.memory import Block, Placement, place
from lepton_dse.schedule.gpu.program import GpuProgram

__all__ = ["GPU_ALIGNMENT", "arena"]

GPU_ALIGNMENT = 256
"""Bytes: what an allocation is aligned to (CUDA C++ Programming Guide, device memory accesses)."""


def arena(program: GpuProgram) -> Placement:
    """Offsets of all stored tensors; no two that a kernel needs at once overlap.

    Inputs are there before the first kernel, outputs until after the last.
    """
    first = {buffer.owner: 0 for buffer in program.inputs}
    last = dict(first)
    for step, kernel in enumerate(program.kernels):
        first.setdefault(kernel.result.owner, step)
        for owner in (kernel.result.owner, *(source.buffer.owner for source in kernel.operands.values())):
            if owner in first:
                last[owner] = step
    for buffer in program.outputs:
        last[buffer.owner] = len(program.kernels)
    sizes = {buffer.owner: buffer.bytes for buffer in program.buffers.values()}
    blocks = [Block(owner, sizes[owner], first[owner], last[owner]) for owner in first]
    return place(blocks, alignment=GPU_ALIGNMENT)
