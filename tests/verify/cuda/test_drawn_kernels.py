"""Drawn kernels of every format and tile: values, requests, passes and faults in three orders of the threads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lepton_dse.schedule.gpu import Tile, gpu_program

sys.path.insert(0, str(Path(__file__).parent))
from cuda_graphs import Drawn, contraction_graphs, mover_graphs
from cuda_programs import ORDERS, Built, check, check_compiled, choosing, interesting

BRANCHES = 6
EXAMPLES = 3
LEAST = 12  # kernels that contract or join operations, of every format: more than eighty together
SETTINGS = settings(max_examples=EXAMPLES, phases=(Phase.generate,))  # a smaller example would take minutes to find


def held(drawn: Drawn, capability: float, architecture: str, data: st.DataObject, folder: Path) -> int:
    """Build, run and compile one graph; how many of its kernels contract or join operations."""

    def pick(tiles: list[Tile]) -> Tile:
        """First how strips are brought, since most tiles have one or two of them."""
        how = data.draw(st.sampled_from(sorted({(tile.asynchronous, tile.stages) for tile in tiles})))
        return data.draw(st.sampled_from([tile for tile in tiles if (tile.asynchronous, tile.stages) == how]))

    program = gpu_program(drawn.graph, capability, choosing(pick, capability))
    built = Built.build(program, drawn.feeds, folder)
    for order in ORDERS:
        check(built, order)
    check_compiled(built, architecture)
    return interesting(program)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activations", "weights", "capability"),
    [
        ("float32", "float32", 7.5),
        ("float32", "float32", 8.0),
        ("int8", "int8", 7.5),
        ("int8", "int8", 8.0),
        ("int8", "int4", 8.0),
        ("float16", "float16", 8.0),
        ("bfloat16", "bfloat16", 8.0),
    ],
)
def test_contractions(
    activations: str, weights: str, capability: float, tmp_path_factory: pytest.TempPathFactory, cxx: str, nvrtc: None
) -> None:
    drawn = 0

    @SETTINGS
    @given(
        graph=contraction_graphs(activations, weights, BRANCHES),
        architecture=st.sampled_from(["sm_75", "sm_80", "sm_90", "sm_100"][capability >= 8 :]),
        data=st.data(),
    )
    def examples(graph: Drawn, architecture: str, data: st.DataObject) -> None:
        nonlocal drawn
        drawn += held(graph, capability, architecture, data, tmp_path_factory.mktemp("kernels"))

    examples()
    assert drawn >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_kernels_of_elements_and_rows(part: int, tmp_path_factory: pytest.TempPathFactory, cxx: str, nvrtc: None) -> None:

    @SETTINGS
    @given(graph=mover_graphs(BRANCHES), data=st.data())
    def examples(graph: Drawn, data: st.DataObject) -> None:
        held(graph, 8.0, "sm_80", data, tmp_path_factory.mktemp("kernels"))

    examples()
