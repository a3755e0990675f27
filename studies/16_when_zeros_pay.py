"""When do zeros among the weights pay on a GPU: two of every four, or whole blocks?

A product and a convolution in float16. With 2:4 zeros the tensor cores leave out half of the products; blocks of weights that are
all zero are neither read nor multiplied, if the tile is no larger than they are. For each share of zero blocks the cheapest tile
under the closed form is written as CUDA and run on the CPU, thread by thread, where everything that it asks of memory is counted
beside the prediction. Times are the closed form's, which no GPU has confirmed; its constants were fitted to a vendor's library.

    python studies/16_when_zeros_pay.py [--target nvidia-a100-sxm-80gb] [--quick] [-o build/when_zeros_pay]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import lepton_dse as ld
from lepton_dse.files import write_text
from lepton_dse.numerics.formats import Precision
from lepton_dse.plan import CheckStatus
from lepton_dse.report.tables import plain_table
from lepton_dse.report.text import count, scaled, seconds, share
from lepton_dse.schedule.gpu import Blocks, Contraction, Engine, Matrix, Problem, tiles_of
from lepton_dse.schedule.gpu.products import blocked, skipping
from lepton_dse.search.gpu import device_of
from lepton_dse.search.gpu_planner import kernel_time
from lepton_dse.sim.gpu.machine import limits_of
from lepton_dse.targets import GpuTarget, load_target

sys.path.insert(0, str(Path(__file__).parent / "models"))
from drawing import lines_svg
from kernels import contraction, convolution, predicted, product, program_of, with_tile

Weights = np.ndarray[Any, np.dtype[np.float64]]
"""A row for each filter, along it the summed products in the order in which kernels take them."""

SHARES = (0.25, 0.5, 0.75, 0.9)
ROWS = (128, 1_024, 8_192, 65_536)
SIZES = ((32, 32), (128, 64))
WIDTH = 512
FORM = "float16"


@dataclass(frozen=True)
class Layer:
    """A layer that weights make, and how many it has."""

    name: str
    filters: int
    summed: int
    made: Callable[[Weights], ld.Graph]


@dataclass(frozen=True)
class Row:
    """One layer with some zeros: what its kernel holds, does and asks for."""

    zeros: str
    work: Contraction
    stored: int
    asked: dict[str, int]
    seconds: float
    checks: int


def layers(*, quick: bool) -> tuple[Layer, Layer]:
    rows, width, channels, extent = (32, 128, 32, 6) if quick else (128, 512, 128, 14)

    def windows(weights: Weights) -> ld.Graph:
        return convolution(extent, np.moveaxis(weights.reshape(channels, 3, 3, channels), -1, 1))

    multiplied = Layer(f"{rows} x {width} x {width}", width, width, lambda weights: product(rows, width, width, weights.T))
    return multiplied, Layer(f"3 x 3 over {extent} x {extent} x {channels}", channels, 9 * channels, windows)


def random(filters: int, summed: int) -> Weights:
    return np.random.default_rng(0).normal(0, 0.05, (filters, summed))


def without_blocks(weights: Weights, zeros: float, size: tuple[int, int] = SIZES[0]) -> Weights:
    """Less a share of the blocks, those of least magnitude."""
    tall, wide = size
    blocks = weights.reshape(len(weights) // tall, tall, -1, wide).transpose(0, 2, 1, 3).copy()
    magnitude = np.abs(blocks).mean(axis=(2, 3))
    least = np.argsort(magnitude, axis=None)[: round(zeros * magnitude.size)]
    blocks[np.unravel_index(least, magnitude.shape)] = 0
    return blocks.transpose(0, 2, 1, 3).reshape(weights.shape)


def two_of_four(weights: Weights) -> Weights:
    """Less the two of least magnitude of every four neighbours."""
    fours = weights.reshape(len(weights), -1, 4)
    order = np.argsort(np.argsort(np.abs(fours), axis=-1), axis=-1)
    return np.where(order < 2, 0, fours).reshape(weights.shape)


def fastest(problem: Problem, weights: Weights, target: GpuTarget) -> tuple[Contraction, float]:
    """The kernel of least time for a problem under the closed form, each tile with what it leaves out."""
    device, _ = device_of(target, Precision.parse(FORM))
    capability, rows = target.compute_capability.value, weights[None].astype(np.float16)
    time_of = partial(
        kernel_time, capability=capability, limits=limits_of(target), machine=device.machine, constants=device.constants
    )
    halved = skipping(problem, rows)
    chosen = problem if halved is None else halved[0]
    known: dict[tuple[int, int], Blocks | None] = {}
    best: tuple[Contraction, float] | None = None
    for tile in tiles_of(chosen, chosen.engine, capability):
        size = tile.columns, tile.pitch
        if halved is None and size not in known:
            fewer = blocked(problem, rows, tile)
            known[size] = None if fewer is None else fewer[0]
        b = known.get(size) or chosen.b
        work = Contraction(chosen.a, b, chosen.products, chosen.engine, tile, swapped=chosen.swapped)
        time = time_of(work)
        if time is not None and (best is None or time < best[1]):
            best = work, time
    assert best is not None, "some tile fits"
    return best


def problem_in(work: Contraction) -> Problem:
    """The problem of a kernel that leaves nothing out."""
    b = Matrix(work.columns, work.depth, work.depth, 0, work.engine.element_bytes)
    return Problem(work.a, b, work.products, work.engine, (0,), 1, (), 0)


def run(layer: Layer, problem: Problem, weights: Weights, zeros: str, target: GpuTarget, folder: Path) -> Row:
    """Write the cheapest kernel for some weights, and verify it: what it asks of memory is counted there."""
    work, time = fastest(problem, weights, target)
    planned = with_tile(ld.plan(layer.made(weights), target, format=FORM), work.tile)
    program = program_of(planned)
    place, emitted = contraction(program)
    assert (emitted.tile, emitted.engine, type(emitted.b)) == (work.tile, work.engine, type(work.b))
    artefact = ld.emit(planned, folder, emitter="cuda", data=ld.Dataset(planned.bundle.samples[:1]))
    judged = {check.name: check.status for check in ld.verify(artefact).checks if check.predicted is not None}
    assert CheckStatus.FAILED not in judged.values(), judged
    assert judged["global_requests_equal"] is judged["shared_passes_equal"] is CheckStatus.PASSED
    stored = sum(value.nbytes for name, value in program.constants.items() if name.startswith("y."))
    passed = sum(status is CheckStatus.PASSED for status in judged.values())
    return Row(zeros, emitted, stored, predicted(program)[place], time, passed)


def multiplications(work: Contraction) -> int:
    """Instructions of the tensor cores that all blocks issue: 16 x 8 sums of 32 bytes, or of 64 of which half is left out."""
    of_strip = work.tile.rows // 16 * (work.tile.columns // 8) * (work.tile.pitch // (64 if work.engine.skips else 32))
    return work.strips * of_strip


@dataclass(frozen=True)
class Times:
    """A product under the closed form: seconds dense, with 2:4 zeros, and by the share of blocks that are zero."""

    dense: float
    halved: float
    blocks: dict[float, float]

    def share_below(self, level: float) -> str:
        """From which share of zero blocks on they take no more than some time."""
        known = [(0.0, self.dense), *self.blocks.items()]
        for (before, earlier), (after, later) in pairwise(known):
            if later <= level < earlier:
                return share(before + (after - before) * (earlier - level) / (earlier - later))
        return "-"


def times(rows: int, size: tuple[int, int], shares: Sequence[float], target: GpuTarget) -> Times:
    """Times of a product of so many rows with blocks of some size."""
    a, b = (Matrix(extent, WIDTH, WIDTH, 0, 2) for extent in (rows, WIDTH))
    problem = Problem(a, b, 1, Engine.HALF, (0,), 1, (), 0)
    weights = random(WIDTH, WIDTH)
    blocks = {zeros: fastest(problem, without_blocks(weights, zeros, size), target)[1] for zeros in shares}
    return Times(fastest(problem, weights, target)[1], fastest(problem, two_of_four(weights), target)[1], blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="nvidia-a100-sxm-80gb", help="a GPU of compute capability 8.0 or later")
    parser.add_argument("--quick", action="store_true", help="smaller layers and fewer shares")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/when_zeros_pay"))
    asked = parser.parse_args()
    target = load_target(asked.target)
    assert isinstance(target, GpuTarget), "a GPU"
    console = Console(width=None if sys.stdout.isatty() else 160)
    shares = SHARES[2:3] if asked.quick else SHARES
    for layer in layers(quick=asked.quick):
        weights = random(layer.filters, layer.summed)
        cases = {"none": weights} | {f"{share(zeros)} of blocks": without_blocks(weights, zeros) for zeros in shares}
        cases["2 of 4"] = two_of_four(weights)
        problem = problem_in(contraction(program_of(ld.plan(layer.made(weights), target, format=FORM)))[1])
        rows = [run(layer, problem, case, name, target, asked.output / "kernel") for name, case in cases.items()]
        console.print(_table(layer, rows, target))
    print("Every kernel asked of memory what was predicted, to the last request.")
    sizes = SIZES[:1] if asked.quick else SIZES
    counts = ROWS[:1] if asked.quick else ROWS
    found = {(rows, size): times(rows, size, shares, target) for size in sizes for rows in counts}
    table = plain_table(
        f"rows x {WIDTH} x {WIDTH} on {target.name}, under the closed form",
        *("rows", "blocks", "dense", "2 of 4", *(f"{share(zeros)} zero" for zeros in shares)),
        *("a tenth less than dense from", "as little as 2 of 4 from"),
    )
    for (rows, size), entry in found.items():
        cells = [seconds(each) for each in (entry.dense, entry.halved, *entry.blocks.values())]
        table.add_row(count(rows), _sized(size), *cells, entry.share_below(0.9 * entry.dense), entry.share_below(entry.halved))
    console.print(table)
    for rows in dict.fromkeys((counts[0], counts[-1])):
        halved = found[rows, sizes[0]].halved / found[rows, sizes[0]].dense
        print(f"{count(rows)} rows: 2 of 4 takes {share(halved)} of the dense time;")
        for size in sizes:
            entry = found[rows, size]
            print(f"  blocks of {_sized(size)} are a tenth faster from {entry.share_below(0.9 * entry.dense)} zeros on,", end=" ")
            print(f"as fast as 2 of 4 from {entry.share_below(entry.halved)}.")
    lines = {
        f"{_sized(size)}, {count(rows)} rows": [
            (0.0, 1.0),
            *((100 * zeros, each / entry.dense) for zeros, each in entry.blocks.items()),
        ]
        for (rows, size), entry in found.items()
        if rows in (counts[0], counts[-1])
    }
    lines |= {
        f"2 of 4, {count(rows)} rows": [(50.0, found[rows, sizes[0]].halved / found[rows, sizes[0]].dense)]
        for rows in dict.fromkeys((counts[0], counts[-1]))
    }
    title = f"{WIDTH} x {WIDTH} weights in {FORM} on {target.name}: time against zeros"
    write_text(asked.output / "when_zeros_pay.svg", lines_svg(title, "zeros, %", "time over the dense kernel's", lines, 1.0))


def _sized(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _table(layer: Layer, rows: list[Row], target: GpuTarget) -> Any:
    table = plain_table(
        f"{layer.name} in {FORM} on {target.name}",
        *("zeros", "weights", "tile", "strips", "multiplications", "bytes asked for", "sectors", "time", "of dense", "checks"),
    )
    for row in rows:
        tile = row.work.tile
        table.add_row(
            row.zeros,
            scaled(row.stored, "B"),
            f"{tile.rows}x{tile.columns}, {tile.pitch} B",
            count(row.work.strips),
            count(multiplications(row.work)),
            scaled(row.asked["load_bytes"] + row.asked["store_bytes"], "B"),
            count(row.asked["load_sectors"] + row.asked["store_sectors"]),
            seconds(row.seconds),
            share(row.seconds / rows[0].seconds),
            f"{row.checks} passed",
        )
    return table


if __name__ == "__main__":
    main()
