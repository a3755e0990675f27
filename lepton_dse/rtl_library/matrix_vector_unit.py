"""Declares ``rtl/matrix_vector_unit.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import (
    adder,
    block_memory,
    counter_bits,
    distributed_memory,
    multipliers,
    weighted,
)
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
    bits,
    clock_ports,
    stream_ports,
)
from lepton_dse.rtl_library.paths import LEVEL, added, elastic, loaded, logic, multiplied
from lepton_dse.rtl_library.timing import Channel, Edge, ModuleTiming, Process

__all__ = ["MATRIX_VECTOR_UNIT", "MatrixVectorUnit"]


@dataclass(frozen=True)
class MatrixVectorUnit(Parameters):
    """Products of a matrix with a stream of vectors, plus a bias.

    Parameters
    ----------
    a_width, w_width : int
        Bits of an activation and of a weight, both signed.
    acc_width : int
        Bits of a sum; sums are exact modulo 2**acc_width.
    pe, simd : int
        Rows and columns of a step.
    nf, sf : int
        Steps over the rows and over the columns: the matrix has ``nf * pe`` rows and ``sf * simd`` columns.
    mult : Multiplier
        What the products are made of. Packed ones need an even `pe`: rows in pairs share a multiplier for each column.
    style : MemoryStyle
        What keeps a vector for the later rows; unused where ``nf`` is 1.
    """

    a_width: Annotated[int, Range(2, 16)]
    w_width: Annotated[int, Range(2, 16)]
    acc_width: Annotated[int, Range(2, 64)]
    pe: Annotated[int, Range(1, 4096)]
    simd: Annotated[int, Range(1, 4096)]
    nf: Annotated[int, Range(1, 65536)]
    sf: Annotated[int, Range(1, 65536)]
    mult: Multiplier
    style: MemoryStyle

    @property
    def levels(self) -> int:
        """Registered levels of the adder tree."""
        return (self.simd - 1).bit_length()

    @property
    def packed(self) -> bool:
        """Whether a multiplier makes the products of two rows."""
        return self.mult is Multiplier.PACKED

    @property
    def stages(self) -> int:
        """Registers between a step and its sum: operands, products, the parting of packed ones, the tree."""
        return 2 + self.packed + self.levels

    def check(self) -> None:
        """Require rows in pairs where products are packed."""
        super().check()
        if self.packed and self.pe % 2:
            raise LeptonError(
                f"packed products of {self.pe} rows", where="matrix_vector_unit", fix="take an even number of rows a step"
            )


def _ports(p: MatrixVectorUnit) -> tuple[Port, ...]:
    return (
        *clock_ports(),
        *stream_ports(p.simd * p.a_width, p.pe * p.acc_width),
        Port("w_en", Direction.OUTPUT, 1),
        Port("w_addr", Direction.OUTPUT, bits(p.nf * p.sf)),
        Port("w_data", Direction.INPUT, p.pe * p.simd * p.w_width),
        Port("b_addr", Direction.OUTPUT, bits(p.nf)),
        Port("b_data", Direction.INPUT, p.pe * p.acc_width),
    )


def _timing(p: MatrixVectorUnit) -> ModuleTiming:
    step = np.arange(p.nf * p.sf, dtype=np.int64)
    never = np.zeros(len(step), dtype=np.bool_)
    return ModuleTiming(
        (
            Process("matrix_vector_unit.engine", step < p.sf, never),
            Process("matrix_vector_unit.accumulate", never, step % p.sf == p.sf - 1),
        ),
        (Edge(0, 1, step, p.stages, step - p.stages, 0),),
        0,
        1,
        Channel.pipe(1),
    )


def _pace(p: MatrixVectorUnit) -> Pace:
    return Pace(p.sf, p.nf, p.nf * p.sf)


def _resources(p: MatrixVectorUnit, family: Family) -> Resources:
    products = p.pe * p.simd
    pairs = products // 2 if p.packed else 0
    dsp = products * multipliers(p.a_width, p.w_width, family) if p.mult is Multiplier.DSP else 0
    dsp += pairs * multipliers(p.a_width, p.a_width + 2 * p.w_width + 1, family)
    # Xilinx's multipliers take in the product register, and one of each pair the first level's adder with its register; packed
    # products are parted before they are added.
    absorbed = family.absorbs and dsp > 0
    inside = absorbed and not p.packed
    tree = _tree(p)
    adders = sum(
        adder(tree[level][node], family)
        for level in range(2 if inside else 1, len(tree))
        for node in range(len(tree[level - 1]) // 2)
    )
    short, long = sorted((p.a_width, p.w_width))
    written = products * (short - 1) * (long + 1) if p.mult is Multiplier.LUT else 0
    inferred = products * short * long if p.mult is Multiplier.DSP and not dsp else 0
    word = p.simd * p.a_width
    repeats = p.nf > 1
    in_block = repeats and p.style is MemoryStyle.BLOCK
    memory = distributed_memory(word, p.sf, 1, family) if repeats and not in_block else 0
    sums = p.pe * p.acc_width
    counters = counter_bits(p.nf) + counter_bits(p.sf) + counter_bits(p.nf * p.sf)
    lut = memory + p.pe * adders
    # Packing and parting add one bit to a word: AMD's carry chains take the word itself, without look-up tables before them.
    # A multiplier of ecp5 that is cut in two has its parts summed.
    wide, whole = p.a_width + 2 * p.w_width + 1, 2 * (p.a_width + p.w_width)
    parts = adder(max(0, whole - 18) if wide > 18 else 0, family)
    lut += 0 if family.amd else pairs * (adder(p.a_width + p.w_width, family) + adder(p.w_width + 1, family) + parts)
    lut += weighted(
        family,
        (word if repeats else 0, 0.93, 1.03),
        (sums if p.sf > 1 else 0, 2.0, 1.88),
        (sums if p.sf == 1 else 0, 0.26, 2.74),
        (counters, 0.82, 3.53),
        (written, 1.6, 2.25),
        (inferred, 1.88, 0.0),
    )
    # Registers: output and accumulators, one flag a stage or three where sums begin and end, operands, the tree.
    ff = sums * (2 if p.sf > 1 else 1) + p.stages * (3 if p.sf > 1 else 1) + 1 + counters + (2 if repeats else 0)
    ff += word * (1 + (not in_block) if repeats else 0 if absorbed else 1)
    ff += p.pe * sum(sum(level) for level in tree[2 if inside else 0 :])
    ff += 0 if absorbed else pairs * 2 * (p.a_width + p.w_width)
    return Resources(lut=lut, ff=ff, dsp=dsp, bram18=block_memory(word, p.sf, family) if in_block else 0)


def _tree(p: MatrixVectorUnit) -> list[list[int]]:
    """Return the bits of the nodes of each level of the adder tree; a node without a partner passes on as it is."""
    levels = [[p.a_width + p.w_width] * p.simd]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [below[i : i + 2] for i in range(0, len(below), 2)]
        levels.append([max(pair) + len(pair) - 1 for pair in pairs])
    return levels


def _paths(p: MatrixVectorUnit, family: Family) -> tuple[Path, ...]:
    # Packed products put two weights into one operand, which takes a sum.
    factor = p.a_width + 2 * p.w_width + 1 if p.packed else p.w_width
    hard, parts = p.mult is not Multiplier.LUT, multipliers(p.a_width, factor, family)
    product = multiplied(p.a_width, factor, family, hard=hard, parts=parts)
    weighed = added(p.w_width + 1, family) + product if p.packed else product
    repeats = p.nf > 1
    word, sums = p.simd * p.a_width, p.pe * p.acc_width
    # One flag chooses between the new operand and the kept one, for all bits of the word; each bit goes to all rows.
    operand = (LEVEL + loaded(word) if repeats else Depth()) + loaded(p.pe)
    again = Depth(blocks=1) + LEVEL if repeats and p.style is MemoryStyle.BLOCK else Depth()
    summed = (LEVEL if p.sf > 1 else Depth()) + added(p.acc_width, family)
    deepest = added(p.a_width + p.w_width + p.levels, family)
    steps, fold = counter_bits(p.nf * p.sf), counter_bits(p.nf)
    moved = p.pe * p.simd * (p.a_width + p.w_width) if not (family.absorbs and product.products) else p.pe * p.simd
    enable = LEVEL + loaded(p.pe * p.simd * p.w_width // 36)  # block memories of weights
    return (
        *elastic(p.stages + 2, moved, family),
        Path(End.INPUT, End.REGISTER, LEVEL + LEVEL + loaded(steps)),
        Path(End.INPUT, End.ADDRESS, enable),
        Path(End.READY_IN, End.ADDRESS, LEVEL + enable),
        Path(End.REGISTER, End.ADDRESS, logic(4 + fold, family) + enable),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.WORD, End.REGISTER, weighed),
        Path(End.WORD, End.REGISTER, summed),
        Path(End.REGISTER, End.REGISTER, operand + product),
        Path(End.REGISTER, End.REGISTER, again + product),
        Path(End.REGISTER, End.REGISTER, deepest),
        Path(End.REGISTER, End.REGISTER, loaded(sums) + summed),
        Path(End.REGISTER, End.REGISTER, added(steps, family) + LEVEL),
    )


MATRIX_VECTOR_UNIT = ModuleDeclaration(
    "matrix_vector_unit", MatrixVectorUnit, _ports, _resources, _timing, _pace, _paths, uses=("signed_product", "packed_product")
)
