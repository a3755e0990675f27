"""Resources of a matrix in logic whose weights synthesis knows, since a step takes all of them: a memory of one word is wires.

Products with zero vanish, those with powers of two are shifts, and rows that multiply an operand by the same weight share the
product. The terms were fitted to Yosys 0.23 over 18 modules. Hard multipliers stay as they are: synthesis chooses them before it
looks into memories.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from lepton_dse.rtl_library.components import adder, weighted
from lepton_dse.rtl_library.declaration import Family, Resources
from lepton_dse.rtl_library.matrix_vector_unit import MatrixVectorUnit

__all__ = ["constant_matrix", "is_shift"]

IntArray = NDArray[np.int64]


def is_shift(value: int) -> bool:
    """Whether a product with a constant is only wires, but for its sign: zero, or a power of two of either sign."""
    size = abs(value)
    return size & (size - 1) == 0


def constant_matrix(p: MatrixVectorUnit, weights: IntArray, family: Family) -> Resources:
    """Return the resources of a unit whose steps are all one and whose products are made in logic, for its weights.

    Parameters
    ----------
    p : MatrixVectorUnit
        With ``nf`` and ``sf`` of 1.
    weights : ndarray of int64
        Shape (pe, simd).
    family : Family
    """
    trees = [_tree([_product(p, int(value)) for value in row]) for row in weights]
    adders = sum(adder(node.summed, family) for tree in trees for level in tree[1:] for node in level)
    distinct = {(column, int(value)) for (_, column), value in np.ndenumerate(weights) if value}
    # A row of additions for each 1 of the weight, or for each bit of an operand that is shorter.
    rows = p.w_width <= p.a_width
    written = sum(_ones(value, p.w_width) - 1 for _, value in distinct) * (p.a_width + 1)
    shared = sum(_ones(value, p.w_width) for _, value in distinct) * (p.a_width - 1)
    sums = p.pe * p.acc_width
    lut = adders + weighted(
        family,
        (sums, 0.26, 2.74),
        (written if rows else 0, 0.62, 0.78),
        (0 if rows else shared, 0.75, 1.35),
    )
    used = int((weights != 0).any(axis=0).sum())
    ff = sums + p.stages + 1 + p.a_width * used
    ff += sum(_product(p, value).bits for _, value in distinct)
    ff += sum(node.bits for tree in trees for level in tree[1:] for node in level)
    return Resources(lut=lut, ff=ff)


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
        # A node without a partner passes on as beside nothing.
        levels.append([reduce(_plus, below[i : i + 2], _Node()) for i in range(0, len(below), 2)])
    return levels


def _plus(left: _Node, right: _Node) -> _Node:
    if not left.bits or not right.bits:
        kept = left if left.bits else right
        return _Node(kept.high, kept.low)
    high = max(left.high, right.high) + 1
    return _Node(high, min(left.low, right.low), high - max(left.low, right.low))


def _ones(value: int, width: int) -> int:
    return bin(value & ((1 << width) - 1)).count("1")
