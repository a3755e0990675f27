"""Results of tile searches, kept in memory and on disk under a digest of all that they depend on.

The digest covers the nest, the machine, the space, the objective and the sources of search and traffic, so that neither another
machine nor another version of the package ever meets a stale result. A damaged or unwritable cache costs a search, no more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from lepton_dse.errors import LeptonError
from lepton_dse.files import cache_folder, read_text, write_text
from lepton_dse.plan import SearchResult, Violation
from lepton_dse.search.tiling.hierarchy import ROLES, Hierarchy
from lepton_dse.search.tiling.search import TileResult, search_tiles
from lepton_dse.search.tiling.space import MapSpace, Objective
from lepton_dse.sim.loopnest import LevelMapping, NestMapping, Problem

__all__ = ["remembered_tiles"]

_MEMORY: dict[str, TileResult] = {}


def remembered_tiles(problem: Problem, hierarchy: Hierarchy, objective: Objective, space: MapSpace) -> TileResult:
    """:func:`~lepton_dse.search.tiling.search.search_tiles`, or what it found before for the same question.

    Operands are compared by role and width, not by name, so that repeated layers are searched once.
    """
    names = tuple(operand.name for operand in problem.operands)
    anonymous = _renamed_problem(problem)
    question = {
        "problem": asdict(anonymous),
        "hierarchy": asdict(hierarchy),
        "objective": objective.value,
        "space": asdict(space),
    }
    digest = hashlib.sha256((_sources() + json.dumps(question, sort_keys=True)).encode()).hexdigest()
    if digest not in _MEMORY:
        path = cache_folder() / "tiles" / f"{digest}.json"
        found = _read(path)
        if found is None:
            found = search_tiles(anonymous, hierarchy, objective, space)
            _write(path, found)
        _MEMORY[digest] = found
    return _renamed(_MEMORY[digest], dict(zip(ROLES, names, strict=True)))


def _renamed_problem(problem: Problem) -> Problem:
    x, w, y = (replace(operand, name=role) for operand, role in zip(problem.operands, ROLES, strict=True))
    return replace(problem, reads=(x, w), write=y)


def _renamed(result: TileResult, names: dict[str, str]) -> TileResult:
    if result.mapping is None:
        return result
    levels = tuple(replace(level, resident=frozenset(names[role] for role in level.resident)) for level in result.mapping.levels)
    return replace(result, mapping=replace(result.mapping, levels=levels))


@cache
def _sources() -> str:
    """Digest of the code that decides a result."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted((*here.glob("*.py"), *(here.parents[1] / "sim" / "loopnest").glob("*.py"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _write(path: Path, result: TileResult) -> None:
    document: dict[str, Any] = {
        "figures": [result.energy_j, result.cycles, result.steps, result.stay, result.keep],
        "certificate": result.certificate.model_dump(mode="json"),
        "tiles": result.tiles,
        "violation": None if result.violation is None else result.violation.model_dump(mode="json"),
        "mapping": None,
    }
    if result.mapping is not None:
        levels = [[level.name, dict(level.tile), list(level.order), sorted(level.resident)] for level in result.mapping.levels]
        document["mapping"] = [dict(result.mapping.spatial), list(result.mapping.order), levels]
    try:
        write_text(path, json.dumps(document))
    except LeptonError:
        return  # a cache that cannot be written is no error


def _read(path: Path) -> TileResult | None:
    try:
        document = json.loads(read_text(path, limit_bytes=1 << 20))
        energy, cycles, steps, stay, keep = document["figures"]
        mapping = None
        if document["mapping"] is not None:
            spatial, order, levels = document["mapping"]
            kept = tuple(LevelMapping(name, tile, tuple(inner), frozenset(there)) for name, tile, inner, there in levels)
            mapping = NestMapping(spatial, kept, tuple(order))
        violation = None if document["violation"] is None else Violation.model_validate(document["violation"])
        certificate = SearchResult.model_validate(document["certificate"])
        return TileResult(mapping, energy, cycles, steps, stay, keep, certificate, document["tiles"], violation)
    except (LeptonError, ValueError, KeyError, TypeError, RecursionError):
        return None
