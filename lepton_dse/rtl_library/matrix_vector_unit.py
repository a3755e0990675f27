"""Declares ``rtl/matrix_vector_unit.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.rtl_library.declaration import (
    Direction,
    Family,
    MemoryStyle,
    ModuleDeclaration,
    Multiplier,
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


def _resources(p: MatrixVectorUnit, family: Family) -> Resources:
    raise RuntimeError


MATRIX_VECTOR_UNIT = ModuleDeclaration("matrix_vector_unit", MatrixVectorUnit, _ports, _resources, _timing)
