"""Imports point down: every module imports only from floors below its own, or from its own package."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import networkx as nx
import pytest

PACKAGE = Path(__file__).parents[2] / "lepton_dse"

# From the ground up. Parts on one floor do not import one another.
FLOORS = [
    {"errors", "jit", "milp"},
    {"registry", "files"},
    {"numerics"},
    {"ir"},
    {"plan", "data", "bundle"},
    {"importers", "targets", "reference"},
    {"compress", "parallel", "memory", "rtl_library"},
    {"lower"},
    {"schedule"},
    {"emit", "sim"},
    {"verify"},
    {"search"},
    {"flow"},
    {"study", "validate"},
    {"report"},
    {"__init__", "testing", "demo"},
    {"cli"},
]
FLOOR = {part: index for index, floor in enumerate(FLOORS) for part in floor}
OPTIONAL = {
    "cuda": {"verify"},
    "torch": {"compress"},
    "keras": set(),
    "jax": set(),
    "onnx": {"importers", "emit", "verify"},
    "onnxruntime": {"verify"},
    "sklearn": {"demo"},
    "cocotb_tools": {"verify"},
    "distributed": {"study"},
    "resvg_py": {"report"},
}


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "templates" not in path.parts]


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, *, typing_too: bool = True) -> list[str]:
    """Full names of the modules that a file imports, wherever in it the import stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def internal(name: str) -> str | None:
    """Which part of the package an imported name belongs to."""
    if not name.startswith("lepton_dse."):
        return None
    return name.split(".")[1]


def test_every_part_has_a_floor() -> None:
    assert {part_of(path) for path in modules()} <= set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = part_of(path)
    if own == "__init__":
        return  # the facade names every part, lazily
    for name in imported(path):
        part = internal(name)
        if part is None or part == own:
            continue
        assert part in FLOOR, f"{path.name} imports {name}, which has no floor"
        assert FLOOR[part] < FLOOR[own], f"{own} may not import {name}"


def test_no_cycle_between_modules() -> None:
    names = {
        ".".join(("lepton_dse", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__") for path in modules()
    }
    graph = nx.DiGraph()
    for path in modules():
        own = ".".join(("lepton_dse", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for name in imported(path):
            target = name if name in names else name.rpartition(".")[0]
            if target in names and target not in (own, "lepton_dse") and own != "lepton_dse":
                graph.add_edge(own, target)
    cycles = [cycle for cycle in nx.strongly_connected_components(graph) if len(cycle) > 1]
    assert cycles == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_packages_are_imported_where_they_are_needed(path: Path) -> None:
    for name in imported(path):
        top = name.split(".")[0]
        if top in OPTIONAL:
            assert part_of(path) in OPTIONAL[top], f"{path} imports {top}"


def test_only_one_module_names_numba() -> None:
    users = {path.name for path in modules() if any(name.split(".")[0] == "numba" for name in imported(path))}
    assert users == {"jit.py"}


def test_files_are_written_in_one_place() -> None:
    """Runners write into temporary folders; everything that a person keeps goes through files.py."""
    writers = re.compile(r"\.write_text\(|\.write_bytes\(|open\([^)]*[\"']w")
    allowed = {"files.py"}
    for path in modules():
        if path.name in allowed or part_of(path) == "verify":
            continue
        assert not writers.search(path.read_text()), f"{path} writes to disk"


def test_nothing_reads_the_clock_or_unpickles() -> None:
    for path in modules():
        for name in imported(path):
            assert name.split(".")[0] not in {"pickle", "time", "datetime", "random"}, f"{path} imports {name}"
