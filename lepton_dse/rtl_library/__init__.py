"""One declaration for each module of ``rtl/``: the contract that the emitter, the simulator and the tests read.

:data:`MODULES` holds them by the module's name. A declaration's parameter class gives the Verilog's parameters; its
functions give ports, timing and resources for a value of that class.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lepton_dse.rtl_library.add_requantize import ADD_REQUANTIZE, AddRequantize
from lepton_dse.rtl_library.argmax import ARGMAX, Argmax
from lepton_dse.rtl_library.average_pool import AVERAGE_POOL, AveragePool
from lepton_dse.rtl_library.axi_wrapper import AXI_REGISTERS, AXI_WRAPPER, AxiRegister, AxiWrapper
from lepton_dse.rtl_library.constants import constant_matrix
from lepton_dse.rtl_library.declaration import (
    Depth,
    Direction,
    End,
    Family,
    MemoryStyle,
    ModuleDeclaration,
    Multiplier,
    Pace,
    Parameters,
    Path,
    Port,
    Range,
    Resources,
)
from lepton_dse.rtl_library.declaration import bits as address_bits
from lepton_dse.rtl_library.depthwise_unit import DEPTHWISE_UNIT, DepthwiseUnit
from lepton_dse.rtl_library.frame_last import FRAME_LAST, FrameLast
from lepton_dse.rtl_library.lookup import LOOKUP, TABLE_BITS, Lookup
from lepton_dse.rtl_library.matrix_vector_unit import MATRIX_VECTOR_UNIT, MatrixVectorUnit
from lepton_dse.rtl_library.max_pool import MAX_POOL, MaxPool
from lepton_dse.rtl_library.requantize import REQUANTIZE, Requantize
from lepton_dse.rtl_library.rom import ROM, Rom, RomSlice, rom_resources, rom_slices
from lepton_dse.rtl_library.sliding_window import SLIDING_WINDOW, SlidingWindow, WindowShape
from lepton_dse.rtl_library.stream_concat import STREAM_CONCAT, StreamConcat
from lepton_dse.rtl_library.stream_fifo import STREAM_FIFO, StreamFifo
from lepton_dse.rtl_library.stream_fork import STREAM_FORK, StreamFork
from lepton_dse.rtl_library.stream_register import STREAM_REGISTER, StreamRegister
from lepton_dse.rtl_library.timing import NONE, Channel, Edge, ModuleTiming, Process
from lepton_dse.rtl_library.width_converter import WIDTH_CONVERTER, WidthConverter

__all__ = [
    "AXI_REGISTERS",
    "MODULES",
    "NONE",
    "TABLE_BITS",
    "AddRequantize",
    "Argmax",
    "AveragePool",
    "AxiRegister",
    "AxiWrapper",
    "Channel",
    "Depth",
    "DepthwiseUnit",
    "Direction",
    "Edge",
    "End",
    "Family",
    "FrameLast",
    "Lookup",
    "MatrixVectorUnit",
    "MaxPool",
    "MemoryStyle",
    "ModuleDeclaration",
    "ModuleTiming",
    "Multiplier",
    "Pace",
    "Parameters",
    "Path",
    "Port",
    "Process",
    "Range",
    "Requantize",
    "Resources",
    "Rom",
    "RomSlice",
    "SlidingWindow",
    "StreamConcat",
    "StreamFifo",
    "StreamFork",
    "StreamRegister",
    "WidthConverter",
    "WindowShape",
    "address_bits",
    "constant_matrix",
    "rom_resources",
    "rom_slices",
]

MODULES: Mapping[str, ModuleDeclaration[Any]] = MappingProxyType(
    {
        declaration.name: declaration
        for declaration in (
            ADD_REQUANTIZE,
            ARGMAX,
            AVERAGE_POOL,
            AXI_WRAPPER,
            DEPTHWISE_UNIT,
            FRAME_LAST,
            LOOKUP,
            MATRIX_VECTOR_UNIT,
            MAX_POOL,
            REQUANTIZE,
            ROM,
            SLIDING_WINDOW,
            STREAM_CONCAT,
            STREAM_FIFO,
            STREAM_FORK,
            STREAM_REGISTER,
            WIDTH_CONVERTER,
        )
    }
)
