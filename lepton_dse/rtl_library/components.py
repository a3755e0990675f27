"""Building blocks of the resource formulas: what an adder, a counter or a memory costs in each family.

The structure of each formula follows the Verilog, and flip-flops, multipliers and block memories follow from it alone.
The weights of the LUT terms were fitted to Yosys 0.23 (``synth_xilinx -family xc7``, ``synth_ecp5``) over about ninety
configurations; a test compares the formulas with synthesis on others and states the error.
"""

from __future__ import annotations

from lepton_dse.errors import LeptonError
from lepton_dse.rtl_library.declaration import Family, bits

__all__ = ["adder", "block_memory", "counter_bits", "distributed_memory", "logic_rom", "multipliers", "weighted"]

_BLOCK_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))  # bits by words of 18 kbit
_PAIR_SHAPES = ((36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768))  # of 36 kbit, not on ecp5


def weighted(family: Family, *terms: tuple[int, float, float]) -> int:
    """Sum ``(quantity, weight on xc7 and xcup, weight on ecp5)`` terms and round to whole LUTs."""
    return round(sum(count * (amd if family.amd else ecp5) for count, amd, ecp5 in terms))


def adder(width: int, family: Family) -> int:
    """Return the LUTs of an addition of ``width`` bits: one a bit; ecp5 carries in pairs of bits."""
    return width if family.amd else 2 * -(-width // 2)


def counter_bits(values: int) -> int:
    """Return the flip-flops of a counter of ``values`` values; a single value needs none."""
    return 0 if values == 1 else bits(values)


def multipliers(a_width: int, b_width: int, family: Family) -> int:
    """Return the hard multipliers of a signed product.

    A DSP48E1 multiplies 25 by 18 bits, a DSP48E2 27 by 18 and a MULT18X18D 18 by 18. Yosys (``mul2dsp.v``) cuts a wider operand
    into parts of 18 bits from the low end up: signed ones in AMD's, which carry 17 of the operand's, unsigned ones in ecp5's.
    What is left at the high end is one more product, in logic where it is a single bit.
    """
    wide, narrow = max(a_width, b_width), min(a_width, b_width)
    if family.amd:
        if a_width + b_width < 9:
            return 0  # synthesis leaves such small products in logic
        return _parts(wide, 25 if family is Family.XC7 else 27, 17) * _parts(narrow, 18, 17)
    return _parts(wide, 18, 18) * _parts(narrow, 18, 18)


def _parts(width: int, most: int, cut: int) -> int:
    if width <= most:
        return 1
    cuts = -(-(width - most) // cut)
    return cuts + (width - cuts * cut > 1)


def logic_rom(width: int, depth: int, family: Family) -> int:
    """Return the LUTs of an image in look-up tables, for contents without a pattern."""
    if depth == 1:
        return 0
    words = 1 << bits(depth)
    return width * -(-words // (64 if family.amd else 16))


def block_memory(width: int, depth: int, family: Family) -> int:
    """Return the block memories of 18 kbit that hold a memory with one read and one write port.

    Raises
    ------
    LeptonError
        If no block memory is that deep.
    """
    choices = [-(-width // columns) for columns, words in _BLOCK_SHAPES if depth <= words]
    if family.amd:
        choices += [2 * -(-width // columns) for columns, words in _PAIR_SHAPES if depth <= words]
    if not choices:
        raise LeptonError(f"a memory of {depth} words is deeper than any block memory", fix="split it, or make its words wider")
    return min(choices)


def distributed_memory(width: int, depth: int, ports: int, family: Family) -> int:
    """Return the LUTs of a memory made of look-up tables, with the multiplexers that join its banks.

    Parameters
    ----------
    width, depth : int
        Bits of a word, words.
    ports : int
        1 where a read and a write never meet and share one address; 2 otherwise.
    family : Family
        Where it is built.
    """
    if not family.amd:
        # Blocks of 16 words by 4 bits, each with its write port; joining several takes over one LUT a bit and block.
        banks = -(-depth // 16)
        return banks * -(-width // 4) * 6 + (0 if banks == 1 else banks * width * 13 // 10)
    full, rest = divmod(depth, 64)
    blocks = full * _xc7_bank(width, 64, ports) + (_xc7_bank(width, rest, ports) if rest else 0)
    banks = full + (rest > 0)
    return blocks + (0 if banks == 1 else banks + width * -(-(banks - 1) // 3))


def _xc7_bank(width: int, depth: int, ports: int) -> int:
    if ports == 1:
        return width
    # Four LUTs hold 32 words by 6 bits or 64 words by 3 bits with a second port.
    return -(-width // (6 if depth <= 32 else 3)) * 4
