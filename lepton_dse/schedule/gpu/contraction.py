"""A kernel that multiplies and sums: matrix products, convolutions as matrix products, and what is done with each sum."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lepton_dse.errors import LeptonError
from lepton_dse.plan import Violation
from lepton_dse.schedule.gpu.operands import Blocks, Operand
from lepton_dse.schedule.gpu.tile import Tile

__all__ = ["Contraction", "Engine", "Touch"]


class Engine(Enum):
    """What multiplies: the name, bytes of an element, whether on tensor cores, and the least compute capability.

    PTX ISA: ``dp4a`` from 6.1, ``mma.m16n8k32`` of integers, ``mma.m16n8k16`` of bfloat16 and half and
    ``mma.sp.m16n8k32`` of these from 8.0 on.
    """

    FLOAT32 = ("float32", 4, False, 5.0)
    DOT4 = ("dot4", 1, False, 6.1)
    INT8 = ("int8", 1, True, 8.0)
    HALF = ("half", 2, True, 8.0)
    BFLOAT16 = ("bfloat16", 2, True, 8.0)
    SPARSE_HALF = ("2:4 half", 2, True, 8.0)
    SPARSE_BFLOAT16 = ("2:4 bfloat16", 2, True, 8.0)

    def __init__(self, title: str, element_bytes: int, tensor_cores: bool, capability: float) -> None:
        self.title = title
        self.element_bytes = element_bytes
        self.tensor_cores = tensor_cores
        self.capability = capability

    @property
    def skips(self) -> bool:
        """Whether two of every four elements of the rows' operand are zero and left out."""
        return self in (Engine.SPARSE_HALF, Engine.SPARSE_BFLOAT16)

    @property
    def skipping(self) -> Engine | None:
        """What multiplies the same formats and leaves out zeros; None where nothing does."""
        return {Engine.HALF: Engine.SPARSE_HALF, Engine.BFLOAT16: Engine.SPARSE_BFLOAT16}.get(self)


_COPY_CAPABILITY = 8.0


@dataclass(frozen=True)
class Touch:
    """One access that the epilogue makes for each sum: at ``product * p + row * r + column * c`` elements from a start.

    Row and column are those of the activations and the weights, whichever operand of the kernel these are.
    """

    element_bytes: int
    product: int
    row: int
    column: int
    store: bool = False


@dataclass(frozen=True)
class Contraction:
    """``D[row, column] = sum over k of A[row, k] B[column, k]`` for every product, then the epilogue.

    Parameters
    ----------
    a, b : Operand
        Rows of `b` are columns of the result. Where zeros are skipped, `a` holds the weights, without those.
    products : int
        Matrix products, or groups of a convolution.
    engine : Engine
    tile : Tile
    touches : tuple of Touch
        What the epilogue reads and writes, in its order.
    swapped : bool
        Whether `a` is the weights.

    Raises
    ------
    LeptonError
        If the operands do not sum over the same length (whole chunks of 16 bytes may be filled up with zeros), or hold other
        elements than the engine multiplies.
    """

    a: Operand
    b: Operand
    products: int
    engine: Engine
    tile: Tile
    touches: tuple[Touch, ...] = ()
    swapped: bool = False

    def __post_init__(self) -> None:
        chunk = 16 // self.engine.element_bytes
        left, right = self.a.depth * (2 if self.engine.skips else 1), self.b.depth
        if self.engine.skips != self.tile.halved:
            raise LeptonError(f"{self.engine.title} products with tile {self.tile}")
        filled = -(-left // chunk) - -(-right // chunk)  # what zeros are left out of is filled up to whole products
        if filled < 0 or (filled and not self.engine.skips):
            raise LeptonError(f"operands of {left} and {right} elements along the summed axis")
        if {self.a.element_bytes, self.b.element_bytes} != {self.engine.element_bytes}:
            raise LeptonError(f"{self.engine.title} multiplies elements of {self.engine.element_bytes} bytes")
        if min(self.a.rows, self.b.rows, self.a.depth, self.products) < 1:
            raise LeptonError("a contraction without elements", fix="leave it out")

    @property
    def rows(self) -> int:
        """Rows of the result."""
        return self.a.rows

    @property
    def columns(self) -> int:
        """Columns of the result."""
        return self.b.rows

    @property
    def steps(self) -> int:
        """Strips along the summed axis."""
        return -(-self.depth * self.engine.element_bytes // self.tile.pitch)

    @property
    def depth(self) -> int:
        """Products of a sum, zeros included."""
        return self.b.depth if self.engine.skips else max(self.a.depth, self.b.depth)

    @property
    def lists(self) -> tuple[tuple[int, ...], ...]:
        """The strips that the blocks of each product and each tile of columns work through."""
        if isinstance(self.b, Blocks):
            return self.b.lists
        return (tuple(range(self.steps)),) * (self.products * self.grid[1])

    @property
    def strips(self) -> int:
        """Strips that all blocks together work through."""
        return self.grid[0] * sum(map(len, self.lists))

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks along rows, columns and products."""
        return -(-self.rows // self.tile.rows), -(-self.columns // self.tile.columns), self.products

    @property
    def barriers(self) -> int:
        """Barriers that all blocks pass."""
        if self.tile.asynchronous:
            return self.strips
        between = 2 if self.tile.stages == 1 else 1
        return self.grid[0] * sum(1 + (len(steps) - 1) * between for steps in self.lists if steps)

    def violations(self, capability: float) -> list[Violation]:
        """What keeps the kernel from being emitted for a compute capability; empty where nothing does."""
        found = self.tile.violations(tensor_cores=self.engine.tensor_cores)

        def need(what: str, demand: float, bound: float, unit: str, lever: str) -> None:
            found.append(Violation(what=what, demand=demand, bound=bound, unit=unit, levers=(lever,)))

        if capability < self.engine.capability:
            need(f"{self.engine.title} products", self.engine.capability, capability, "compute capability", "the CUDA cores")
        if self.tile.asynchronous and capability < _COPY_CAPABILITY:
            need("asynchronous copies", _COPY_CAPABILITY, capability, "compute capability", "strips through registers")
        if self.tile.asynchronous and not (self.a.whole and self.b.whole):
            piece = min(self.a.piece_bytes, self.b.piece_bytes)
            need("asynchronous copies of whole chunks", 16, piece, "B", "strips through registers")
        for axis, most in ((1, 65535), (2, 65535)):
            if self.grid[axis] > most:
                need("blocks along an axis of the grid", self.grid[axis], most, "blocks", "wider tiles")
        return found
