"""Building blocks of the resource formulas: what an adder, a counter, a small memory costs in each family.

The structure of each formula follows the Verilog; the constants were read off Yosys 0.23 (``synth_xilinx -family xc7``,
``synth_ecp5``) over about ninety configurations. A test compares the formulas with synthesis on others.
"""

from __future__ import annotations

from lepton_dse.rtl_library.declaration import Family, bits

__all__ = ["adder", "comparison", "counter", "distributed_memory", "selector"]


def adder(width: int, family: Family) -> int:
    """LUTs of an addition of ``width`` bits: one a bit; ecp5 carries in pairs of bits."""
    return width if family is Family.XC7 else 2 * -(-width // 2)


def comparison(width: int, family: Family) -> int:
    """LUTs of a signed ``<`` of two variables."""
    # Two bits a LUT of six inputs; ecp5 subtracts and keeps the carry.
    return -(-width // 2) + 1 if family is Family.XC7 else adder(width + 2, family)


def counter(values: int, family: Family) -> int:
    """LUTs of a counter from 0 to ``values`` - 1 that wraps by comparison."""
    if values == 1:
        return 0
    width = bits(values)
    # Increments of a few bits are plain logic; longer ones use the carry chain and a second LUT a bit to wrap.
    if family is Family.XC7:
        return width + 1 if width <= 5 else 2 * width
    return width + 1 if width <= 3 else 3 * width


def selector(width: int) -> int:
    """LUTs of a choice between two words."""
    return width


def distributed_memory(width: int, depth: int, ports: int, family: Family) -> int:
    """LUTs of a memory made of look-up tables, with the multiplexers that join its banks.

    Parameters
    ----------
    width, depth : int
        Bits of a word, words.
    ports : int
        1 where a read and a write never meet and share one address; 2 otherwise.
    family : Family
        Where it is built.
    """
    if family is Family.ECP5:
        # Blocks of 16 words by 4 bits, each with its write port; joining several takes over one LUT a bit and block.
        banks = -(-depth // 16)
        return banks * -(-width // 4) * 6 + (0 if banks == 1 else banks * width * 13 // 10)
    if depth <= 32:
        return _xc7_bank(width, depth, ports)
    full, rest = divmod(depth, 64)
    blocks = full * _xc7_bank(width, 64, ports) + (_xc7_bank(width, rest, ports) if rest else 0)
    joined = full + (rest > 0)
    return blocks + (0 if joined == 1 else joined + width * -(-(joined - 1) // 3))


def _xc7_bank(width: int, depth: int, ports: int) -> int:
    if ports == 1:
        return width
    # Four LUTs hold 32 words by 6 bits or 64 words by 3 bits with a second port.
    return -(-width // (6 if depth <= 32 else 3)) * 4
