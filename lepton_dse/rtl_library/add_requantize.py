"""Declares ``rtl/add_requantize.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import multipliers, weighted
from lepton_dse.rtl_library.declaration import (
    Depth,
    End,
    Family,
    ModuleDeclaration,
    Pace,
    Parameters,
    Path,
    Port,
    Range,
    Resources,
    clock_ports,
    stream_input,
    stream_output,
)
from lepton_dse.rtl_library.paths import LEVEL, clamped, elastic, multiplied
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["ADD_REQUANTIZE", "AddRequantize"]


@dataclass(frozen=True)
class AddRequantize(Parameters):
    """Sum of two streams of different scales with one rounding, in each lane.

    ``clamp((((a - zero_a) * multiplier_a + (b - zero_b) * multiplier_b + 2**(shift - 1)) >> shift) + zero, low, high)``

    Parameters
    ----------
    a_width, b_width : int
        Bits of the operands, signed.
    zero_a, zero_b : int
        Their zero points.
    multiplier_a, multiplier_b : int
        Unsigned, at most `m_width` bits.
    m_width : int
        Bits of a multiplier.
    shift : int
        At least 1.
    out_width : int
        Bits of a result.
    zero : int
        The output's zero point.
    low, high : int
        The clamp's bounds, after adding ``zero``; both fit ``out_width`` bits, signed.
    lanes : int
        Elements of a word.
    """

    a_width: Annotated[int, Range(2, 16)]
    b_width: Annotated[int, Range(2, 16)]
    zero_a: Annotated[int, Range(-(1 << 15), 1 << 15)]
    zero_b: Annotated[int, Range(-(1 << 15), 1 << 15)]
    multiplier_a: Annotated[int, Range(0, (1 << 30) - 1)]
    multiplier_b: Annotated[int, Range(0, (1 << 30) - 1)]
    m_width: Annotated[int, Range(1, 30)]
    shift: Annotated[int, Range(1, 62)]
    out_width: Annotated[int, Range(2, 16)]
    zero: Annotated[int, Range(-(1 << 15), 1 << 15)]
    low: Annotated[int, Range(-(1 << 15), (1 << 15) - 1)]
    high: Annotated[int, Range(-(1 << 15), (1 << 15) - 1)]
    lanes: Annotated[int, Range(1, 4096)]

    def check(self) -> None:
        """Require bounds and multipliers that their bits hold."""
        limit = 1 << (self.out_width - 1)
        if not -limit <= self.low <= self.high < limit:
            what = f"{self.low} to {self.high} is no range of signed integers of {self.out_width} bits"
            raise LeptonError(what, where="AddRequantize", fix="widen out_width or narrow the clamp")
        if max(self.multiplier_a, self.multiplier_b) >> self.m_width:
            raise LeptonError(f"a multiplier wider than {self.m_width} bits", where="AddRequantize", fix="widen m_width")


def _ports(p: AddRequantize) -> tuple[Port, ...]:
    return (
        *clock_ports(),
        *stream_input("a", p.lanes * p.a_width),
        *stream_input("b", p.lanes * p.b_width),
        *stream_output(p.lanes * p.out_width),
    )


def _timing(p: AddRequantize) -> ModuleTiming:
    module = single("add_requantize", [True], [True], Channel.pipe(3))
    return ModuleTiming(module.processes, (), 0, 0, module.output, (module.processes[0].consume,))


def _pace(p: AddRequantize) -> Pace:
    return Pace(1, 1, 1, (1,))


def _resources(p: AddRequantize, family: Family) -> Resources:
    operands = ((p.a_width, p.multiplier_a), (p.b_width, p.multiplier_b))
    products = [width + factor.bit_length() + 1 for width, factor in operands]
    # A constant that is a power of two shifts, and needs no multiplier.
    dsp = sum(multipliers(width, factor.bit_length() + 1, family) for width, factor in operands if factor & (factor - 1))
    total = max(products) + 1
    quotient = max(total - p.shift + 1, p.out_width)
    # A clamp to positive values leaves little of what lies above it.
    signed = p.low < 0
    lut = weighted(
        family,
        (p.lanes * total, 0.0 if family.absorbs else 1.95, 2.1),
        (p.lanes * p.out_width, 1.0, 4.0),
        (p.lanes * quotient, 0.0, 3.8),
        (p.lanes * quotient if signed else 0, 0.3, 0.0),
        (p.lanes * quotient if signed and p.zero else 0, 0.8, 0.0),
        (p.lanes if signed and p.zero else 0, 0.0, 50.0),
        (1, 6.0, 6.0),
    )
    # xc7 keeps operands and products inside the multipliers.
    inside = 0 if family.absorbs else p.a_width + p.b_width + sum(products)
    return Resources(lut=lut, ff=p.lanes * (p.out_width + inside) + 3, dsp=p.lanes * dsp)


def _paths(p: AddRequantize, family: Family) -> tuple[Path, ...]:
    factor, wider = p.m_width + 1, max(p.a_width, p.b_width)
    product = multiplied(wider, factor, family, hard=True, parts=multipliers(wider, factor, family))
    total = wider + factor + 4
    # Three addends become two, then a sum whose bits below the shift only carry; an offset is a sum of its own.
    summed = (Depth() if family.amd else LEVEL) + Depth(chains=2 if p.zero else 1, carry=min(p.shift, total))
    lanes = p.lanes * (p.a_width + p.b_width)
    return (
        *elastic(3, lanes, family),
        Path(End.INPUT, End.READY_OUT, LEVEL),
        Path(End.INPUT, End.REGISTER, LEVEL),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.REGISTER, End.REGISTER, Depth() if family.absorbs else product),
        Path(End.REGISTER, End.REGISTER, summed + clamped(max(1, total - p.shift), family, offset=p.zero != 0)),
    )


ADD_REQUANTIZE = ModuleDeclaration("add_requantize", AddRequantize, _ports, _resources, _timing, _pace, _paths)
