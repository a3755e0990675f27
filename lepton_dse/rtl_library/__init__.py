"""One declaration for each module of ``rtl/``: the contract that the emitter, the simulator and the tests read.

:data:`MODULES` holds them by the module's name. A declaration's parameter class gives the Verilog's parameters; its
functions give ports, timing and resources for a value of that class.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lepton_dse.rtl_library.argmax import ARGMAX, Argmax
from lepton_dse.rtl_library.average_pool import AVERAGE_POOL, AveragePool
from lepton_dse.rtl_library.declaration import (
    Direction,
    Family,
    MemoryStyle,
    ModuleDeclaration,
    Multiplier,
    Pace,
    Parameters,
    Port,
    Range,
    Resources,
)
from lepton_dse.rtl_library.frame_last import FRAME_LAST, FrameLast
from lepton_dse.rtl_library.matrix_vector_unit import MATRIX_VECTOR_UNIT, MatrixVectorUnit
from lepton_dse.rtl_library.max_pool import MAX_POOL, MaxPool
from lepton_dse.rtl_library.requantize import REQUANTIZE, Requantize
from lepton_dse.rtl_library.rom import ROM, Rom, RomSlice, rom_resources, rom_slices
from lepton_dse.rtl_library.sliding_window import SLIDING_WINDOW, SlidingWindow, WindowShape
from lepton_dse.rtl_library.stream_fifo import STREAM_FIFO, StreamFifo
from lepton_dse.rtl_library.stream_register import STREAM_REGISTER, StreamRegister
from lepton_dse.rtl_library.timing import NONE, Channel, Edge, ModuleTiming, Process
from lepton_dse.rtl_library.width_converter import WIDTH_CONVERTER, WidthConverter

__all__ = [
    "MODULES",
    "NONE",
    "Argmax",
    "AveragePool",
    "Channel",
    "Direction",
    "Edge",
    "Family",
    "FrameLast",
    "MatrixVectorUnit",
    "MaxPool",
    "MemoryStyle",
    "ModuleDeclaration",
    "ModuleTiming",
    "Multiplier",
    "Pace",
    "Parameters",
    "Port",
    "Process",
    "Range",
    "Requantize",
    "Resources",
    "Rom",
    "RomSlice",
    "SlidingWindow",
    "StreamFifo",
    "StreamRegister",
    "WidthConverter",
    "WindowShape",
    "rom_resources",
    "rom_slices",
]

MODULES: Mapping[str, ModuleDeclaration[Any]] = MappingProxyType(
    {
        declaration.name: declaration
        for declaration in (
            ARGMAX,
            AVERAGE_POOL,
            FRAME_LAST,
            MATRIX_VECTOR_UNIT,
            MAX_POOL,
            REQUANTIZE,
            ROM,
            SLIDING_WINDOW,
            STREAM_FIFO,
            STREAM_REGISTER,
            WIDTH_CONVERTER,
        )
    }
)
