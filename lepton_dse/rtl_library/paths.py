"""Building blocks of the path formulas: how deep a comparison, an addition or a choice is in each family.

The structure follows the Verilog; a test walks the netlists that Yosys makes of the modules and states the error.
"""

from __future__ import annotations

from lepton_dse.rtl_library.declaration import Depth, End, Family, Path

__all__ = ["LEVEL", "added", "banked", "clamped", "compared", "elastic", "greatest", "loaded", "logic", "multiplied", "repeated"]

LEVEL = Depth(levels=1)


def logic(inputs: int, family: Family) -> Depth:
    """A function of `inputs` bits: a tree of look-up tables; multiplexers beside them give those of ecp5 a fifth input."""
    reach, levels = 1, 0
    while reach < inputs:
        reach *= 6 if family.amd else 5
        levels += 1
    return Depth(levels=levels)


def added(width: int, family: Family) -> Depth:
    """A sum of `width` bits; synthesis spends no carry chain on a few bits."""
    return Depth(chains=1, carry=width) if width > (2 if family.amd else 4) else LEVEL


def compared(width: int, family: Family) -> Depth:
    """Which of two numbers of `width` bits is greater: a look-up table of AMD's compares two bits beside its carry."""
    sum_of = added(-(-width // 2) if family.amd else width, family)
    return sum_of + Depth(outs=sum_of.chains)


def greatest(width: int, family: Family) -> Depth:
    """The greater of two numbers, by a comparison that chooses; AMD's tables take what else decides into the same level."""
    return compared(width, family) + (LEVEL if family.amd else LEVEL + LEVEL) + loaded(width)


def banked(depth: int, family: Family) -> Depth:
    """A read of a memory of `depth` words in look-up tables, and the choice among its banks."""
    return Depth(lookups=1) + logic(2 * -(-depth // (64 if family.amd else 16)) - 1, family)


def loaded(loads: int) -> Depth:
    """A net that drives `loads` cells."""
    return Depth(loads=max(1, loads))


def repeated(depth: Depth, times: int) -> Depth:
    """The same `times` times, one behind another."""
    return sum((depth for _ in range(times)), Depth())


def multiplied(a_width: int, b_width: int, family: Family, *, hard: bool, parts: int) -> Depth:
    """A product of two signed operands.

    Parameters
    ----------
    a_width, b_width : int
        Bits of the operands.
    family : Family
        Where it is built.
    hard : bool
        Whether it may be a hard multiplier.
    parts : int
        The hard multipliers that it takes; 0 where synthesis leaves it in logic.
    """
    short = min(a_width, b_width)
    if hard and parts:
        # The parts of a wide product are added behind the multipliers.
        return Depth(products=1) + (added(max(a_width, b_width), family) if parts > 1 else Depth())
    # Rows of partial products, each added to the upper part of the sum before: the carries run on from row to row.
    return LEVEL + Depth(chains=max(1, short - 1), carry=a_width + b_width + 1)


def clamped(width: int, family: Family, *, offset: bool) -> Depth:
    """What limits a rounded number of `width` bits, an offset in it or not, to a range.

    The bounds are compared with the sum's bits as they come, so that the carries run on; then one of three is chosen. Behind an
    offset synthesis for ecp5 compares all the bits that the bounds are written with.
    """
    carry = width + (2 if offset else 0) if family.amd else 34 if offset else width + 1
    return Depth(levels=1 if family.amd else 2, chains=1, carry=carry, outs=1)


def elastic(state: int, enabled: int, family: Family, *, through: Depth = LEVEL) -> tuple[Path, ...]:
    """The paths of ready through a module that looks through: it is ready when it has room, or its consumer takes a word.

    Parameters
    ----------
    state : int
        Bits of the module's own that say whether it has room.
    enabled : int
        Flip-flops that move when it is ready.
    family : Family
        Where it is built.
    through : Depth
        From the consumer's ready to its own; synthesis puts what comes last next to the end.
    """
    room = logic(state + 1, family)
    return (
        Path(End.REGISTER, End.READY_OUT, room),
        Path(End.READY_IN, End.READY_OUT, through),
        Path(End.READY_IN, End.REGISTER, LEVEL + loaded(enabled)),
        Path(End.REGISTER, End.REGISTER, room + loaded(enabled)),
    )
