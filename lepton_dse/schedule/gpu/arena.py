"""Where inputs and results of kernels lie in one arena, by when kernels need them: the memory map of a GPU's plan."""

from __future__ import annotations

from lepton_dse.errors import InvalidPlanError
from lepton_dse.memory import Block, place
from lepton_dse.plan import MemoryMap, Place
from lepton_dse.schedule.gpu.program import GpuProgram

__all__ = ["GPU_ALIGNMENT", "arena", "check_arena"]

GPU_ALIGNMENT = 256
"""Bytes: what an allocation is aligned to (CUDA C++ Programming Guide, device memory accesses)."""


def arena(program: GpuProgram) -> MemoryMap:
    """Offsets of all stored tensors; no two that a kernel needs at once overlap.

    Inputs are there before the first kernel, outputs until after the last; steps are kernels, not operations.
    """
    blocks = _blocks(program)
    placed = place(blocks, alignment=GPU_ALIGNMENT)
    places = {
        block.name: Place(
            offset=placed.offsets[block.name], bytes=block.bytes, first=block.first, last=block.last, block=block.name
        )
        for block in blocks
    }
    return MemoryMap(places=places, peak=placed.peak, bound=placed.bound, alignment=GPU_ALIGNMENT)


def check_arena(mapped: MemoryMap, program: GpuProgram) -> None:
    """Hold a plan's map against the kernels that it is said to be of.

    Raises
    ------
    InvalidPlanError
        If the kernels store other tensors, or one in other bytes or for another time, or less aligned.
    """
    wanted = {block.name: (block.bytes, block.first, block.last) for block in _blocks(program)}
    found = {name: (entry.bytes, entry.first, entry.last) for name, entry in mapped.places.items()}
    if mapped.alignment % GPU_ALIGNMENT or found != wanted:
        name = next((name for name in (*wanted, *found) if found.get(name) != wanted.get(name)), "")
        what = f"see tensor '{name}'" if name else f"it is aligned to {mapped.alignment} bytes"
        raise InvalidPlanError(f"the memory map is not that of the kernels, {what}", where=program.graph.name, fix="plan again")


def _blocks(program: GpuProgram) -> list[Block]:
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
    return [Block(owner, sizes[owner], first[owner], last[owner]) for owner in first]
