"""Tiles of whole networks: repeated layers once, results remembered in memory and on disk, and hardware as a knob."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lepton_dse.errors import LeptonError
from lepton_dse.files import data_folder
from lepton_dse.importers import load_model
from lepton_dse.ir import ops
from lepton_dse.ir.graph import Graph, GraphBuilder
from lepton_dse.numerics.formats import Precision
from lepton_dse.search.tiling import Hierarchy, Level, MapSpace, Objective, hierarchy_of, memo, search_tiles, tile_network
from lepton_dse.sim.loopnest import problem_of
from lepton_dse.targets import TpuTarget, load_target, with_numbers

INT8 = Precision.parse("int8")
MACHINE = Hierarchy(
    8, 8, (Level("registers", 8, 1e9, 0.1e-12), Level("buffer", 8192, 32, 3e-12), Level("memory", 1e12, 8, 80e-12)), 0.3e-12
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(memo, "_MEMORY", {})


def twins() -> Graph:
    """Two convolutions of one shape, and one of another, with different weights."""
    builder = GraphBuilder("twins")
    value = builder.input("x", (1, 8, 12, 12))
    for index, kernel in enumerate((3, 3, 1)):
        window = ops.Window((kernel,) * 2, (1, 1), (1, 1), (kernel // 2,) * 2, (kernel // 2,) * 2)
        weights = builder.constant(f"w{index}", np.full((8, 8, kernel, kernel), index, np.float32))
        value = builder.add(ops.Conv(window, 1), [value, weights], output=f"y{index}")
    return builder.build([value])


def test_repeated_layers_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def counted(*arguments: object) -> object:
        searched.append(arguments)
        return search_tiles(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(memo, "search_tiles", counted)
    graph = twins()
    found = tile_network(graph, MACHINE, INT8, Objective.ENERGY)
    assert len(searched) == 2
    assert [name for name, _ in found.layers] == [op.name for op in graph.ops]
    assert found.optimal
    assert found.feasible
    (_, first), (_, second), (_, third) = found.layers
    assert first.energy_j == second.energy_j != third.energy_j
    assert found.energy_j == pytest.approx(2 * first.energy_j + third.energy_j)
    assert found.cycles == pytest.approx(2 * first.cycles + third.cycles)
    # Each layer's own tensors are named.
    assert second.mapping is not None
    assert second.mapping.levels[-1].resident == {"y0", "w1", "y1"}


def test_results_are_remembered_on_disk_and_a_damaged_file_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = twins()
    first = tile_network(graph, MACHINE, INT8)
    files = sorted((tmp_path / "lepton_dse" / "tiles").glob("*.json"))
    assert len(files) == 2
    monkeypatch.setattr(memo, "_MEMORY", {})
    monkeypatch.setattr(memo, "search_tiles", lambda *arguments: pytest.fail("searched again"))
    assert tile_network(graph, MACHINE, INT8) == first
    monkeypatch.setattr(memo, "_MEMORY", {})
    monkeypatch.setattr(memo, "search_tiles", search_tiles)
    for path, text in zip(files, ("{", '{"figures": [1]}'), strict=True):
        path.write_text(text)
    assert tile_network(graph, MACHINE, INT8) == first


def test_what_does_not_fit_is_remembered_too() -> None:
    tight = Hierarchy(8, 8, (MACHINE.levels[0], Level("buffer", 2, 32, 3e-12, bypass=False), MACHINE.levels[2]), 0.0)
    for _ in range(2):
        found = tile_network(twins(), tight, INT8)
        assert not found.feasible
        memo._MEMORY.clear()


def test_a_question_that_differs_is_another_one() -> None:
    graph = twins()
    energies = {
        tile_network(graph, machine, precision, objective, space, batch=batch).energy_j
        for machine, precision, objective, space, batch in (
            (MACHINE, INT8, Objective.ENERGY, MapSpace(), 1),
            (MACHINE, INT8, Objective.ENERGY, MapSpace(), 2),
            (MACHINE, Precision.parse("int4"), Objective.ENERGY, MapSpace(), 1),
            (Hierarchy(8, 4, MACHINE.levels, 0.3e-12), INT8, Objective.ENERGY, MapSpace(spatial=(("c",), ("m",))), 1),
        )
    }
    assert len(energies) == 4


def test_a_systolic_target_as_a_hierarchy_and_swept() -> None:
    target = load_target("google-tpu-v5e")
    assert isinstance(target, TpuTarget)
    machine = hierarchy_of(target, INT8)
    assert (machine.rows, machine.columns) == (128, 512)
    assert machine.levels[1].capacity_bytes == 64 * 2**20
    graph = load_model(data_folder("models") / "digits_cnn.onnx")
    whole = tile_network(graph, machine, INT8, Objective.LATENCY)
    assert whole.optimal
    small = with_numbers(target, {"array_rows": 8, "array_columns": 8, "array_count": 1})
    assert isinstance(small, TpuTarget)
    assert tile_network(graph, hierarchy_of(small, INT8), INT8, Objective.LATENCY).cycles > whole.cycles
    with pytest.raises(LeptonError, match="arithmetic"):
        hierarchy_of(target, Precision.parse("float64"))


def test_a_network_without_contractions_is_refused() -> None:
    builder = GraphBuilder("plain")
    graph = builder.build([builder.add(ops.Clip(0.0, 6.0), [builder.input("x", (1, 5))], output="y")])
    with pytest.raises(LeptonError, match="no contraction"):
        tile_network(graph, MACHINE, INT8)
    builder = GraphBuilder("pool")
    x = builder.input("x", (1, 2, 4, 4))
    pool = builder.build([builder.add(ops.MaxPool(ops.Window((2, 2), (2, 2), (1, 1), (0, 0), (0, 0))), [x], output="y")])
    with pytest.raises(LeptonError, match="contractions"):
        search_tiles(problem_of(pool, pool.ops[0], INT8), MACHINE)
