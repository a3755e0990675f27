"""The kinds of work of a training step or an inference pass, each with the sizes that its price depends on."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from lepton_dse.parallel.collectives import Collective

__all__ = ["BYTES", "Attention", "Axis", "Exchange", "Kept", "MatrixProduct", "Streaming", "Work"]

BYTES = 2.0
"""Of an activation and of a weight in training: bfloat16 or float16."""


class Axis(StrEnum):
    """Axes of a mesh of devices."""

    TENSOR = "tensor"
    CONTEXT = "context"
    DATA = "data"
    EXPERT = "expert"
    PIPELINE = "pipeline"


class MatrixProduct(NamedTuple):
    """Products of (m, k) by (k, n), `products` of them."""

    name: str
    m: float
    n: float
    k: float
    products: float = 1.0


class Streaming(NamedTuple):
    """A kernel that memory bounds."""

    name: str
    moved: float
    """Bytes read and written."""
    elements: float
    special: float = 0.0
    """Exponentials and the like."""


class Attention(NamedTuple):
    """Attention in one kernel that keeps scores on chip."""

    name: str
    heads: float
    """Of all samples."""
    queries: float
    keys: float
    """That a query meets, on average."""
    width: float
    passes: float = 1.0
    """Products in terms of the two of a forward pass: 1 forward, 2.5 backward."""


class Exchange(NamedTuple):
    """A collective among the devices of one axis."""

    name: str
    kind: Collective
    size: float
    """Bytes of the whole message, as :mod:`lepton_dse.parallel.collectives` counts them."""
    axis: Axis


Work = MatrixProduct | Streaming | Attention | Exchange


class Kept(NamedTuple):
    """Something that the forward pass leaves for the backward pass."""

    name: str
    size: float
    """Bytes on one device, for one microbatch."""
