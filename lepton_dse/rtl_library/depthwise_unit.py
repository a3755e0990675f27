"""Declares ``rtl/depthwise_unit.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import counter_bits, distributed_memory, multipliers, weighted
from lepton_dse.rtl_library.declaration import (
    Depth,
    Direction,
    End,
    Family,
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
from lepton_dse.rtl_library.paths import LEVEL, added, banked, elastic, loaded, logic, multiplied
from lepton_dse.rtl_library.timing import Channel, Edge, ModuleTiming, Process

__all__ = ["DEPTHWISE_UNIT", "DepthwiseUnit"]


@dataclass(frozen=True)
class DepthwiseUnit(Parameters):
    """Each channel's window times weights of its own, plus a bias.

    Parameters
    ----------
    a_width, w_width : int
        Bits of an activation and of a weight, both signed.
    acc_width : int
        Bits of a sum; sums are exact modulo 2**acc_width.
    lanes : int
        Channels of a step.
    folds : int
        Steps of a tap.
    taps : int
        Taps of a window.
    mult : Multiplier
        What the products are made of; they have no operand in common, so they are not packed.
    """

    a_width: Annotated[int, Range(2, 16)]
    w_width: Annotated[int, Range(2, 16)]
    acc_width: Annotated[int, Range(2, 64)]
    lanes: Annotated[int, Range(1, 4096)]
    folds: Annotated[int, Range(1, 65536)]
    taps: Annotated[int, Range(1, 65536)]
    mult: Multiplier

    def check(self) -> None:
        """Require one product a multiplier."""
        super().check()
        if self.mult is Multiplier.PACKED:
            raise LeptonError("packed products", where="depthwise_unit", fix="make them of DSPs or of LUTs")


def _ports(p: DepthwiseUnit) -> tuple[Port, ...]:
    return (
        *clock_ports(),
        *stream_ports(p.lanes * p.a_width, p.lanes * p.acc_width),
        Port("w_en", Direction.OUTPUT, 1),
        Port("w_addr", Direction.OUTPUT, bits(p.taps * p.folds)),
        Port("w_data", Direction.INPUT, p.lanes * p.w_width),
        Port("b_addr", Direction.OUTPUT, bits(p.folds)),
        Port("b_data", Direction.INPUT, p.lanes * p.acc_width),
    )


def _timing(p: DepthwiseUnit) -> ModuleTiming:
    step = np.arange(p.taps * p.folds, dtype=np.int64)
    never = np.zeros(len(step), dtype=np.bool_)
    registers = 2  # operands, products
    return ModuleTiming(
        (
            Process("depthwise_unit.engine", ~never, never),
            Process("depthwise_unit.accumulate", never, step >= (p.taps - 1) * p.folds),
        ),
        (Edge(0, 1, step, registers, step - registers, 0),),
        0,
        1,
        Channel.pipe(1),
    )


def _pace(p: DepthwiseUnit) -> Pace:
    return Pace(p.taps * p.folds, p.folds, p.taps * p.folds)


def _resources(p: DepthwiseUnit, family: Family) -> Resources:
    dsp = p.lanes * multipliers(p.a_width, p.w_width, family) if p.mult is Multiplier.DSP else 0
    absorbed = family.absorbs and dsp > 0
    short, long = sorted((p.a_width, p.w_width))
    written = p.lanes * (short - 1) * (long + 1) if p.mult is Multiplier.LUT else 0
    inferred = p.lanes * short * long if p.mult is Multiplier.DSP and not dsp else 0
    sums = p.lanes * p.acc_width
    several = p.taps > 1
    kept = distributed_memory(sums, p.folds, 2, family) if p.folds > 1 and several else 0
    fold, steps = counter_bits(p.folds), counter_bits(p.taps * p.folds)
    lut = kept + weighted(
        family,
        # Xilinx's multipliers take in the accumulator's choice of an addend.
        (sums if several else 0, 1.0 if absorbed else 2.0, 1.88),
        (0 if several else sums, 0.0, 0.8),
        (fold + steps, 1.6, 3.5),
        (written, 1.6, 2.25),
        (inferred, 1.88, 0.0),
        (1, 6.0, 6.0),
    )
    ff = sums * (2 if several and p.folds == 1 else 1) + 1 + (6 if several else 2) + steps + (fold or 1)
    ff += 0 if absorbed else p.lanes * (2 * p.a_width + p.w_width)
    return Resources(lut=lut, ff=ff, dsp=dsp)


def _paths(p: DepthwiseUnit, family: Family) -> tuple[Path, ...]:
    hard = p.mult is Multiplier.DSP
    product = multiplied(p.a_width, p.w_width, family, hard=hard, parts=multipliers(p.a_width, p.w_width, family))
    sums = p.lanes * p.acc_width
    several = p.taps > 1
    summed = (LEVEL if several else Depth()) + added(p.acc_width, family)
    kept = banked(p.folds, family) if several and p.folds > 1 else Depth()
    steps, fold = counter_bits(p.taps * p.folds), counter_bits(p.folds)
    address = LEVEL + LEVEL + loaded(p.lanes)
    return (
        *elastic(4, max(sums, p.lanes * (p.a_width + p.w_width)), family),
        Path(End.INPUT, End.REGISTER, LEVEL + loaded(steps)),
        Path(End.INPUT, End.ADDRESS, LEVEL + loaded(p.lanes)),
        Path(End.READY_IN, End.ADDRESS, address),
        Path(End.REGISTER, End.ADDRESS, logic(4 + fold, family) + LEVEL + loaded(p.lanes)),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.WORD, End.REGISTER, product),
        Path(End.WORD, End.REGISTER, summed),
        Path(End.REGISTER, End.REGISTER, product),
        Path(End.REGISTER, End.REGISTER, loaded(sums) + kept + summed),
        Path(End.REGISTER, End.REGISTER, added(steps + 1, family) + LEVEL),
    )


DEPTHWISE_UNIT = ModuleDeclaration(
    "depthwise_unit", DepthwiseUnit, _ports, _resources, _timing, _pace, _paths, uses=("signed_product",)
)
