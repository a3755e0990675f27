"""Tiles: what a plan records of them, which are kernels, and which a device chooses from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_dse.errors import LeptonError
from lepton_dse.plan import Mapping
from lepton_dse.schedule.gpu import (
    STATIC_SHARED_BYTES,
    Columns,
    Contraction,
    Engine,
    Matrix,
    Packed4,
    Problem,
    Tile,
    default_tile,
    engine_for,
    tiles_of,
)

TILES = st.builds(
    Tile,
    st.integers(1, 256),
    st.integers(1, 256),
    st.integers(1, 256),
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(1, 6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(tile=TILES)
def test_a_plan_records_a_tile(tile: Tile) -> None:
    assert Tile.from_mapping(tile.mapping) == tile
    assert Tile.from_mapping(Mapping.model_validate_json(tile.mapping.model_dump_json())) == tile


@given(tile=TILES, data=st.data())
def test_a_mapping_with_a_number_missing_is_no_tile(tile: Tile, data: st.DataObject) -> None:
    tiles = {level: dict(loops) for level, loops in tile.mapping.tiles.items()}
    needed = {"cta": ("rows", "columns", "bytes"), "warps": ("rows", "columns"), "pipeline": ("stages",)}
    level = data.draw(st.sampled_from(sorted(needed)))
    del tiles[level][data.draw(st.sampled_from(needed[level]))]
    assert Tile.from_mapping(Mapping(tiles=tiles)) is None
    assert Tile.from_mapping(Mapping()) is None


@given(tile=TILES, tensor_cores=st.booleans())
def test_violations_say_when_a_tile_is_no_kernel(tile: Tile, tensor_cores: bool) -> None:
    piece = 16 if tensor_cores else 4
    shared = tile.stages * (tile.rows * tile.pitch // (2 if tile.halved else 1) + tile.columns * tile.pitch)
    right = (
        tile.pitch in ({64, 128} if tile.halved else {32, 64, 128})
        and tile.rows % (piece * tile.warp_rows) == 0
        and tile.columns % (8 * tile.warp_columns) == 0
        and tile.rows * tile.columns <= 192 * 32 * tile.warp_rows * tile.warp_columns
        and 32 * tile.warp_rows * tile.warp_columns <= 1024
        and (tile.stages > 1 or not tile.asynchronous)
        and shared <= STATIC_SHARED_BYTES
    )
    found = tile.violations(tensor_cores=tensor_cores)
    if tile.pitch % 2 == 0:
        assert (not found) == right
    for violation in found:
        assert violation.levers
        assert str(violation).startswith(f"tile {tile}: ")
        assert "\n" not in str(violation)


@pytest.mark.parametrize(
    ("changes", "tensor_cores", "what"),
    [
        ({"pitch": 48}, True, "bytes of a step"),
        ({"pitch": 32, "halved": True}, True, "bytes of a step"),
        ({"rows": 0}, True, "extents"),
        ({"warp_columns": 0}, False, "extents"),
        ({"rows": 40}, True, "whole pieces of 16 x 8 a warp"),
        ({"rows": 36}, False, "whole pieces of 4 x 8 a warp"),
        ({"columns": 24}, True, "whole pieces of 16 x 8 a warp"),
        ({"rows": 128, "columns": 256, "pitch": 32, "stages": 1}, True, "sums of a thread"),
        ({"warp_rows": 64, "rows": 1024, "columns": 16, "pitch": 32, "stages": 1}, True, "threads of a block"),
        ({"stages": 0}, True, "strips in shared memory"),
        ({"stages": 1, "asynchronous": True}, True, "strips in shared memory"),
        ({"pitch": 128, "stages": 7}, True, "shared memory"),
    ],
)
def test_each_violation(changes: dict[str, Any], tensor_cores: bool, what: str) -> None:
    tile = replace(Tile(32, 32), **changes)
    (found,) = tile.violations(tensor_cores=tensor_cores)
    assert found.what == f"tile {tile}: {what}"


def problem(engine: Engine, rows: int = 100, depth: int = 96, columns: int = 50, *, whole: bool = True) -> Problem:
    size = engine.element_bytes
    a = Matrix(rows, depth if whole else depth - 1, depth if whole else depth - 1, 0, size)
    return Problem(a, Matrix(columns, depth, depth, 0, size), 1, engine, (0,), 1, (), 0)


@pytest.mark.parametrize(
    ("engine", "capability", "found"),
    [
        (Engine.FLOAT32, 5.0, Engine.FLOAT32),
        (Engine.INT8, 8.0, Engine.INT8),
        (Engine.INT8, 7.5, Engine.DOT4),
        (Engine.INT8, 6.1, Engine.DOT4),
        (Engine.INT8, 6.0, None),
        (Engine.HALF, 8.0, Engine.HALF),
        (Engine.HALF, 7.5, None),
        (Engine.BFLOAT16, 7.0, None),
        (Engine.BFLOAT16, 12.0, Engine.BFLOAT16),
    ],
)
def test_what_multiplies_on_a_device(engine: Engine, capability: float, found: Engine | None) -> None:
    assert engine_for(problem(engine), capability) is found


@settings(max_examples=30)
@given(
    rows=st.integers(1, 400),
    depth=st.integers(1, 20).map(lambda chunks: 16 * chunks),
    columns=st.integers(1, 400),
    engine=st.sampled_from([Engine.FLOAT32, Engine.DOT4, Engine.INT8, Engine.HALF, Engine.BFLOAT16]),
    whole=st.booleans(),
)
def test_tiles_of_a_device_are_kernels(rows: int, depth: int, columns: int, engine: Engine, whole: bool) -> None:
    asked = problem(engine, rows, depth, columns, whole=whole)
    capability = max(7.5, engine.capability)
    found = list(tiles_of(asked, engine, capability))
    assert len(set(found)) == len(found) > 0
    for tile in found:
        assert Contraction(asked.a, asked.b, 1, engine, tile).violations(capability) == []
    assert {tile.asynchronous for tile in found} <= {False, whole and capability >= 8.0}
    assert default_tile(asked, engine, capability) in found


def test_copies_need_the_device_and_whole_chunks() -> None:
    tile = Tile(32, 32, 64, 2, 2, 3, asynchronous=True)
    for whole, capability, what in ((True, 7.5, ["asynchronous copies"]), (False, 8.0, ["asynchronous copies of whole chunks"])):
        asked = problem(Engine.FLOAT32, whole=whole)
        work = Contraction(asked.a, asked.b, 1, Engine.FLOAT32, tile)
        assert [violation.what for violation in work.violations(capability)] == what
    b = Packed4(50, 96, 96, 0)
    work = Contraction(problem(Engine.INT8).a, b, 1, Engine.INT8, tile)
    assert [violation.what for violation in work.violations(8.0)] == ["asynchronous copies of whole chunks"]


def test_a_device_without_the_engine() -> None:
    asked = problem(Engine.HALF)
    (violation,) = Contraction(asked.a, asked.b, 1, Engine.HALF, Tile(32, 32)).violations(7.5)
    assert violation.what == "half products"
    assert violation.levers == ("the CUDA cores",)


def test_a_grid_has_an_end() -> None:
    a, b = Matrix(16, 8, 8, 128, 4), Matrix(8, 8, 8, 64, 4)
    (violation,) = Contraction(a, b, 70_000, Engine.FLOAT32, Tile(16, 8, 32, 1, 1)).violations(8.0)
    assert (violation.what, violation.demand) == ("blocks along an axis of the grid", 70_000)
    wide = Matrix(8 * 65_536, 8, 8, 0, 4)
    (violation,) = Contraction(a, wide, 1, Engine.FLOAT32, Tile(16, 8, 32, 1, 1)).violations(8.0)
    assert violation.demand == 65_536


@pytest.mark.parametrize(
    ("a", "b", "engine", "tile", "message"),
    [
        (Matrix(4, 8, 8, 0, 4), Matrix(4, 16, 16, 0, 4), Engine.FLOAT32, Tile(16, 8), "operands of 8 and 16 elements"),
        (Matrix(4, 8, 8, 0, 4), Columns(4, 9, 4, 0, 4), Engine.FLOAT32, Tile(16, 8), "operands of 8 and 9 elements"),
        (Matrix(4, 8, 8, 0, 2), Matrix(4, 8, 8, 0, 2), Engine.FLOAT32, Tile(16, 8), "float32 multiplies elements of 4 bytes"),
        (Matrix(4, 8, 8, 0, 2), Matrix(4, 8, 8, 0, 2), Engine.HALF, Tile(16, 8, halved=True), "half products with tile 16x8"),
        (Matrix(0, 8, 8, 0, 4), Matrix(4, 8, 8, 0, 4), Engine.FLOAT32, Tile(16, 8), "without elements; leave it out"),
    ],
)
def test_operands_that_do_not_fit(a: Matrix, b: Matrix, engine: Engine, tile: Tile, message: str) -> None:
    with pytest.raises(LeptonError, match=message):
        Contraction(a, b, 1, engine, tile)
