"""Tensors: a name, a shape, a number format, and how integers stand for reals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lepton_dse.numerics.formats import FLOAT32, NumberFormat
from lepton_dse.numerics.quantize import QuantParams

__all__ = ["Tensor"]


@dataclass(frozen=True)
class Tensor:
    """One tensor of a graph.

    Parameters
    ----------
    name : str
        Unique in its graph.
    shape : tuple of int
        Extents, each at least 0; () for a scalar.
    format : NumberFormat
        Of each element.
    quant : QuantParams or None
        How integers stand for reals; None for floats, indices and accumulators that no one reads as reals.
    """

    name: str
    shape: tuple[int, ...]
    format: NumberFormat = FLOAT32
    quant: QuantParams | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """Storage in bits, elements packed."""
        return self.elements * self.format.bits
