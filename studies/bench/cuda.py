"""How long do CUDA programs take to write, to compile for this machine, and to run on it thread by thread?

The text of ResNet-50 from its lowered graph; the compiler's time for a file with one kernel; and a product of 256 x 256 x 256
bytes on fibres, its accesses watched and not.

    python studies/bench/cuda.py
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

import networks
import numpy as np
import onnx
from measuring import least_seconds
from rich.console import Console

from lepton_dse.emit.cuda.emitter import program_files
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder, LoweredGraph
from lepton_dse.numerics.formats import INT8, INT32
from lepton_dse.report.tables import plain_table
from lepton_dse.schedule.gpu import Tile, arena, gpu_program
from lepton_dse.verify.cuda.program import HostProgram, host_compiler

EXTENT, RUNS = 256, 5
TILES = {
    "tensor cores": (8.0, Tile(64, 64, 64, 2, 2, 3, True, True)),
    "dot products of four": (7.5, Tile(64, 64, 64, 2, 2, 2)),
}


def product() -> LoweredGraph:
    """Bytes times bytes, summed in 32 bits."""
    builder, rng = GraphBuilder("product"), np.random.default_rng(0)
    builder.input("x", (EXTENT, EXTENT), INT8)
    builder.constant("w", rng.integers(-128, 128, (EXTENT, EXTENT)).astype(np.int8), INT8)
    return builder.build_lowered([builder.add(ops.MatMul(), ["x", "w"], output="y", form=INT32)])


def resnet50() -> LoweredGraph:
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    return networks.lowered(load_model(path))


def written(graph: LoweredGraph, capability: float) -> dict[str, bytes]:
    program = gpu_program(graph, capability)
    return program_files(program, arena(program))


def main() -> None:
    console = Console()
    table = plain_table("CUDA programs on this machine", "what", "seconds")
    graph = resnet50()
    table.add_row("ResNet-50, int8: kernels and text", f"{least_seconds(partial(written, graph, 9.0), 3):.2f}")
    compiler = host_compiler()
    if compiler is None:
        console.print(table, "no C++ compiler is installed: nothing was run")
        return
    for title, (capability, tile) in TILES.items():
        program = gpu_program(product(), capability, lambda op, problem, engine, tile=tile: tile)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "lepton").mkdir()
            (folder / "vectors").mkdir()
            for name, data in program_files(program, arena(program)).items():
                (folder / name).write_bytes(data)
            x = np.random.default_rng(1).integers(-128, 128, (RUNS, EXTENT, EXTENT)).astype(np.int8)
            x.tofile(folder / "vectors/input.bin")
            start = time.perf_counter()
            shared = HostProgram.compile(compiler, folder, folder, apart=False)
            table.add_row(f"{title}: g++ of one kernel", f"{time.perf_counter() - start:.2f}")
            for how, watch, samples in (("not watched", False, RUNS), ("watched", True, 1)):
                run = partial(shared.outputs, "FORWARD", folder, 1, watch=watch)
                table.add_row(f"{title}: {EXTENT}^3, accesses {how}", f"{least_seconds(run, 3) / samples:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
