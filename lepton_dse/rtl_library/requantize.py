"""Declares ``rtl/requantize.v``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.components import counter_bits, multipliers, weighted
from lepton_dse.rtl_library.declaration import (
    Depth,
    Direction,
    End,
    Family,
    ModuleDeclaration,
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
from lepton_dse.rtl_library.paths import LEVEL, clamped, elastic, loaded, logic, multiplied
from lepton_dse.rtl_library.timing import Channel, ModuleTiming, single

__all__ = ["REQUANTIZE", "Requantize"]


@dataclass(frozen=True)
class Requantize(Parameters):
    """``clamp(((acc * M + 2**(shift - 1)) >> shift) + zero, low, high)`` in each lane.

    Parameters
    ----------
    acc_width : int
        Bits of an accumulator, signed.
    m_width : int
        Bits of a multiplier, unsigned.
    shift : int
        At least 1.
    out_width : int
        Bits of a result.
    zero : int
        The output's zero point.
    low, high : int
        The clamp's bounds, after adding ``zero``; both fit ``out_width`` bits, signed.
    pe : int
        Lanes.
    nf : int
        Words after which the multipliers repeat.
    """

    acc_width: Annotated[int, Range(2, 64)]
    m_width: Annotated[int, Range(1, 32)]
    shift: Annotated[int, Range(1, 96)]
    out_width: Annotated[int, Range(2, 32)]
    zero: Annotated[int, Range(-(1 << 30), 1 << 30)]
    low: Annotated[int, Range(-(1 << 31), (1 << 31) - 1)]
    high: Annotated[int, Range(-(1 << 31), (1 << 31) - 1)]
    pe: Annotated[int, Range(1, 4096)]
    nf: Annotated[int, Range(1, 65536)]

    def check(self) -> None:
        """Require an output range that the output's bits hold."""
        limit = 1 << (self.out_width - 1)
        if not -limit <= self.low <= self.high < limit:
            raise LeptonError(
                f"{self.low} to {self.high} is no range of signed integers of {self.out_width} bits",
                where="Requantize",
                fix="widen out_width or narrow the clamp",
            )


def _ports(p: Requantize) -> tuple[Port, ...]:
    return (
        *clock_ports(),
        *stream_ports(p.pe * p.acc_width, p.pe * p.out_width),
        Port("p_en", Direction.OUTPUT, 1),
        Port("p_addr", Direction.OUTPUT, bits(p.nf)),
        Port("p_data", Direction.INPUT, p.pe * p.m_width),
    )


def _timing(p: Requantize) -> ModuleTiming:
    return single("requantize", [True], [True], Channel.pipe(3))


def _pace(p: Requantize) -> Pace:
    return Pace(1, 1, 1)


def _resources(p: Requantize, family: Family) -> Resources:
    product = p.acc_width + p.m_width + 1
    wide = max(product, p.shift + 1)
    quotient = wide - p.shift + 1
    dsp = multipliers(p.acc_width, p.m_width + 1, family)
    lut = weighted(
        family,
        (p.pe * quotient, 0.58, 3.76),
        (p.pe * p.out_width, 0.78, 3.96),
        (p.pe * quotient if p.zero else 0, 0.16, 1.37),
        (p.pe * product if p.acc_width > 18 else 0, 0.0, 0.68),
        (counter_bits(p.nf), 1.8, 0.0),
        (1, 5.5, 0.0),
    )
    # xc7 keeps operands and product inside the multiplier; of the product only the bits from the rounding one up count.
    inside = 0 if family.absorbs else p.acc_width + max(1, product - p.shift + 1)
    return Resources(lut=lut, ff=p.pe * (p.out_width + inside) + 3 + counter_bits(p.nf), dsp=p.pe * dsp)


def _paths(p: Requantize, family: Family) -> tuple[Path, ...]:
    quotient = max(p.acc_width + p.m_width + 1, p.shift + 1) - p.shift + 1
    product = multiplied(p.acc_width, p.m_width + 1, family, hard=True, parts=multipliers(p.acc_width, p.m_width + 1, family))
    # The bit below the least significant one is the sum's carry in, so that it runs on into the comparison.
    rounded = Depth(chains=1) + clamped(quotient, family, offset=p.zero != 0)
    address = LEVEL + loaded(p.pe)
    return (
        *elastic(3, p.pe * p.acc_width, family),
        Path(End.INPUT, End.REGISTER, LEVEL),
        Path(End.INPUT, End.ADDRESS, address),
        Path(End.READY_IN, End.ADDRESS, address),
        Path(End.REGISTER, End.ADDRESS, logic(4, family) + address),
        Path(End.REGISTER, End.OUTPUT),
        Path(End.WORD, End.REGISTER, product),
        Path(End.REGISTER, End.REGISTER, product),
        Path(End.REGISTER, End.REGISTER, rounded),
    )


REQUANTIZE = ModuleDeclaration("requantize", Requantize, _ports, _resources, _timing, _pace, _paths)
