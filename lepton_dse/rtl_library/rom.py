"""Declares ``rtl/rom.v``, and how a memory image is cut into block memories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import block_memory, logic_rom
from lepton_dse.rtl_library.declaration import (
    Depth,
    Direction,
    End,
    Family,
    MemoryStyle,
    ModuleDeclaration,
    Parameters,
    Path,
    Port,
    Range,
    Resources,
    bits,
)
from lepton_dse.rtl_library.paths import LEVEL, loaded

__all__ = ["ROM", "Rom", "RomSlice", "rom_resources", "rom_slices"]


@dataclass(frozen=True)
class Rom(Parameters):
    """A memory image with a synchronous read.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words.
    init : str
        The file that ``$readmemh`` loads, as the Verilog names it.
    style : MemoryStyle
        What the memory is made of.
    """

    width: Annotated[int, Range(1, 65536)]
    depth: Annotated[int, Range(1, 1 << 24)]
    init: str
    style: MemoryStyle


def _ports(p: Rom) -> tuple[Port, ...]:
    return (
        Port("clk", Direction.INPUT, 1),
        Port("en", Direction.INPUT, 1),
        Port("addr", Direction.INPUT, bits(p.depth)),
        Port("data", Direction.OUTPUT, p.width),
    )


def _resources(p: Rom, family: Family) -> Resources:
    if p.style is MemoryStyle.BLOCK:
        return Resources(bram18=block_memory(p.width, p.depth, family))
    # Registers of an image of one word are constants.
    return Resources(lut=logic_rom(p.width, p.depth, family), ff=0 if p.depth == 1 else p.width)


_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
_SHALLOW = 128


def _paths(p: Rom, family: Family) -> tuple[Path, ...]:
    if p.style is MemoryStyle.BLOCK:
        return (Path(End.INPUT, End.REGISTER), Path(End.REGISTER, End.OUTPUT, Depth(blocks=1)))
    if p.depth == 1:
        return (Path(End.INPUT, End.REGISTER), Path(End.REGISTER, End.OUTPUT))
    # Up to seven bits of address: tables and the multiplexers beside them.
    return (Path(End.INPUT, End.REGISTER, LEVEL + loaded(p.width)), Path(End.REGISTER, End.OUTPUT))


ROM = ModuleDeclaration("rom", Rom, _ports, _resources, None, None, _paths)


@dataclass(frozen=True)
class RomSlice:
    """Some columns of a memory image, made of one primitive.

    Parameters
    ----------
    lowest_bit : int
        Position of the slice's bit 0 in the whole word.
    width : int
        Bits.
    style : MemoryStyle
        One block memory of 18 kbit, or logic.
    """

    lowest_bit: int
    width: int
    style: MemoryStyle


def rom_slices(width: int, depth: int) -> tuple[RomSlice, ...]:
    """Cut a memory image into columns that each fit one block memory exactly.

    Parameters
    ----------
    width : int
        Bits of a word.
    depth : int
        Words.

    Returns
    -------
    tuple of RomSlice
        From the least significant bit upwards; the last may be narrower.

    Raises
    ------
    LeptonError
        If no block memory is that deep.
    """
    if depth < _SHALLOW:
        return (RomSlice(0, width, MemoryStyle.DISTRIBUTED),)
    shape = _columns(depth)
    return tuple(RomSlice(bit, min(shape, width - bit), MemoryStyle.BLOCK) for bit in range(0, width, shape))


def rom_resources(width: int, depth: int, family: Family) -> Resources:
    """Primitives of all slices of a memory image, counted without making them.

    Raises
    ------
    LeptonError
        As :func:`rom_slices`.
    """
    if depth < _SHALLOW:
        return _resources(Rom(width, depth, "", MemoryStyle.DISTRIBUTED), family)
    # Every slice is one block memory: that is what its shape was chosen for.
    return Resources(bram18=-(-width // _columns(depth)))


def _columns(depth: int) -> int:
    """Bits of a word of the block memory that is just deep enough."""
    shape = next((columns for columns, words in _SHAPES if depth <= words), None)
    if shape is None:
        raise LeptonError(
            f"a memory of {depth} words is deeper than any block memory",
            where="rom",
            fix=f"fold less, so that it has at most {_SHAPES[-1][1]} words",
        )
    return shape
