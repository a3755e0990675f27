"""Are our mappings as good as ZigZag's under both models, and how much faster are they found? ResNet-18 on ZigZag's own tpu_like.

python studies/peers/zigzag.py [--python build/peers/zigzag/bin/python] [--quick]

ZigZag runs in an environment of its own (zigzag-dse==3.9.1 six). Its machine: 32 x 32 units, K and C unrolled; 128 B of
weights and 2 B of sums in each unit; 2 MB for activations and sums; DRAM of 64 bits a cycle. Four figures a layer, for energy and
for energy times latency:

- ZigZag's best mapping, priced by ZigZag;
- the same mapping, priced by our traffic model with ZigZag's joules for reads and writes: do the models agree?
- our proved optimum, its loop order evaluated inside ZigZag, which places the loops in its memories by itself;
- our proved optimum, priced by our model.

ZigZag adds the time of the first loads and last stores to that of the steps, ours counts transfers as overlapped and takes the
most: hence the lower products of energy and latency. Both count the same steps, which is asserted.

Ours gives all operands the same tile in a level, ZigZag each its own; ours takes ceil-distinct or divisor tiles, here divisors,
since ZigZag's orders are made of factors. Times are those of the calls alone, without imports and compilation, one after another.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tiling import Hierarchy, Level, MapSpace, Objective, Tiles, search_tiles
from lepton_dse.sim.loopnest import LevelMapping, NestMapping, Problem, problem_of, traffic

REQUIREMENTS = "zigzag-dse==3.9.1 six"
# Joules a byte of reading and writing, from ZigZag's tpu_like.yaml: picojoules an access over its bytes.
WEIGHTS, SUMS, BUFFER, DRAM = (0.095, 0.095), (0.0105, 0.0105), (416.16 / 256, 378.4 / 256), (700 / 8, 750 / 8)
MAC = 0.04
MACHINE = Hierarchy(
    32,
    32,
    (
        Level("unit", 130, math.inf, 0.0, ("w", "y"), True, (("w", WEIGHTS[0]), ("y", SUMS[0])), (("w", 128), ("y", 2))),
        Level("buffer", 2 * 2**20, 512, sum(BUFFER) / 2, ("x", "y"), bypass=False),
        Level("dram", 10e9 / 8, 8, sum(DRAM) / 2),
    ),
    MAC,
)
NAMES = {"n": "B", "m": "K", "c": "C", "o0": "OY", "o1": "OX", "k0": "FY", "k1": "FX"}
OURS = {theirs: ours for ours, theirs in NAMES.items()}


@dataclass(frozen=True)
class Layer:
    """A convolution of ResNet-18, and how often it occurs."""

    channels: int
    filters: int
    extent: int
    kernel: int
    stride: int
    times: int

    def __str__(self) -> str:
        return f"{self.kernel}x{self.kernel}/{self.stride} {self.channels}-{self.filters} {self.extent}x{self.extent}"


LAYERS = [
    Layer(64, 64, 56, 3, 1, 4),
    Layer(3, 64, 112, 7, 2, 1),
    Layer(64, 128, 28, 3, 2, 1),
    Layer(64, 128, 28, 1, 2, 1),
    Layer(128, 128, 28, 3, 1, 3),
    Layer(128, 256, 14, 3, 2, 1),
    Layer(128, 256, 14, 1, 2, 1),
    Layer(256, 256, 14, 3, 1, 3),
    Layer(256, 512, 7, 3, 2, 1),
    Layer(256, 512, 7, 1, 2, 1),
    Layer(512, 512, 7, 3, 1, 3),
    Layer(512, 1000, 1, 1, 1, 1),
]

# Runs in ZigZag's environment: one question a line on stdin, one answer a line on stdout.
PROGRAM = """\
import json, logging, os, sys, tempfile, time, yaml
import zigzag
from zigzag.api import get_hardware_performance_zigzag
logging.disable(logging.CRITICAL)
inputs = os.path.join(os.path.dirname(zigzag.__file__), "inputs")
folder = tempfile.mkdtemp()
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
hardware = os.path.join(inputs, "hardware", "tpu_like.yaml")
for line in sys.stdin:
    question = json.loads(line)
    mapping = yaml.safe_load(open(os.path.join(inputs, "mapping", "tpu_like.yaml")))[:1]
    if question["order"]:
        mapping[0]["temporal_ordering"] = question["order"]
        mapping[0]["spatial_mapping"] = {axis: [f"{dim}, {size}"] for axis, (dim, size) in question["spatial"].items()}
    path = os.path.join(folder, "mapping.yaml")
    yaml.safe_dump(mapping, open(path, "w"))
    options = dict(opt=question["objective"], dump_folder=folder, loma_show_progress_bar=False)
    begin = time.perf_counter()
    energy, latency, found = get_hardware_performance_zigzag([question["layer"]], hardware, path, **options)
    seconds = time.perf_counter() - begin
    cost = found[0][1][0][0]
    loops = {}
    for operand, levels in cost.mapping.temporal_mapping.mapping_dic_origin.items():
        loops[str(operand)] = [[[str(dim), int(size)] for dim, size in level] for level in levels]
    answer = dict(energy=energy, latency=latency, seconds=seconds, loops=loops, steps=cost.ideal_temporal_cycle)
    print(json.dumps(answer), file=answers, flush=True)
"""


class ZigZag:
    """ZigZag in its own process."""

    def __init__(self, python: Path) -> None:
        self.folder = tempfile.TemporaryDirectory()
        command = [str(python), "-c", PROGRAM]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, cwd=self.folder.name, **pipes)

    def ask(
        self, layer: Layer, objective: str, order: list[list[Any]] | None = None, spatial: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Its best mapping of a layer, or what it makes of an order of loops and a spatial unrolling."""
        reach = (layer.extent - 1) * layer.stride + layer.kernel
        before = layer.kernel // 2
        after = max(0, reach - before - layer.extent * layer.stride)
        size = reach - before - after
        question = {
            "id": 0,
            "name": "layer",
            "operator_type": "Conv",
            "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
            "dimension_relations": [f"ix={layer.stride}*ox+1*fx", f"iy={layer.stride}*oy+1*fy"],
            "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
            "loop_sizes": [1, layer.filters, layer.channels, layer.extent, layer.extent, layer.kernel, layer.kernel],
            "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
            "operand_source": {"I": 0, "W": 0},
            "pr_loop_dims": ["IX", "IY"],
            "pr_loop_sizes": [size, size],
            "padding": [[before, after], [before, after]],
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"layer": question, "objective": objective, "order": order, "spatial": spatial}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("ZigZag stopped: run its environment by hand to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer


def problem(layer: Layer) -> Problem:
    """The layer's nest, sums of 16 bits as in ZigZag."""
    builder = GraphBuilder("layer")
    size = layer.extent * layer.stride
    x = builder.input("x", (1, layer.channels, size, size))
    w = builder.constant("w", np.ones((layer.filters, layer.channels, layer.kernel, layer.kernel), np.float32))
    pad = layer.kernel // 2
    end = (layer.extent - 1) * layer.stride + layer.kernel - size - pad
    window = ops.Window((layer.kernel,) * 2, (layer.stride,) * 2, (1, 1), (pad, pad), (max(0, end),) * 2)
    graph = builder.build([builder.add(ops.Conv(window, 1), [x, w], output="y")])
    return replace(problem_of(graph, graph.ops[0], Precision.parse("int8")), accumulator_bits=16)


def priced(nest: Problem, mapping: NestMapping) -> tuple[float, float]:
    """Picojoules and cycles by our traffic model, at ZigZag's prices; levels are named after their memory."""
    counted = traffic(nest, mapping)
    energy = nest.iterations * MAC
    moved = {"buffer": 0.0, "dram": 0.0}
    for operand, unit in (("w", WEIGHTS), ("y", SUMS)):
        # Sums are read and written in every step, weights read; each byte counted here is one access of one unit.
        energy += counted.fetched_bytes[operand] * unit[0]
    for level in mapping.levels:
        name = level.name.split("-")[0]
        for table, side in ((counted.read_bytes, 0), (counted.written_bytes, 1)):
            for operand, amount in table[level.name].items():
                price = {"buffer": BUFFER, "dram": DRAM}.get(name) or (WEIGHTS if operand == "w" else SUMS)
                energy += amount * price[side]
                if name in moved:
                    moved[name] += amount
    return energy, max(counted.steps, moved["buffer"] / 512, moved["dram"] / 8)


def from_zigzag(nest: Problem, loops: dict[str, list[list[list[Any]]]]) -> NestMapping:
    """Its mapping as nested tiles: one level for each place in the order of loops where the memory of some operand begins."""
    spatial = {"m": min(32, nest.extents[nest.loop("m")]), "c": min(32, nest.extents[nest.loop("c")])}
    order = [entry for level in loops["W"] for entry in level]
    places = {operand: list(np.cumsum([len(level) for level in levels])) for operand, levels in loops.items()}
    roles = {"I": "x", "W": "w", "O": "y"}
    memories = {"I": ["buffer", "dram"], "W": ["unit", "dram"], "O": ["unit", "buffer", "dram"]}
    inside: dict[tuple[int, str], set[str]] = {}
    for operand, ends in places.items():
        for place, memory in zip(ends, memories[operand], strict=True):
            if memory != "dram":
                inside.setdefault((int(place), memory), set()).add(roles[operand])
    tiles = [dict(spatial)]
    for dim, size in order:
        loop = OURS[dim]
        grown = dict(tiles[-1])
        grown[loop] = min(nest.extents[nest.loop(loop)], grown.get(loop, 1) * size) if nest.loop(loop) >= 0 else 1
        tiles.append(grown)
    levels, used = [], sorted(inside, key=lambda entry: (entry[0], ["unit", "buffer"].index(entry[1])))
    for position, (place, memory) in enumerate(used):
        tile = {loop: tiles[place].get(loop, 1) for loop in nest.loops}
        following = used[position + 1][0] if position + 1 < len(used) else len(order)
        steps = tuple(dict.fromkeys(OURS[dim] for dim, _ in order[place:following] if nest.loop(OURS[dim]) >= 0))
        levels.append(LevelMapping(f"{memory}-{position}", tile, steps, frozenset(inside[place, memory])))
    everything = frozenset({"x", "w", "y"})
    return NestMapping(spatial, (*levels, LevelMapping("dram", {}, (), everything)))


def to_zigzag(nest: Problem, mapping: NestMapping) -> list[list[Any]]:
    """Our loops from inner to outer, sums innermost inside the register tile."""
    found: list[list[Any]] = []
    inner = {loop: mapping.spatial.get(loop, 1) for loop in nest.loops}
    sums_first = tuple(sorted(nest.loops, key=lambda loop: loop in ("n", "m", "o0", "o1")))
    whole = dict(zip(nest.loops, nest.extents, strict=True))
    orders = [sums_first, *(level.order for level in mapping.levels[:-1])]
    tiles = [*(dict(level.tile) for level in mapping.levels[:-1]), whole]
    for order, tile in zip(orders, tiles, strict=True):
        for loop in order:
            trips = -(-tile[loop] // inner[loop])
            if trips > 1:
                found.append([NAMES[loop], trips])
        inner = tile
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path("build/peers/zigzag/bin/python"), help="of ZigZag's environment")
    parser.add_argument("--quick", action="store_true", help="the first layer alone")
    options = parser.parse_args()
    if not options.python.exists():
        sys.exit(f"no ZigZag at {options.python}: make an environment with {REQUIREMENTS}, or name its python by --python")
    zigzag = ZigZag(options.python.absolute())
    layers = LAYERS[: 1 if options.quick else None]
    space = MapSpace(Tiles.DIVISOR, spatial=(("m",), ("c",)))
    for objective, name in ((Objective.ENERGY, "energy"), (Objective.EDP, "EDP")):
        search_tiles(problem(LAYERS[0]), MACHINE, objective, space)  # compiled before anything is timed
        rows = [_row(zigzag, layer, objective, name, space) for layer in track(layers, console=Console(stderr=True))]
        _print(rows, layers, name)


def _row(zigzag: ZigZag, layer: Layer, objective: Objective, name: str, space: MapSpace) -> dict[str, Any]:
    nest = problem(layer)
    theirs = zigzag.ask(layer, name)
    begin = time.perf_counter()
    found = search_tiles(nest, MACHINE, objective, space)
    seconds = time.perf_counter() - begin
    assert found.certificate.optimal, "a proof"
    assert found.mapping is not None
    unrolled = found.mapping.spatial
    spatial = {"D1": ("K", unrolled.get("m", 1)), "D2": ("C", unrolled.get("c", 1))}
    inside = zigzag.ask(layer, name, to_zigzag(nest, found.mapping), spatial)
    ours = priced(nest, found.mapping)
    converted = priced(nest, from_zigzag(nest, theirs["loops"]))
    assert theirs["steps"] == traffic(nest, from_zigzag(nest, theirs["loops"])).steps, "the same steps"
    return {"theirs": theirs, "inside": inside, "ours": ours, "converted": converted, "seconds": seconds}


def _print(rows: list[dict[str, Any]], layers: list[Layer], name: str) -> None:
    def value(energy: float, cycles: float) -> float:
        return energy if name == "energy" else energy * cycles

    table = Table(
        title=f"{name}: picojoules{'' if name == 'energy' else ' x cycles'}; ratios to ZigZag's own mapping under its own model"
    )
    for heading in (
        "layer",
        "ZigZag",
        "its mapping, our model",
        "our order, in ZigZag",
        "our optimum, our model",
        "steps",
        "s, ZigZag",
        "s, ours",
    ):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    totals = np.zeros(6)
    for row, layer in zip(rows, layers, strict=True):
        theirs = value(row["theirs"]["energy"], row["theirs"]["latency"])
        others = [value(*row["converted"]), value(row["inside"]["energy"], row["inside"]["latency"]), value(*row["ours"])]
        times = (row["theirs"]["seconds"], row["seconds"])
        totals += np.array([theirs, *others, *times]) * ([layer.times] * 4 + [1, 1])
        figures = [f"{other / theirs:.3f}" for other in others]
        table.add_row(
            str(layer), f"{theirs:.4g}", *figures, f"{row['theirs']['steps']:,.0f}", f"{times[0]:.2f}", f"{times[1]:.3f}"
        )
    figures = [f"{other / totals[0]:.3f}" for other in totals[1:4]]
    table.add_row("all, with repetitions", f"{totals[0]:.4g}", *figures, "", f"{totals[4]:.2f}", f"{totals[5]:.3f}")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print(
        f"{name}: found {totals[4] / totals[5]:.0f} times as fast as ZigZag, {len(rows)} distinct layers in {totals[5]:.2f} s\n"
    )


if __name__ == "__main__":
    main()
