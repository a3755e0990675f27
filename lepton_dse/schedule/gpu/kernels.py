"""Kernels of a GPU program: contractions, kernels with a thread for each element, and kernels with a warp for each row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from lepton_dse.ir.loops import Affine
from lepton_dse.ir.ops import Op
from lepton_dse.ir.tensors import Tensor
from lepton_dse.schedule.gpu.contraction import Contraction
from lepton_dse.schedule.gpu.layout import Layout

__all__ = ["ELEMENT_THREADS", "ROW_THREADS", "Buffer", "Edge", "Kernel", "Nest", "Read", "Source", "Subscript"]

ELEMENT_THREADS = 256
"""Threads of a block where each treats one element."""
ROW_THREADS = 128
"""Threads of a block where each warp treats one row."""


@dataclass(frozen=True)
class Buffer:
    """A tensor that is stored: what it holds, in which order, and whose storage it is, its own or that which it is a view of."""

    tensor: Tensor
    layout: Layout
    owner: str

    @property
    def name(self) -> str:
        """Of the tensor."""
        return self.tensor.name

    @property
    def element_bytes(self) -> int:
        """Bytes of an element; formats narrower than a byte take a whole one."""
        return self.tensor.format.numpy.itemsize

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        return self.tensor.elements * self.element_bytes

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from one index of each axis to the next."""
        return self.layout.strides(self.tensor.shape)


@dataclass(frozen=True)
class Source:
    """An operand as a kernel reads it: the buffer, and the stored tensor whose scale turns it into reals, if one does."""

    buffer: Buffer
    scaled: Tensor | None = None


class Edge(Enum):
    """What an index outside the tensor means."""

    NEVER = "never"
    """It does not occur."""
    OUTSIDE = "outside"
    """The element is not read."""
    CLAMP = "clamp"
    """The nearest element of the axis."""
    REFLECT = "reflect"
    """The element mirrored at the ends."""


@dataclass(frozen=True)
class Subscript:
    """One axis of a read: an affine index of the loops, the axis' extent and stride in elements, and what happens outside."""

    index: Affine
    extent: int
    stride: int
    edge: Edge = Edge.NEVER


@dataclass(frozen=True)
class Read:
    """One operand of a nest.

    Parameters
    ----------
    source : Source
    subscripts : tuple of Subscript
    inner : bool
        Whether it is read in the innermost loop, once for each point of the summed axes; once for each result otherwise.
    times : int
        How often a warp goes along its row for it.
    indirect : bool
        Whether a value decides where it is read: an entry of a table, a row of an embedding. `subscripts` then gives what the
        loops say.
    """

    source: Source
    subscripts: tuple[Subscript, ...]
    inner: bool = False
    times: int = 1
    indirect: bool = False


@dataclass(frozen=True)
class Nest:
    """Loops of a kernel in which a thread or a warp treats one result.

    Parameters
    ----------
    extents : tuple of int
        Of the result's axes, from the slowest to the fastest in memory; threads or warps are numbered in this order.
    coordinates : tuple of (str, int, int, int)
        Loop name, position in `extents`, and divisor and modulus: ``loop = coordinate / divisor % modulus``.
    inner : tuple of (str, int)
        Loops summed over, or along which a warp works: name and extent, outermost first.
    reads : tuple of Read
        Of the head first, in order of its operands; then of the operations behind it.
    write_bytes : int
        Of an element of the result.
    rows : bool
        Whether a warp treats one row; a thread one element otherwise.
    written_along : bool
        Whether a warp writes an element for each that it reads; one for the row otherwise.
    write : tuple of Subscript
        Where the result goes.
    """

    extents: tuple[int, ...]
    coordinates: tuple[tuple[str, int, int, int], ...]
    inner: tuple[tuple[str, int], ...]
    reads: tuple[Read, ...]
    write: tuple[Subscript, ...]
    write_bytes: int
    rows: bool = False
    written_along: bool = False

    @property
    def results(self) -> int:
        """Threads or warps that have something to do."""
        return math.prod(self.extents)

    @property
    def length(self) -> int:
        """Points of the inner loops."""
        return math.prod(extent for _, extent in self.inner)

    @property
    def threads(self) -> int:
        """Of a block."""
        return ROW_THREADS if self.rows else ELEMENT_THREADS

    @property
    def blocks(self) -> int:
        """Of the grid."""
        return -(-self.results // (ROW_THREADS // 32 if self.rows else ELEMENT_THREADS))


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Parameters
    ----------
    name : str
        Of its first operation.
    ops : tuple of Op
        What it computes: the head, then operations on each of its results. Empty for a change of layout.
    operands : mapping of str to Source
        How each tensor that it reads is stored.
    result : Buffer
        What it writes.
    work : Contraction or Nest
    reordered : str
        The tensor whose layout the kernel changes; empty otherwise.
    registers : int
        Estimated, of a thread of a contraction; 0 where the compiler is free.
    resident : int
        Blocks that a multiprocessor is to hold at once; 0 where the device is not known.
    """

    name: str
    ops: tuple[Op, ...]
    operands: dict[str, Source]
    result: Buffer
    work: Contraction | Nest
    reordered: str = ""
    registers: int = 0
    resident: int = 0

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.work.tile.threads if isinstance(self.work, Contraction) else self.work.threads

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks along x, y and z."""
        return self.work.grid if isinstance(self.work, Contraction) else (self.work.blocks, 1, 1)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.work.tile.shared_bytes if isinstance(self.work, Contraction) else 0
