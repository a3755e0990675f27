"""How much memory do a network's results need, and what saves it: sharing blocks, or placing them well?

Every tensor that is computed needs its bytes from the operation that writes it to the last one that reads it. Three maps:

- by itself: all side by side, as in a program that gives each result a buffer;
- first fit in the order of execution: each block at the lowest place that is free while it is needed;
- the least: orders of first fit, improved, and where needed all placements, with a bound that proves how good that is.

Each for blocks of three kinds: every tensor its own (a Reshape copies), views share the block of what they show, and elementwise
results moreover take the place of an operand that nothing needs any more. The operations run in the model's order; what the order
that needs least would save is said below.

    python studies/14_three_memory_maps.py [--model FILE.onnx] [--format int8] [--quick] [-o build/three_memory_maps]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import data_folder, write_text
from lepton_dse.memory import ALIGNMENT, Block, Place, in_less_memory, place
from lepton_dse.numerics.formats import Precision
from lepton_dse.report.arena import arenas_svg
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import scaled, share
from lepton_dse.sim.report import sizes_in

MODEL = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_resnet50.onnx"
APART, VIEWS, IN_PLACE = "every tensor its own", "views share", "views and in place"


def blocks_of(mapped: ld.MemoryMap) -> list[Block]:
    """What a map places, in the order in which it is asked for."""
    found: dict[str, list[Place]] = {}
    for entry in mapped.places.values():
        found.setdefault(entry.block, []).append(entry)
    blocks = [
        Block(name, mapped.places[name].bytes, min(each.first for each in shared), max(each.last for each in shared))
        for name, shared in found.items()
    ]
    return sorted(blocks, key=lambda block: (block.first, block.last))


def apart(mapped: ld.MemoryMap) -> ld.MemoryMap:
    """The same tensors in blocks of their own, placed as well as can be proved."""
    owners = {name: entry.model_copy(update={"block": name}) for name, entry in mapped.places.items()}
    found = place([Block(name, entry.bytes, entry.first, entry.last) for name, entry in owners.items()])
    places = {name: entry.model_copy(update={"offset": found.offsets[name]}) for name, entry in owners.items()}
    return ld.MemoryMap(places=places, peak=found.peak, bound=found.bound, alignment=mapped.alignment)


def first_fit(mapped: ld.MemoryMap) -> ld.MemoryMap:
    """The same blocks, each at the lowest place that is free when it is asked for."""
    held: list[tuple[int, int, Block]] = []
    for block in blocks_of(mapped):
        size, at = -(-block.bytes // ALIGNMENT) * ALIGNMENT, 0
        for start, end, other in sorted(held, key=lambda entry: entry[:2]):
            if other.first <= block.last and block.first <= other.last:
                if start - at >= size:
                    break
                at = max(at, end)
        held.append((at, at + size, block))
    offsets = {block.name: start for start, _, block in held}
    places = {name: entry.model_copy(update={"offset": offsets[entry.block]}) for name, entry in mapped.places.items()}
    peak = max(end for _, end, _ in held)
    return ld.MemoryMap(places=places, peak=peak, bound=mapped.bound, alignment=mapped.alignment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="ResNet-50 by default")
    parser.add_argument("--format", default="float32", help="in which results are stored")
    parser.add_argument("--quick", action="store_true", help="the digits network")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/three_memory_maps"))
    asked = parser.parse_args()
    graph = ld.load(asked.model or (data_folder("models") / "digits_cnn.onnx" if asked.quick else MODEL))
    sizes = sizes_in(graph, Precision.parse(asked.format))
    views, shared = (ld.map_memory(graph, bytes_of=sizes, in_place=in_place) for in_place in (False, True))
    least = {APART: apart(views), VIEWS: views, IN_PLACE: shared}
    greedy = {kind: first_fit(mapped) for kind, mapped in least.items()}
    table = plain_table(
        f"{graph.name}, {asked.format}: bytes for what it computes",
        *("blocks", "how many", "side by side", "first fit in order", "the least", "proved"),
    )
    for kind, mapped in least.items():
        blocks = blocks_of(mapped)
        proved = "yes" if mapped.peak == mapped.bound else f"at least {scaled(mapped.bound, 'B')}"
        figures = (sum(block.bytes for block in blocks), greedy[kind].peak, mapped.peak)
        table.add_row(kind, str(len(blocks)), *(scaled(figure, "B") for figure in figures), proved)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    whole = sum(entry.bytes for entry in views.places.values())
    naive, kept, best = greedy[APART].peak, greedy[IN_PLACE].peak, least[IN_PLACE].peak
    print(f"Reusing what nothing needs any more saves {share(1 - naive / whole)} of {scaled(whole, 'B')}.")
    print(f"Of what is left then, views and results in place save {share(1 - kept / naive)} under first fit,")
    print(f"{share(1 - best / least[APART].peak)} under the least placement.")
    print(f"With both, the least placement needs {share(1 - best / kept)} less than first fit.")
    ordered = ld.map_memory(in_less_memory(graph, bytes_of=sizes), bytes_of=sizes).peak
    print(f"Another order of the operations saves {share(1 - ordered / best)} of the least.")
    panels = {
        f"first fit, {APART}": greedy[APART],
        f"first fit, {IN_PLACE}": greedy[IN_PLACE],
        f"the least, {IN_PLACE}": least[IN_PLACE],
    }
    write_text(asked.output / "three_memory_maps.svg", arenas_svg(graph, panels))


if __name__ == "__main__":
    main()
