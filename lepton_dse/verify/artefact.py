"""Opening an artefact: every listed file present and unchanged, its plan and its lowered graph read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lepton_dse.emit.artefact import GRAPH_FOLDER, MANIFEST, PLAN_FILE
from lepton_dse.errors import InvalidPlanError
from lepton_dse.files import inside, read_text
from lepton_dse.ir.graph import LoweredGraph
from lepton_dse.ir.serialize import read_graph
from lepton_dse.plan import Check, CheckStatus, Plan

__all__ = ["Artefact", "Progress", "Verifier", "VerifyOptions", "compare", "open_artefact", "unavailable"]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Artefact:
    """An opened artefact.

    Parameters
    ----------
    folder : Path
    emitter : str
        Which emitter made it.
    plan : Plan
    graph : LoweredGraph
    """

    folder: Path
    emitter: str
    plan: Plan
    graph: LoweredGraph


@dataclass(frozen=True)
class VerifyOptions:
    """How much to run.

    Parameters
    ----------
    synthesis : bool
        Also synthesise FPGA designs and compare resources; takes from seconds to minutes.
    placement : bool
        Synthesise, then also place and route designs for ecp5 and hold the clock against the plan's band; takes minutes.
    progress : callable
        Told what is about to run.
    """

    synthesis: bool = False
    placement: bool = False
    progress: Progress = lambda text: None


@dataclass(frozen=True)
class Verifier:
    """Runs the artefacts of one emitter and compares them with their predictions."""

    name: str
    run: Callable[[Artefact, VerifyOptions], list[Check]]


def open_artefact(folder: Path) -> Artefact:
    """Open an artefact and hold every file against its manifest.

    Raises
    ------
    InvalidPlanError
        If the folder is no artefact, or a file is missing or differs by a byte.
    """
    if not (folder / MANIFEST).is_file():
        raise InvalidPlanError(f"is no artefact: it has no {MANIFEST}", where=str(folder), fix="'lepton emit' makes one")
    try:
        manifest = json.loads(read_text(folder / MANIFEST))
        listed = {str(name): str(digest) for name, digest in manifest["files"].items()}
        emitter = str(manifest["emitter"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidPlanError("the manifest is damaged", where=str(folder / MANIFEST), fix="emit it again") from error
    for name, digest in listed.items():
        path = inside(folder, name)
        if not path.is_file():
            raise InvalidPlanError("the file is missing", where=str(path), fix="emit the artefact again")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise InvalidPlanError("the file was changed after it was emitted", where=str(path), fix="emit the artefact again")
    # Folders whose files are read by pattern hold nothing else; tools leave their own files beside the others.
    for place in sorted({path.parent for path in map(Path, listed)} - {Path(), Path("tb")}):
        for path in sorted((folder / place).iterdir()):
            if path.is_file() and (place / path.name).as_posix() not in listed:
                raise InvalidPlanError("the file was added after it was emitted", where=str(path), fix="emit the artefact again")
    for name in (PLAN_FILE, f"{GRAPH_FOLDER}/graph.json"):
        if name not in listed:
            raise InvalidPlanError(f"the manifest does not list {name}", where=str(folder), fix="emit the artefact again")
    graph = read_graph(folder / GRAPH_FOLDER)
    if not isinstance(graph, LoweredGraph):
        raise InvalidPlanError("the graph is not a lowered one", where=str(folder / GRAPH_FOLDER), fix="emit it again")
    # Tools run with the folder as their working directory, so a relative path would no longer lead there.
    return Artefact(folder.resolve(), emitter, Plan.read(folder / PLAN_FILE), graph)


def compare(name: str, predicted: float, observed: float, tolerance: float = 0.0, reason: str = "") -> Check:
    """A check of two numbers: equal, or within a relative tolerance of the observed one."""
    allowed = tolerance * abs(observed)
    status = CheckStatus.PASSED if abs(predicted - observed) <= allowed else CheckStatus.FAILED
    return Check(
        name=name,
        predicted=predicted,
        observed=observed,
        tolerance=tolerance,
        status=status,
        reason=reason if status is CheckStatus.FAILED else "",
    )


def unavailable(name: str, predicted: float | str | None, reason: str) -> Check:
    """A check that could not be made."""
    return Check(name=name, predicted=predicted, observed=None, status=CheckStatus.UNAVAILABLE, reason=reason)
