"""An operation's loop nest in the form that the traffic kernels read: extents, and per operand which loops address it.

An index of an operand is one of three things:

- a loop by itself (``w[m, c]``): the operand has one element for each of its iterations;
- loops of mixed radix (``x[n, g*C + c]``): independent, so it counts as two loops by themselves;
- a *halo* (``x[n, c, o*stride + k*dilation - pad]``): neighbouring tiles overlap, and positions outside the tensor are
  padding, which is neither stored nor moved.

Loops of one iteration are left out: they address nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lepton_dse.errors import LeptonError
from lepton_dse.ir.graph import Graph
from lepton_dse.ir.loops import Access, Affine
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import Precision
from lepton_dse.sim.report import stored_format

__all__ = ["LARGEST", "Halo", "Operand", "Problem", "accumulator_bits", "problem_of"]

LARGEST = 1 << 62
"""Products of extents beyond this are refused: the kernels count in 64-bit integers."""
ALONE = -1
_INTEGER_ACCUMULATOR, _FLOAT_ACCUMULATOR = 32, 32


@dataclass(frozen=True)
class Halo:
    """The index ``stride*first + dilation*second + offset`` into an axis of `extent` elements."""

    first: int
    """Position of the loop among the problem's loops."""
    second: int
    """The same; -1 where there is one loop whose range the tensor does not cover whole."""
    stride: int
    dilation: int
    offset: int
    extent: int


@dataclass(frozen=True)
class Operand:
    """A tensor of the nest."""

    name: str
    loops: tuple[int, ...]
    """Loops that address it one to one."""
    halos: tuple[Halo, ...]
    bits: int
    """Width of a stored element."""

    @property
    def relevant(self) -> frozenset[int]:
        """Every loop whose step may change which elements are used."""
        return frozenset(self.loops) | {loop for halo in self.halos for loop in (halo.first, halo.second) if loop != ALONE}


@dataclass(frozen=True)
class Problem:
    """A nest to be mapped.

    Parameters
    ----------
    loops : tuple of str
        Names, outer to inner.
    extents : tuple of int
        Iterations of each, at least 2.
    reads : tuple of Operand
    write : Operand
    accumulator_bits : int
        Width of a partial sum.
    """

    loops: tuple[str, ...]
    extents: tuple[int, ...]
    reads: tuple[Operand, ...]
    write: Operand
    accumulator_bits: int

    @property
    def operands(self) -> tuple[Operand, ...]:
        """What is read, then what is written."""
        return (*self.reads, self.write)

    @property
    def iterations(self) -> int:
        """Product of the extents."""
        return math.prod(self.extents)

    def loop(self, name: str) -> int:
        """Position of a loop; -1 where it has one iteration."""
        return self.loops.index(name) if name in self.loops else ALONE


def accumulator_bits(precision: Precision) -> int:
    """Width of a partial sum: 32 bits for integers up to 8 bits and for floats up to 32, twice the wider operand beyond."""
    widest = max(precision.weights.bits, precision.activations.bits)
    if precision.is_integer:
        return _INTEGER_ACCUMULATOR if widest <= 8 else 2 * widest + 8
    return max(_FLOAT_ACCUMULATOR, widest)


def problem_of(graph: Graph, op: Op, precision: Precision) -> Problem:
    """The nest of an operation with the widths that a pair of formats gives its tensors.

    Vectors beside a contraction (the bias) are left out: each element is read once, whatever the mapping.

    Raises
    ------
    LeptonError
        If the operation is a view, an index mixes three loops, or the nest has 2^62 iterations or more.
    """
    nest = graph.nest(op)
    if nest.write is None:
        raise LeptonError(f"'{op.name}' is a view and moves nothing", fix="map other operations")
    kept = [loop for loop in nest.loops if loop.extent > 1]
    names = {loop.name: position for position, loop in enumerate(kept)}
    extents = tuple(loop.extent for loop in kept)
    if math.prod(extents) >= LARGEST:
        raise LeptonError(f"'{op.name}' has {math.prod(extents):.3g} iterations", fix="split the operation")
    reads = nest.reads[:2] if nest.multiplies else nest.reads

    def operand(access: Access) -> Operand:
        return _operand(
            access, graph.tensors[access.tensor].shape, names, extents, stored_format(graph, access.tensor, precision).bits
        )

    return Problem(tuple(names), extents, tuple(map(operand, reads)), operand(nest.write), accumulator_bits(precision))


def _operand(access: Access, shape: Sequence[int], names: dict[str, int], extents: Sequence[int], bits: int) -> Operand:
    loops: list[int] = []
    halos: list[Halo] = []
    for index, extent in zip(access.indices, shape, strict=True):
        terms = sorted(((names[name], factor) for name, factor in index.terms if name in names), key=lambda term: -term[1])
        if len(terms) > 2 or any(factor < 1 for _, factor in terms):
            raise LeptonError(
                f"an index of '{access.tensor}' mixes loops in a way that is not counted", fix="split the operation"
            )
        halo = _halo(terms, index, extent, extents)
        if halo is None:
            loops += [loop for loop, _ in terms]
        else:
            halos.append(halo)
    return Operand(access.tensor, tuple(sorted(loops)), tuple(halos), bits)


def _halo(terms: Sequence[tuple[int, int]], index: Affine, extent: int, extents: Sequence[int]) -> Halo | None:
    """None where the loops address the axis one to one."""
    if not terms:
        return None
    last = index.offset + sum(factor * (extents[loop] - 1) for loop, factor in terms)
    clipped = index.offset < 0 or last >= extent
    if len(terms) == 1:
        (loop, factor), *_ = terms
        return Halo(loop, ALONE, factor, 1, index.offset, extent) if clipped else None
    (outer, stride), (inner, dilation) = terms
    if stride > dilation * (extents[inner] - 1) and not clipped:
        return None
    # The order of the terms in the index says which is the window's own loop; counting does not depend on it.
    return Halo(outer, inner, stride, dilation, index.offset, extent)
