"""Kernels that leave out weights that are zero: two of every four, or whole blocks; equal to dense ones on the same weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import FLOAT32, INT8, INT32, NumberFormat
from lepton_dse.numerics.quantize import QuantParams
from lepton_dse.reference import engine
from lepton_dse.schedule.gpu import Blocks, Engine, GpuProgram, Matrix, Problem, Tile, gpu_program
from lepton_dse.schedule.gpu.products import blocked, skipping

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "oracle"))
import gpu_sparsity as oracle
from cuda_programs import ORDERS, Built, check_compiled, check_counts, contractions, window

Array = np.ndarray[Any, Any]


def two_of_four(rng: np.random.Generator, rows: int, depth: int) -> Array:
    """Whole numbers, at most two of every four neighbours of a row not zero."""
    whole = rng.integers(-4, 5, (rows, -(-depth // 4), 4))
    order = np.argsort(rng.random(whole.shape), axis=-1)
    whole[order < 2] = 0
    return whole.reshape(rows, -1)[:, :depth]


def some_blocks(rng: np.random.Generator, rows: int, depth: int, extent: int, width: int, empty_tile: int) -> Array:
    """Whole numbers in about half of all blocks of `extent` x `width`, and in none of one tile."""
    found = rng.integers(-4, 5, (rows, depth))
    for tile in range(0, rows, extent):
        for step in range(0, depth, width):
            if tile // extent == empty_tile or rng.random() < 0.5:
                found[tile : tile + extent, step : step + width] = 0
    return found


# --- what is stored -----------------------------------------------------------------------------------------------


def _problem(rows: int, depth: int, products: int, engine_: Engine) -> Problem:
    stride = -(-depth // (16 // engine_.element_bytes)) * (16 // engine_.element_bytes)
    a = Matrix(5, depth, depth, 5 * depth if products > 1 else 0, engine_.element_bytes)
    b = Matrix(rows, stride, stride, rows * stride if products > 1 else 0, engine_.element_bytes)
    return Problem(a, b, products, engine_, (0,), 1, (), 0)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 40),
    depth=st.integers(1, 90),
    products=st.integers(1, 2),
    form=st.sampled_from(["float16", "bfloat16"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_halves_and_positions(rows: int, depth: int, products: int, form: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = _problem(rows, depth, products, Engine.HALF if form == "float16" else Engine.BFLOAT16)
    dense = np.zeros((products, rows, problem.b.depth), NumberFormat.parse(form).numpy)
    dense[:, :, :depth] = np.stack([two_of_four(rng, rows, depth) for _ in range(products)])
    found = skipping(problem, dense)
    assert found is not None
    fewer, kept, words = found
    assert (fewer.engine, fewer.swapped) == (problem.engine.skipping, True)
    assert (fewer.b, fewer.a.rows, fewer.a.depth) == (problem.a, rows, kept.shape[-1])
    whole = -(-problem.b.depth // 32) * 32
    filled = np.zeros((products, -(-rows // 16) * 16, whole))
    filled[:, :rows, : problem.b.depth] = dense.astype(np.float64)
    for product in range(products):
        lists = filled[product].tolist()
        assert words[product].reshape(-1).tolist() == oracle.position_words(lists)
        assert kept[product].astype(np.float64).tolist() == oracle.stored_halves(lists)[:rows]
        back = oracle.dense_of(kept[product], words[product].reshape(-1), problem.b.depth)
        np.testing.assert_array_equal(back, dense[product].astype(np.float64))


@settings(max_examples=30)
@given(rows=st.integers(1, 20), depth=st.integers(3, 60), seed=st.integers(0, 2**32 - 1))
def test_three_of_four_are_too_many(rows: int, depth: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = _problem(rows, depth, 1, Engine.HALF)
    dense = np.zeros((1, rows, problem.b.depth), np.float16)
    dense[0, :, :depth] = two_of_four(rng, rows, depth)
    row, start = rng.integers(rows), 4 * rng.integers(max(1, depth // 4))
    dense[0, row, start : min(start + 3, depth)] = 1
    assert (skipping(problem, dense) is None) == (min(start + 3, depth) - start == 3)


@pytest.mark.parametrize("kind", [Engine.FLOAT32, Engine.INT8])
def test_other_formats_do_not_leave_out_two_of_four(kind: Engine) -> None:
    assert skipping(_problem(8, 32, 1, kind), np.zeros((1, 8, 32), np.float32)) is None


@settings(max_examples=60)
@given(
    rows=st.integers(1, 40),
    depth=st.integers(1, 90),
    products=st.integers(1, 2),
    columns=st.sampled_from([8, 16]),
    pitch=st.sampled_from([32, 64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_that_are_stored(rows: int, depth: int, products: int, columns: int, pitch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = _problem(rows, depth, products, Engine.FLOAT32)
    dense = np.zeros((products, rows, problem.b.depth), np.float32)
    empty = int(rng.integers(-(-rows // columns)))
    dense[:, :, :depth] = np.stack([some_blocks(rng, rows, depth, columns, pitch // 4, empty) for _ in range(products)])
    tiles, steps = -(-rows // columns), -(-problem.b.depth * 4 // pitch)
    used = {
        (product, row // columns, step // (pitch // 4))
        for product, row, step in zip(*(axis.tolist() for axis in np.nonzero(dense)), strict=True)
    }
    found = blocked(problem, dense, Tile(16, columns, pitch, 1, 1))
    assert (found is None) == (len(used) / (products * tiles * steps) > 0.75)
    if found is None:
        return
    blocks, stored = found
    assert (blocks.rows, blocks.depth, blocks.extent, blocks.pitch) == (rows, problem.b.depth, columns, pitch)
    listed = [blocks.lists[first : first + tiles] for first in range(0, len(blocks.lists), tiles)]
    assert {(p, t, s) for p, lists in enumerate(listed) for t, steps_ in enumerate(lists) for s in steps_} == used
    assert blocks.stored == len(used) == len(stored)
    start = 0
    for product, lists in enumerate(listed):
        count = sum(map(len, lists))
        back = oracle.dense_of_blocks(stored[start : start + count], lists, columns, rows, problem.b.depth)
        np.testing.assert_array_equal(back, dense[product])
        start += count


# --- what kernels make of it --------------------------------------------------------------------------------------


def _network(form: str, weights: Array, kernel: tuple[int, ...], groups: int) -> GraphBuilder:
    """A convolution with a bias and a residual, or a product (no kernel) with a bias; whole numbers everywhere."""
    number, rng = NumberFormat.parse(form), np.random.default_rng(5)
    narrow = number.is_float and number != FLOAT32
    quant = QuantParams((1.0,)) if narrow else None
    builder = GraphBuilder("skipped")
    channels = weights.shape[-1] // int(np.prod(kernel)) if kernel else weights.shape[1]
    names = ["x", "w"]
    builder.input("x", (2, channels * groups, 5, 7) if kernel else (21, channels), number, quant)
    moved = np.moveaxis(weights.reshape(len(weights), *kernel, channels), -1, 1) if kernel else weights.T
    builder.constant("w", np.ascontiguousarray(moved.astype(np.float32).astype(number.numpy)), number, quant)
    if narrow:
        names = [builder.add(ops.Dequantize(), [name], output=f"{name}r", form=FLOAT32) for name in names]
    sums = FLOAT32 if number.is_float else INT32
    names.append(builder.constant("bias", rng.integers(-9, 10, len(weights)).astype(sums.numpy)))
    if kernel:
        pads = tuple(size // 2 for size in kernel)
        attributes: ops.Attributes = ops.Conv(window(kernel, pads_begin=pads, pads_end=pads), groups)
    else:
        attributes = ops.MatMul()
    builder.add(attributes, names, output="sum", form=sums)
    builder.add(ops.Clip(-60, 60), ["sum"], output="y")
    return builder


def _feeds(program: GpuProgram) -> dict[str, Array]:
    tensor = program.graph.tensors["x"]
    values = np.random.default_rng(9).integers(-3, 4, tensor.shape).astype(np.float32)
    return {"x": values.astype(tensor.format.numpy)}


def _equal_to_dense(program: GpuProgram, folder: Path) -> Built:
    """Whole numbers, so that every order of a sum is exact."""
    built = Built.build(program, _feeds(program), folder)
    expected = engine.execute(program.graph, built.feeds)["y"]
    assert len(np.unique(expected)) > 20
    for order in ORDERS:
        outputs, seen = built.watched(order)
        np.testing.assert_array_equal(outputs["y"], expected)
        check_counts(program, seen)
    return built


HALVED = [
    Tile(16, 8, 64, 1, 1, 1, halved=True),
    Tile(32, 16, 64, 2, 1, 2, swizzled=False, halved=True),
    Tile(32, 32, 64, 1, 2, 3, asynchronous=True, halved=True),
    Tile(64, 16, 128, 2, 1, 2, asynchronous=True, halved=True),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "kernel", "groups", "tile"),
    [
        ("float16", (3, 3), 1, HALVED[2]),
        ("float16", (), 1, HALVED[0]),
        ("bfloat16", (1, 1), 2, HALVED[1]),
        ("bfloat16", (3, 1), 1, HALVED[3]),
    ],
)
def test_two_of_four(form: str, kernel: tuple[int, ...], groups: int, tile: Tile, tmp_path: Path, cxx: str, nvrtc: None) -> None:
    channels = 64
    depth = channels * int(np.prod(kernel)) if kernel else 72
    weights = two_of_four(np.random.default_rng(1), 36, depth)
    program = gpu_program(_network(form, weights, kernel, groups).build_lowered(["y"]), 8.0, lambda op, problem, kind: tile)
    (work,) = contractions(program)
    assert work.engine.skips
    built = _equal_to_dense(program, tmp_path)
    check_compiled(built, "sm_80")


BLOCKED = [
    Tile(32, 8, 64, 2, 1, 1),
    Tile(32, 8, 64, 2, 1, 2, swizzled=False),
    Tile(32, 8, 64, 2, 1, 3, asynchronous=True),
    Tile(16, 16, 32, 1, 2, 4, asynchronous=True),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "capability", "kernel", "groups", "tile"),
    [
        ("float32", 8.0, (3, 3), 1, BLOCKED[0]),
        ("float32", 8.0, (), 1, BLOCKED[2]),
        ("float16", 8.0, (3, 3), 1, BLOCKED[2]),
        ("bfloat16", 8.0, (1, 1), 2, BLOCKED[3]),
        ("int8", 8.0, (3, 3), 1, BLOCKED[3]),
        ("int8", 7.5, (), 1, BLOCKED[1]),
    ],
)
def test_blocks(
    form: str,
    capability: float,
    kernel: tuple[int, ...],
    groups: int,
    tile: Tile,
    tmp_path: Path,
    cxx: str,
    nvrtc: None,
) -> None:
    size = NumberFormat.parse(form).numpy.itemsize
    depth = 32 * int(np.prod(kernel)) if kernel else 160
    rng = np.random.default_rng(2)
    filters = 40 // groups
    weights = np.concatenate([some_blocks(rng, filters, depth, tile.columns, tile.pitch // size, 1) for _ in range(groups)])
    program = gpu_program(
        _network(form, weights, kernel, groups).build_lowered(["y"]), capability, lambda op, problem, kind: tile
    )
    (work,) = contractions(program)
    assert isinstance(work.b, Blocks)
    assert () in work.lists
    built = _equal_to_dense(program, tmp_path)
    check_compiled(built, "sm_80" if capability == 8.0 else "sm_75")


def test_integers_with_two_of_four_stay_dense() -> None:
    weights = two_of_four(np.random.default_rng(1), 16, 64)
    builder = _network("int8", weights, (), 1)
    (work,) = contractions(gpu_program(builder.build_lowered(["y"]), 8.0))
    assert work.engine is Engine.INT8
    assert isinstance(work.b, Matrix)
    assert builder.tensors["w"].format == INT8
