"""Resources of modules whose weights synthesis knows, since a step takes all of them: a memory of one word is wires.

Products with zero vanish, those with powers of two are shifts, and rows that multiply an operand by the same weight share the
product. Multipliers follow from the weights; LUTs and registers are estimates, their terms fitted to Yosys 0.23 over 54 modules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from lepton_dse.rtl_library.components import adder, multipliers, weighted
from lepton_dse.rtl_library.declaration import Family, Multiplier, Parameters, Resources
from lepton_dse.rtl_library.depthwise_unit import DepthwiseUnit
from lepton_dse.rtl_library.matrix_vector_unit import MatrixVectorUnit
from lepton_dse.rtl_library.requantize import Requantize

__all__ = ["constant_matrix", "constant_multipliers", "is_shift", "with_constants"]

IntArray = NDArray[np.int64]


def is_shift(value: int) -> bool:
    """Whether a product with a constant needs no multiplier: zero, or a power of two of either sign."""
    size = abs(value)
    return size & (size - 1) == 0


def constant_multipliers(a_width: int, constants: set[int], family: Family) -> int:
    """Return the hard multipliers of one operand's products with distinct constants; zeros at their low end are shifts."""
    odd = [value // (value & -value) for value in constants if not is_shift(value)]
    return sum(multipliers(a_width, _signed_bits(value), family) for value in odd)


def with_constants(parameters: Parameters, word: IntArray, family: Family, estimate: Resources) -> Resources:
    """Return the resources of a module one of whose memories is a single word.

    Parameters
    ----------
    parameters : Parameters
    word : ndarray of int64
        The memory's fields: weights or multipliers.
    family : Family
    estimate : Resources
        Of the module with any contents.
    """
    match parameters:
        case MatrixVectorUnit():
            return constant_matrix(parameters, word.reshape(parameters.pe, parameters.simd), family)
        case DepthwiseUnit(mult=Multiplier.DSP, a_width=width) | Requantize(acc_width=width):
            return replace(estimate, dsp=sum(constant_multipliers(width, {int(value)}, family) for value in word))
    return estimate


def constant_matrix(p: MatrixVectorUnit, weights: IntArray, family: Family) -> Resources:
    """Return the resources of a unit whose steps are all one, for its weights.

    Parameters
    ----------
    p : MatrixVectorUnit
        With ``nf`` and ``sf`` of 1.
    weights : ndarray of int64
        Shape (pe, simd).
    family : Family
    """
    columns = [[int(value) for value in column] for column in weights.T]
    if p.packed:
        shift = p.a_width + p.w_width
        factors = [{(column[row + 1] << shift) + column[row] for row in range(0, p.pe, 2)} for column in columns]
    else:
        factors = [set(column) for column in columns]
    dsp = 0 if p.mult is Multiplier.LUT else sum(constant_multipliers(p.a_width, found, family) for found in factors)
    inside = family.absorbs and dsp > 0
    trees = [_tree([_product(p, int(value)) for value in row]) for row in weights]
    adders = sum(adder(node.summed, family) for tree in trees for level in tree[1:] for node in level)
    distinct = {(place, value) for place, column in enumerate(columns) for value in column if value}
    products = [(value, _product(p, value).bits) for _, value in distinct]
    # A row of additions for each 1 of the weight, or for each bit of an operand that is shorter.
    rows = p.w_width <= p.a_width
    written = sum(_ones(value, p.w_width) - 1 for _, value in distinct) * (p.a_width + 1)
    shared = sum(_ones(value, p.w_width) for _, value in distinct) * (p.a_width - 1)
    in_logic = p.mult is Multiplier.LUT
    negated = sum(p.a_width for _, value in distinct if value < 0 and is_shift(value)) if p.mult is Multiplier.DSP else 0
    packed = sum(1 for found in factors for value in found if value) if p.packed else 0
    sums = p.pe * p.acc_width
    lut = (
        adders
        + negated
        + weighted(
            family,
            (sums, 0.26, 2.74),
            (written if in_logic and rows else 0, 0.62, 0.78),
            (shared if in_logic and not rows else 0, 0.75, 1.35),
            (packed, 4.0, p.a_width + p.w_width + 5.0),
        )
    )
    ff = sums + p.stages + 1 + p.a_width * sum(any(column) for column in columns)
    ff += sum(bits for value, bits in products if p.packed or not inside or is_shift(value))
    # Some of the first sums go into multipliers with their registers.
    first = sum(node.bits for tree in trees for node in tree[1]) if p.simd > 1 else 0
    ff += first * 3 // 4 if inside and not p.packed else first
    ff += sum(node.bits for tree in trees for level in tree[2:] for node in level)
    ff += 0 if inside else packed * 2 * (p.a_width + p.w_width)
    return Resources(lut=lut, ff=ff, dsp=dsp)


@dataclass(frozen=True)
class _Node:
    """A sum of products: its highest and lowest bit that are not known, and the bits that its addition takes."""

    high: int = 0
    low: int = 0
    summed: int = 0

    @property
    def bits(self) -> int:
        return self.high - self.low


def _product(p: MatrixVectorUnit, value: int) -> _Node:
    if value == 0:
        return _Node()
    low = (value & -value).bit_length() - 1
    return _Node(p.a_width + _signed_bits(value) - (1 if is_shift(value) else 0), low)


def _signed_bits(value: int) -> int:
    """Bits of a number in two's complement."""
    return (value if value >= 0 else ~value).bit_length() + 1


def _tree(products: list[_Node]) -> list[list[_Node]]:
    levels = [products]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([reduce(_plus, below[i : i + 2]) for i in range(0, len(below), 2)])
    # A node that only passes on was added once.
    return levels


def _plus(left: _Node, right: _Node) -> _Node:
    if not left.bits or not right.bits:
        kept = left if left.bits else right
        return _Node(kept.high, kept.low)
    high = max(left.high, right.high) + 1
    return _Node(high, min(left.low, right.low), high - max(left.low, right.low))


def _ones(value: int, width: int) -> int:
    return bin(value & ((1 << width) - 1)).count("1")
