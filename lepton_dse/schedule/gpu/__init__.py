"""What a GPU runs: kernels, each with its tile and its operands. A simulator counts exactly these, an emitter writes them."""

from __future__ import annotations

from lepton_dse.schedule.gpu.arena import GPU_ALIGNMENT, arena, check_arena
from lepton_dse.schedule.gpu.choose import default_tile, engine_for, tiles_of
from lepton_dse.schedule.gpu.contraction import Contraction, Engine, Touch
from lepton_dse.schedule.gpu.kernels import ELEMENT_THREADS, ROW_THREADS, Buffer, Edge, Kernel, Nest, Read, Source, Subscript
from lepton_dse.schedule.gpu.operands import Blocks, Columns, Matrix, Operand, Packed4, Windows
from lepton_dse.schedule.gpu.products import Problem
from lepton_dse.schedule.gpu.program import Choose, GpuProgram, epilogue_operands, gpu_program, planned_program
from lepton_dse.schedule.gpu.registers import REGISTER_BAND, Limits, estimated_registers, planned_blocks, resident_blocks
from lepton_dse.schedule.gpu.tile import STATIC_SHARED_BYTES, Tile

__all__ = [
    "ELEMENT_THREADS",
    "GPU_ALIGNMENT",
    "REGISTER_BAND",
    "ROW_THREADS",
    "STATIC_SHARED_BYTES",
    "Blocks",
    "Buffer",
    "Choose",
    "Columns",
    "Contraction",
    "Edge",
    "Engine",
    "GpuProgram",
    "Kernel",
    "Limits",
    "Matrix",
    "Nest",
    "Operand",
    "Packed4",
    "Problem",
    "Read",
    "Source",
    "Subscript",
    "Tile",
    "Touch",
    "Windows",
    "arena",
    "check_arena",
    "default_tile",
    "engine_for",
    "epilogue_operands",
    "estimated_registers",
    "gpu_program",
    "planned_blocks",
    "planned_program",
    "resident_blocks",
    "tiles_of",
]
