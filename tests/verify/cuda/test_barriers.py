"""Every barrier, and every wait for copies, of the device library is needed, and leaving out any one is found."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from lepton_dse.emit.cuda.emitter import library
from lepton_dse.ir import ops
from lepton_dse.ir.graph import GraphBuilder
from lepton_dse.reference import engine
from lepton_dse.schedule.gpu import Tile, gpu_program
from lepton_dse.verify.cuda.program import FAULTS

sys.path.insert(0, str(Path(__file__).parent))
from cuda_programs import Built, host_of

TEXT = library()["lepton/contraction.cuh"].decode()
# One loop of the library brings strips through registers, in two ways, the other copies them. The last wait of all finds
# nothing left to wait for, since the last groups of copies are empty.
WAYS = {
    "one strip": Tile(16, 16, 32, 1, 2, 1),
    "two strips": Tile(16, 16, 32, 1, 2, 2),
    "copied": Tile(16, 16, 32, 1, 2, 3, asynchronous=True),
}
NEEDED_BY = [
    ("commit_copies", {"copied"}),
    ("await_copies", {"copied"}),
    ("__syncthreads", {"copied"}),
    ("commit_copies", {"copied"}),
    ("__syncthreads", {"one strip", "two strips"}),
    ("__syncthreads", {"one strip"}),
    ("__syncthreads", {"one strip", "two strips"}),
]
_PATTERN = r"__syncthreads\(\);|await_copies<Tile::stages - 2>\(\);|commit_copies\(\);"
PLACES = [match.span() for match in re.finditer(_PATTERN, TEXT)]


@pytest.fixture(scope="module")
def right(cxx: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One product of six steps in each of three ways."""
    rng = np.random.default_rng(3)
    builder = GraphBuilder("ways")
    builder.input("x", (20, 48))
    for index, way in enumerate(WAYS):
        builder.constant(f"w{index}", rng.integers(-9, 10, (48, 24)).astype(np.float32))
        builder.add(ops.MatMul(), ["x", f"w{index}"], output=way, name=way)
    program = gpu_program(builder.build_lowered(list(WAYS)), 8.0, lambda op, problem, kind: WAYS[op.name])
    feeds = {"x": rng.integers(-9, 10, (20, 48)).astype(np.float32)}
    return Built.build(program, feeds, tmp_path_factory.mktemp("ways"))


def failing(built: Built, orders: tuple[str, ...]) -> set[str]:
    """Ways that races, reads of what is not there, or values give away."""
    expected = engine.execute(built.program.graph, built.feeds)  # whole numbers: every order of a sum is exact
    found = set()
    for order in orders:
        outputs, seen = built.watched(order)
        for way, counts in zip(WAYS, seen, strict=True):
            if any(counts[fault] for fault in FAULTS) or not np.array_equal(outputs[way], expected[way]):
                found.add(way)
    return found


def test_the_loops_have_these_and_no_others() -> None:
    assert [TEXT[begin:end].split("(")[0].split("<")[0] for begin, end in PLACES] == [name for name, _ in NEEDED_BY]
    assert TEXT.count("__syncthreads()") == 4
    assert TEXT.count("await_copies<") == 2
    assert TEXT.count("commit_copies()") == 2


def test_nothing_is_found_where_all_are_there(right: Built) -> None:
    assert failing(right, ("FORWARD", "REVERSE", "SHUFFLED")) == set()


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(PLACES)))
def test_any_one_left_out_is_found(right: Built, place: int, tmp_path: Path) -> None:
    begin, end = PLACES[place]
    changed = TEXT[:begin] + "(void)0;" + TEXT[end:]
    (tmp_path / "lepton").mkdir()
    for path in right.folder.rglob("*"):
        if path.is_file() and path.suffix in (".cu", ".cuh", ".h", ".bin"):
            target = tmp_path / path.relative_to(right.folder)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    (tmp_path / "lepton" / "contraction.cuh").write_text(changed)
    found = failing(Built(right.program, right.feeds, tmp_path, host_of(tmp_path)), ("FORWARD", "REVERSE"))
    assert found == NEEDED_BY[place][1]
