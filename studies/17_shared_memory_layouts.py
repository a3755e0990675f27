"""How must a strip lie in shared memory so that warps read it without waiting for one another?

Shared memory has 32 banks of 4 bytes. Where two lanes of a warp want different words of one bank, the request takes one more
pass; a request of 16 bytes a lane takes four at least. A strip lies row by row, its rows 32, 64 or 128 bytes apart; a swizzle
exchanges the chunks of 16 bytes in a row by the row's number. For every engine and pitch, with and without: the passes of an
average request, predicted from the layout alone, and counted while the emitted kernel runs on the CPU, thread by thread.

    python studies/17_shared_memory_layouts.py [--quick] [-o build/shared_memory_layouts]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.report.axes import legal
from lepton_dse.report.tables import plain_table
from lepton_dse.schedule.gpu import Engine, Tile

sys.path.insert(0, str(Path(__file__).parent / "models"))
from drawing import COLOURS, closed, opened
from kernels import contraction, counted, predicted, product, program_of, with_tile

ROWS, COLUMNS, SUMMED = 32, 32, 256
CASES = {
    Engine.INT8: ("int8", "nvidia-a100-sxm-80gb"),
    Engine.HALF: ("float16", "nvidia-a100-sxm-80gb"),
    Engine.SPARSE_HALF: ("float16", "nvidia-a100-sxm-80gb"),
    Engine.DOT4: ("int8", "nvidia-t4"),
    Engine.FLOAT32: ("float32", "nvidia-a100-sxm-80gb"),
}
PITCHES = (32, 64, 128)
BANKS = 32
READ = 8
"""Rows of a chunk that one request reads."""
CHUNKS = (*COLOURS, "#be185d", "#475569")


@dataclass(frozen=True)
class Passes:
    """Of an average request, predicted and counted: reading fragments, and storing strips."""

    load: float
    store: float
    counted_load: float
    counted_store: float


def weights(engine: Engine) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Shape (summed, columns); two of every four zero where the engine leaves such out."""
    found = np.random.default_rng(0).normal(0, 0.1, (SUMMED, COLUMNS))
    if engine.skips:
        found[np.arange(SUMMED) % 4 < 2] = 0
    return found


def passes(engine: Engine, tile: Tile, folder: Path) -> Passes:
    """Write one product with a tile, run it, and count."""
    form, target = CASES[engine]
    planned = with_tile(ld.plan(product(ROWS, COLUMNS, SUMMED, weights(engine)), target, format=form), tile)
    program = program_of(planned)
    place, work = contraction(program)
    assert (work.engine, work.tile) == (engine, tile)
    artefact = ld.emit(planned, folder, emitter="cuda", data=ld.Dataset(planned.bundle.samples[:1]))
    figures = []
    for entry in (predicted(program)[place], counted(artefact, program)[place]):
        figures += [entry[f"shared_{name}_passes"] / entry[f"shared_{name}s"] for name in ("load", "store")]
    return Passes(*figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one engine of the tensor cores and one of the CUDA cores")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/shared_memory_layouts"))
    asked = parser.parse_args()
    table = plain_table(
        "passes of an average request of shared memory, predicted (counted)",
        *("engine", "bytes of a row", "reading, as it lies", "swizzled", "storing, as it lies", "swizzled"),
    )
    every: list[Passes] = []
    gains: dict[str, float] = {}
    for engine in (Engine.INT8, Engine.FLOAT32) if asked.quick else CASES:
        for pitch in PITCHES[::2] if asked.quick else PITCHES:
            if engine.skips and pitch == PITCHES[0]:
                continue  # of 32 bytes a step, half of which is left out, no whole product remains
            tiles = [Tile(ROWS, COLUMNS, pitch, 2, 1, 1, swizzled, False, engine.skips) for swizzled in (False, True)]
            plain, exchanged = (passes(engine, tile, asked.output / "kernel") for tile in tiles)
            every += [plain, exchanged]
            gains[f"{engine.title}, {pitch} bytes"] = plain.load / exchanged.load
            cells = [_both(entry.load, entry.counted_load) for entry in (plain, exchanged)]
            cells += [_both(entry.store, entry.counted_store) for entry in (plain, exchanged)]
            table.add_row(engine.title, str(pitch), *cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    equal = all((entry.load, entry.store) == (entry.counted_load, entry.counted_store) for entry in every)
    best = max(gains, key=gains.__getitem__)
    print(f"The swizzle saves most with {best} a row: {gains[best]:.3g} times fewer passes to read.")
    print(f"Every figure is {'as counted' if equal else 'NOT as counted'}.")
    write_text(asked.output / "shared_memory_layouts.svg", banks_svg())


def _both(wanted: float, seen: float) -> str:
    return f"{wanted:.3g} ({seen:.3g})"


def offset(row: int, chunk: int, pitch: int, *, swizzled: bool) -> int:
    """Where a chunk of 16 bytes lies: exchanged by the number of its row, or of the line of banks that holds several rows."""
    chunks = pitch // 16
    exchanged = chunk ^ (row * chunks // 8 if chunks < 8 else row) % chunks if swizzled else chunk
    return row * pitch + 16 * exchanged


def most(pitch: int, *, swizzled: bool) -> int:
    """Passes of the request that reads chunk 0 of eight rows: words of the fullest bank."""
    words = [offset(row, 0, pitch, swizzled=swizzled) // 4 + word for row in range(READ) for word in range(4)]
    return int(np.bincount(np.asarray(words) % BANKS).max())


def count_of(passes_: int) -> str:
    return "1 pass" if passes_ == 1 else f"{passes_} passes"


def banks_svg() -> str:
    """Which banks each chunk of the first rows lies in, for every pitch, as it lies and swizzled."""
    cell, tall, left, top, gap = 14, 20, 40, 104, 46
    lines = [READ * pitch // 128 for pitch in PITCHES]
    width, height = left + 2 * BANKS * cell + gap + 40, top + sum(lines) * tall + 52 * len(PITCHES) - 32
    out = opened("Where chunks of a strip lie: 32 banks of 4 bytes across", width, height, left)
    told = "A colour is a chunk of 16 bytes along the summed axis, its number the row. Framed: what one request of a warp reads."
    out.line(f'<text class="small" x="{left}" y="52">{told}</text>')
    y = top
    for pitch, deep in zip(PITCHES, lines, strict=True):
        for side, swizzled in enumerate((False, True)):
            x = left + side * (BANKS * cell + gap)
            how = f"rows of {pitch} bytes, {'swizzled' if swizzled else 'as it lies'}: {count_of(most(pitch, swizzled=swizzled))}"
            out.line(f'<text x="{x}" y="{y - 10}">{legal(how)}</text>')
            boxes = [(row, chunk) for chunk in reversed(range(pitch // 16)) for row in range(READ)]  # framed ones on top
            for row, chunk in boxes:
                line, byte = divmod(offset(row, chunk, pitch, swizzled=swizzled), 128)
                at = x + byte // 4 * cell, y + line * tall
                frame = 'stroke="#111827" stroke-width="2"' if chunk == 0 else 'fill-opacity="0.45" stroke="#ffffff"'
                out.line(f'<rect x="{at[0]}" y="{at[1]}" width="{4 * cell}" height="{tall}" fill="{CHUNKS[chunk]}" {frame}/>')
                out.line(f'<text class="inside" x="{at[0] + 2 * cell}" y="{at[1] + 14}" text-anchor="middle">{row}</text>')
        y += deep * tall + 52
    return closed(out)


if __name__ == "__main__":
    main()
