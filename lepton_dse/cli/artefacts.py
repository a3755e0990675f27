"""The commands that make and run artefacts: emit, verify."""

from __future__ import annotations

from pathlib import Path

from lepton_dse import flow
from lepton_dse.cli.console import out, print_json, progress
from lepton_dse.report.tables import checks_table

__all__ = ["emit", "verify"]

_SCHEMA = 1


def emit(plan: Path, folder: Path, kind: str | None) -> None:
    """Write a plan's artefact."""
    planned = flow.read_plan(plan)
    flow.emit(planned, folder, emitter=kind)
    out().print(f"wrote {folder}; check it with: lepton verify {folder}", soft_wrap=True)


def verify(folder: Path, *, synthesis: bool, placement: bool, strict: bool, as_json: bool) -> bool:
    """Run an artefact and print the checks; false where one failed."""
    with progress() as step:
        result = flow.verify(folder, synthesis=synthesis, placement=placement, progress=step)
    passed = result.complete if strict else result.passed
    if as_json:
        checks = [check.model_dump(mode="json") for check in result.checks]
        print_json({"schema_version": _SCHEMA, "artefact": str(folder), "passed": passed, "checks": checks})
    else:
        out().print(checks_table(f"{folder}", result.checks))
    return passed
