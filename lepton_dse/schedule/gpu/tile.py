"""The tile of a contraction kernel: what one block of threads computes, and how strips of its operands lie in shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_dse.plan import Mapping, Violation

__all__ = ["STATIC_SHARED_BYTES", "Tile"]

STATIC_SHARED_BYTES = 48 << 10
"""Shared memory that a kernel may declare (CUDA C++ Programming Guide, technical specifications: 48 KB of static memory)."""
_CHUNK = 16
_WARP = 32
_MOST_THREADS = 1024
_ACCUMULATORS = 192  # sums of a thread; with 255 registers the rest holds addresses and fragments


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a block, the strip of each step, and how warps divide the work.

    Parameters
    ----------
    rows, columns : int
        Extent of the block's part of the result.
    pitch : int
        Bytes of the summed axis in a step: 32, 64 or 128.
    warp_rows, warp_columns : int
        Warps along rows and columns.
    stages : int
        Strips that shared memory holds; 1 leaves nothing to overlap.
    swizzled : bool
        Whether chunks of 16 bytes are exchanged inside a row, so that warps read without bank conflicts.
    asynchronous : bool
        Whether strips are copied without passing through registers (compute capability 8.0 and later).
    halved : bool
        Whether the rows' operand is stored without two of every four elements.
    """

    rows: int
    columns: int
    pitch: int = 64
    warp_rows: int = 2
    warp_columns: int = 2
    stages: int = 2
    swizzled: bool = True
    asynchronous: bool = False
    halved: bool = False

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return _WARP * self.warp_rows * self.warp_columns

    @property
    def row_pitch(self) -> int:
        """Bytes that a row of the rows' operand takes in a strip."""
        return self.pitch // 2 if self.halved else self.pitch

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.stages * (self.rows * self.row_pitch + self.columns * self.pitch)

    def __str__(self) -> str:
        marks = ("" if self.swizzled else ", not swizzled") + (", asynchronous" if self.asynchronous else "")
        warps = f"{self.warp_rows}x{self.warp_columns} warps"
        return f"{self.rows}x{self.columns}, {self.pitch} bytes a step, {warps}, {self.stages} stages{marks}"

    @property
    def mapping(self) -> Mapping:
        """The tile as a plan records it."""
        pipeline = {"stages": self.stages}
        marks = {"swizzled": self.swizzled, "asynchronous": self.asynchronous, "halved": self.halved}
        pipeline |= {name: 1 for name, mark in marks.items() if mark}
        cta = {"rows": self.rows, "columns": self.columns, "bytes": self.pitch}
        return Mapping(tiles={"cta": cta, "warps": {"rows": self.warp_rows, "columns": self.warp_columns}, "pipeline": pipeline})

    @classmethod
    def from_mapping(cls, mapping: Mapping) -> Tile | None:
        """The tile that a plan records; None where it records none."""
        cta, warps, pipeline = (mapping.tiles.get(name, {}) for name in ("cta", "warps", "pipeline"))
        if not {"rows", "columns", "bytes"} <= set(cta) or not {"rows", "columns"} <= set(warps) or "stages" not in pipeline:
            return None
        return cls(
            cta["rows"],
            cta["columns"],
            cta["bytes"],
            warps["rows"],
            warps["columns"],
            pipeline["stages"],
            "swizzled" in pipeline,
            "asynchronous" in pipeline,
            "halved" in pipeline,
        )

    def violations(self, *, tensor_cores: bool) -> list[Violation]:
        """What keeps the tile from being a kernel; empty where nothing does.

        Parameters
        ----------
        tensor_cores : bool
            Whether warps multiply 16 x 8 pieces; on the CUDA cores pieces are 4 x 8.
        """
        found = []

        def need(what: str, demand: float, bound: float, unit: str, lever: str) -> None:
            found.append(Violation(what=f"tile {self}: {what}", demand=demand, bound=bound, unit=unit, levers=(lever,)))

        piece = 16 if tensor_cores else 4
        if self.pitch not in ((64, 128) if self.halved else (32, 64, 128)):
            need("bytes of a step", self.pitch, 128, "B", "steps of 32 (where nothing is left out), 64 or 128 bytes")
        if min(self.rows, self.columns, self.warp_rows, self.warp_columns) < 1:
            need("extents", 0, 1, "rows", "at least one row, column and warp")
        elif self.rows % (piece * self.warp_rows) or self.columns % (8 * self.warp_columns):
            need(f"whole pieces of {piece} x 8 a warp", 1, 0, "part", f"multiples of {piece} rows and 8 columns a warp")
        elif self.rows * self.columns / self.threads > _ACCUMULATORS:
            need("sums of a thread", self.rows * self.columns / self.threads, _ACCUMULATORS, "registers", "more warps")
        if self.threads > _MOST_THREADS:
            need("threads of a block", self.threads, _MOST_THREADS, "threads", "fewer warps")
        if self.stages < 1 or (self.asynchronous and self.stages < 2):
            need("strips in shared memory", 2 if self.asynchronous else 1, self.stages, "stages", "more stages")
        if self.shared_bytes > STATIC_SHARED_BYTES:
            need("shared memory", self.shared_bytes, STATIC_SHARED_BYTES, "B", "a smaller tile, or fewer stages")
        return found
