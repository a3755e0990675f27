"""Passes over the banks, counted access by access: as predicted with the swizzle and without, for every engine and pitch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, INT8, INT32
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.schedule.gpu import Engine, Tile, gpu_program

sys.path.insert(0, str(Path(__file__).parent))
from cuda_programs import ORDERS, Built, check_counts, contractions

ROWS, DEPTH, COLUMNS = 32, 128, 32
FORMATS = {
    Engine.FLOAT32: FLOAT32,
    Engine.DOT4: INT8,
    Engine.INT8: INT8,
    Engine.HALF: FLOAT16,
    Engine.BFLOAT16: BFLOAT16,
    Engine.SPARSE_HALF: FLOAT16,
    Engine.SPARSE_BFLOAT16: BFLOAT16,
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", list(Engine))
def test_passes_of_every_pitch(engine: Engine, tmp_path: Path, cxx: str) -> None:
    form = FORMATS[engine]
    narrow = form.is_float and form != FLOAT32
    quant = QuantParams((1.0,)) if narrow else None
    rng = np.random.default_rng(4)
    builder = GraphBuilder("pitches")

    def real(name: str) -> str:
        return builder.add(ops.Dequantize(), [name], output=f"{name}r", form=FLOAT32) if narrow else name

    x = real(builder.input("x", (ROWS, DEPTH), form, quant))
    tiles = {}
    for pitch in (64, 128) if engine.skips else (32, 64, 128):
        for swizzled in (True, False):
            name = f"y{pitch}{'swizzled' if swizzled else ''}"
            tiles[name] = Tile(32, 32, pitch, 2, 1, 2, swizzled, False, engine.skips)
            weights = rng.integers(1, 5, (DEPTH, COLUMNS)).astype(np.float32)
            if engine.skips:
                weights[np.arange(DEPTH) % 4 < 2] = 0
            w = real(builder.constant(f"w{name}", weights.astype(form.numpy), form, quant))
            builder.add(ops.MatMul(), [x, w], output=name, name=name, form=FLOAT32 if form.is_float else INT32)
    graph = builder.build_lowered(list(tiles))
    program = gpu_program(graph, 7.5 if engine is Engine.DOT4 else 8.0, lambda op, problem, kind: tiles[op.name])
    assert [work.engine for work in contractions(program)] == [engine] * len(tiles)
    feeds = {"x": rng.integers(-4, 5, (ROWS, DEPTH)).astype(np.float32).astype(form.numpy)}
    built = Built.build(program, feeds, tmp_path)
    for order in ORDERS:
        _, seen = built.watched(order)
        check_counts(program, seen)
        for (name, tile), counts in zip(tiles.items(), seen, strict=True):
            least = 1 if engine.tensor_cores else 4
            free = counts["shared_load_passes"] == least * counts["shared_loads"]
            assert free == tile.swizzled, name
            assert counts["shared_store_passes"] == 4 * counts["shared_stores"]
