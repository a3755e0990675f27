"""What does ptxas give to the kernels that are emitted: registers, spills, shared memory, and so resident blocks?

Layers of six shapes in four formats are planned for an A100, an H100 and a B200, written as CUDA, and compiled by NVRTC for each;
the table sets ptxas' report beside the estimates. ``--fit`` takes random tiles instead and fits the coefficients of
``lepton_dse/schedule/gpu/registers.py`` anew. Needs no GPU: ``pip install 'lepton_dse[cuda]'``.

    python studies/fit_gpu_registers.py [--fit] [--tiles 4] [--quick]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy.optimize import nnls

from lepton_dse.emit.cuda.emitter import kernel_identifiers, library, model_text
from lepton_dse.emit.cuda.places import places_of
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder, LoweredGraph
from lepton_dse.ir.ops import Op
from lepton_dse.numerics.formats import FLOAT32, INT8, INT32, NumberFormat, Precision
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.report.tables import plain_table
from lepton_dse.schedule.gpu import (
    REGISTER_BAND,
    Choose,
    Contraction,
    Engine,
    Kernel,
    Packed4,
    Problem,
    Tile,
    arena,
    gpu_program,
    resident_blocks,
    tiles_of,
)
from lepton_dse.search.gpu_planner import TileChooser
from lepton_dse.sim.gpu.machine import limits_of
from lepton_dse.targets import GpuTarget, load_target
from lepton_dse.verify.cuda.compiled import Usage, usage

DEVICES = ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm", "nvidia-b200-sxm")
FORMATS = ("int8", "w4a8", "float16", "float32")


@dataclass(frozen=True)
class Layer:
    """A convolution of a square image, or (kernel 0) a product of rows with a matrix."""

    rows: int
    taken: int
    given: int
    kernel: int = 0
    stride: int = 1


LAYERS = (
    Layer(56, 64, 64, 3),
    Layer(56, 64, 256, 1),
    Layer(64, 3, 64, 7, 2),
    Layer(28, 128, 128, 3, 2),
    Layer(128, 512, 512),
    Layer(1, 768, 1000),
)


@dataclass(frozen=True)
class Compiled:
    """One kernel, as planned and as compiled."""

    device: GpuTarget
    form: str
    kernel: Kernel
    work: Contraction
    used: Usage

    @property
    def held(self) -> int:
        """Blocks that a multiprocessor holds with ptxas' registers."""
        return resident_blocks(self.work, self.used.registers, limits_of(self.device))


def network(form: str) -> LoweredGraph:
    """All layers side by side, each with its bias and what follows it."""
    builder, rng = GraphBuilder("layers"), np.random.default_rng(0)
    outputs = [branch(builder, rng, form, f"l{index}", layer) for index, layer in enumerate(LAYERS)]
    return builder.build_lowered(outputs)


def branch(builder: GraphBuilder, rng: np.random.Generator, form: str, name: str, layer: Layer) -> str:
    convolved = layer.kernel > 0
    shape = (1, layer.taken, layer.rows, layer.rows) if convolved else (layer.rows, layer.taken)
    weights = (layer.given, layer.taken, layer.kernel, layer.kernel) if convolved else (layer.taken, layer.given)
    pads = (layer.kernel // 2,) * 2
    window = ops.Window((layer.kernel,) * 2, (layer.stride,) * 2, (1, 1), pads, pads)
    attributes = ops.Conv(window) if convolved else ops.MatMul()
    one = QuantParams((1.0,))
    if form in ("int8", "w4a8"):
        builder.input(f"{name}.x", shape, INT8)
        narrow = NumberFormat.parse("int8" if form == "int8" else "int4")
        builder.constant(f"{name}.w", rng.integers(-8, 8, weights).astype(np.int8), narrow)
        builder.constant(f"{name}.b", rng.integers(-99, 99, layer.given).astype(np.int32), INT32)
        across = (1, layer.given, 1, 1) if convolved else (1, layer.given)
        builder.constant(f"{name}.m", rng.integers(1, 99, across).astype(np.int32), INT32)
        operands = [f"{name}.x", f"{name}.w", f"{name}.b"]
        builder.add(attributes, operands, output=f"{name}.acc", form=INT32)
        rounding = ops.Requantize(12, 3, -128, 127)
        return builder.add(rounding, [f"{name}.acc", f"{name}.m"], output=f"{name}.y", form=INT8, quant=one)
    stored = NumberFormat.parse(form)
    values = rng.standard_normal(weights).astype(stored.numpy)
    builder.constant(f"{name}.b", rng.standard_normal(layer.given).astype(np.float32))
    if stored == FLOAT32:
        x, w = builder.input(f"{name}.x", shape), builder.constant(f"{name}.w", values)
    else:
        builder.input(f"{name}.xq", shape, stored, one)
        builder.constant(f"{name}.wq", values, stored, one)
        x, w = (builder.add(ops.Dequantize(), [f"{name}.{side}q"], output=f"{name}.{side}", form=FLOAT32) for side in "xw")
    builder.add(attributes, [x, w, f"{name}.b"], output=f"{name}.sum")
    y = builder.add(ops.Clip(0.0, np.inf), [f"{name}.sum"], output=f"{name}.y")
    return y if stored == FLOAT32 else builder.add(ops.Quantize(), [y], output=f"{name}.yq", form=stored, quant=one)


def compiled(graph: LoweredGraph, device: GpuTarget, form: str, choose: Choose, *, bounded: bool) -> Iterator[Compiled]:
    capability = device.compute_capability.value
    program = gpu_program(graph, capability, choose, limits_of(device) if bounded else None)
    places, _ = places_of(program, arena(program))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "lepton").mkdir()
        for name, data in library().items():
            (folder / name).write_bytes(data)
        (folder / "model.cu").write_text(model_text(program, places))
        found = usage(folder, f"sm_{round(10 * capability)}")
    for name, kernel in zip(kernel_identifiers(program), program.kernels, strict=True):
        if isinstance(kernel.work, Contraction):
            yield Compiled(device, form, kernel, kernel.work, found[name])


def random_tiles(capability: float, seed: int) -> Choose:
    rng = np.random.default_rng(seed)

    def choose(op: Op, problem: Problem, engine: Engine) -> Tile:
        tiles = list(tiles_of(problem, engine, capability))
        return tiles[rng.integers(len(tiles))]

    return choose


def features(work: Contraction) -> list[float]:
    """What the estimate is linear in, in the order of its coefficients."""
    tile, tensor = work.tile, work.engine.tensor_cores
    tall, wide = tile.rows / tile.warp_rows, tile.columns / tile.warp_columns
    fragments = tall / 4 + wide / 4 if tensor else tall + wide / 2
    moving = work.steps > 1
    of_rows = -(-tile.rows * (tile.row_pitch // 16) // tile.threads) * moving
    packed = 0.5 if isinstance(work.b, Packed4) else 1.0
    of_columns = -(-tile.columns * (tile.pitch // 16) // tile.threads) * moving * packed
    windows = hasattr(work.a, "kernel")
    sums = tile.rows * tile.columns / tile.threads
    return [1, sums, fragments, of_rows * windows, of_rows * (not windows), of_columns, work.a.piece_bytes < 16, not tensor]


def fit(console: Console, rows: list[Compiled]) -> None:
    for title, chosen in (
        ("below 10", [row for row in rows if row.device.compute_capability.value < 10]),
        ("from 10 on", [row for row in rows if row.device.compute_capability.value >= 10]),
    ):
        kept = [row for row in chosen if not row.used.spill_bytes and row.used.registers < 200]
        if not kept:
            continue
        table = np.asarray([features(row.work) for row in kept], float)
        seen = np.asarray([row.used.registers for row in kept], float)
        found, _ = nnls(table, seen)
        inside = np.mean(np.abs(table @ found - seen) <= REGISTER_BAND)
        console.print(f"capability {title}: {np.round(found, 2).tolist()}, {inside:.0%} of {len(kept)} within {REGISTER_BAND}")


def table(console: Console, rows: list[Compiled]) -> None:
    shown = plain_table(
        "Kernels as planned and as ptxas compiled them",
        *("device", "format", "kernel", "tile", "registers", "ptxas", "spills", "shared", "ptxas", "blocks", "held"),
    )
    for row in rows:
        tile = row.work.tile
        name = f"{tile.rows}x{tile.columns}x{tile.pitch} {tile.warp_rows}x{tile.warp_columns} {tile.stages}"
        sizes = (row.kernel.registers, row.used.registers, row.used.spill_bytes, row.kernel.shared_bytes, row.used.shared_bytes)
        shown.add_row(row.device.name, row.form, row.kernel.name, name, *map(str, (*sizes, row.kernel.resident, row.held)))
    console.print(shown)
    for device in dict.fromkeys(row.device.name for row in rows):
        own = [row for row in rows if row.device.name == device]
        band = np.mean([abs(row.kernel.registers - row.used.registers) <= REGISTER_BAND for row in own])
        shared = np.mean([row.kernel.shared_bytes == row.used.shared_bytes for row in own])
        right = np.mean([row.kernel.resident == row.held for row in own])
        fewer = sum(row.held < row.kernel.resident for row in own)
        spilled = sum(row.used.spill_bytes > 0 for row in own)
        console.print(
            f"{device}: {len(own)} kernels, registers within {REGISTER_BAND} for {band:.0%}, shared memory equal for "
            f"{shared:.0%}, resident blocks right for {right:.0%} (fewer for {fewer}), {spilled} spill"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the coefficients to random tiles")
    parser.add_argument("--tiles", type=int, default=4, help="random tiles of each layer, format and device")
    parser.add_argument("--quick", action="store_true", help="one format and one device")
    asked = parser.parse_args()
    console = Console()
    rows: list[Compiled] = []
    for name in DEVICES[:1] if asked.quick else DEVICES:
        device = load_target(name)
        assert isinstance(device, GpuTarget), "a name of a GPU"
        for form in FORMATS[:1] if asked.quick else FORMATS:
            graph = network(form)
            if asked.fit:
                for seed in range(asked.tiles):
                    choose = random_tiles(device.compute_capability.value, seed)
                    rows += compiled(graph, device, form, choose, bounded=False)
            else:
                rows += compiled(graph, device, form, TileChooser.of(device, Precision.parse(form)), bounded=True)
    (fit if asked.fit else table)(console, rows)


if __name__ == "__main__":
    main()
