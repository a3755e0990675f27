"""Requests, sectors and passes of kernels: against every thread walked by plain loops, and by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.numerics.formats import FLOAT16, FLOAT32, INT8
from lepton_dse.schedule.gpu import (
    Blocks,
    Columns,
    Contraction,
    Engine,
    Kernel,
    Matrix,
    Operand,
    Packed4,
    Tile,
    Touch,
    Windows,
    gpu_program,
)
from lepton_dse.sim.gpu.banks import request_passes
from lepton_dse.sim.gpu.requests import Requests, contraction_requests, requests
from lepton_dse.sim.gpu.traffic import Traffic, count_places
from lepton_dse.verify.cuda.executed import predicted_counts

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
import gpu_requests as oracle


@st.composite
def contractions(draw: st.DrawFn) -> Contraction:
    """Any engine, tile and operands, a few blocks and steps of them."""
    engine = draw(st.sampled_from(list(Engine)))
    tile = draw(tiles(engine))
    size, products = engine.element_bytes, draw(st.integers(1, 2))
    in_chunk = 16 // size
    batched = products > 1
    depth = draw(st.integers(1, 2 * tile.pitch // size))
    if engine.skips:
        rows = draw(st.integers(1, 2 * tile.rows))
        b, depth = draw(activations(depth, size, products, 2 * tile.columns))
        stored = -(-depth // 32) * 16
        a: Operand = Matrix(rows, stored, stored, rows * stored if batched else 0, size)
    else:
        a, depth = draw(activations(depth, size, products, 2 * tile.rows))
        filled = -(-depth // in_chunk) * in_chunk
        columns = draw(st.integers(1, 2 * tile.columns))
        b = Matrix(columns, filled, filled, columns * filled if batched else 0, size)
        kinds = ["matrix", "blocks", *(["packed"] if size == 1 else [])] + (["columns"] if isinstance(a, Matrix) else [])
        match draw(st.sampled_from(kinds)):
            case "packed":
                wide = -(-depth // 16) * 16
                b = Packed4(columns, depth, wide, columns * wide if batched else 0)
            case "columns":
                b = Columns(columns, depth, columns, depth * columns if batched else 0, size)
            case "blocks":
                steps = -(-filled * size // tile.pitch)
                lists = st.sets(st.integers(0, steps - 1)).map(lambda chosen: tuple(sorted(chosen)))
                count = products * -(-columns // tile.columns)
                b = Blocks(columns, filled, tile.columns, tile.pitch, size, tuple(draw(lists) for _ in range(count)))
    step = st.sampled_from([0, 1, 3, 8, 200])
    touch = st.builds(Touch, st.sampled_from([1, 2, 4]), step, step, step, st.booleans())
    return Contraction(a, b, products, engine, tile, tuple(draw(st.lists(touch, max_size=3))), engine.skips)


@st.composite
def tiles(draw: st.DrawFn, engine: Engine) -> Tile:
    """Of one or two warps along each side."""
    down, across = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]))
    piece = 16 if engine.tensor_cores else 4
    rows, columns = down * piece * draw(st.integers(1, 2)), across * 8 * draw(st.integers(1, 2))
    pitch = draw(st.sampled_from((64, 128) if engine.skips else (32, 64, 128)))
    stages, swizzled = draw(st.integers(1, 3)), draw(st.booleans())
    copied = stages > 1 and draw(st.booleans())
    tile = Tile(rows, columns, pitch, down, across, stages, swizzled, copied, engine.skips)
    assert tile.violations(tensor_cores=engine.tensor_cores) == []
    return tile


@st.composite
def activations(draw: st.DrawFn, depth: int, size: int, products: int, most: int) -> tuple[Operand, int]:
    """Rows, or windows of images, and how long their sums are."""
    if draw(st.booleans()):
        rows = draw(st.integers(1, most))
        return Matrix(rows, depth, depth, rows * depth if products > 1 else 0, size), depth
    kernel = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    channels = max(1, min(depth // (kernel[0] * kernel[1]), draw(st.sampled_from([1, 3, 4, 8, 16]))))
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    pads, strides = (draw(st.integers(0, 1)), draw(st.integers(0, 2))), (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    dilations = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    out_height, out_width = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    sizes = 2, height, width, channels * products, channels, out_height, out_width
    return Windows(*sizes, kernel, strides, pads, dilations, draw(st.sampled_from([0, 0x01010101])), size), (
        kernel[0] * kernel[1] * channels
    )


@pytest.mark.slow
@settings(max_examples=50)
@given(work=contractions())
def test_every_thread_of_a_contraction(work: Contraction) -> None:
    predicted = predicted_counts(contraction_requests(work))
    assert predicted == {name: oracle.walked(work)[name] for name in predicted}


# --- the swizzle --------------------------------------------------------------------------------------------------


def emittable(*, swizzled: bool) -> list[tuple[Engine, Tile]]:
    """A tile of each pitch for each engine."""
    found = []
    for engine in Engine:
        for pitch in (32, 64, 128):
            tile = Tile(32, 32, pitch, 1, 2, 2, swizzled, False, engine.skips)
            if not tile.violations(tensor_cores=engine.tensor_cores):
                found.append((engine, tile))
    return found


def one(engine: Engine, tile: Tile) -> Contraction:
    """One tile and one strip."""
    elements = tile.pitch // engine.element_bytes
    stored = elements // 2 if engine.skips else elements
    a = Matrix(tile.rows, stored, stored, 0, engine.element_bytes)
    return Contraction(a, Matrix(tile.columns, elements, elements, 0, engine.element_bytes), 1, engine, tile, (), engine.skips)


@pytest.mark.parametrize(("engine", "tile"), emittable(swizzled=True))
def test_a_swizzled_strip_has_no_conflicts(engine: Engine, tile: Tile) -> None:
    asked = contraction_requests(one(engine, tile))
    least = 1 if engine.tensor_cores else 4  # of 4 bytes a lane, and of 16
    assert asked.shared_load_passes == least * asked.shared_loads
    assert asked.shared_store_passes == 4 * asked.shared_stores


@pytest.mark.parametrize(("engine", "tile"), emittable(swizzled=False))
def test_a_plain_strip_has_those_that_its_pitch_says(engine: Engine, tile: Tile) -> None:
    asked = contraction_requests(one(engine, tile))
    # Eight rows lie in 8 * pitch bytes; the banks repeat every 128 bytes, and so do conflicts.
    loads = 0
    for pitch, extent, left in ((tile.row_pitch, tile.rows, True), (tile.pitch, tile.columns, False)):
        factor, times = max(1, pitch * 8 // 128), 2 if left else 1  # both warps read the rows, each its own columns
        if engine.tensor_cores:
            loads += times * (extent // 8) * (pitch // 16) * factor
        else:
            # Rows: four at once, each for eight lanes in a pass of its own. Columns: eight lanes in a pass, each another row.
            loads += times * (extent // (4 if left else 8)) * (pitch // 16) * (4 if left else 4 * factor)
    assert asked.shared_load_passes == loads
    assert asked.shared_store_passes == 4 * asked.shared_stores


@settings(max_examples=40)
@given(work=contractions())
def test_a_swizzle_never_adds_passes(work: Contraction) -> None:
    def asked(*, swizzled: bool) -> Requests:
        fields = {**vars(work.tile), "swizzled": swizzled}
        again = Contraction(work.a, work.b, work.products, work.engine, Tile(**fields), work.touches, work.swapped)
        return contraction_requests(again)

    plain, swizzled = asked(swizzled=False), asked(swizzled=True)
    assert swizzled.shared_load_passes <= plain.shared_load_passes
    assert (swizzled.shared_loads, swizzled.shared_stores) == (plain.shared_loads, plain.shared_stores)
    assert (swizzled.loads, swizzled.stores, swizzled.barriers) == (plain.loads, plain.stores, plain.barriers)


def test_passes_of_requests_with_idle_lanes() -> None:
    assert request_passes(np.arange(5) * 32) == 5  # one bank
    assert request_passes(np.zeros(5, np.int64)) == 1  # one word
    assert request_passes(np.arange(9) * 4, 4) == 2  # eight lanes, then one
    assert request_passes(np.arange(16) * 2, 2) == 1  # sixteen lanes at a time


# --- kernels by hand ----------------------------------------------------------------------------------------------


def kernel(builder: GraphBuilder, output: str) -> Kernel:
    """The only kernel of a graph."""
    (found,) = gpu_program(builder.build_lowered([output]), 8.0).kernels
    return found


def test_elements_side_by_side() -> None:
    builder = GraphBuilder("g")
    builder.input("x", (1000,))
    builder.constant("w", np.ones(1, np.float32))
    builder.add(ops.Add(), ["x", "w"], output="y")
    asked = requests(kernel(builder, "y"))
    # 31 whole warps and one of 8 lanes; the one addend lies in one sector for each warp.
    assert asked.loads == Traffic(64, 8000, 125 + 32)
    assert asked.stores == Traffic(32, 4000, 125)
    assert (asked.barriers, asked.shared_loads, asked.indirect) == (0, 0, False)


def test_a_transposed_read_touches_a_sector_a_lane() -> None:
    builder = GraphBuilder("g")
    builder.input("x", (64, 32))
    builder.add(ops.Transpose((1, 0)), ["x"], output="y")
    asked = requests(kernel(builder, "y"))
    assert asked.loads == Traffic(64, 8192, 64 * 32)
    assert asked.stores == Traffic(64, 8192, 256)


def test_rows_are_read_as_often_as_a_warp_goes_along_them() -> None:
    builder = GraphBuilder("g")
    builder.input("x", (3, 40))
    builder.add(ops.Softmax((1,)), ["x"], output="y")
    asked = requests(kernel(builder, "y"))
    # Each row of 160 bytes: 32 lanes in 4 sectors, then 8 lanes in one. Three times read, once written.
    assert asked.loads == Traffic(18, 3 * 480, 45)
    assert asked.stores == Traffic(6, 480, 15)


def test_what_values_decide_is_left_out() -> None:
    builder = GraphBuilder("g")
    builder.input("x", (64,), INT8)
    builder.constant("table", np.arange(256).astype(np.int8), INT8)
    builder.add(ops.Lookup(-128), ["x", "table"], output="y")
    asked = requests(kernel(builder, "y"))
    assert asked.indirect
    assert asked.loads == Traffic(2, 64, 2)
    assert asked.stores == Traffic(2, 64, 2)


@pytest.mark.parametrize(("form", "size"), [(FLOAT32, 4), (FLOAT16, 2), (INT8, 1)])
def test_sectors_follow_the_width(form: object, size: int) -> None:
    assert count_places(np.arange(64).reshape(2, 32), size) == Traffic(2, 64 * size, 2 * size)
    apart = np.where(np.arange(32) % 2 == 0, 32 * np.arange(32), -1)[None]
    assert count_places(apart, size) == Traffic(1, 16 * size, 16)
    assert count_places(np.full((3, 32), -1), size) == Traffic(0, 0, 0)


def test_more_stages_ask_the_same_of_global_memory() -> None:
    a, b = Matrix(50, 96, 96, 0, 4), Matrix(30, 96, 96, 0, 4)
    touches = (Touch(4, 0, 30, 1, store=True),)
    every = [
        contraction_requests(Contraction(a, b, 1, Engine.FLOAT32, Tile(32, 16, 64, 2, 1, stages, asynchronous=copied), touches))
        for stages, copied in ((1, False), (2, False), (3, True))
    ]
    assert len({(asked.loads, asked.stores, asked.shared_loads, asked.shared_stores) for asked in every}) == 1
    assert [asked.barriers for asked in every] == [4 * 11, 4 * 6, 4 * 6]


def test_blocks_are_not_an_operand_of_strips() -> None:
    work = one(Engine.FLOAT32, Tile(16, 8, 64, 1, 1))
    blocks = Blocks(16, 16, 8, 64, 4, ((0,), (0,)))
    with pytest.raises(LeptonError, match="blocks are counted by what is stored"):
        contraction_requests(Contraction(blocks, work.b, 1, Engine.FLOAT32, work.tile))
