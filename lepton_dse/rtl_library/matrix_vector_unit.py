"""Declares ``rtl/matrix_vector_unit.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.rtl_library.components import (
    adder,
    block_memory,
    counter_bits,
    distributed_memory,
    multipliers,
    weighted,
)
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
    bits,
    clock_ports,
    stream_ports,
)
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
        What the products are made of.
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
    registers = 2 + p.levels  # operands, products, tree
    return ModuleTiming(
        (
            Process("matrix_vector_unit.engine", step < p.sf, never),
            Process("matrix_vector_unit.accumulate", never, step % p.sf == p.sf - 1),
        ),
        (Edge(0, 1, step, registers, step - registers, 0),),
        0,
        1,
        Channel.pipe(1),
    )


def _pace(p: MatrixVectorUnit) -> Pace:
    return Pace(p.sf, p.nf, p.nf * p.sf)


def _resources(p: MatrixVectorUnit, family: Family) -> Resources:
    products = p.pe * p.simd
    dsp = products * multipliers(p.a_width, p.w_width, family) if p.mult is Multiplier.DSP else 0
    # Xilinx's multipliers take in the product register, and one of each pair the first level's adder with its register.
    absorbed = family.absorbs and dsp > 0
    tree = _tree(p)
    adders = sum(
        adder(tree[level][node], family)
        for level in range(2 if absorbed else 1, len(tree))
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
    stages = 2 + p.levels
    ff = sums * (2 if p.sf > 1 else 1) + stages * (3 if p.sf > 1 else 1) + 1 + counters + (2 if repeats else 0)
    ff += word * (1 + (not in_block) if repeats else 0 if absorbed else 1)
    ff += p.pe * sum(sum(level) for level in tree[2 if absorbed else 0 :])
    return Resources(lut=lut, ff=ff, dsp=dsp, bram18=block_memory(word, p.sf, family) if in_block else 0)


def _tree(p: MatrixVectorUnit) -> list[list[int]]:
    """Return the bits of the nodes of each level of the adder tree; a node without a partner passes on as it is."""
    levels = [[p.a_width + p.w_width] * p.simd]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [below[i : i + 2] for i in range(0, len(below), 2)]
        levels.append([max(pair) + len(pair) - 1 for pair in pairs])
    return levels


MATRIX_VECTOR_UNIT = ModuleDeclaration(
    "matrix_vector_unit", MatrixVectorUnit, _ports, _resources, _timing, _pace, uses=("signed_product",)
)
