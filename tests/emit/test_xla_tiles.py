"""Matrix products as kernels with a plan's tiles: which are, what they compute, and what the source says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec

import numpy as np
import pytest

import lepton_dse as ld
from lepton_dse.emit.xla.source import source_text
from lepton_dse.emit.xla.tiles import TiledProduct, tiled_products
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.plan import Plan
from lepton_dse.schedule.sharded import FoldedProgram, fold, unshared_program
from tests.emit.xla_networks import convolutional, transformer


def planned(graph: Graph, form: str, target: str = "google-tpu-v5e") -> tuple[Plan, FoldedProgram]:
    found = ld.plan(graph, target, format=form)
    return found.plan, fold(unshared_program(found.lowered))


def wide(layers: int = 1) -> Graph:
    return transformer(batch=1, sequence=64, heads=2, width=256, layers=layers)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_every_matrix_product_has_the_tile_of_its_plan(form: str) -> None:
    plan, folded = planned(wide(), form)
    tiles = tiled_products(plan, folded)
    by_output = {step.op.output: step.op for step in folded.program.steps}
    planned_tiles = {entry.op: entry.mapping.tiles.get("vmem") for entry in plan.ops}
    assert {by_output[shard].name for shard in tiles} == {name for name, tile in planned_tiles.items() if tile}
    for shard, product in tiles.items():
        op = by_output[shard]
        tile = planned_tiles[op.name]
        assert tile == dict(zip("MNK", product.tile, strict=True))
        shapes = [folded.program.shards[name].tensor.shape for name in (*op.inputs[:2], shard)]
        assert product.groups * product.m * product.k == np.prod(shapes[0])
        assert product.groups * product.m * product.n == np.prod(shapes[2])
        assert shapes[1][-2:] == (product.k, product.n)
    assert len(tiles) == 8
    source = source_text(folded, tiles)
    compile(source, "tiled.py", "exec")
    assert source.count("kernels.matmul(") == 8
    assert "op.matmul" not in source
    assert "kernels" not in source_text(folded)


def test_blocks_of_the_grid_cover_the_product() -> None:
    product = TiledProduct(2, 100, 300, 260, (32, 128, 128), n_outer=True, biased=True)
    assert product.grid == (2, 3, 4, 3)
    assert product.blocks == ((32, 128), (128, 128), (1, 128), (32, 128))
    inner = TiledProduct(1, 100, 300, 260, (104, 300, 260), n_outer=False, biased=False)
    assert inner.grid == (1, 1, 1, 1)
    assert inner.blocks == ((104, 260), (260, 300), (104, 300))


def test_plans_for_other_devices_and_for_meshes_have_no_kernels() -> None:
    assert tiled_products(*planned(wide(), "float32", "nvidia-a100-sxm-80gb")) == {}
    plan, folded = planned(wide(), "int8", "google-tpu-v1")
    assert tiled_products(plan, folded) == {}
    sharded = ld.shard(wide(), "google-v5e-pod", "x=1")
    assert tiled_products(sharded.plan, fold(unshared_program(sharded.lowered))) == {}
    plan, folded = planned(convolutional(batch=1), "float32")
    assert [product.k for product in tiled_products(plan, folded).values()] == [8]


def test_wide_integers_and_repeated_batches_stay_products_of_the_compiler() -> None:
    assert set(tiled_products(*planned(wide(), "int16"))) == {"scores", "mixed"}  # which stay real
    builder = GraphBuilder("repeated")
    x = builder.input("x", (1, 8, 8, 128))
    weight = builder.constant("w", np.ones((8, 128, 128), np.float32))
    one = builder.constant("one", np.ones((1, 1, 128, 128), np.float32))
    y = builder.add(ops.MatMul(), [x, weight], output="y")
    graph = builder.build([builder.add(ops.MatMul(), [y, one], output="z")])
    assert tiled_products(*planned(graph, "float32")) == {}


def test_rounds_with_tiles_of_their_own_stay_products_of_the_compiler() -> None:
    plan, folded = planned(wide(layers=5), "float32")
    assert len(folded.loops) == 1
    tiles = tiled_products(plan, folded)
    assert len(tiles) == 8
    (entry,) = (entry for entry in plan.ops if entry.op == "3.q product")
    mapping = entry.mapping.model_copy(update={"tiles": {"vmem": {**entry.mapping.tiles["vmem"], "M": 32}}})
    changed = [entry.model_copy(update={"mapping": mapping}) if entry.op == "3.q product" else entry for entry in plan.ops]
    other = tiled_products(plan.model_copy(update={"ops": tuple(changed)}), folded)
    assert set(tiles) - set(other) == {"0.q"}


DRIVER = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import kernels, operations

def drawn(generator, shape, kind):
    if kind.startswith("int"):
        return jnp.asarray(generator.integers(-100, 100, shape), kind)
    return jnp.asarray(generator.normal(size=shape), kind)

apart = []
for number, (x, w, tile, n_outer, biased, kind, to) in enumerate(json.loads(sys.argv[2])):
    generator = np.random.default_rng(number)
    operands = [drawn(generator, x, kind), drawn(generator, w, kind)]
    if biased:
        operands.append(drawn(generator, w[-1:], "int32" if kind == "int8" else kind))
    found = jax.jit(lambda *values: kernels.matmul(*values, tile=tuple(tile), n_outer=n_outer, to=to))(*operands)
    expected = operations.matmul(*operands, to=to)
    assert found.shape == expected.shape and found.dtype == expected.dtype, (x, w, found.shape, expected.shape)
    scale = float(jnp.max(jnp.abs(expected.astype(jnp.float64))))
    apart.append(float(jnp.max(jnp.abs(found.astype(jnp.float64) - expected.astype(jnp.float64)))) / scale)
print(json.dumps(apart))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None and not os.environ.get("CI"), reason="jax is not installed")
def test_kernels_compute_what_the_operation_means_whatever_the_tile() -> None:
    """Ragged rows, columns and sums, both orders, with and without a bias, batches, in every type."""
    generator, cases = np.random.default_rng(7), []
    for number in range(36):
        m, n, k = (int(extent) for extent in generator.integers(1, 70, 3))
        tile = [int(generator.integers(1, extent + 1)) for extent in (m, n, k)]
        batch = [[], [2], [2, 3]][number % 3]
        x, w = [*batch, m, k], [*(batch if number % 2 else []), k, n]
        kind, to = (("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32"), ("int8", "int32"))[number % 4]
        cases.append([x if number != 4 else [k], w, tile, bool(generator.integers(2)), bool(generator.integers(2)), kind, to])
    templates = str(files("lepton_dse.emit.xla") / "templates")
    command = [sys.executable, "-c", DRIVER, templates, json.dumps(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr[-2000:]
    for (*_, kind, to), apart in zip(cases, json.loads(done.stdout), strict=True):
        assert apart <= {"int32": 0.0, "float32": 1e-5, "bfloat16": 2.0**-7}[to], (kind, to)
